"""Takes a GIF apart into stills and puts it together again, palettes and timing kept, words left out.

Of its extensions the control of a frame and the number of loops are kept. Source: GIF89a specification, CompuServe.
"""

import struct
from collections.abc import Iterable, Iterator

from workers.craft.pictures.container import Cursor, Data, Still
from workers.craft.pictures.faults import Damaged

_HEAD = struct.Struct("<HHBBB")  # width, height, flags, background, aspect
_PLACE = struct.Struct("<HHHHB")  # left, top, width, height, flags
_HAS_PALETTE = 0x80
_INTERLACED = 0x40
_IMAGE, _EXTENSION, _END, _STRAY = b",", b"!", b";", b"\0"
_CONTROL, _APPLICATION = b"\xf9", b"\xff"
_LOOPERS = (b"NETSCAPE2.0", b"ANIMEXTS1.0")
_FOREVER_LESS_ONE = 0xFFFF
_LAST_DISPOSAL = 3


class Frame(Still, frozen=True, kw_only=True):
    """A still and where it is shown; `control` is its timing, `palette` its own colours (none: those of all)."""

    left: int
    top: int
    control: bytes
    palette: bytes


class Gif:
    """One GIF."""

    moving = True
    exif = b""

    def __init__(self, data: Data) -> None:
        """Read its head; raises `Damaged`."""
        self._data = data
        cursor = Cursor(data, at=6)
        self.width, self.height, flags, _, _ = _HEAD.unpack(cursor.take(_HEAD.size))
        self._canvas = (self.width, self.height)
        self._palette = _palette(cursor, flags)
        self._first = cursor.at
        self._loops: int | None = None

    def stills(self) -> Iterator[Frame]:
        """Yield its frames; raises `Damaged`."""
        cursor = Cursor(self._data, at=self._first)
        control = b""
        while (mark := cursor.take(1)) != _END:
            if mark == _EXTENSION:
                control = self._extension(cursor) or control
            elif mark == _IMAGE:
                yield self._frame(cursor, control)
                control = b""
            elif mark != _STRAY:
                raise Damaged("neither a picture nor an extension")

    def _extension(self, cursor: Cursor) -> bytes:
        """Return what it says of the next frame, if that is what it is for."""
        label = cursor.take(1)
        first = cursor.take(cursor.take(1)[0])
        second = cursor.take(cursor.take(1)[0]) if first else b""
        if second:
            _pass_over(cursor)
        if label == _APPLICATION and first in _LOOPERS and len(second) >= 3 and second[0] == 1:
            self._loops = int.from_bytes(second[1:3], "little")
        return first if label == _CONTROL and len(first) == 4 else b""

    def _frame(self, cursor: Cursor, control: bytes) -> Frame:
        left, top, width, height, flags = _PLACE.unpack(cursor.take(_PLACE.size))
        # Frames may be larger than the picture claims to be, and readers enlarge it then.
        self.width, self.height = max(self.width, left + width), max(self.height, top + height)
        palette = _palette(cursor, flags)
        start = cursor.at
        cursor.skip(1)
        _pass_over(cursor)
        place = _PLACE.pack(0, 0, width, height, flags & _INTERLACED)
        still = _head(width, height, palette or self._palette) + _IMAGE + place + cursor.since(start) + _END
        return Frame(width=width, height=height, data=still, left=left, top=top, control=control, palette=palette)

    def assembled(self, remade: Iterable[tuple[Frame, bytes]]) -> bytes:
        """Return a new GIF of its frames. Of the palettes nothing is left that no pixel shows."""
        shared = bytes(len(self._palette))
        body: list[bytes] = []
        for frame, picture in remade:
            again = Gif(picture)
            (pixels,) = (still.data for still in again.stills())
            colours = again._palette[: len(frame.palette or self._palette)]
            if not frame.palette:
                shared = bytes(map(int.__or__, shared, colours))
            local = colours if frame.palette else b""
            place = _PLACE.pack(frame.left, frame.top, frame.width, frame.height, _size_flags(local))
            body += [_control(frame.control), _IMAGE, place, local, again._coded(pixels)]
        return b"".join([_head(*self._canvas, shared), self._looping(), *body, _END])

    def _coded(self, still: bytes) -> bytes:
        """Return the compressed pixels of one of our own stills."""
        return still[self._first + len(_IMAGE) + _PLACE.size : -len(_END)]

    def _looping(self) -> bytes:
        if self._loops is None:
            return b""
        return b"!\xff\x0bNETSCAPE2.0\x03\x01" + self._loops.to_bytes(2, "little") + b"\0"


def _palette(cursor: Cursor, flags: int) -> bytes:
    return cursor.take(3 << (flags & 7) + 1) if flags & _HAS_PALETTE else b""


def _pass_over(cursor: Cursor) -> None:
    while length := cursor.take(1)[0]:
        cursor.skip(length)


def _size_flags(palette: bytes) -> int:
    return _HAS_PALETTE | (len(palette) // 3).bit_length() - 2 if palette else 0


def _head(width: int, height: int, palette: bytes) -> bytes:
    return b"GIF89a" + _HEAD.pack(width, height, _size_flags(palette), 0, 0) + palette


def _control(said: bytes) -> bytes:
    """Return the control of a frame, without what only readers at a keyboard had a use for."""
    if not said:
        return b""
    disposal, transparent = said[0] >> 2 & 7, said[0] & 1
    flags = (disposal if disposal <= _LAST_DISPOSAL else 0) << 2 | transparent
    return b"!\xf9\x04" + bytes([flags, said[1], said[2], said[3] if transparent else 0]) + b"\0"
