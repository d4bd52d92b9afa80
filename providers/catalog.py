"""Which models there are, what each may be asked, and what its tokens weigh in units: `models.toml`, validated."""

import tomllib
from functools import cache
from pathlib import Path
from typing import Literal

import msgspec
from msgspec import Struct

from infra.errors import PulseError
from infra.settings import Settings
from providers import deployments, types
from providers.deployments import Vendor

AUTO = "auto"
LOCAL = "smollm2-135m"
Tier = Literal["simple", "medium", "complex", "reasoning"]


class UnknownModel(PulseError):
    """{field}: there is no model {model!r}; there are: {known}."""

    ar = "{field}: لا يوجد نموذج باسم {model!r}. النماذج المتاحة: {known}."
    status = 400


class Weights(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How many units of `chat_tokens` a token counts."""

    input: int = 1
    cached: int = 1
    output: int = 1


class Model(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A chat model."""

    id: str = ""
    vendor: Vendor
    #: What the vendor calls it; its id where empty.
    vendor_id: str = ""
    en: str
    ar: str
    context_tokens: int
    output_tokens: int
    tier: Tier
    speed: Literal["fast", "steady", "slow"] = "steady"
    tokenizer: Literal["o200k", "other", "bytes"] = "other"
    weights: Weights = Weights()

    @property
    def name(self) -> str:
        """What its vendor calls it."""
        return self.vendor_id or self.id

    def units(self, counted: types.Counted) -> int:
        """Return what these tokens cost, in units of `chat_tokens`."""
        fresh = counted.input_tokens - counted.cached_tokens
        weights = self.weights
        return fresh * weights.input + counted.cached_tokens * weights.cached + counted.output_tokens * weights.output


@cache
def load() -> dict[str, Model]:
    """Return the models of `models.toml` by id."""
    text = (Path(__file__).parent / "models.toml").read_text(encoding="utf-8")
    found = msgspec.convert(tomllib.loads(text)["models"], dict[str, Model])
    return {key: msgspec.structs.replace(model, id=key) for key, model in found.items()}


def offered(settings: Settings) -> dict[str, Model]:
    """Return the models of this installation by id, the default one first."""
    vendors = deployments.of(settings).keys()
    found = {key: model for key, model in load().items() if model.vendor in vendors}
    if "compatible" in vendors:
        for name in settings.compatible_models.split(","):
            found = {name.strip(): _own(name.strip())} | found
    return found


def _own(name: str) -> Model:
    """Return a model of the operator's own server of which the file says nothing."""
    return Model(
        id=name,
        vendor="compatible",
        en=name,
        ar=name,
        context_tokens=128_000,
        output_tokens=16_384,
        tier="medium",
        tokenizer="bytes",
        weights=Weights(output=5),  # the usual ratio of output to input prices
    )


def resolve(settings: Settings, model: str, *, field: str) -> Model:
    """Return the model that a request named in `field`; `auto` is the default one. Raises `UnknownModel`."""
    models = offered(settings)
    if model == AUTO:
        return next(iter(models.values()))
    if model not in models:
        raise UnknownModel(field=field, model=model, known=", ".join([AUTO, *models]))
    return models[model]


def most_tokens(text: str) -> int:
    """Return an upper bound of the tokens of `text`: its UTF-8 bytes, since a byte-level BPE never makes more."""
    return len(text.encode())


def likely_tokens(text: str) -> int:
    """Return an estimate for where a vendor counted nothing: 4 UTF-8 bytes a token, near for English and Arabic."""
    return -(-len(text.encode()) // 4)
