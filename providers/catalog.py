"""Which models there are, what each may be asked, and what its tokens weigh in units."""

from typing import Literal

from msgspec import Struct

from infra.errors import PulseError
from infra.settings import Settings

AUTO = "auto"
LOCAL = "smollm2-135m"


class UnknownModel(PulseError):
    """{field}: there is no model {model!r}; there are: {known}."""

    ar = "{field}: لا يوجد نموذج باسم {model!r}. النماذج المتاحة: {known}."
    status = 400


class Model(Struct, frozen=True, kw_only=True):
    """A chat model. Tokens count `input_weight` and `output_weight` units of `chat_tokens` each."""

    id: str
    vendor: Literal["openai", "local"]
    en: str
    ar: str
    context_tokens: int
    output_tokens: int
    input_weight: int = 1
    output_weight: int = 1

    def units(self, input_tokens: int, output_tokens: int) -> int:
        """Return what this many tokens cost, in units of `chat_tokens`."""
        return input_tokens * self.input_weight + output_tokens * self.output_weight


def offered(settings: Settings) -> dict[str, Model]:
    """Return the models of this installation by id, the default one first."""
    if not settings.cloud:
        local = Model(
            id=LOCAL,
            vendor="local",
            en="SmolLM2 135M (on this machine, English only)",
            ar="نموذج SmolLM2 135M (على هذا الجهاز، بالإنجليزية فقط)",
            context_tokens=2048,
            output_tokens=1024,
        )
        return {local.id: local}
    cloud = Model(
        id=settings.openai_model,
        vendor="openai",
        en=settings.openai_model,
        ar=settings.openai_model,
        context_tokens=128_000,
        output_tokens=16_384,
        output_weight=5,  # the usual ratio of output to input prices
    )
    return {cloud.id: cloud}


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
