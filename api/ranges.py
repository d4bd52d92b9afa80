"""What of an unchanging or only growing object a request wants: all, a part, or nothing since it has it (RFC 9110)."""

import re
from collections.abc import Mapping

from msgspec import Struct

from infra.errors import PulseError

_RANGE = re.compile(r"bytes=\s*(?P<first>[0-9]{0,19})-(?P<last>[0-9]{0,19})\s*", re.IGNORECASE)
_TAGS = re.compile(r'(?:W/)?("[^"]*")')


class RangeNotSatisfiable(PulseError):
    """The file has {size_bytes} bytes; the range that was asked for lies beyond them."""

    ar = "حجم الملف {size_bytes} بايت، والنطاق المطلوب خارجه."
    status = 416


class Part(Struct, frozen=True, kw_only=True):
    """So many bytes from a place on."""

    start: int
    length: int


class Tail(Struct, frozen=True, kw_only=True):
    """All from a place on, up to and without `end`; None: to wherever it will end."""

    start: int
    end: int | None


def is_fresh(headers: Mapping[str, str], etag: str) -> bool:
    """Tell whether the caller has the object already: `If-None-Match` names it."""
    wanted = headers.get("if-none-match", "")
    return wanted.strip() == "*" or etag in _TAGS.findall(wanted)


def wanted(headers: Mapping[str, str], etag: str, size_bytes: int) -> Part | None:
    """Return the one range that is asked for; None where it is the whole object.

    Several ranges, and what is no range at all, are answered with the whole, as are those of an object that is not
    this one (`If-Range`). Raises `RangeNotSatisfiable`.
    """
    asked = _asked(headers, etag)
    if asked is None:
        return None
    first, last = asked
    if first is not None:
        start, end = first, min(size_bytes if last is None else last, size_bytes - 1)
    else:
        start, end = max(size_bytes - (last or 0), 0), size_bytes - 1
    if start > end:
        raise RangeNotSatisfiable(size_bytes=size_bytes)
    return Part(start=start, length=end - start + 1)


def wanted_of_growing(headers: Mapping[str, str], etag: str, size_bytes: int) -> Tail | None:
    """Return what is asked for of an object that grows at its end, and has so many bytes by now; None: the whole.

    A range may begin where it ends now, and end where it does not reach yet (RFC 8673). Raises `RangeNotSatisfiable`
    where it begins further on.
    """
    asked = _asked(headers, etag)
    if asked is None:
        return None
    first, last = asked
    if first is None:
        return Tail(start=max(size_bytes - (last or 0), 0), end=None)
    if first > size_bytes:
        raise RangeNotSatisfiable(size_bytes=size_bytes)
    return Tail(start=first, end=None if last is None else last + 1)


def _asked(headers: Mapping[str, str], etag: str) -> tuple[int | None, int | None] | None:
    """Return the first and the last byte that are asked for; the latter alone: the last so many. None: no range."""
    match = _RANGE.fullmatch(headers.get("range", ""))
    if match is None or headers.get("if-range", etag).strip() != etag:
        return None
    first, last = (int(text) if text else None for text in (match["first"], match["last"]))
    if (first is None and last is None) or (first is not None and last is not None and last < first):
        return None
    return first, last
