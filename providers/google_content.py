"""How a conversation is written for generateContent."""

import base64
from typing import Any, Final

import msgspec
from google.genai import types as wire
from msgspec import Struct

from providers import types

_LEVELS: Final[dict[types.Effort, wire.ThinkingLevel]] = {
    "none": wire.ThinkingLevel.MINIMAL,  # the least that there is
    "low": wire.ThinkingLevel.LOW,
    "medium": wire.ThinkingLevel.MEDIUM,
    "high": wire.ThinkingLevel.HIGH,
}
#: What Google wants in the place of a signature for a call that its model did not make itself.
_UNSIGNED: Final = b"skip_thought_signature_validator"


class _Signed(Struct):
    """A thought of ours: what signs the call that follows it."""

    signature: str = msgspec.field(name="thoughtSignature")


def contents(call: types.ChatCall) -> list[wire.ContentUnion]:
    """Return the conversation; raises `ProviderRefused` for arguments that are no object."""
    found: list[wire.ContentUnion] = []
    names = called(call)
    for turn in call.turns:
        parts = _parts(turn, names, needs_signature=not call.model.startswith("gemini-2"))
        if turn.role != "system" and parts:
            found.append(wire.Content(role="user" if turn.role == "user" else "model", parts=parts))
    return found


def config(call: types.ChatCall) -> wire.GenerateContentConfig:
    """Return how it is to be answered."""
    return wire.GenerateContentConfig(
        system_instruction=system(call) or None,
        max_output_tokens=call.output_tokens,
        temperature=call.temperature,
        thinking_config=wire.ThinkingConfig(thinking_level=_LEVELS[call.effort]) if call.effort else None,
        tools=[wire.Tool(function_declarations=[_tool(tool) for tool in call.tools])] if call.tools else None,
        tool_config=wire.ToolConfig(function_calling_config=_choice(call)) if call.tools else None,
        response_mime_type="application/json" if call.form else None,
        response_json_schema=dict(call.form.schema) if call.form else None,
        automatic_function_calling=wire.AutomaticFunctionCallingConfig(disable=True),
        automatic_continuation=False,
    )


def system(call: types.ChatCall) -> str:
    """Return what all turns of the system say."""
    turns = [turn for turn in call.turns if turn.role == "system"]
    return "\n\n".join(part.text for turn in turns for part in turn.parts if isinstance(part, types.Text))


def called(call: types.ChatCall) -> dict[str, str]:
    """Return the names of the tools that were called, by the ids of the calls; a result has to name its tool."""
    return {part.id: part.name for turn in call.turns for part in turn.parts if isinstance(part, types.ToolCall)}


def arguments(call: types.ToolCall) -> dict[str, Any]:
    """Return the arguments of a call that was made earlier; raises `ProviderRefused` where they are no object."""
    try:
        return msgspec.json.decode(call.arguments, type=dict[str, Any])
    except msgspec.DecodeError as error:
        raise types.ProviderRefused(reason=f"{call.name}: {error}") from error


def words(paper: types.Paper) -> str:
    """Return a file of text as text, under its name."""
    return f"{paper.name}\n\n{paper.data.decode(errors='replace')}"


def _parts(turn: types.Turn, names: dict[str, str], *, needs_signature: bool) -> list[wire.Part]:
    parts: list[wire.Part] = []
    signature: bytes | None = None
    missing = _UNSIGNED if needs_signature else None
    for part in turn.parts:
        match part:
            case types.Thought(vendor="google"):
                signature = _signature(part) or signature
            case types.ToolCall():
                # Of several calls at once the first alone is signed.
                wanted = signature or missing
                function = wire.FunctionCall(id=part.id, name=part.name, args=arguments(part))
                parts.append(wire.Part(function_call=function, thought_signature=wanted))
                signature = missing = None
            case _:
                parts.extend(_part(part, names))
    return parts


def _part(part: types.Part, names: dict[str, str]) -> list[wire.Part]:
    """Return a part of a message; nothing for what is another vendor's."""
    match part:
        case types.Text(text=text) if text:
            return [wire.Part(text=text)]
        case types.Picture(media_type=media_type, data=data):
            return [wire.Part(inline_data=wire.Blob(mime_type=media_type, data=data))]
        case types.Paper(media_type="application/pdf", data=data):
            return [wire.Part(inline_data=wire.Blob(mime_type="application/pdf", data=data))]
        case types.Paper():
            return [wire.Part(text=words(part))]
        case types.ToolResult(id=id_, content=content, is_error=is_error):
            answer = wire.FunctionResponse(
                id=id_, name=names.get(id_, id_), response={"error" if is_error else "result": content}
            )
            return [wire.Part(function_response=answer)]
        case _:
            return []


def _signature(thought: types.Thought) -> bytes | None:
    """Return the signature; None for what is none, since whoever asks may have made it up."""
    try:
        return base64.b64decode(msgspec.json.decode(thought.data, type=_Signed).signature, validate=True)
    except (msgspec.DecodeError, ValueError):
        return None


def _tool(tool: types.Tool) -> wire.FunctionDeclaration:
    return wire.FunctionDeclaration(
        name=tool.name, description=tool.description, parameters_json_schema=dict(tool.schema)
    )


def _choice(call: types.ChatCall) -> wire.FunctionCallingConfig:
    mode = wire.FunctionCallingConfigMode
    match call.tool_choice:
        case "auto":
            return wire.FunctionCallingConfig(mode=mode.AUTO)
        case "none":
            return wire.FunctionCallingConfig(mode=mode.NONE)
        case "required":
            return wire.FunctionCallingConfig(mode=mode.ANY)
        case name:
            return wire.FunctionCallingConfig(mode=mode.ANY, allowed_function_names=[name])
