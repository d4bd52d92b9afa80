"""What the formats that hold several pictures have in common: each is taken out as a still, and put back made anew."""

from collections.abc import Iterable, Iterator
from mmap import mmap
from typing import Protocol

from msgspec import Struct

from workers.craft.pictures.faults import Damaged

#: A file, in memory or mapped into it; its slices are bytes.
type Data = bytes | mmap


class Still(Struct, frozen=True, kw_only=True):
    """One picture of a container, as a file of its own. Formats add where, when and over what it is shown."""

    width: int
    height: int
    data: bytes


class Container[S: Still](Protocol):
    """A file of one format, taken apart without decoding any pixel."""

    #: Grow where stills are seen that are larger.
    width: int
    height: int
    #: Known once all stills have been seen: whether they are frames, and a camera's notes, of which only which way up
    #: the picture is is wanted.
    moving: bool
    exif: bytes

    def stills(self) -> Iterator[S]:
        """Yield its pictures in their order; raises `Damaged`."""
        ...

    def assembled(self, remade: Iterable[tuple[S, bytes]]) -> bytes:
        """Return a new container of its `stills`, each with the picture that takes its place; raises `Damaged`."""
        ...


class Cursor:
    """Reads a file from front to back and never beyond its end."""

    def __init__(self, data: Data, at: int = 0, end: int | None = None) -> None:
        """Begin `at` a place; `end` is where the file is over, if not where it ends."""
        self._data = data
        self._end = len(data) if end is None else end
        self.at = at

    @property
    def left(self) -> int:
        """How many bytes there are still."""
        return self._end - self.at

    def take(self, length: int) -> bytes:
        """Return the next bytes; raises `Damaged` where there are not so many."""
        start = self.at
        self.skip(length)
        return self._data[start : self.at]

    def skip(self, length: int) -> None:
        """Pass over the next bytes; raises as `take` does."""
        if length > self._end - self.at:
            raise Damaged("it ends too early")
        self.at += length

    def since(self, start: int) -> bytes:
        """Return what was passed over since a place."""
        return self._data[start : self.at]
