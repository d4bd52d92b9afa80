"""What may be asked of the chat room, and the most that it can cost."""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Struct

from providers import catalog, moderation, tokens
from workers.chat import caps, costs
from workers.request import Asking, Request

# What chat templates add: marks around each message, and the system prompt of a model that has one of its own
# (SmolLM2's is about 30 tokens). Both are above what any template in use adds.
_MESSAGE_TOKENS = 16
_PROMPT_TOKENS = 64
_DEFAULT_OUTPUT_TOKENS = 1024


class Message(Struct, kw_only=True, forbid_unknown_fields=True):
    """One turn of the conversation."""

    role: Literal["system", "user", "assistant"]
    content: Annotated[str, Meta(min_length=1, max_length=200_000)]


class ChatInput(Struct, kw_only=True, forbid_unknown_fields=True):
    """A conversation that the model is to continue."""

    messages: Annotated[list[Message], Meta(min_length=1, max_length=256, description="Oldest first.")]
    model: Annotated[str, Meta(max_length=128, description="A model's id, or `auto`.")] = catalog.AUTO
    max_output_tokens: (
        Annotated[int, Meta(ge=1, le=128_000, description="Cap of the answer; the model's own cap holds in any case.")]
        | None
    ) = None
    temperature: Annotated[float, Meta(ge=0, le=2)] | None = None


class Chat(Request, tag="chat"):
    """Continue a conversation."""

    input: ChatInput

    def resolved(self, asking: Asking) -> "Chat":
        """Return the request with its model and output cap decided.

        Raises what `catalog.resolve` does, `PromptTooLong`, or `ContentRefused`.
        """
        settings, messages = asking.settings, self.input.messages
        model = catalog.resolve(settings, self.input.model, field="input.model", plan=asking.plan)
        caps.check(settings, model, tokens.estimate(model, *(message.content for message in messages)))
        moderation.check(settings, ((f"input.messages[{n}].content", each.content) for n, each in enumerate(messages)))
        output_cap = caps.output(settings, model, self.input.max_output_tokens or _DEFAULT_OUTPUT_TOKENS)
        decided = msgspec.structs.replace(self.input, model=model.id, max_output_tokens=output_cap)
        return msgspec.structs.replace(self, input=decided)

    def most(self, asking: Asking) -> dict[str, int]:
        """Return the bound on the input's tokens and the output cap, weighed for the model."""
        model = catalog.resolve(asking.settings, self.input.model, field="input.model")
        messages = self.input.messages
        most = tokens.bound(model, *(message.content for message in messages))
        most += _PROMPT_TOKENS + _MESSAGE_TOKENS * len(messages)
        output_cap = self.input.max_output_tokens or _DEFAULT_OUTPUT_TOKENS
        most = min(most, model.context_tokens)
        return costs.most(asking.settings, model, input_tokens=most, output_tokens=output_cap)
