"""How a conversation is written for Anthropic's Messages API (version 2026-10-21)."""

import base64
import re
from collections.abc import Sequence
from typing import Any, Final, Literal

import anthropic
import msgspec
from msgspec import Struct

from providers import types


class _Thinking(Struct, omit_defaults=True):
    """A block of thinking, with its signature, or encrypted altogether."""

    type: Literal["thinking", "redacted_thinking"]
    thinking: str | None = None
    signature: str | None = None
    data: str | None = None


_UNFIT: Final = re.compile(r"[^a-zA-Z0-9_-]")
#: Marks the end of the request as worth keeping for five minutes.
_KEEP: Final = {"type": "ephemeral"}


def request(call: types.ChatCall) -> dict[str, Any]:
    """Return the body of a streamed request; raises `ProviderRefused` for a form that cannot be asked for.

    A temperature is left out: these models take none. A conversation that already has an answer is kept in Anthropic's
    cache, since its next turn brings all of it again: a quarter dearer once, nine tenths cheaper from then on. A
    first question is not: most are never followed up.
    """
    system = "\n\n".join(
        part.text for turn in call.turns if turn.role == "system" for part in turn.parts if isinstance(part, types.Text)
    )
    messages = [message for turn in call.turns if turn.role != "system" if (message := _message(turn))["content"]]
    body = {
        "model": call.model,
        "max_tokens": call.output_tokens,
        "messages": messages,
        "system": system or None,
        "tools": [_tool(tool) for tool in call.tools] or None,
        "tool_choice": _choice(call),
        "output_config": _output(call) or None,
        "thinking": _thinking(call),
        "cache_control": _KEEP if any(message["role"] == "assistant" for message in messages) else None,
        "stream": True,
    }
    return {name: value for name, value in body.items() if value is not None}


def _message(turn: types.Turn) -> dict[str, Any]:
    # Results stand first in their message, or the request is refused.
    parts = sorted(turn.parts, key=lambda part: not isinstance(part, types.ToolResult))
    blocks = [block for part in parts if (block := _block(part, turn.role)) is not None]
    return {"role": turn.role, "content": blocks}


def _block(part: types.Part, role: types.Role) -> dict[str, Any] | None:
    """Return a part of a message; None for what has no place there, or is another vendor's."""
    match part:
        case types.Text(text=text) if text.strip():
            return {"type": "text", "text": text}
        case types.Picture() if role == "user":
            return {"type": "image", "source": _source(part.media_type, part.data)}
        case types.Paper() if role == "user":
            return {"type": "document", "source": _paper(part), "title": part.name}
        case types.ToolCall():
            return {"type": "tool_use", "id": _id(part.id), "name": part.name, "input": _arguments(part)}
        case types.ToolResult():
            answer = {"type": "tool_result", "tool_use_id": _id(part.id), "content": part.content}
            return answer | ({"is_error": True} if part.is_error else {})
        case types.Thought(vendor="anthropic"):
            return _thought(part)
        case _:
            return None


def _paper(paper: types.Paper) -> dict[str, Any]:
    if paper.media_type == "application/pdf":
        return _source(paper.media_type, paper.data)
    return {"type": "text", "media_type": "text/plain", "data": paper.data.decode(errors="replace")}


def _source(media_type: str, data: bytes) -> dict[str, Any]:
    return {"type": "base64", "media_type": media_type, "data": base64.b64encode(data).decode()}


def _id(given: str) -> str:
    """Return an id of any vendor in the letters that Anthropic takes."""
    return _UNFIT.sub("_", given)


def _arguments(call: types.ToolCall) -> dict[str, Any]:
    """Return the arguments of a call that was made earlier; raises `ProviderRefused` where they are no object."""
    try:
        return msgspec.json.decode(call.arguments, type=dict[str, Any])
    except msgspec.DecodeError as error:
        raise types.ProviderRefused(reason=f"{call.name}: {error}") from error


def _thought(thought: types.Thought) -> dict[str, Any] | None:
    """Return a block of thinking as it came; None where it is none, since whoever asks may have made it up."""
    try:
        block = msgspec.json.decode(thought.data, type=_Thinking)
    except msgspec.DecodeError:
        return None
    return msgspec.to_builtins(block)


def _tool(tool: types.Tool) -> dict[str, Any]:
    return {"name": tool.name, "description": tool.description, "input_schema": dict(tool.schema)}


def _choice(call: types.ChatCall) -> dict[str, Any] | None:
    if not call.tools:
        return None
    match call.tool_choice:
        case "auto" | "none":
            return {"type": call.tool_choice}
        case "required":
            return {"type": "any"}
        case name:
            return {"type": "tool", "name": name}


def _output(call: types.ChatCall) -> dict[str, Any]:
    output: dict[str, Any] = {}
    if call.effort not in (None, "none"):
        output["effort"] = call.effort
    if call.form is not None:
        output["format"] = {"type": "json_schema", "schema": _schema(call.form)}
    return output


def _thinking(call: types.ChatCall) -> dict[str, Any] | None:
    """Return how it is to think; nothing is said where a tool is forced, which goes with no thinking asked for."""
    if call.effort is None:
        return None
    if call.effort == "none":
        return {"type": "disabled"}
    return None if _forced(call) else {"type": "adaptive"}


def _forced(call: types.ChatCall) -> bool:
    return bool(call.tools) and call.tool_choice not in _FREE


_FREE: Final[Sequence[str]] = ("auto", "none")


def _schema(form: types.Form) -> dict[str, Any]:
    """Return the schema in the part of JSON Schema that Anthropic enforces; the rest becomes words of it."""
    try:
        return anthropic.transform_schema(dict(form.schema))
    except (ValueError, TypeError, AttributeError) as error:
        raise types.ProviderRefused(reason=f"{form.name}: {error}"[:500]) from error
