"""Which models there are: `models.toml`, validated, and what of it this installation offers to whom."""

import tomllib
from collections.abc import Sequence
from datetime import date
from decimal import Decimal
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from infra.errors import PulseError
from infra.settings import ROOT, Settings
from providers import deployments
from providers.deployments import Vendor
from providers.models import PLANS, TIERS, Model, Needs, Takes, Tier, today
from providers.weights import Weights

__all__ = ["PLANS", "TIERS", "Model", "Needs", "Takes", "Tier"]

AUTO = "auto"
LOCAL = "smollm2-135m"


class UnknownModel(PulseError):
    """{field}: there is no model {model!r}; there are: {known}."""

    ar = "{field}: لا يوجد نموذج باسم {model!r}. النماذج المتاحة: {known}."
    status = 400


class ModelRetired(PulseError):
    """{field}: the model {model!r} was shut down by its vendor on {shutdown}, and nothing here takes its place."""

    ar = "{field}: أوقف المزوّد النموذج {model!r} في {shutdown}، ولا بديل عنه هنا."
    status = 400


class ModelNotInPlan(PulseError):
    """{field}: the model {model!r} needs the plan {plan!r} or a higher one."""

    ar = "{field}: يتطلب النموذج {model!r} الخطة {plan!r} أو أعلى منها."
    status = 403


class InvalidCatalog(PulseError):
    """The models in {path} make no sense: {reason}"""

    ar = "النماذج المذكورة في {path} غير صالحة: {reason}"
    status = 500


class Estimates(Struct, frozen=True, forbid_unknown_fields=True):
    """By how much a vendor's tokens may be above our count, and what it is held at that we cannot count.

    Not `margin_verified`: not measured against the vendor's own count.
    """

    margin_percent: int
    margin_other_percent: int
    margin_verified: bool
    picture_tokens: int
    page_tokens: int


class Catalog(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Everything that `models.toml` says.

    `defaults` and what an alias leads to are in the order of preference: the first that is offered is meant.
    """

    defaults: tuple[str, ...]
    aliases: dict[str, tuple[str, ...]]
    estimates: dict[Vendor, Estimates]
    models: dict[str, Model]

    def __post_init__(self) -> None:
        """Refuse names that lead nowhere or two ways."""
        for name, target in self.names():
            if target not in self.models:
                raise ValueError(f"{name} leads to {target!r}, which is no model")
        for name in (*self.aliases, *self.models):
            if name == AUTO or (name in self.aliases and name in self.models):
                raise ValueError(f"the name {name!r} has two meanings")

    def names(self) -> list[tuple[str, str]]:
        """Return every name by which a model is led to, and the id that it names."""
        found = [("defaults", target) for target in self.defaults]
        found += [(f"alias {alias}", target) for alias, targets in self.aliases.items() for target in targets]
        for key, model in self.models.items():
            found += [(f"fallback of {key}", target) for target in model.fallbacks]
            found += [(f"replaced_by of {key}", model.replaced_by)] if model.replaced_by else []
        return found


def read(text: str) -> Catalog:
    """Return the catalog that `text` (TOML) describes.

    Raises `ValueError` (of which `msgspec.ValidationError` is one) where it is wrong, and `UnknownPrice`.
    """
    raw: dict[str, Any] = tomllib.loads(text, parse_float=Decimal)
    for key, entry in raw.get("models", {}).items():
        entry.update(id=key, takes=dict.fromkeys(entry.get("takes", ()), True))
        entry.update(raw.get("estimates", {}).get(entry.get("vendor"), {}))
    found = msgspec.convert(raw, Catalog)
    for model in found.models.values():
        model.must_be_priced()
    return found


def load(settings: Settings) -> Catalog:
    """Return the operator's catalog, or the project's own; raises `InvalidCatalog` and `UnknownPrice`."""
    return _load(settings.models_file)


@cache
def _load(models_file: str) -> Catalog:
    path = ROOT / models_file if models_file else Path(__file__).parent / "models.toml"
    try:
        return read(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InvalidCatalog(path=str(path), reason=str(error)) from error


def offered(settings: Settings, *, on: date | None = None) -> dict[str, Model]:
    """Return the models of this installation that live on that day (today by default) by id, the default one first."""
    return {**_offered(settings, on or today())}


@lru_cache(maxsize=8)
def _offered(settings: Settings, day: date) -> dict[str, Model]:
    known, vendors = load(settings), deployments.of(settings).keys()
    own = settings.compatible_models.split(",") if "compatible" in vendors else []
    found = {name.strip(): _own(known, name.strip()) for name in own}
    for key in (*known.defaults, *known.models):
        if known.models[key].vendor in vendors:
            found.setdefault(key, known.models[key])
    return {key: model for key, model in found.items() if model.is_alive(day)}


def _own(known: Catalog, name: str) -> Model:
    """Return a model of the operator's own server, of which the file may say nothing."""
    if name in known.models and known.models[name].vendor == "compatible":
        return known.models[name]
    return Model(
        id=name,
        vendor="compatible",
        en=name,
        ar=name,
        context_tokens=128_000,
        output_tokens=16_384,
        tier="medium",
        auto=True,
        tokenizer="bytes",
        takes=Takes(images=True, files=True, tools=True, form=True, effort=True, temperature=True),
        weights=Weights(output=5),  # the usual ratio of output to input prices
    )


def resolve(settings: Settings, model: str, *, field: str, plan: str | None = None, on: date | None = None) -> Model:
    """Return the model that a request names in `field` by id or alias; `auto` is the default one.

    One that was shut down is replaced as the catalog says. Raises `UnknownModel`, `ModelRetired`, or `ModelNotInPlan`
    where who asks is on a lower plan than it needs.
    """
    day = on or today()
    models = offered(settings, on=day)
    wanted = [*models] if model == AUTO else [*load(settings).aliases.get(model, (model,))]
    found = [models[key] for key in (_living(settings, each, models, day) for each in wanted) if key is not None]
    if not found:
        raise _absence(settings, model, models, field)
    for each in found:
        if each.is_for(plan):
            return each
    raise ModelNotInPlan(field=field, model=found[0].id, plan=found[0].plan)


def known(settings: Settings, key: str) -> Model | None:
    """Return a model by its id, also one that is not offered any more: what it has made is charged as its own."""
    return offered(settings).get(key) or load(settings).models.get(key)


def _living(settings: Settings, key: str, models: dict[str, Model], day: date) -> str | None:
    """Return the id of the model that answers to this one, among those that are offered."""
    known, seen = load(settings).models, set[str]()
    while key not in models:
        successor = known[key].replaced_by if key in known else None
        if successor is None or successor in seen or known[key].is_alive(day):
            return None
        seen.add(key)
        key = successor
    return key


def _absence(settings: Settings, model: str, models: dict[str, Model], field: str) -> PulseError:
    known = load(settings).models.get(model)
    if known is not None and known.shutdown is not None and known.vendor in deployments.of(settings):
        return ModelRetired(field=field, model=model, shutdown=known.shutdown.isoformat())
    return UnknownModel(field=field, model=model, known=", ".join([AUTO, *models]))


def chain(
    settings: Settings, model: Model, *, needs: Needs, plan: str | None = None, on: date | None = None
) -> list[Model]:
    """Return the model, and after it those that may go on where it cannot: offered, in the plan, and able to."""
    day = on or today()
    models = offered(settings, on=day)
    keys = (_living(settings, key, models, day) for key in model.fallbacks)
    more = {key: models[key] for key in keys if key is not None and key != model.id}
    return [model, *(each for each in more.values() if each.is_for(plan) and each.lacks(needs) is None)]


def candidates(settings: Settings, needs: Needs, plan: str | None = None, *, on: date | None = None) -> list[Model]:
    """Return what `auto` may choose for these needs and this plan: the lower tiers first, of each the cheapest."""
    day = on or today()
    able = [
        model
        for model in offered(settings, on=day).values()
        if model.auto and model.is_for(plan) and model.lacks(needs) is None
    ]
    return sorted(able, key=lambda model: (TIERS.index(model.tier), _dearness(model.weighs(day))))


def _dearness(weights: Weights) -> int:
    """Return a figure to compare prices by: of three tokens read and one written, which is about what chats have."""
    return 3 * weights.input + weights.output


def aliases(settings: Settings, models: Sequence[str]) -> dict[str, list[str]]:
    """Return the aliases that lead to each of these models, by its id."""
    found: dict[str, list[str]] = {key: [] for key in models}
    for alias, targets in load(settings).aliases.items():
        first = next((key for key in targets if key in found), None)
        if first is not None:
            found[first].append(alias)
    return found
