"""What the shapes of other people's chat have in common: messages of text, and fields that must not ask for more."""

from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal, cast

import msgspec
from msgspec import Struct

from infra.decoding import TooLong, TooShort
from infra.errors import PulseError
from workers.chat.spec import Message

_LONGEST: Final = 200_000


class FieldNotSupported(PulseError):
    """{field}: this is not supported here yet."""

    ar = "{field}: هذا غير مدعوم هنا بعد."
    status = 400


class Part(Struct):
    """A piece of a message; only those of text can be taken."""

    type: str
    text: str = ""


type Content = str | list[Part]


class Asked(Struct):
    """A request in somebody else's shape; `with_fields` gives it those that are looked at only to be refused."""


def with_fields[T: Asked](shape: type[T], names: Sequence[str]) -> type[T]:
    """Return a shape that knows these fields as well, whatever they hold."""
    fields: list[Any] = [(name, Any, None) for name in names]
    config: Any = {"bases": (shape,), "forbid_unknown_fields": True, "kw_only": True}
    return cast("type[T]", msgspec.defstruct(shape.__name__, fields, **config))


def check_neutral(asked: Asked, neutral: Mapping[str, Sequence[Any]]) -> None:
    """Raise `FieldNotSupported` for the first field with a value that is not one of those that change nothing."""
    for name, values in neutral.items():
        value = getattr(asked, name)
        if value is not None and not any(type(value) is type(it) and value == it for it in values):
            raise FieldNotSupported(field=name)


def text(content: Content, field: str) -> str:
    """Return what a message says; raises `FieldNotSupported` for a part that is no text, `TooShort`, `TooLong`."""
    if isinstance(content, str):
        whole = content
    else:
        for n, part in enumerate(content):
            if part.type != "text":
                raise FieldNotSupported(field=f"{field}[{n}].type")
        whole = "\n".join(part.text for part in content)
    if not whole:
        raise TooShort(field=field, limit=1, unit="characters")
    if len(whole) > _LONGEST:
        raise TooLong(field=field, limit=_LONGEST, unit="characters")
    return whole


def message(role: str, content: Content, field: str) -> Message:
    """Return a message of one of the chat room's own roles; raises what `text` does."""
    return Message(role=cast("Literal['system', 'user', 'assistant']", role), content=text(content, field))
