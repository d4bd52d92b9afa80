"""Which model answers a conversation: the one that is asked for, or the one that suits it; who answers in its place."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Final
from uuid import UUID

from msgspec import Struct, structs

from infra.decoding import InvalidValue
from infra.errors import PulseError
from infra.settings import Settings
from providers import catalog
from providers.catalog import Model, Needs, Tier
from providers.router import route
from providers.types import Effort
from workers.chat.parts import FilePart, ImagePart, Message, Part, TextPart, ToolResultPart, placed
from workers.chat.shape import ChatInput, Routing, Why
from workers.request import Asking, Attached

_ASKED: Final = Why(code="asked", en="You asked for this model.", ar="طلبتَ هذا النموذج.")
_ALIAS: Final = Why(
    code="alias", en="It is the model that this name stands for now.", ar="هو النموذج الذي يدل عليه هذا الاسم الآن."
)
_QUOTA: Final = Why(
    code="quota",
    en="Your quota does not allow the model that would suit best, so a cheaper one answers.",
    ar="لا تكفي حصتك للنموذج الأنسب، فيجيب نموذج أقل تكلفة.",
)
#: On the operator's own hardware: some servers refuse to be told how hard to think, so they hear only what is asked.
OWN: Final = ("compatible", "local")
#: How hard a model thinks of what is in a tier, where nobody says: what is simple is answered at once.
_EFFORTS: Final[Mapping[Tier, Effort]] = {"simple": "none", "medium": "low", "complex": "medium", "reasoning": "high"}
# Only to tell what fits into a model's context: UTF-8 bytes a token, near for English and Arabic; tokens a page.
_TOKEN_BYTES: Final = 4
_PAGE_TOKENS: Final = 4_096


class ModelUnfit(PulseError):
    """{field}: the model {model!r} cannot take this; these can: {able}."""

    ar = "{field}: لا يستطيع النموذج {model!r} التعامل مع هذا. النماذج التي تستطيع: {able}."
    status = 400


class NoModelCan(PulseError):
    """{field}: no model that is offered to you here can take this."""

    ar = "{field}: لا يستطيع أي نموذج متاح لك هنا التعامل مع هذا."
    status = 400


class Choice(Struct, frozen=True, kw_only=True):
    """The model that answers, first in the `chain` of those that may, and what is told of it."""

    chain: Sequence[Model]
    routing: Routing


class _Wants(Struct, frozen=True, kw_only=True):
    """What a conversation needs of its model, and by the name of each need the field that has it."""

    needs: Needs
    fields: dict[str, str]


def choose(asked: ChatInput, asking: Asking) -> Choice:
    """Decide who answers.

    Raises `UnknownModel` and what else the catalog raises, `ModelUnfit` and `NoModelCan`.
    """
    wants = _wants(asked, asking.files)
    if asked.model == catalog.AUTO:
        return next(_options(asked, asking, wants))
    model = catalog.resolve(asking.settings, asked.model, field="input.model", plan=asking.plan)
    _check_able(model, wants, asking)
    why = _ASKED if model.id == asked.model else _ALIAS
    return _choice(asked.model, None, why, _chain(model, asked, asking, wants))


def steps(asked: ChatInput, asking: Asking, *, after: Sequence[str]) -> Iterator[Choice]:
    """Yield what may answer instead of the chain `after`, where the studio was left to choose: ever lesser ones."""
    options = _options(asked, asking, _wants(asked, asking.files))
    for option in options:
        if option.routing.chain == after:
            break
    for option in options:
        yield structs.replace(option, routing=structs.replace(option.routing, reason=_QUOTA))


def models(settings: Settings, asked: ChatInput) -> list[Model]:
    """Return the models that may answer a kept request, the chosen one first; raises `UnknownModel`."""
    first = catalog.resolve(settings, asked.model, field="input.model")
    known = catalog.offered(settings)
    others = asked.routing.chain[1:] if asked.routing is not None else []
    return [first, *(known[name] for name in others if name in known)]


def _options(asked: ChatInput, asking: Asking, wants: _Wants) -> Iterator[Choice]:
    found = route.tier([_turn(message) for message in asked.messages])
    able = catalog.candidates(asking.settings, wants.needs, asking.plan)
    order = route.choose(found, able)
    if asking.settings.account_day_usd:  # what costs no money is there for who has spent his, whatever it weighs
        own = [model for model in able if model.price is None and model not in order]
        order += sorted(own, key=lambda model: -catalog.TIERS.index(model.tier))
    if not order:  # nobody has a context for it, as far as that can be told: whoever has the largest may see
        wants = structs.replace(wants, needs=structs.replace(wants.needs, input_tokens=0))
        able = catalog.candidates(asking.settings, wants.needs, asking.plan)
        order = sorted(able, key=lambda model: -model.context_tokens)[:1]
    if not order:
        raise NoModelCan(field=next(iter(wants.fields.values()), "input.messages"))
    why = Why(**route.reason(found))
    for model in order:
        chain = _chain(model, asked, asking, wants)
        yield _choice(catalog.AUTO, found.tier, why, chain)
        if len(chain) > 1 and asked.fallbacks is None:
            yield _choice(catalog.AUTO, found.tier, why, chain[:1])


def _choice(asked: str, tier: Tier | None, why: Why, chain: Sequence[Model]) -> Choice:
    effort = None if tier is None or chain[0].vendor in OWN else _EFFORTS[tier]
    routing = Routing(asked=asked, tier=tier, reason=why, chain=[model.id for model in chain], effort=effort)
    return Choice(chain=chain, routing=routing)


def _chain(model: Model, asked: ChatInput, asking: Asking, wants: _Wants) -> list[Model]:
    if asked.fallbacks is None:
        return catalog.chain(asking.settings, model, needs=wants.needs, plan=asking.plan)
    chain = {model.id: model}
    for n, name in enumerate(asked.fallbacks):
        field = f"input.fallbacks[{n}]"
        if name == catalog.AUTO:
            raise InvalidValue(field=field, value=name)
        other = catalog.resolve(asking.settings, name, field=field, plan=asking.plan)
        if _lack(other, wants.needs) is not None:
            raise ModelUnfit(field=field, model=other.id, able=_able(wants, asking))
        chain.setdefault(other.id, other)
    return list(chain.values())


def _check_able(model: Model, wants: _Wants, asking: Asking) -> None:
    lack = _lack(model, wants.needs)
    if lack is None:
        return
    if able := _able(wants, asking):
        raise ModelUnfit(field=wants.fields[lack], model=model.id, able=able)
    raise NoModelCan(field=wants.fields[lack])


def _able(wants: _Wants, asking: Asking) -> str:
    return ", ".join(model.id for model in catalog.candidates(asking.settings, wants.needs, asking.plan))


def _lack(model: Model, needs: Needs) -> str | None:
    """Return the first thing that is needed and the model cannot do; how much it reads is not looked at."""
    return model.lacks(structs.replace(needs, input_tokens=0))


def _wants(asked: ChatInput, files: Mapping[UUID, Attached]) -> _Wants:
    fields: dict[str, str] = {}
    for field, _, part in placed(asked.messages):
        if not isinstance(part, TextPart):
            fields.setdefault(_need(part), field)
    if asked.tools:
        fields["tools"] = "input.tools"
    if asked.format is not None:
        fields["form"] = "input.format"
    needs = Needs(
        images="images" in fields,
        files="files" in fields,
        tools="tools" in fields,
        form="form" in fields,
        input_tokens=sum(len(_turn(message).text.encode()) for message in asked.messages) // _TOKEN_BYTES
        + sum(_tokens(files.get(part.file_id)) for _, _, part in placed(asked.messages) if isinstance(part, FilePart)),
    )
    return _Wants(needs=needs, fields=fields)


def _tokens(file: Attached | None) -> int:
    if file is None:
        return 0
    return file.pages * _PAGE_TOKENS if file.pages else file.size_bytes // _TOKEN_BYTES


def _need(part: Part) -> str:
    match part:
        case ImagePart():
            return "images"
        case FilePart():
            return "files"
        case _:
            return "tools"


def _turn(message: Message) -> route.Asked:
    """Return a message as the router sees it; what a tool gave back is no wish of the user's."""
    if isinstance(message.content, str):
        return route.Asked(message.role, message.content)
    parts = message.content
    if all(isinstance(part, ToolResultPart) for part in parts):
        return route.Asked("assistant", "")
    words = "\n".join(part.text for part in parts if isinstance(part, TextPart))
    images = sum(isinstance(part, ImagePart) for part in parts)
    return route.Asked(message.role, words, images, sum(isinstance(part, FilePart) for part in parts))
