"""How a conversation is written for Gemini's Interactions: as the steps of one that has been going on."""

import base64
from typing import Any, Final, Literal

import msgspec
from msgspec import Struct

from providers import google_content, types

_LEVELS: Final[dict[types.Effort, str]] = {"none": "minimal", "low": "low", "medium": "medium", "high": "high"}


class _Thinking(Struct):
    """A thought of ours."""

    type: Literal["thought"]
    signature: str


def request(call: types.ChatCall) -> dict[str, Any]:
    """Return what starts an interaction in the background; raises `ProviderRefused` for arguments that are no object.

    The whole conversation is sent each time, so that no answer depends on what Google still keeps.
    """
    names = google_content.called(call)
    asked = {
        "model": call.model,
        "input": [step for turn in call.turns if turn.role != "system" for step in _steps(turn, names)],
        "system_instruction": google_content.system(call) or None,
        "generation_config": _config(call),
        "tools": [_tool(tool) for tool in call.tools] or None,
        "response_format": _form(call.form) if call.form else None,
        "background": True,
        "store": True,
        "stream": True,
    }
    return {name: value for name, value in asked.items() if value is not None}


def _config(call: types.ChatCall) -> dict[str, Any]:
    config = {
        "max_output_tokens": call.output_tokens,
        "temperature": call.temperature,
        "thinking_level": _LEVELS[call.effort] if call.effort else None,
        "tool_choice": _choice(call.tool_choice) if call.tools else None,
    }
    return {name: value for name, value in config.items() if value is not None}


def _steps(turn: types.Turn, names: dict[str, str]) -> list[dict[str, Any]]:
    """Return the steps of a turn: words, pictures and papers that stand together are one."""
    said = "user_input" if turn.role == "user" else "model_output"
    steps: list[dict[str, Any]] = []
    for part in turn.parts:
        content, step = _content(part), _step(part, names)
        if content is not None and steps and steps[-1]["type"] == said:
            steps[-1]["content"].append(content)
        elif content is not None:
            steps.append({"type": said, "content": [content]})
        elif step is not None:
            steps.append(step)
    return steps


def _content(part: types.Part) -> dict[str, Any] | None:
    match part:
        case types.Text(text=text) if text:
            return {"type": "text", "text": text}
        case types.Picture(media_type=media_type, data=data):
            return {"type": "image", "mime_type": media_type, "data": base64.b64encode(data).decode()}
        case types.Paper(media_type="application/pdf", data=data):
            return {"type": "document", "mime_type": "application/pdf", "data": base64.b64encode(data).decode()}
        case types.Paper():
            return {"type": "text", "text": google_content.words(part)}
        case _:
            return None


def _step(part: types.Part, names: dict[str, str]) -> dict[str, Any] | None:
    """Return a part that is a step of its own; None for what is another vendor's."""
    match part:
        case types.ToolCall(id=id_, name=name):
            return {"type": "function_call", "id": id_, "name": name, "arguments": google_content.arguments(part)}
        case types.ToolResult(id=id_, content=content, is_error=is_error):
            answer = {"type": "function_result", "call_id": id_, "name": names.get(id_, id_), "result": content}
            return answer | ({"is_error": True} if is_error else {})
        case types.Thought(vendor="google", data=data):
            return _thought(data)
        case _:
            return None


def _thought(data: str) -> dict[str, Any] | None:
    """Return a thought as it came; None for what is none, since whoever asks may have made it up."""
    try:
        return msgspec.to_builtins(msgspec.json.decode(data, type=_Thinking))
    except msgspec.DecodeError:
        return None


def _tool(tool: types.Tool) -> dict[str, Any]:
    return {"type": "function", "name": tool.name, "description": tool.description, "parameters": dict(tool.schema)}


def _choice(choice: str) -> str | dict[str, Any]:
    match choice:
        case "auto" | "none":
            return choice
        case "required":
            return "any"
        case name:
            return {"allowed_tools": {"mode": "any", "tools": [name]}}


def _form(form: types.Form) -> dict[str, Any]:
    return {"type": "text", "mime_type": "application/json", "schema": dict(form.schema)}
