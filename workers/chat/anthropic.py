"""Chat in Anthropic's shape (`POST /v1/messages`): what of it the chat room can do, and its answer.

What would change the answer and cannot be done here is refused by the name of its field; what changes nothing is taken.
"""

from collections.abc import Sequence
from typing import Annotated, Any, Final, Literal
from uuid import UUID

import msgspec
from msgspec import Meta, Struct

from infra.decoding import decode
from infra.models import Document
from workers.chat import foreign
from workers.chat.foreign import Content
from workers.chat.spec import Chat, ChatInput

_REASONS: Final = {"stop": "end_turn", "length": "max_tokens", "filtered": "refusal", "canceled": "end_turn"}
#: Fields that would change the answer, with the values that leave it as it is; null always does.
_NEUTRAL: Final[dict[str, Sequence[Any]]] = {
    "stream": (False,),
    "stop_sequences": ([],),
    "top_k": (),
    "top_p": (1, 1.0),
    "tools": ([],),
    "tool_choice": ({"type": "none"}, {"type": "auto"}),
    "thinking": ({"type": "disabled"},),
    "mcp_servers": ([],),
    "container": (),
    "context_management": (),
    "output_config": (),
    "output_format": (),
}
#: Fields that change nothing here, whatever they say.
_IDLE: Final = ("metadata", "service_tier", "cache_control", "inference_geo")


class _Message(Struct, forbid_unknown_fields=True):
    role: Literal["user", "assistant"]
    content: Content


class _Messages(foreign.Asked, forbid_unknown_fields=True):
    model: Annotated[str, Meta(max_length=128)]
    messages: Annotated[list[_Message], Meta(min_length=1, max_length=255)]
    max_tokens: Annotated[int, Meta(ge=1, le=128_000)]
    system: Content | None = None
    temperature: Annotated[float, Meta(ge=0, le=1)] | None = None


_DECODER: Final = msgspec.json.Decoder(foreign.with_fields(_Messages, (*_NEUTRAL, *_IDLE)))


def request(body: bytes) -> Chat:
    """Return the chat that a body in Anthropic's shape asks for.

    Raises the fact that is wrong by its field: those of `infra.decoding`, and `FieldNotSupported`.
    """
    asked = decode(body, _DECODER.decode)
    foreign.check_neutral(asked, _NEUTRAL)
    messages = [foreign.message("system", asked.system, "system")] if asked.system else []
    messages += [
        foreign.message(said.role, said.content, f"messages[{n}].content") for n, said in enumerate(asked.messages)
    ]
    return Chat(
        input=ChatInput(
            messages=messages,
            model=asked.model,
            max_output_tokens=asked.max_tokens,
            temperature=asked.temperature,
        )
    )


def message(job_id: UUID, result: Document) -> Document:
    """Return a chat's result as Anthropic's `message`."""
    usage = result["usage"]
    return {
        "id": f"msg_{job_id.hex}",
        "type": "message",
        "role": "assistant",
        "model": result["model"],
        "content": [{"type": "text", "text": result["text"]}],
        "stop_reason": _REASONS.get(result["finish_reason"], "end_turn"),
        "stop_sequence": None,
        "usage": {"input_tokens": usage["input_tokens"], "output_tokens": usage["output_tokens"]},
    }
