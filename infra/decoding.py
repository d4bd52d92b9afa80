"""JSON decoded into Structs, and what does not fit refused by the name of its field.

msgspec tells what is wrong in English prose with a place (`Expected `int`, got `str` - at `$.input.n``); here that
becomes one fact per way of being wrong, with the field's path and both languages.
"""

import functools
import json
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, cast

import msgspec

from infra.errors import PulseError

_AT = re.compile(r" - at (?:`key` in )?`\$(?P<path>[^`]*)`$")
# U+0000 cannot be kept by PostgreSQL, and a surrogate without its partner is no character at all.
_UNFIT = re.compile(r"[\x00\ud800-\udfff]")


class MalformedJson(PulseError):
    """This is not valid JSON in UTF-8."""

    ar = "ليس هذا JSON صالحًا بترميز UTF-8."
    status = 400


class InvalidText(PulseError):
    """{field}: the text has a character that cannot be kept (U+0000 or half of a surrogate pair)."""

    ar = "{field}: في النص محرف لا يمكن حفظه (U+0000 أو نصف زوج بديل)."
    status = 400


class MissingField(PulseError):
    """{field} is required."""

    ar = "الحقل {field} مطلوب."
    status = 400


class UnknownField(PulseError):
    """{field}: there is no such field."""

    ar = "{field}: لا يوجد حقل بهذا الاسم."
    status = 400


class UnknownKind(PulseError):
    """{field}: there is no kind {value!r}; there are: {known}."""

    ar = "{field}: لا يوجد نوع باسم {value!r}. الأنواع المتاحة: {known}."
    status = 400


class WrongType(PulseError):
    """{field} must be {expected}."""

    ar = "يجب أن يكون نوع {field}: ‎{expected}."
    status = 400


class InvalidMoment(PulseError):
    """{field} must be a moment with its offset from UTC, such as 2026-12-01T06:00:00+03:00."""

    ar = "يجب أن يكون {field} لحظة بفارقها عن التوقيت العالمي، مثل ‎2026-12-01T06:00:00+03:00."
    status = 400


class InvalidValue(PulseError):
    """{field}: {value!r} is not one of the allowed values."""

    ar = "{field}: القيمة {value!r} ليست من القيم المسموح بها."
    status = 400


class TooLong(PulseError):
    """{field} may have {limit} {unit} at most."""

    ar = "الحد الأقصى لطول {field} هو {limit}."
    status = 400
    hidden = frozenset({"unit"})


class TooShort(PulseError):
    """{field} must have {limit} {unit} at least."""

    ar = "الحد الأدنى لطول {field} هو {limit}."
    status = 400
    hidden = frozenset({"unit"})


class OutOfRange(PulseError):
    """{field} must be {relation} {limit}."""

    ar = "يجب أن تكون قيمة {field} ‎{relation} {limit}."
    status = 400
    hidden = frozenset({"relation"})


_UNITS = {"array": "items", "object": "entries", "str": "characters", "bytes": "bytes"}


def _join(field: str, name: str) -> str:
    return f"{field}.{name}" if field else name


def _missing(field: str, match: re.Match[str]) -> PulseError:
    return MissingField(field=_join(field, match[1]))


def _unknown(field: str, match: re.Match[str]) -> PulseError:
    return UnknownField(field=_join(field, match[1]))


def _length(field: str, match: re.Match[str]) -> PulseError:
    too = TooLong if match[2] == "<=" else TooShort
    return too(field=field or "body", limit=int(match[3]), unit=_UNITS.get(match[1], "units"))


def _range(field: str, match: re.Match[str]) -> PulseError:
    limit = float(match[2])
    return OutOfRange(field=field or "body", relation=match[1], limit=int(limit) if limit.is_integer() else limit)


def _value(field: str, match: re.Match[str]) -> PulseError:
    return InvalidValue(field=field or "body", value=match[1].strip("'"))


def _moment(field: str, _match: re.Match[str]) -> PulseError:
    return InvalidMoment(field=field)


def _type(field: str, match: re.Match[str]) -> PulseError:
    expected = "number" if match[1].startswith(("Number", "Not")) else match[1].removesuffix(" | null")
    return WrongType(field=field or "body", expected=expected)


# What msgspec says, most telling first.
_READINGS: list[tuple[re.Pattern[str], Callable[[str, re.Match[str]], PulseError]]] = [
    (re.compile(r"Object missing required field `(.+)`"), _missing),
    (re.compile(r"Object contains unknown field `(.+)`"), _unknown),
    (re.compile(r"Expected `(\w+)(?: \| null)?` of length (<=|>=) (\d+)"), _length),
    (re.compile(r"Expected `\w+(?: \| null)?` (<=|>=|<|>) ([-\d.e+]+)"), _range),
    (re.compile(r"Invalid RFC3339|Expected `datetime"), _moment),
    (re.compile(r"(Number out of range|Not a valid number)"), _type),
    (re.compile(r"Invalid (?:enum )?value (.+)"), _value),
    (re.compile(r"Expected `([^`]+)`"), _type),
]


class _NoKind(msgspec.Struct, tag_field="kind", tag=""):
    """Stands beside the kinds: msgspec asks for a tag only where there is more than one to choose from."""


class Kinds[T]:
    """JSON of several shapes, told apart by their `kind` and decoded in one go."""

    def __init__(self, specs: Mapping[str, type[T]]) -> None:
        """Take the shapes of `specs`, by kind."""
        self._known = ", ".join(specs)
        shapes: Any = functools.reduce(lambda one, other: one | other, [*specs.values(), _NoKind])
        self._decoder: msgspec.json.Decoder[Any] = msgspec.json.Decoder(shapes)

    def decode(self, data: bytes) -> T:
        """Decode `data`; raises the fact that is wrong with it, naming the field."""
        try:
            decoded = decode(data, self._decoder.decode)
        except InvalidValue as error:
            if error.facts["field"] != "kind":
                raise
            raise UnknownKind(**error.facts, known=self._known) from None
        if isinstance(decoded, _NoKind):
            raise UnknownKind(field="kind", value="", known=self._known)
        return decoded


def decode[T](body: bytes, decoder: Callable[[bytes], T]) -> T:
    """Return what `decoder` (a `decode` of msgspec's) makes of `body`; raises the fact that is wrong, by its field."""
    decoded = _parsed(body, decoder)
    # Almost no body has this escape, so almost none is walked.
    if b"\\u0000" in body and (unfit := _first_unfit(body)) is not None:
        raise unfit
    return decoded


def _parsed[T](body: bytes, decode: Callable[[bytes], T]) -> T:
    try:
        return decode(body)
    except msgspec.ValidationError as error:
        raise _fact(str(error)) from None
    except RecursionError:
        raise MalformedJson from None  # nested deeper than anything that is asked here
    except (msgspec.DecodeError, UnicodeDecodeError):
        # msgspec calls a lone surrogate malformed JSON; the standard library reads it, so that it can be named.
        raise _first_unfit(body) or MalformedJson from None


def _fact(message: str) -> PulseError:
    at = _AT.search(message)
    field = at["path"].replace("[...]", "").removeprefix(".") if at else ""
    reason = message[: at.start()] if at else message
    return next(
        (read(field, match) for pattern, read in _READINGS if (match := pattern.match(reason))),
        InvalidValue(field=field or "body", value=reason),
    )


def _first_unfit(body: bytes) -> InvalidText | None:
    try:
        texts = _texts(json.loads(body), "")
        return next((InvalidText(field=field or "body") for field, text in texts if _UNFIT.search(text)), None)
    except (ValueError, RecursionError):
        return None


def _texts(value: object, field: str) -> Iterator[tuple[str, str]]:
    match value:
        case str():
            yield field, value
        case list():
            for index, item in enumerate(cast("list[object]", value)):
                yield from _texts(item, f"{field}[{index}]")
        case dict():
            for key, item in cast("dict[str, object]", value).items():
                yield field, key
                yield from _texts(item, _join(field, key))
        case _:
            return
