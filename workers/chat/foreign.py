"""What the shapes of other people's chat have in common: fields that must not ask for more, parts, levels of effort."""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, cast
from uuid import UUID

import msgspec
from msgspec import Struct, convert, defstruct

from infra.decoding import InvalidValue, MissingField, WrongType, decode
from infra.errors import PulseError
from providers.types import Effort
from workers.chat import parts
from workers.chat.parts import FilePart, ImagePart, Message, Part, TextPart
from workers.chat.schemas import FormSpec, ToolSpec
from workers.chat.shape import ChatInput

#: How hard others have a model think, as the nearest of our levels.
_EFFORTS: Final[Mapping[str, Effort]] = {
    "none": "none",
    "minimal": "low",
    "low": "low",
    "medium": "medium",
    "high": "high",
    "xhigh": "high",
    "max": "high",
}
_INPUT: Final = msgspec.json.Decoder(ChatInput)
_DATA_URL: Final = re.compile(r"data:(image/[a-z]+);base64,(.+)", re.DOTALL)


class FieldNotSupported(PulseError):
    """{field}: this is not supported here yet."""

    ar = "{field}: هذا غير مدعوم هنا بعد."
    status = 400


class Asked(Struct):
    """A request in somebody else's shape; `with_fields` gives it those that are looked at only to be refused."""


def with_fields[T: Asked](shape: type[T], names: Sequence[str]) -> type[T]:
    """Return a shape that knows these fields as well, whatever they hold."""
    fields: list[Any] = [(name, Any, None) for name in names]
    config: Any = {"bases": (shape,), "forbid_unknown_fields": True, "kw_only": True}
    return cast("type[T]", defstruct(shape.__name__, fields, **config))


def check_neutral(asked: Asked, neutral: Mapping[str, Sequence[Any]]) -> None:
    """Raise `FieldNotSupported` for the first field with a value that is not one of those that change nothing."""
    for name, values in neutral.items():
        value = getattr(asked, name)
        if value is not None and not any(type(value) is type(it) and value == it for it in values):
            raise FieldNotSupported(field=name)


def effort(level: str | None, field: str) -> Effort | None:
    """Return our level for another's; raises `InvalidValue`."""
    if level is not None and level not in _EFFORTS:
        raise InvalidValue(field=field, value=level)
    return None if level is None else _EFFORTS[level]


def text(said: str, field: str) -> TextPart:
    """Return words as a part; raises `TooShort` and `TooLong`."""
    parts.check_text(said, field=field)
    return TextPart(text=said)


def message(role: Any, content: Sequence[Part], field: str) -> Message:
    """Return a message of one of the chat room's own roles: words alone are said as such, a line for each part."""
    if all(isinstance(part, TextPart) for part in content):
        whole = "\n".join(part.text for part in content if isinstance(part, TextPart))
        parts.check_text(whole, field=field)
        return Message(role=role, content=whole)
    return Message(role=role, content=list(content))


def image(media_type: str, data: str, field: str) -> ImagePart:
    """Return a picture that came in the request; raises `InvalidValue` for a type that is not taken."""
    try:
        return convert({"type": "image", "data": data, "media_type": media_type}, ImagePart)
    except msgspec.ValidationError:
        raise InvalidValue(field=field, value=media_type[:64]) from None


def image_of_url(url: str, field: str) -> ImagePart:
    """Return the picture of a `data:` URL; raises `FieldNotSupported` for one that would have to be fetched."""
    found = _DATA_URL.fullmatch(url)
    if found is None:
        raise FieldNotSupported(field=field)
    return image(found[1], found[2], field)


def file_id(value: object, field: str) -> UUID:
    """Return the id of a file; raises `MissingField` and `InvalidValue`."""
    if not value:
        raise MissingField(field=field)
    try:
        return UUID(str(value))
    except ValueError:
        raise InvalidValue(field=field, value=str(value)[:64]) from None


def file(value: object, field: str) -> FilePart:
    """Return a file of the account's by its id."""
    return FilePart(file_id=file_id(value, field))


def as_object(value: object, field: str) -> Mapping[str, Any]:
    """Return a JSON object; raises `WrongType`."""
    if not isinstance(value, dict):
        raise WrongType(field=field, expected="object")
    return cast("dict[str, Any]", value)


def known(value: Mapping[str, Any], names: Iterable[str], field: str) -> None:
    """Raise `FieldNotSupported` for a member that is none of these and says something."""
    for name, member in value.items():
        if name not in names and member is not None:
            raise FieldNotSupported(field=f"{field}.{name}")


def tool(name: object, description: object, schema: object, field: str) -> ToolSpec:
    """Return a tool; raises `WrongType`."""
    if not isinstance(name, str):
        raise WrongType(field=f"{field}.name", expected="str")
    if not isinstance(description, str | None):
        raise WrongType(field=f"{field}.description", expected="str")
    parameters = dict(as_object(schema, field)) if schema is not None else {}
    return ToolSpec(name=name, description=description or "", parameters=parameters)


def form(name: object, schema: object, field: str) -> FormSpec:
    """Return the shape that an answer must have; raises `WrongType`."""
    shape = dict(as_object(schema, f"{field}.schema"))
    return FormSpec(type="json_schema", schema=shape, name=name if isinstance(name, str) else "answer")


def checked(asked: ChatInput) -> ChatInput:
    """Return what was put together here, when it is what may be asked of the room; raises the fact that is wrong."""
    if asked.tools or asked.format is not None or not all(isinstance(said.content, str) for said in asked.messages):
        return decode(msgspec.json.encode(asked), _INPUT.decode)
    return asked
