"""Splits a body `{"requests": [...], ...}` into lines as it comes: what is in the array passes through, an element a
line, and is never gathered; what stands around the array is, and is JSON of its own with a null in the array's place.

Only what is needed for that is looked at: an element ends where its braces do. Whether it is what it should be is for
whoever reads the lines, who can tell by its number which one is not.
"""

import re
from collections.abc import Callable

import msgspec

from infra.decoding import MalformedJson, WrongType
from infra.errors import PulseError

#: What may stand around the array.
MOST_AROUND_BYTES = 65_536
_NAME = "requests"
# A line may have no line feed inside. Between two tokens a tab is as good; in a string it is as wrong.
_TABS = bytes.maketrans(b"\r\n", b"\t\t")
_SPACE = re.compile(rb"[ \t]*+")
_PLAIN = re.compile(rb'[^"{}\[\]:,]*+')
# What remains of a string, up to its quote, or to a backslash whose letter is still to come.
_TEXT = re.compile(rb'(?:[^"\\]++|\\.)*+', re.DOTALL)
_STRING = rb'"(?:[^"\\]++|\\.)*+"'
_BESIDE = rb'[^"{}]*+'


def _object(levels: int) -> bytes:
    """Return what matches an object with so many levels of others in it."""
    inner = _STRING if levels == 0 else b"(?:" + _STRING + b"|" + _object(levels - 1) + b")"
    return rb"\{" + _BESIDE + b"(?:" + inner + _BESIDE + rb")*+\}"


# Most elements come whole and are no deeper: one step of the engine each.
_WHOLE = re.compile(rb"[ \t]*+,[ \t]*+(" + _object(4) + b")", re.DOTALL)
# All up to the next brace of an object that is deeper, or does not end here, or to a string that does not.
_HOP = re.compile(_BESIDE + b"(?:(?:" + _STRING + b"|" + _object(2) + b")" + _BESIDE + b")*+", re.DOTALL)
# With what a value can begin.
_VALUES = b'{["-0123456789tfn'
_QUOTE, _BACKSLASH, _COLON, _COMMA = b'"\\:,'
_OPEN, _CLOSE, _BEGIN, _END = b"{}[]"

type _Step = Callable[[bytes, int], int]


class TooMuchAround(PulseError):
    """What stands beside {field} may have {limit_bytes} bytes at most."""

    ar = "الحد الأقصى لما هو بجانب {field} هو {limit_bytes} بايت."
    status = 413


class RepeatedMember(PulseError):
    """{field} is in the body more than once."""

    ar = "{field} مكرر في الطلب."
    status = 400


class Splitter:
    """Takes a body in chunks, however they are cut, and gives the lines that are in it."""

    def __init__(self) -> None:
        """Start with nothing taken."""
        #: Whether the array has begun.
        self.found = False
        self._around = bytearray()
        self._lines: list[bytes] = []
        self._step: _Step = self._begin
        self._elements = 0
        self._depth = self._braces = 0
        self._key_at = 0
        self._is_key = self._is_ours = self._is_escaped = False

    def feed(self, chunk: bytes) -> bytes:
        """Take the next chunk, and return what of the lines came with it; raises what is wrong with the body."""
        if b"\n" in chunk or b"\r" in chunk:
            chunk = chunk.translate(_TABS)
        self._lines = []
        at, end = 0, len(chunk)
        while at < end:
            at = self._step(chunk, at)
        return b"".join(self._lines)

    @property
    def inside(self) -> bool:
        """Whether the array has begun and not ended."""
        return self._step in {self._first, self._next, self._inside, self._inside_text, self._last}

    def around(self) -> bytes:
        """Return what stands around the array, whose place null has taken, as far as it came."""
        return bytes(self._around)

    def end(self) -> bytes:
        """Return what stands around the array once all has come; raises `MalformedJson` where the array has no end."""
        if self._step not in {self._outside, self._outside_text}:
            raise MalformedJson
        return self.around()

    # Around the array.

    def _gather(self, piece: bytes) -> None:
        self._around += piece
        if len(self._around) > MOST_AROUND_BYTES:
            raise TooMuchAround(field=_NAME, limit_bytes=MOST_AROUND_BYTES)

    def _begin(self, chunk: bytes, at: int) -> int:
        at = _after(_SPACE, chunk, at)
        if at < len(chunk):
            if chunk[at] != _OPEN:
                raise _wrong(chunk[at], "body", "object")
            self._step = self._outside
        return at

    def _outside(self, chunk: bytes, at: int) -> int:
        end = _after(_PLAIN, chunk, at)
        if end == len(chunk):
            self._gather(chunk[at:])
            return end
        mark, end = chunk[end], end + 1
        self._gather(chunk[at:end])
        match mark:
            case 0x22:
                self._key_at = len(self._around) - 1
                self._step = self._outside_text
            case 0x7B | 0x5B:
                self._depth += 1
                self._is_key = True
            case 0x7D | 0x5D:
                self._depth -= 1
            case 0x2C:
                self._is_key = True
            case _:
                self._is_key = False
                if self._depth == 1 and self._is_ours:
                    self._step = self._value
        return end

    def _outside_text(self, chunk: bytes, at: int) -> int:
        end, is_over = self._text(chunk, at)
        self._gather(chunk[at:end])
        if is_over:
            self._is_ours = self._depth == 1 and self._is_key and _is_name(bytes(self._around[self._key_at :]))
            self._step = self._outside
        return end

    def _value(self, chunk: bytes, at: int) -> int:
        at = _after(_SPACE, chunk, at)
        if at == len(chunk):
            return at
        if chunk[at] != _BEGIN:
            raise _wrong(chunk[at], _NAME, "array")
        if self.found:
            raise RepeatedMember(field=_NAME)
        self.found, self._is_ours = True, False
        self._gather(b"null")
        self._step = self._first
        return at + 1

    # In the array.

    def _first(self, chunk: bytes, at: int) -> int:
        at = _after(_SPACE, chunk, at)
        if at == len(chunk):
            return at
        self._step = self._outside if chunk[at] == _END else self._next
        return at + (chunk[at] == _END)

    def _next(self, chunk: bytes, at: int) -> int:
        """Find where an element begins."""
        at = _after(_SPACE, chunk, at)
        if at < len(chunk):
            if chunk[at] != _OPEN:
                raise _wrong(chunk[at], f"{_NAME}[{self._elements}]", "object")
            self._lines.append(b"{")
            self._braces = 1
            self._step = self._inside
            at += 1
        return at

    def _inside(self, chunk: bytes, at: int) -> int:
        start, end, braces = at, len(chunk), self._braces
        while (at := _after(_HOP, chunk, at)) < end:
            mark, at = chunk[at], at + 1
            if mark == _OPEN:
                braces += 1
            elif mark == _QUOTE:
                self._text(chunk, at)
                self._step = self._inside_text
                break
            else:
                braces -= 1
                if braces == 0:
                    self._lines += (chunk[start:at], b"\n")
                    self._elements += 1
                    self._step = self._last
                    return at
        self._braces = braces
        self._lines.append(chunk[start:])
        return end

    def _inside_text(self, chunk: bytes, at: int) -> int:
        end, is_over = self._text(chunk, at)
        self._lines.append(chunk[at:end])
        if is_over:
            self._step = self._inside
        return end

    def _last(self, chunk: bytes, at: int) -> int:
        """Find whether another element comes after one; those that are here whole are taken at once."""
        while (whole := _WHOLE.match(chunk, at)) is not None:
            self._lines += (whole[1], b"\n")
            self._elements += 1
            at = whole.end()
        at = _after(_SPACE, chunk, at)
        if at == len(chunk):
            return at
        if chunk[at] not in {_COMMA, _END}:
            raise MalformedJson
        self._step = self._next if chunk[at] == _COMMA else self._outside
        return at + 1

    def _text(self, chunk: bytes, at: int) -> tuple[int, bool]:
        """Return how far a string goes that has begun, and whether it is over then."""
        at += self._is_escaped
        self._is_escaped = False
        at = _after(_TEXT, chunk, at)
        if at == len(chunk):
            return at, False
        self._is_escaped = chunk[at] == _BACKSLASH
        return at + 1, not self._is_escaped


def _after(pattern: "re.Pattern[bytes]", chunk: bytes, at: int) -> int:
    match = pattern.match(chunk, at)
    assert match is not None, "it matches nothing, too"
    return match.end()


def _wrong(mark: int, field: str, expected: str) -> PulseError:
    return WrongType(field=field, expected=expected) if mark in _VALUES else MalformedJson()


def _is_name(text: bytes) -> bool:
    try:
        return msgspec.json.decode(text) == _NAME
    except msgspec.DecodeError:
        return False
