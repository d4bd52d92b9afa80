"""Cuts a stream of bytes into lines, numbered from 1, whose ends are known by their place in the stream.

A line ends in LF or CRLF; the last one need not. A byte order mark at the very start is no part of the first line.
Blank lines have numbers and are passed over. Nothing is gathered of a line that is longer than any may be.
"""

from typing import Final

from msgspec import Struct

_BYTE_ORDER_MARK: Final = b"\xef\xbb\xbf"
# What stands around the longest line: a byte order mark, and the carriage return of its end.
_AROUND_BYTES: Final = len(_BYTE_ORDER_MARK) + 1


class Cut(Struct, frozen=True):
    """A line: its number, its bytes without its end (None: too many), and where the next one begins.

    `is_open` says that the stream ended before the line did.
    """

    number: int
    raw: bytes | None
    end: int
    is_open: bool = False

    @property
    def is_blank(self) -> bool:
        """Whether there is nothing on it."""
        return self.raw is not None and not self.raw.strip()


class Cutter:
    """Cuts what it is fed, from a place on after which the line `number` + 1 begins."""

    def __init__(self, place: int, number: int, most_bytes: int) -> None:
        """Begin at byte `place`; lines have `most_bytes` at most."""
        #: Where the line that was cut last ends, and its number, also where it was blank.
        self.place = place
        self.number = number
        self._most_bytes = most_bytes
        self._begun: list[bytes] = []
        self._length = 0

    def feed(self, piece: bytes) -> list[Cut]:
        """Return the lines that end in the next piece of the stream."""
        *ended, begun = piece.split(b"\n")
        cuts: list[Cut] = []
        for rest in ended:
            if not rest and not self._length:  # there may be millions of them
                self.number += 1
                self.place += 1
            elif not (cut := self._cut(rest)).is_blank:
                cuts.append(cut)
        self._begin(begun)
        return cuts

    def finish(self) -> list[Cut]:
        """Return the last line, where the stream does not end with a line's end."""
        if not self._length:
            return []
        self.place -= 1  # there is no line feed after it
        last = self._cut(b"")
        return [] if last.is_blank else [Cut(last.number, last.raw, last.end, is_open=True)]

    def _begin(self, begun: bytes) -> None:
        if not begun:
            return
        self._length += len(begun)
        if self._length <= self._most_bytes + _AROUND_BYTES:
            self._begun.append(begun)
        else:
            self._begun = []

    def _cut(self, rest: bytes) -> Cut:
        self.number += 1
        length = self._length + len(rest)
        self.place += length + 1
        raw = None
        if length <= self._most_bytes + _AROUND_BYTES:
            raw = b"".join([*self._begun, rest]) if self._length else rest
            raw = raw.removesuffix(b"\r")
            if self.number == 1:
                raw = raw.removeprefix(_BYTE_ORDER_MARK)
            if len(raw) > self._most_bytes:
                raw = None
        self._begun, self._length = [], 0
        return Cut(self.number, raw, self.place)
