"""`GET /v1/chat/models`: what may be asked of which model, what its tokens weigh, and how long it lives."""

from collections.abc import Mapping
from datetime import date
from typing import Any, Literal

from litestar import Request, get
from litestar.di import NamedDependency
from litestar.openapi import ResponseSpec
from litestar.types import ASGIApp
from msgspec import Struct

from api import answers, problems
from infra.ground import Ground
from infra.models import Account
from infra.settings import Settings
from providers import catalog
from providers.catalog import Model, Takes
from providers.models import today
from providers.weights import Weights


class Names(Struct, frozen=True, kw_only=True):
    """What a model is called in both languages."""

    en: str
    ar: str


class WeightsFrom(Struct, frozen=True, kw_only=True):
    """What all tokens of a request weigh: of one with more input than `above`, or from a day (UTC) on."""

    above: int | None
    since: date | None
    weights: Weights


class Estimate(Struct, frozen=True, kw_only=True):
    """How the tokens of a text are foreseen, and by how much a request is held above that: ASCII and other scripts.

    `verified` says whether the margins were measured against the vendor's own count.
    """

    tokenizer: Literal["o200k", "other", "bytes"]
    margin_percent: int
    margin_other_percent: int
    verified: bool


class ModelAnswer(Struct, frozen=True, kw_only=True):
    """A model; `allowed` says whether the caller's plan has it, and `auto` whether `auto` may choose it.

    A token counts `weights` units of `chat_tokens` today, or those of the last one in `steps` that holds.
    """

    id: str
    name: str
    names: Names
    aliases: list[str]
    tier: catalog.Tier
    speed: Literal["fast", "steady", "slow"]
    context_tokens: int
    output_tokens: int
    takes: Takes
    resumable: bool
    weights: Weights
    steps: list[WeightsFrom]
    estimate: Estimate
    plan: str
    allowed: bool
    auto: bool
    fallbacks: list[str]
    released: date | None
    deprecated: date | None
    shutdown: date | None
    replaced_by: str | None


class AutoAnswer(Struct, frozen=True, kw_only=True):
    """What `auto` chooses from for the caller: the least demanding tier first, of each the cheapest."""

    id: str
    name: str
    names: Names
    models: list[str]


class ModelsAnswer(Struct, frozen=True, kw_only=True):
    """The models of this studio, the default one first, and `auto`."""

    models: list[ModelAnswer]
    auto: AutoAnswer


_AUTO = Names(en="Automatic: chosen for what is asked", ar="تلقائي: يُختار بحسب الطلب")
_MODELS = ResponseSpec(ModelsAnswer, generate_examples=False, description="The models.")


@get("/models", responses={200: _MODELS, 304: answers.KNOWN}, summary="List the chat models")
async def list_models(
    request: Request[Any, Any, Any], account: NamedDependency[Account], ground: NamedDependency[Ground]
) -> ASGIApp:
    """Return the models that this studio offers today, with their names in the caller's language and in both."""
    told = tell(ground.settings, account.plan, problems.language(request))
    return answers.send_new(request, answers.encode(told))


def tell(settings: Settings, plan: str, language: str) -> ModelsAnswer:
    """Return what is said of the models to somebody on this plan."""
    offered = catalog.offered(settings)
    aliases = catalog.aliases(settings, [*offered])
    able = catalog.candidates(settings, catalog.Needs(), plan)
    auto = AutoAnswer(id=catalog.AUTO, name=_name(_AUTO, language), names=_AUTO, models=[each.id for each in able])
    return ModelsAnswer(models=[_told(each, plan, language, aliases) for each in offered.values()], auto=auto)


def _told(model: Model, plan: str, language: str, aliases: Mapping[str, list[str]]) -> ModelAnswer:
    names = Names(en=model.en, ar=model.ar)
    return ModelAnswer(
        id=model.id,
        name=_name(names, language),
        names=names,
        aliases=aliases[model.id],
        tier=model.tier,
        speed=model.speed,
        context_tokens=model.context_tokens,
        output_tokens=model.output_tokens,
        takes=model.takes,
        resumable=model.resumable,
        weights=model.weighs(today()),
        steps=[WeightsFrom(above=each.above, since=each.since, weights=each.weights) for each in model.steps],
        estimate=Estimate(
            tokenizer=model.tokenizer,
            margin_percent=model.margin_percent,
            margin_other_percent=model.margin_other_percent,
            verified=model.margin_verified,
        ),
        plan=model.plan,
        allowed=model.is_for(plan),
        auto=model.auto,
        fallbacks=[*model.fallbacks],
        released=model.released,
        deprecated=model.deprecated,
        shutdown=model.shutdown,
        replaced_by=model.replaced_by,
    )


def _name(names: Names, language: str) -> str:
    return names.ar if language == "ar" else names.en
