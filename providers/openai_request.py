"""What OpenAI's Responses API is asked, in its own words."""

from collections.abc import Iterator, Sequence
from typing import Any

import msgspec
from msgspec import Struct
from openai import Omit, omit
from openai.types.responses import (
    FunctionToolParam,
    ResponseInputItemParam,
    ResponseInputMessageContentListParam,
    ResponseTextConfigParam,
    ToolChoiceFunctionParam,
    ToolChoiceOptions,
)
from openai.types.responses.response_reasoning_item_param import Summary

from providers import papers, payload
from providers.text import kept
from providers.types import ChatCall, Form, Paper, Part, Picture, Text, Thought, Tool, ToolCall, ToolResult, Turn

VENDOR = "openai"


class _Summary(Struct, frozen=True, kw_only=True):
    text: str


class _Sealed(Struct, frozen=True, kw_only=True, tag_field="type", tag="reasoning"):
    """A reasoning item as it is kept."""

    id: str
    encrypted_content: str
    summary: list[_Summary]


def items(turns: Sequence[Turn]) -> list[ResponseInputItemParam]:
    """Return a conversation as the items of `input`, in its order."""
    return [item for turn in turns for item in _turn(turn)]


def _turn(turn: Turn) -> Iterator[ResponseInputItemParam]:
    """Yield the items of one turn: what is said together is one message, a tool call or result is its own item."""
    said: list[Part] = []
    for part in turn.parts:
        item = _item(part)
        if isinstance(part, Text | Picture | Paper):
            said.append(part)
        elif item is not None:
            yield from _message(turn, said)
            said = []
            yield item
    yield from _message(turn, said)


def _message(turn: Turn, said: Sequence[Part]) -> Iterator[ResponseInputItemParam]:
    if not said:
        return
    if turn.role == "assistant":
        # Its own words go back as plain text: as a list they would need the ids that the vendor gave them.
        yield {"role": "assistant", "content": "".join(part.text for part in said if isinstance(part, Text))}
    else:
        yield {"role": turn.role, "content": _content(said)}


def _content(said: Sequence[Part]) -> ResponseInputMessageContentListParam:
    content: ResponseInputMessageContentListParam = []
    for part in said:
        match part:
            case Picture():
                content.append({"type": "input_image", "image_url": papers.data_url(part), "detail": "auto"})
            case Paper() if papers.is_text(part):
                content.append({"type": "input_text", "text": papers.words(part)})
            case Paper():
                content.append({"type": "input_file", "filename": part.name, "file_data": papers.data_url(part)})
            case Text():
                content.append({"type": "input_text", "text": part.text})
            case _:
                pass
    return content


def _item(part: Part) -> ResponseInputItemParam | None:
    match part:
        case ToolCall():
            return {"type": "function_call", "call_id": part.id, "name": part.name, "arguments": part.arguments}
        case ToolResult():
            # The API has no mark for a failure of a tool, so the text says it.
            output = f"Error: {part.content}" if part.is_error else part.content
            return {"type": "function_call_output", "call_id": part.id, "output": output}
        case Thought(vendor="openai"):
            return _thought(part.data)
        case _:
            return None


def thought(item: object) -> Thought | None:
    """Return what was thought, to be given back with a tool's result; None where it is not sealed."""
    sealed = _Sealed(
        id=payload.text(item, "id"),
        encrypted_content=payload.text(item, "encrypted_content"),
        summary=[_Summary(text=kept(payload.text(part, "text"))) for part in payload.items(item, "summary")],
    )
    return Thought(vendor=VENDOR, data=msgspec.json.encode(sealed).decode()) if sealed.encrypted_content else None


def _thought(data: str) -> ResponseInputItemParam | None:
    """Return the item of a thought, which came by way of the client: one that is none of ours is dropped.

    Whatever else could stand there, such as the id of a file or of somebody's answer, would be read with our key.
    """
    try:
        sealed = msgspec.json.decode(data, type=_Sealed)
    except (msgspec.DecodeError, ValueError):
        return None
    if not sealed.encrypted_content:
        return None
    summary: list[Summary] = [{"type": "summary_text", "text": part.text} for part in sealed.summary]
    return {
        "type": "reasoning",
        "id": sealed.id,
        "summary": summary,
        "encrypted_content": sealed.encrypted_content,
    }


def tools(offered: Sequence[Tool]) -> list[FunctionToolParam] | Omit:
    """Return the tools; not strict, since a strict one takes only a part of JSON Schema."""
    if not offered:
        return omit
    return [
        {
            "type": "function",
            "name": tool.name,
            "description": tool.description,
            "parameters": dict(tool.schema),
            "strict": False,
        }
        for tool in offered
    ]


def tool_choice(call: ChatCall) -> ToolChoiceOptions | ToolChoiceFunctionParam | Omit:
    """Return which tool is to be called."""
    match call.tool_choice:
        case _ if not call.tools:
            return omit
        case "auto" | "none" | "required" as option:
            return option
        case name:
            return {"type": "function", "name": name}


def text(form: Form | None) -> ResponseTextConfigParam | Omit:
    """Return the shape that the answer must have."""
    if form is None:
        return omit
    schema: dict[str, Any] = dict(form.schema)
    return {"format": {"type": "json_schema", "name": form.name, "schema": schema, "strict": True}}
