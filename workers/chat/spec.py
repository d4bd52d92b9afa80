"""What may be asked of the chat room, and the most that it can cost."""

from collections.abc import Mapping, Sequence
from typing import Final, Self
from uuid import UUID

import msgspec

from infra.decoding import UnknownField
from infra.settings import Settings
from providers import batches, catalog, moderation
from providers.catalog import Model
from providers.types import Effort
from workers.chat import attachments, caps, costs, measure, parts, routing, schemas
from workers.chat.parts import Message
from workers.chat.routing import Choice
from workers.chat.shape import ChatInput
from workers.request import Asking, Request

__all__ = ["Chat", "ChatInput", "Message"]

_DEFAULT_OUTPUT_TOKENS = 1024
# What a model thinks is a part of its output.
_THINKING_TOKENS: Final[Mapping[Effort, int]] = {"none": 0, "low": 2048, "medium": 7168, "high": 15_360}


class Chat(Request, tag="chat"):
    """Continue a conversation."""

    input: ChatInput

    def check(self, settings: Settings) -> None:
        """Raise what is wrong with the request by itself, by the field's path."""
        super().check(settings)
        if self.input.routing is not None:
            raise UnknownField(field="input.routing")
        parts.check(self.input.messages)
        schemas.check_tools(self.input.tools, self.input.tool_choice)
        if self.input.format is not None:
            schemas.check_form(self.input.format)

    def file_ids(self) -> Sequence[UUID]:
        """Return the files that the conversation names."""
        return attachments.ids(self.input.messages)

    def resolved(self, asking: Asking) -> Self:
        """Return the request with its model, those that may answer in its place, and its output cap decided.

        Raises what `routing.choose` and `attachments.check` raise, `PromptTooLong` and `ContentRefused`.
        """
        attachments.check(self.input.messages, asking.files)
        moderation.check(asking.settings, parts.texts(self.input.messages))
        choice = routing.choose(self.input, asking)
        caps.check(asking.settings, choice.chain[0], measure.likely(choice.chain[0], self.input, asking.files))
        return self._as(choice, asking.settings)

    def apart(self, asking: Asking) -> str | None:
        """Return the model, where its vendor has batches and the conversation is of words alone.

        Where a vendor's moderation is asked first, the room asks it.
        """
        if asking.settings.moderation == "openai":
            return None
        if self.input.tools or self.input.format is not None or any(True for _ in parts.placed(self.input.messages)):
            return None
        model = catalog.resolve(asking.settings, self.input.model, field="input.model")
        return model.id if batches.has(asking.settings, model) else None

    def most(self, asking: Asking) -> dict[str, int]:
        """Return the bound on the input's tokens and the output cap, weighed for the dearest model that may answer."""
        cap = self.input.max_output_tokens or _DEFAULT_OUTPUT_TOKENS
        models = routing.models(asking.settings, self.input)
        return costs.dearest(_most(model, self.input, cap, asking) for model in models)

    def cheaper(self, asking: Asking, than: Request, meter: str) -> Self | None:
        """Return the request for the next lesser choice that costs less of a meter, where the studio may choose."""
        last = than.input.routing if isinstance(than, Chat) else None
        if last is None or last.asked != catalog.AUTO:
            return None
        costs = than.most(asking).get(meter, 0)
        for choice in routing.steps(self.input, asking, after=last.chain):
            other = self._as(choice, asking.settings)
            if other.most(asking).get(meter, 0) < costs:
                return other
        return None

    def anew(self) -> Self:
        """Return the request as it was asked."""
        chosen = self.input.routing
        if chosen is None:
            return self
        asked = msgspec.structs.replace(self.input, model=chosen.asked, routing=None)
        return msgspec.structs.replace(self, input=asked)

    def _as(self, choice: Choice, settings: Settings) -> Self:
        model = choice.chain[0]
        effort = self.input.effort or choice.routing.effort
        cap = caps.output(settings, model, self.input.max_output_tokens or _cap(model, effort))
        decided = msgspec.structs.replace(self.input, model=model.id, max_output_tokens=cap, routing=choice.routing)
        return msgspec.structs.replace(self, input=decided)


def _cap(model: Model, effort: Effort | None) -> int:
    """Return the usual cap: what is thought counts, and vendors' models think unless they are told not to."""
    if not model.takes.effort:
        return _DEFAULT_OUTPUT_TOKENS
    return _DEFAULT_OUTPUT_TOKENS + _THINKING_TOKENS[effort or ("none" if model.vendor in routing.OWN else "medium")]


def _most(model: Model, asked: ChatInput, cap: int, asking: Asking) -> dict[str, int]:
    read, said = measure.most(model, asked, asking.files), min(cap, model.output_tokens)
    return costs.most(asking.settings, model, input_tokens=read, output_tokens=said)
