"""Chat in OpenAI's shape (`POST /v1/chat/completions`): what of it the chat room can do, and its answer.

What would change the answer and cannot be done here is refused by the name of its field; what changes nothing is taken.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Any, Final
from uuid import UUID

import msgspec
from msgspec import Meta, Struct

from infra.decoding import InvalidValue, decode
from infra.models import Document
from workers.chat import foreign
from workers.chat.foreign import Content
from workers.chat.spec import Chat, ChatInput, Message

_ROLES: Final = {"system": "system", "developer": "system", "user": "user", "assistant": "assistant"}
_REASONS: Final = {"stop": "stop", "length": "length", "filtered": "content_filter", "canceled": "stop"}
#: Fields that would change the answer, with the values that leave it as it is; null always does.
_NEUTRAL: Final[dict[str, Sequence[Any]]] = {
    "n": (1,),
    "stream": (False,),
    "stream_options": (),
    "top_p": (1, 1.0),
    "frequency_penalty": (0, 0.0),
    "presence_penalty": (0, 0.0),
    "logit_bias": ({},),
    "logprobs": (False,),
    "top_logprobs": (0,),
    "seed": (),
    "stop": ([],),
    "tools": ([],),
    "tool_choice": ("none", "auto"),
    "functions": ([],),
    "function_call": ("none", "auto"),
    "response_format": ({"type": "text"},),
    "modalities": (["text"],),
    "audio": (),
    "prediction": (),
    "reasoning_effort": (),
    "verbosity": (),
    "web_search_options": (),
}
#: Fields that change nothing here, whatever they say.
_IDLE: Final = (
    *("user", "store", "metadata", "safety_identifier", "service_tier"),
    *("parallel_tool_calls", "prompt_cache_key", "prompt_cache_retention"),
)


class _Message(Struct, forbid_unknown_fields=True):
    role: str
    content: Content | None = None
    name: str | None = None
    refusal: str | None = None
    tool_calls: Any = None
    tool_call_id: Any = None
    function_call: Any = None
    audio: Any = None
    annotations: Any = None


class _Completion(foreign.Asked, forbid_unknown_fields=True):
    model: Annotated[str, Meta(max_length=128)]
    messages: Annotated[list[_Message], Meta(min_length=1, max_length=256)]
    max_tokens: Annotated[int, Meta(ge=1, le=128_000)] | None = None
    max_completion_tokens: Annotated[int, Meta(ge=1, le=128_000)] | None = None
    temperature: Annotated[float, Meta(ge=0, le=2)] | None = None


_DECODER: Final = msgspec.json.Decoder(foreign.with_fields(_Completion, (*_NEUTRAL, *_IDLE)))


def request(body: bytes) -> Chat:
    """Return the chat that a body in OpenAI's shape asks for.

    Raises the fact that is wrong by its field: those of `infra.decoding`, and `FieldNotSupported`.
    """
    asked = decode(body, _DECODER.decode)
    foreign.check_neutral(asked, _NEUTRAL)
    return Chat(
        input=ChatInput(
            messages=[_message(said, f"messages[{n}]") for n, said in enumerate(asked.messages)],
            model=asked.model,
            max_output_tokens=asked.max_completion_tokens or asked.max_tokens,
            temperature=asked.temperature,
        )
    )


def _message(said: _Message, field: str) -> Message:
    if said.role not in _ROLES:
        raise InvalidValue(field=f"{field}.role", value=said.role)
    for name in ("name", "tool_calls", "tool_call_id", "function_call", "audio"):
        if getattr(said, name):
            raise foreign.FieldNotSupported(field=f"{field}.{name}")
    return foreign.message(_ROLES[said.role], said.content or "", f"{field}.content")


def completion(job_id: UUID, created: datetime, result: Document) -> Document:
    """Return a chat's result as OpenAI's `chat.completion`."""
    usage = result["usage"]
    return {
        "id": f"chatcmpl-{job_id.hex}",
        "object": "chat.completion",
        "created": int(created.timestamp()),
        "model": result["model"],
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": result["text"], "refusal": None},
                "logprobs": None,
                "finish_reason": _REASONS.get(result["finish_reason"], "stop"),
            }
        ],
        "usage": {
            "prompt_tokens": usage["input_tokens"],
            "completion_tokens": usage["output_tokens"],
            "total_tokens": usage["input_tokens"] + usage["output_tokens"],
        },
    }
