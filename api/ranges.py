"""What of an unchanging object a request wants: all of it, a part of it, or nothing since it has it (RFC 9110)."""

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


def is_fresh(headers: Mapping[str, str], etag: str) -> bool:
    """Tell whether the caller has the object already: `If-None-Match` names it."""
    wanted = headers.get("if-none-match", "")
    return wanted.strip() == "*" or etag in _TAGS.findall(wanted)


def wanted(headers: Mapping[str, str], etag: str, size_bytes: int) -> Part | None:
    """Return the one range that is asked for; None where it is the whole object.

    Several ranges, and what is no range at all, are answered with the whole, as are those of an object that is not
    this one (`If-Range`). Raises `RangeNotSatisfiable`.
    """
    match = _RANGE.fullmatch(headers.get("range", ""))
    if match is None or headers.get("if-range", etag).strip() != etag:
        return None
    first, last = match["first"], match["last"]
    if first:
        start, end = int(first), min(int(last) if last else size_bytes, size_bytes - 1)
        if last and int(last) < start:
            return None
    elif last:
        start, end = max(size_bytes - int(last), 0), size_bytes - 1
    else:
        return None
    if start > end:
        raise RangeNotSatisfiable(size_bytes=size_bytes)
    return Part(start=start, length=end - start + 1)
