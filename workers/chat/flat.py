"""A chat asked by itself (`POST /v1/chat/complete`): the members of its `input` beside those that all kinds take."""

from collections.abc import Callable
from typing import Any, Final, cast, get_type_hints

import msgspec

from infra.decoding import decode
from infra.errors import PulseError
from workers.chat.spec import Chat, ChatInput
from workers.request import Request

_INPUT: Final = "input."
_COMMON: Final = Request.__struct_fields__


def _shape() -> type[ChatInput]:
    """Return the input's shape with the members that all kinds take."""
    hints = get_type_hints(Request, include_extras=True)
    fields: list[Any] = [(field.name, hints[field.name], _default(field)) for field in msgspec.structs.fields(Request)]
    config: Any = {"bases": (ChatInput,), "kw_only": True, "forbid_unknown_fields": True}
    made = msgspec.defstruct("ChatAsked", fields, **config)
    made.__doc__ = "A conversation that the model is to continue, and what every job takes."
    return cast("type[ChatInput]", made)


def _default(field: msgspec.structs.FieldInfo) -> Any:
    if field.default is not msgspec.NODEFAULT:
        return field.default
    return msgspec.field(default_factory=cast("Callable[[], Any]", field.default_factory))


#: What the body is.
SHAPE: Final = _shape()
_DECODER: Final = msgspec.json.Decoder(SHAPE)


def request(body: bytes) -> Chat:
    """Return the chat that a body asks for; raises the fact that is wrong with it, by its field."""
    asked = decode(body, _DECODER.decode)
    return Chat(
        input=ChatInput(**{name: getattr(asked, name) for name in ChatInput.__struct_fields__}),
        **{name: getattr(asked, name) for name in _COMMON},
    )


def from_its_top(error: PulseError) -> PulseError:
    """Return what is wrong with a chat, by its field as it stands in such a body."""
    field = error.facts.get("field")
    if not isinstance(field, str) or not field.startswith(_INPUT):
        return error
    told = type(error)(**error.facts | {"field": field.removeprefix(_INPUT)})
    return told.with_traceback(error.__traceback__)
