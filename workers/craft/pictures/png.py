"""Takes a PNG, moving or not, apart into stills and puts it together again, without the words it may carry.

Source: Portable Network Graphics, third edition, W3C 2025, which has the moving ones in it.
"""

import struct
import zlib
from collections.abc import Iterable, Iterator

from msgspec import Struct

from workers.craft.pictures.container import Cursor, Data, Still
from workers.craft.pictures.faults import Damaged, TooCostly

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_HEAD = struct.Struct(">IIBB3s")  # width, height, depth, colour; compression, filter, interlace
_CONTROL = struct.Struct(">IIII4sBB")  # width, height, left, top, delay, disposal, blending; before it, a number
_NUMBER = 4
_MOST_CHUNKS = 65_536
#: Of what the reader has to know; a colour profile is the longest of it.
_MOST_KEPT_BYTES = 4 * 1024**2
_GREY, _COLOURS = 0, 2
#: What the reader of a still has to know besides its pixels.
_KEPT = (b"PLTE", b"tRNS", b"iCCP")
_CHECKED = (*_KEPT, b"IHDR", b"IDAT", b"acTL", b"fcTL", b"fdAT", b"eXIf")


class Frame(Still, frozen=True, kw_only=True):
    """A still and how it is shown; without `control` it is what is shown by viewers that know no moving PNG."""

    control: bytes


class _Apart(Struct, frozen=True):
    """One of our own stills: `kind` is its depth, colour and way of storing."""

    kind: bytes
    palette: bytes
    transparency: bytes
    pixels: bytes


class Png:
    """One PNG."""

    def __init__(self, data: Data) -> None:
        """Read its head; raises `Damaged`."""
        self._data = data
        self.moving = False
        self.exif = b""
        self._plays: bytes | None = None
        name, head = next(_chunks(data), (b"", b""))
        if name != b"IHDR" or len(head) != _HEAD.size:
            raise Damaged("no head")
        self.width, self.height, self._depth, self._colour, self._way = _HEAD.unpack(head)

    def stills(self) -> Iterator[Frame]:
        """Yield its pictures; raises `Damaged` or `TooCostly`."""
        kept: list[bytes] = []
        pixels: list[bytes] = []
        control = b""
        for name, content in _chunks(self._data):
            if name in _KEPT:
                if len(content) > _MOST_KEPT_BYTES:
                    raise TooCostly(f"{len(content)} bytes of {name!r}")
                kept.append(_chunk(name, self._eight_bit(content) if name == b"tRNS" else content))
            elif name == b"eXIf":
                self.exif = content
            elif name == b"acTL" and not pixels:
                self._plays = Cursor(content, at=4).take(4)
            elif name == b"IDAT":
                pixels.append(content)
            elif name == b"fdAT" and self._plays and control:
                pixels.append(content[_NUMBER:])
            elif name == b"fcTL" and self._plays:
                self.moving = True
                if pixels:
                    yield self._frame(control, kept, pixels)
                    pixels.clear()
                control = content[_NUMBER:]
        yield self._frame(control, kept, pixels)

    def _eight_bit(self, transparency: bytes) -> bytes:
        """Return the transparent colour on the scale that Pillow has pixels on, whatever depth they were stored in."""
        if self._colour == _GREY and self._depth in {2, 4}:
            scaled = int.from_bytes(transparency[:2], "big") * (255 // (2**self._depth - 1))
            return (scaled & 0xFF).to_bytes(2, "big")
        if self._colour == _COLOURS and self._depth == 16:
            return b"".join(b"\0" + transparency[at : at + 1] for at in (0, 2, 4))
        return transparency

    def _frame(self, control: bytes, kept: list[bytes], pixels: list[bytes]) -> Frame:
        width, height = self.width, self.height
        if control:
            if len(control) != _CONTROL.size or not pixels:
                raise Damaged("a frame without its size or pixels")
            width, height, left, top, _, disposal, blending = _CONTROL.unpack(control)
            if left + width > self.width or top + height > self.height or disposal > 2 or blending > 1:
                raise Damaged("a frame that lies outside")
        head = _HEAD.pack(width, height, self._depth, self._colour, self._way)
        chunks = [_chunk(b"IHDR", head), *kept, _chunk(b"IDAT", *pixels), _chunk(b"IEND")]
        return Frame(width=width, height=height, data=b"".join([_SIGNATURE, *chunks]), control=control)

    def assembled(self, remade: Iterable[tuple[Frame, bytes]]) -> bytes:
        """Return a new PNG of its pictures; of the palette nothing is left that no pixel shows."""
        if self._plays is None or not self.moving:
            ((_, picture),) = remade
            return picture
        pictures = [(frame, _apart(picture)) for frame, picture in remade]
        first = pictures[0][1]
        if any(apart.kind != first.kind for _, apart in pictures):
            raise Damaged("frames of different kinds")
        frames = sum(bool(frame.control) for frame, _ in pictures)
        size = struct.pack(">II", self.width, self.height)
        chunks = [_chunk(b"IHDR", size, first.kind), _chunk(b"acTL", frames.to_bytes(4, "big"), self._plays)]
        if first.palette:
            palettes = zip(*(apart.palette for _, apart in pictures), strict=True)
            chunks.append(_chunk(b"PLTE", bytes(map(max, palettes))))
        if first.transparency:
            chunks.append(_chunk(b"tRNS", first.transparency))
        number = 0
        for frame, apart in pictures:
            if frame.control:
                chunks.append(_chunk(b"fcTL", number.to_bytes(4, "big"), frame.control))
                number += 1
            if apart is first:
                chunks.append(_chunk(b"IDAT", apart.pixels))
            else:
                chunks.append(_chunk(b"fdAT", number.to_bytes(4, "big"), apart.pixels))
                number += 1
        return b"".join([_SIGNATURE, *chunks, _chunk(b"IEND")])


def _chunks(data: Data) -> Iterator[tuple[bytes, bytes]]:
    """Yield name and content of every chunk up to the end; of those that are no use to us, no content."""
    cursor = Cursor(data, at=len(_SIGNATURE))
    for _ in range(_MOST_CHUNKS):
        length = int.from_bytes(cursor.take(4), "big")
        name = cursor.take(4)
        if name in _CHECKED:
            content = cursor.take(length)
            if zlib.crc32(content, zlib.crc32(name)) != int.from_bytes(cursor.take(4), "big"):
                raise Damaged("a chunk that was changed")
            yield name, content
        else:
            cursor.skip(length + 4)
        if name == b"IEND":
            return
    raise Damaged("too many chunks")


def _apart(picture: bytes) -> _Apart:
    chunks = list(_chunks(picture))
    found = dict(chunks)
    pixels = b"".join(content for name, content in chunks if name == b"IDAT")
    return _Apart(found[b"IHDR"][8:], found.get(b"PLTE", b""), found.get(b"tRNS", b""), pixels)


def _chunk(name: bytes, *content: bytes) -> bytes:
    length = sum(map(len, content))
    check = zlib.crc32(name)
    for piece in content:
        check = zlib.crc32(piece, check)
    return b"".join([length.to_bytes(4, "big"), name, *content, check.to_bytes(4, "big")])
