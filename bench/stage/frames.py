"""Reads an event stream off the wire: HTTP's chunks, then the frames of Server-Sent Events; counts what is in them."""

from collections.abc import Iterator

from msgspec import Struct

_TEXT = b'"text":"'


class BrokenStream(Exception):
    """What came is no event stream."""


class Heard(Struct, frozen=True):
    """An event of the bench: its id, when it was said (`time.monotonic_ns`), and which of its job's it is, from 1."""

    id: bytes
    said_ns: int
    number: int


class Stream:
    """One answer on its way, from its status line on."""

    def __init__(self) -> None:
        """Nothing has come."""
        self.is_open = False
        self.is_over = False
        self._raw = b""
        self._text = b""

    def take(self, data: bytes) -> Iterator[bytes]:
        """Take what came; yield the frames that are whole by now. Raises `BrokenStream`."""
        raw = self._raw + data if self._raw else data
        if not self.is_open:
            head, found, rest = raw.partition(b"\r\n\r\n")
            if not found:
                self._raw = raw
                return
            if head[9:12] != b"200" or b"chunked" not in head.lower():
                raise BrokenStream(raw[:500].decode(errors="replace"))
            self.is_open, raw = True, rest
        text, self._raw = self._unpacked(raw)
        if not text:
            return
        *whole, self._text = (self._text + text).replace(b"\r\n", b"\n").split(b"\n\n")
        yield from whole

    def _unpacked(self, raw: bytes) -> tuple[bytes, bytes]:
        """Return the text of all whole chunks, and the rest."""
        pieces: list[bytes] = []
        at = 0
        while (line_end := raw.find(b"\r\n", at)) > 0:
            size = int(raw[at:line_end], 16)
            end = line_end + 2 + size
            if len(raw) < end + 2:
                break
            pieces.append(raw[line_end + 2 : end])
            at = end + 2
            self.is_over = self.is_over or size == 0
        return b"".join(pieces), raw[at:]


def text(said_ns: int, number: int) -> str:
    """Return what the bench's events say."""
    return f"{said_ns} {number} word"


def read(frame: bytes) -> Heard | None:
    """Return what a frame says; None where it is a comment, or an event that the bench did not make."""
    at = frame.find(_TEXT)
    begin = frame.find(b"id:")
    if at < 0 or begin < 0:
        return None
    said_ns, number, _ = frame[at + len(_TEXT) :].split(b" ", 2)
    return Heard(frame[begin + 3 : frame.find(b"\n", begin)].strip(), int(said_ns), int(number))


class Tally(Struct):
    """Which of a job's events one viewer has seen: each once and in order, or what is wrong."""

    last: int = 0
    lost: int = 0
    repeated: int = 0

    def see(self, number: int) -> bool:
        """Count an event; tell whether it is a new one."""
        if number <= self.last:
            self.repeated += 1
            return False
        self.lost += number - self.last - 1
        self.last = number
        return True

    def missing(self, said: int) -> int:
        """Return how many of the `said` events have not been seen."""
        return self.lost + max(0, said - self.last)
