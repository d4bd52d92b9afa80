"""Chat in Anthropic's shape (`POST /v1/messages`): what of it the chat room can do, and its answer.

What would change the answer and cannot be done here is refused by the name of its field; what changes nothing is taken.
"""

import re
from collections.abc import Sequence
from typing import Annotated, Any, Final, Literal
from uuid import UUID

import msgspec
from msgspec import Meta, Struct

from infra.decoding import decode
from infra.models import Document
from providers.types import Effort
from workers.chat import foreign
from workers.chat.parts import Message, Part, ThoughtPart, ToolCallPart, ToolResultPart
from workers.chat.schemas import MOST_TOOLS, FormSpec, ToolSpec
from workers.chat.spec import Chat, ChatInput

_VENDOR: Final = "anthropic"
_REASONS: Final = {
    "stop": "end_turn",
    "length": "max_tokens",
    "filtered": "refusal",
    "tools": "tool_use",
    "canceled": "end_turn",
}
#: Fields that would change the answer, with the values that leave it as it is; null always does.
_NEUTRAL: Final[dict[str, Sequence[Any]]] = {
    "stream": (False,),
    "stop_sequences": ([],),
    "top_k": (),
    "top_p": (1, 1.0),
    "thinking": ({"type": "disabled"}, {"type": "adaptive"}),
    "mcp_servers": ([],),
    "container": (),
    "context_management": (),
}
#: Fields that change nothing here, whatever they say.
_IDLE: Final = ("metadata", "service_tier", "cache_control", "inference_geo")
_PLACE: Final = re.compile(r"input\.messages\[(\d+)\]")
_MARKS: Final = ("cache_control", "citations")

type _Content = str | list[dict[str, Any]]


class _Message(Struct, forbid_unknown_fields=True):
    role: Literal["user", "assistant"]
    content: _Content


class _Messages(foreign.Asked, forbid_unknown_fields=True):
    model: Annotated[str, Meta(max_length=128)]
    messages: Annotated[list[_Message], Meta(min_length=1, max_length=255)]
    max_tokens: Annotated[int, Meta(ge=1, le=128_000)]
    system: _Content | None = None
    temperature: Annotated[float, Meta(ge=0, le=1)] | None = None
    tools: Annotated[list[dict[str, Any]], Meta(max_length=MOST_TOOLS)] | None = None
    tool_choice: dict[str, Any] | None = None
    output_config: dict[str, Any] | None = None
    output_format: dict[str, Any] | None = None


_DECODER: Final = msgspec.json.Decoder(foreign.with_fields(_Messages, (*_NEUTRAL, *_IDLE)))


def request(body: bytes) -> Chat:
    """Return the chat that a body in Anthropic's shape asks for.

    Raises the fact that is wrong by its field: those of `infra.decoding`, and `FieldNotSupported`.
    """
    asked = decode(body, _DECODER.decode)
    foreign.check_neutral(asked, _NEUTRAL)
    messages = [_message("system", asked.system, "system")] if asked.system else []
    messages += [_message(said.role, said.content, f"messages[{n}].content") for n, said in enumerate(asked.messages)]
    tools = [_tool(tool, f"tools[{n}]") for n, tool in enumerate(asked.tools or [])]
    made = ChatInput(
        messages=messages,
        model=asked.model,
        max_output_tokens=asked.max_tokens,
        temperature=asked.temperature,
        effort=_effort(asked),
        tools=tools,
        tool_choice=_choice(asked.tool_choice) if tools else None,
        format=_form(asked),
    )
    return Chat(input=foreign.checked(made))


def theirs(field: str, asked: Chat) -> str:
    """Return what a field of a chat is called where the system prompt stands apart from the messages."""
    found = _PLACE.match(field)
    if found is None or asked.input.messages[0].role != "system":
        return field
    place, rest = int(found[1]) - 1, field[found.end() :]
    return f"input.messages[{place}]{rest}" if place >= 0 else f"input.system{rest.removeprefix('.content')}"


def _message(role: str, content: _Content, field: str) -> Message:
    if isinstance(content, str):
        return foreign.message(role, [foreign.text(content, field)], field)
    return foreign.message(role, [_part(block, f"{field}[{n}]") for n, block in enumerate(content)], field)


def _part(block: dict[str, Any], field: str) -> Part:
    match block:
        case {"type": "text", "text": str(said), **rest}:
            foreign.known(rest, _MARKS, field)
            return foreign.text(said, f"{field}.text")
        case {"type": "image", "source": {"type": "base64", "media_type": str(media_type), "data": str(data)}}:
            return foreign.image(media_type, data, f"{field}.source.media_type")
        case {"type": "image", "source": {"type": "file", "file_id": file_id}}:
            return foreign.ImagePart(file_id=foreign.file_id(file_id, f"{field}.source.file_id"))
        case {"type": "document", "source": {"type": "file", "file_id": file_id}}:
            return foreign.file(file_id, f"{field}.source.file_id")
        case {"type": "tool_use", "id": str(call_id), "name": str(name), "input": arguments}:
            given = foreign.as_object(arguments, f"{field}.input")
            return ToolCallPart(id=call_id, name=name, arguments=msgspec.json.encode(given).decode())
        case {"type": "tool_result", "tool_use_id": str(call_id), **rest}:
            told = _result(rest.get("content"), f"{field}.content")
            return ToolResultPart(id=call_id, content=told, is_error=rest.get("is_error") is True)
        case {"type": "thinking" | "redacted_thinking"}:
            return ThoughtPart(vendor=_VENDOR, data=msgspec.json.encode(block).decode())
        case {"source": {"type": "url" | "base64" | "text" | "content"}}:
            raise foreign.FieldNotSupported(field=f"{field}.source.type")
        case _:
            raise foreign.FieldNotSupported(field=f"{field}.type")


def _result(content: _Content | None, field: str) -> str:
    """Return what a tool gave back: text alone can be told."""
    if not content:
        return ""
    whole = _message("user", content, field).content
    if not isinstance(whole, str):
        raise foreign.FieldNotSupported(field=field)
    return whole


def _tool(tool: dict[str, Any], field: str) -> ToolSpec:
    if tool.get("type", "custom") != "custom":
        raise foreign.FieldNotSupported(field=f"{field}.type")
    foreign.known(tool, ("type", "name", "description", "input_schema", "strict", *_MARKS), field)
    return foreign.tool(tool.get("name"), tool.get("description"), tool.get("input_schema"), f"{field}.input_schema")


def _choice(choice: dict[str, Any] | None) -> str | None:
    match choice:
        case None:
            return None
        case {"type": "auto" | "none" | "any" as kind, **rest}:
            foreign.known(rest, (), "tool_choice")
            return "required" if kind == "any" else kind
        case {"type": "tool", "name": str(name), **rest}:
            foreign.known(rest, (), "tool_choice")
            return name
        case _:
            raise foreign.FieldNotSupported(field="tool_choice")


def _effort(asked: _Messages) -> Effort | None:
    config: dict[str, Any] = asked.output_config or {}
    foreign.known(config, ("effort", "format"), "output_config")
    level = foreign.effort(config.get("effort"), "output_config.effort")
    is_off = getattr(asked, "thinking") == {"type": "disabled"}  # noqa: B009 (`with_fields` gives it)
    return "none" if level is None and is_off else level


def _form(asked: _Messages) -> FormSpec | None:
    config = asked.output_config or {}
    for field, wanted in (("output_config.format", config.get("format")), ("output_format", asked.output_format)):
        match wanted:
            case None:
                continue
            case {"type": "json_schema", "schema": schema}:
                return foreign.form(None, schema, field)
            case _:
                raise foreign.FieldNotSupported(field=field)
    return None


def message(job_id: UUID, result: Document) -> Document:
    """Return a chat's result as Anthropic's `message`."""
    usage = result["usage"]
    cached: int = usage.get("cached_tokens", 0)
    blocks = [_block(part) for part in result.get("content", [])]
    content = [block for block in blocks if block is not None]
    return {
        "id": f"msg_{job_id.hex}",
        "type": "message",
        "role": "assistant",
        "model": result["model"],
        "content": content or [{"type": "text", "text": result["text"]}],
        "stop_reason": _REASONS.get(result["finish_reason"], "end_turn"),
        "stop_sequence": None,
        "usage": {
            "input_tokens": usage["input_tokens"] - cached,
            "cache_creation_input_tokens": 0,
            "cache_read_input_tokens": cached,
            "output_tokens": usage["output_tokens"],
        },
    }


def _block(part: Document) -> Document | None:
    match part:
        case {"type": "text", "text": said}:
            return {"type": "text", "text": said}
        case {"type": "tool_call"}:
            given = msgspec.json.decode(part["arguments"] or "{}")
            return {"type": "tool_use", "id": part["id"], "name": part["name"], "input": given}
        case {"type": "thought", "vendor": "anthropic", "data": data}:
            return msgspec.json.decode(data)
        case _:  # what another vendor wants back
            return None
