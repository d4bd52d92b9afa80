"""The shape of a chat's `input`, as it is asked and as it is kept."""

from typing import Annotated

from msgspec import Meta, Struct

from providers.catalog import AUTO
from providers.types import Effort
from workers.chat.parts import Message
from workers.chat.schemas import MOST_TOOLS, FormSpec, ToolSpec

_Model = Annotated[str, Meta(max_length=128)]


class Why(Struct, frozen=True, kw_only=True):
    """Why a model was chosen: a stable code, and words in both languages."""

    code: str
    en: str
    ar: str


class Routing(Struct, frozen=True, kw_only=True):
    """How the model was chosen: what was `asked`, who may answer, and, where the studio chose, `tier` and `effort`."""

    asked: str
    tier: str | None
    reason: Why
    chain: list[str]
    effort: Effort | None = None


class ChatInput(Struct, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """A conversation that the model is to continue."""

    messages: Annotated[list[Message], Meta(min_length=1, max_length=256, description="Oldest first.")]
    model: Annotated[str, Meta(max_length=128, description="A model's id or alias, or `auto`.")] = AUTO
    fallbacks: (
        Annotated[
            list[_Model],
            Meta(max_length=8, description="Models that answer where the first cannot; null: the model's own ones."),
        ]
        | None
    ) = None
    max_output_tokens: (
        Annotated[int, Meta(ge=1, le=128_000, description="Cap of the answer; the model's own cap holds in any case.")]
        | None
    ) = None
    temperature: Annotated[float, Meta(ge=0, le=2)] | None = None
    effort: (
        Annotated[Effort, Meta(description="How hard the model is to think; null: as it does of itself.")] | None
    ) = None
    tools: Annotated[
        list[ToolSpec], Meta(max_length=MOST_TOOLS, description="Functions that the model may want called.")
    ] = []
    tool_choice: (
        Annotated[str, Meta(max_length=64, description="`auto`, `none`, `required`, or the name of a tool.")] | None
    ) = None
    format: FormSpec | None = None
    routing: Annotated[Routing, Meta(description="How the model was chosen; set by the studio alone.")] | None = None

    @property
    def thinking(self) -> Effort | None:
        """How hard the model is to think: as was asked, or as suits what was asked where the studio chose."""
        return self.effort or (None if self.routing is None else self.routing.effort)
