"""What a message of a conversation is made of, and how much of it there may be."""

from collections.abc import Iterator, Sequence
from typing import Annotated, Any, Literal
from uuid import UUID

import msgspec
from msgspec import Meta, Struct

from infra.decoding import MissingField, TooLong, TooShort
from infra.errors import PulseError
from workers.chat import schemas

LONGEST_TEXT = 200_000
MOST_IMAGES, MOST_FILES = 20, 10
_Text = Annotated[str, Meta(min_length=1, max_length=LONGEST_TEXT)]
_Id = Annotated[str, Meta(min_length=1, max_length=256)]


class PartMisplaced(PulseError):
    """{field}: a message of the role {role} cannot have a part of the type {type}."""

    ar = "{field}: لا يمكن أن تحتوي رسالة دورها {role} على جزء من النوع {type}."
    status = 400


class TooManyAttached(PulseError):
    """{field}: a conversation may have {images} images and {files} files at most."""

    ar = "{field}: الحد الأقصى في المحادثة {images} صورة و{files} ملفات."
    status = 400


class ToolResultUnasked(PulseError):
    """{field}: no tool call before it has the id {id!r}, or it has its result already."""

    ar = "{field}: لا يسبقه استدعاء أداة بالمعرّف {id!r}، أو أن له نتيجة من قبل."
    status = 400


class ToolCallUnanswered(PulseError):
    """{field}: the result of the tool call {id!r} has to come in the messages right after it."""

    ar = "{field}: يجب أن تأتي نتيجة استدعاء الأداة {id!r} في الرسائل التي تليه مباشرة."
    status = 400


class OneSource(PulseError):
    """{field} needs either file_id, or data and media_type."""

    ar = "يلزم في {field} إما file_id وإما data مع media_type."
    status = 400


class TextPart(Struct, tag="text", tag_field="type", kw_only=True, forbid_unknown_fields=True):
    """Words."""

    text: _Text


class ImagePart(Struct, tag="image", tag_field="type", kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """A picture (PNG, JPEG, WebP, GIF): a file of the account's, or `data` in base64 with its `media_type`."""

    file_id: UUID | None = None
    data: Annotated[str, Meta(min_length=1)] | None = None
    media_type: Literal["image/png", "image/jpeg", "image/webp", "image/gif"] | None = None


class FilePart(Struct, tag="file", tag_field="type", kw_only=True, forbid_unknown_fields=True):
    """A file of the account's to be read: a PDF or text."""

    file_id: UUID


class ToolCallPart(Struct, tag="tool_call", tag_field="type", kw_only=True, forbid_unknown_fields=True):
    """A tool that the model wanted used; `arguments` are a JSON object, as text."""

    id: _Id
    name: _Id
    arguments: Annotated[str, Meta(max_length=LONGEST_TEXT)]


class ToolResultPart(Struct, tag="tool_result", tag_field="type", kw_only=True, forbid_unknown_fields=True):
    """What a tool gave back for the call with this id."""

    id: _Id
    content: Annotated[str, Meta(max_length=LONGEST_TEXT)]
    is_error: bool = False


class ThoughtPart(Struct, tag="thought", tag_field="type", kw_only=True, forbid_unknown_fields=True):
    """What a vendor wants back as it came in `content` of the result, before the tool calls that it belongs to."""

    vendor: _Id
    data: Annotated[str, Meta(max_length=1_000_000)]


type Part = TextPart | ImagePart | FilePart | ToolCallPart | ToolResultPart | ThoughtPart
_ROLES: dict[type[Struct], frozenset[str]] = {
    TextPart: frozenset({"system", "user", "assistant"}),
    ImagePart: frozenset({"user"}),
    FilePart: frozenset({"user"}),
    ToolResultPart: frozenset({"user"}),
    ToolCallPart: frozenset({"assistant"}),
    ThoughtPart: frozenset({"assistant"}),
}


class Message(Struct, kw_only=True, forbid_unknown_fields=True):
    """One turn of the conversation: its words, or the parts that it is made of."""

    role: Literal["system", "user", "assistant"]
    content: _Text | Annotated[list[Part], Meta(min_length=1, max_length=128)]

    @property
    def parts(self) -> Sequence[Part]:
        """What it is made of."""
        return [TextPart(text=self.content)] if isinstance(self.content, str) else self.content


def placed(messages: Sequence[Message]) -> Iterator[tuple[str, str, Part]]:
    """Yield every part of messages that have more than words, with its field's path and its message's role."""
    for n, message in enumerate(messages):
        if not isinstance(message.content, str):
            for k, part in enumerate(message.content):
                yield f"input.messages[{n}].content[{k}]", message.role, part


def texts(messages: Sequence[Message]) -> Iterator[tuple[str, str]]:
    """Yield every text of a conversation with its field's path, those that tools gave back with the others."""
    for n, message in enumerate(messages):
        if isinstance(message.content, str):
            yield f"input.messages[{n}].content", message.content
    for field, _, part in placed(messages):
        match part:
            case TextPart(text=text):
                yield f"{field}.text", text
            case ToolResultPart(content=text):
                yield f"{field}.content", text
            case _:
                pass


def check(messages: Sequence[Message]) -> None:
    """Raise what is wrong with the parts of a conversation, by the field's path, before anything is looked up."""
    images = files = 0
    for field, role, part in placed(messages):
        if role not in _ROLES[type(part)]:
            raise PartMisplaced(field=field, role=role, type=str(part.__struct_config__.tag))
        images, files = images + isinstance(part, ImagePart), files + isinstance(part, FilePart)
        if images > MOST_IMAGES or files > MOST_FILES:
            raise TooManyAttached(field=field, images=MOST_IMAGES, files=MOST_FILES)
        if isinstance(part, ImagePart):
            _check_source(field, part)
        elif isinstance(part, ToolCallPart):
            schemas.check_name(part.name, field=f"{field}.name")
            schemas.check_arguments(part.arguments, field=f"{field}.arguments")
    _check_results(messages)


def _check_source(field: str, part: ImagePart) -> None:
    if (part.file_id is None) == (part.data is None) or (part.data is None and part.media_type is not None):
        raise OneSource(field=field)
    if part.data is not None and part.media_type is None:
        raise MissingField(field=f"{field}.media_type")


def _check_results(messages: Sequence[Message]) -> None:
    """Raise where a result is of no call, or a call of the model's has none before the model speaks again."""
    waiting: dict[str, str] = {}
    spoke = ""
    for n, message in enumerate(messages):
        if message.role == "assistant" and spoke != "assistant":
            _check_answered(waiting)
        if message.role != "system":
            spoke = message.role
        for field, _, part in placed([message]):
            here = field.replace("[0]", f"[{n}]", 1)
            if isinstance(part, ToolCallPart):
                waiting[part.id] = here
            elif isinstance(part, ToolResultPart) and waiting.pop(part.id, None) is None:
                raise ToolResultUnasked(field=f"{here}.id", id=part.id)
    _check_answered(waiting)


def _check_answered(waiting: dict[str, str]) -> None:
    for tool_id, field in waiting.items():
        raise ToolCallUnanswered(field=field, id=tool_id)


def check_text(text: str, *, field: str) -> None:
    """Raise `TooShort` or `TooLong` for words that no message may have."""
    if not text:
        raise TooShort(field=field, limit=1, unit="characters")
    if len(text) > LONGEST_TEXT:
        raise TooLong(field=field, limit=LONGEST_TEXT, unit="characters")


def kept(part: Part) -> dict[str, Any]:
    """Return a part as a result tells it."""
    return msgspec.to_builtins(part)
