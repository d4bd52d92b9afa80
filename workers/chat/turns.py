"""A kept conversation as a model is asked it: parts with their bytes, and results of tools in one turn."""

from collections.abc import Mapping, Sequence
from uuid import UUID

from providers.types import ChatCall, Form, Paper, Picture, Text, Thought, Tool, ToolCall, ToolResult, Turn
from providers.types import Part as Asked
from workers.chat import attachments
from workers.chat.parts import FilePart, ImagePart, Part, TextPart, ThoughtPart, ToolCallPart, ToolResultPart
from workers.chat.shape import ChatInput
from workers.request import Attached

type Loaded = Mapping[UUID, tuple[Attached, bytes]]


def call(asked: ChatInput, loaded: Loaded, *, output_tokens: int) -> ChatCall:
    """Return what the gateway is asked; `loaded` are the files that the conversation names."""
    return ChatCall(
        model="",  # the gateway's to say
        turns=_turns(asked, loaded),
        output_tokens=output_tokens,
        temperature=asked.temperature,
        effort=asked.thinking,
        tools=[Tool(name=it.name, description=it.description, schema=_arguments(it.parameters)) for it in asked.tools],
        tool_choice=asked.tool_choice or "auto",
        form=None if asked.format is None else Form(name=asked.format.name, schema=asked.format.schema),
        resumable=True,
    )


def _arguments(schema: Mapping[str, object]) -> Mapping[str, object]:
    return schema or {"type": "object", "properties": {}}


def _turns(asked: ChatInput, loaded: Loaded) -> Sequence[Turn]:
    """Return the turns; vendors want all results of one turn's calls together, however they came."""
    turns: list[Turn] = []
    for message in asked.messages:
        made = [_part(part, loaded) for part in message.parts]
        last = turns[-1] if turns else None
        if last is not None and last.role == message.role == "user" and _has_results(last.parts):
            turns[-1] = Turn("user", [*last.parts, *made])
        else:
            turns.append(Turn(message.role, made))
    return turns


def _has_results(parts: Sequence[Asked]) -> bool:
    return any(isinstance(part, ToolResult) for part in parts)


def _part(part: Part, loaded: Loaded) -> Asked:
    match part:
        case TextPart():
            return Text(part.text)
        case ImagePart(file_id=None):
            data = attachments.picture(part, field="input.messages")
            return Picture(media_type=part.media_type or "", data=data)
        case ImagePart(file_id=UUID() as file_id):
            file, data = loaded[file_id]
            return Picture(media_type=file.media_type, data=data)
        case FilePart():
            file, data = loaded[part.file_id]
            return Paper(name=file.name, media_type=file.media_type, data=data)
        case ToolCallPart():
            return ToolCall(id=part.id, name=part.name, arguments=part.arguments or "{}")
        case ToolResultPart():
            return ToolResult(id=part.id, content=part.content, is_error=part.is_error)
        case ThoughtPart():
            return Thought(vendor=part.vendor, data=part.data)
        case _:
            raise AssertionError(part)
