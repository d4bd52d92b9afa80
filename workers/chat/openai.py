"""Chat in OpenAI's shape (`POST /v1/chat/completions`): what of it the chat room can do, and its answer.

What would change the answer and cannot be done here is refused by the name of its field; what changes nothing is taken.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Any, Final
from uuid import UUID

import msgspec
from msgspec import Meta, Struct

from infra.decoding import InvalidValue, MissingField, decode
from infra.models import Document
from workers.chat import foreign
from workers.chat.parts import Message, Part, ToolCallPart, ToolResultPart
from workers.chat.schemas import MOST_TOOLS, FormSpec, ToolSpec
from workers.chat.spec import Chat, ChatInput

_ROLES: Final = {"system": "system", "developer": "system", "user": "user", "assistant": "assistant", "tool": "user"}
_REASONS: Final = {
    "stop": "stop",
    "length": "length",
    "filtered": "content_filter",
    "tools": "tool_calls",
    "canceled": "stop",
}
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
    "functions": ([],),
    "function_call": ("none", "auto"),
    "modalities": (["text"],),
    "audio": (),
    "prediction": (),
    "verbosity": (),
    "web_search_options": (),
}
#: Fields that change nothing here, whatever they say.
_IDLE: Final = (
    *("user", "store", "metadata", "safety_identifier", "service_tier"),
    *("prompt_cache_key", "prompt_cache_retention"),
)


class _Message(Struct, forbid_unknown_fields=True):
    role: str
    content: str | list[dict[str, Any]] | None = None
    name: str | None = None
    refusal: str | None = None
    tool_calls: list[dict[str, Any]] | None = None
    tool_call_id: str | None = None
    function_call: Any = None
    audio: Any = None
    annotations: Any = None


class _Completion(foreign.Asked, forbid_unknown_fields=True):
    model: Annotated[str, Meta(max_length=128)]
    messages: Annotated[list[_Message], Meta(min_length=1, max_length=256)]
    max_tokens: Annotated[int, Meta(ge=1, le=128_000)] | None = None
    max_completion_tokens: Annotated[int, Meta(ge=1, le=128_000)] | None = None
    temperature: Annotated[float, Meta(ge=0, le=2)] | None = None
    reasoning_effort: str | None = None
    tools: Annotated[list[dict[str, Any]], Meta(max_length=MOST_TOOLS)] | None = None
    tool_choice: str | dict[str, Any] | None = None
    parallel_tool_calls: bool | None = None
    response_format: dict[str, Any] | None = None


_DECODER: Final = msgspec.json.Decoder(foreign.with_fields(_Completion, (*_NEUTRAL, *_IDLE)))


def request(body: bytes) -> Chat:
    """Return the chat that a body in OpenAI's shape asks for.

    Raises the fact that is wrong by its field: those of `infra.decoding`, and `FieldNotSupported`.
    """
    asked = decode(body, _DECODER.decode)
    foreign.check_neutral(asked, _NEUTRAL)
    tools = [_tool(tool, f"tools[{n}]") for n, tool in enumerate(asked.tools or [])]
    if tools and asked.parallel_tool_calls is False:
        raise foreign.FieldNotSupported(field="parallel_tool_calls")
    made = ChatInput(
        messages=[_message(said, f"messages[{n}]") for n, said in enumerate(asked.messages)],
        model=asked.model,
        max_output_tokens=asked.max_completion_tokens or asked.max_tokens,
        temperature=asked.temperature,
        effort=foreign.effort(asked.reasoning_effort, "reasoning_effort"),
        tools=tools,
        tool_choice=_choice(asked.tool_choice) if tools else None,
        format=_form(asked.response_format),
    )
    return Chat(input=foreign.checked(made))


def _message(said: _Message, field: str) -> Message:
    if said.role not in _ROLES:
        raise InvalidValue(field=f"{field}.role", value=said.role)
    for name in ("name", "function_call", "audio"):
        if getattr(said, name):
            raise foreign.FieldNotSupported(field=f"{field}.{name}")
    if said.tool_calls and said.role != "assistant":
        raise foreign.FieldNotSupported(field=f"{field}.tool_calls")
    if said.tool_call_id and said.role != "tool":
        raise foreign.FieldNotSupported(field=f"{field}.tool_call_id")
    content = _content(said.content, f"{field}.content")
    if said.role == "tool":
        whole = foreign.message("user", content, f"{field}.content").content if content else ""
        if not isinstance(whole, str):
            raise foreign.FieldNotSupported(field=f"{field}.content")
        if not said.tool_call_id:
            raise MissingField(field=f"{field}.tool_call_id")
        return Message(role="user", content=[ToolResultPart(id=said.tool_call_id, content=whole)])
    calls = [_call(call, f"{field}.tool_calls[{n}]") for n, call in enumerate(said.tool_calls or [])]
    return foreign.message(_ROLES[said.role], [*content, *calls], f"{field}.content")


def _content(content: str | list[dict[str, Any]] | None, field: str) -> list[Part]:
    if isinstance(content, list):
        return [_part(part, f"{field}[{n}]") for n, part in enumerate(content)]
    return [foreign.text(content, field)] if content else []


def _part(part: dict[str, Any], field: str) -> Part:
    match part:
        case {"type": "text", "text": str(said), **rest}:
            foreign.known(rest, (), field)
            return foreign.text(said, f"{field}.text")
        case {"type": "image_url", "image_url": {"url": str(url), **more}, **rest}:
            foreign.known(rest, (), field)
            if more.get("detail") not in {None, "auto"}:
                raise foreign.FieldNotSupported(field=f"{field}.image_url.detail")
            return foreign.image_of_url(url, f"{field}.image_url.url")
        case {"type": "file", "file": {"file_id": file_id, **more}, **rest}:
            foreign.known(rest, (), field)
            foreign.known(more, ("filename",), f"{field}.file")
            return foreign.file(file_id, f"{field}.file.file_id")
        case _:
            raise foreign.FieldNotSupported(field=f"{field}.type")


def _call(call: dict[str, Any], field: str) -> ToolCallPart:
    match call:
        case {"id": str(call_id), "type": "function", "function": {"name": str(name), "arguments": str(arguments)}}:
            return ToolCallPart(id=call_id, name=name, arguments=arguments)
        case _:
            raise foreign.FieldNotSupported(field=field)


def _tool(tool: dict[str, Any], field: str) -> ToolSpec:
    if tool.get("type") != "function":
        raise foreign.FieldNotSupported(field=f"{field}.type")
    foreign.known(tool, ("type", "function"), field)
    function = foreign.as_object(tool.get("function"), f"{field}.function")
    foreign.known(function, ("name", "description", "parameters", "strict"), f"{field}.function")
    return foreign.tool(
        function.get("name"), function.get("description"), function.get("parameters"), f"{field}.function"
    )


def _choice(choice: str | dict[str, Any] | None) -> str | None:
    match choice:
        case None | "auto" | "none" | "required":
            return choice
        case {"type": "function", "function": {"name": str(name)}}:
            return name
        case _:
            raise foreign.FieldNotSupported(field="tool_choice")


def _form(wanted: dict[str, Any] | None) -> FormSpec | None:
    match wanted:
        case None | {"type": "text"}:
            return None
        case {"type": "json_schema", "json_schema": {"schema": schema, **rest}}:
            return foreign.form(rest.get("name"), schema, "response_format.json_schema")
        case _:
            raise foreign.FieldNotSupported(field="response_format")


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
                "message": _told(result),
                "logprobs": None,
                "finish_reason": _REASONS.get(result["finish_reason"], "stop"),
            }
        ],
        "usage": {
            "prompt_tokens": usage["input_tokens"],
            "completion_tokens": usage["output_tokens"],
            "total_tokens": usage["input_tokens"] + usage["output_tokens"],
            "prompt_tokens_details": {"cached_tokens": usage.get("cached_tokens", 0)},
            "completion_tokens_details": {"reasoning_tokens": usage.get("reasoning_tokens", 0)},
        },
    }


def _told(result: Document) -> Document:
    calls = [
        {"id": call["id"], "type": "function", "function": {"name": call["name"], "arguments": call["arguments"]}}
        for call in result.get("tool_calls", [])
    ]
    if not calls:
        return {"role": "assistant", "content": result["text"], "refusal": None}
    return {"role": "assistant", "content": result["text"] or None, "refusal": None, "tool_calls": calls}
