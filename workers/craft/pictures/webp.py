"""Takes a WebP, moving or not, apart into stills and puts it together again, without the words it may carry.

Source: WebP Container Specification, Google; RFC 9649.
"""

from collections.abc import Iterable, Iterator

from msgspec import Struct

from workers.craft.pictures.container import Cursor, Data, Still
from workers.craft.pictures.faults import Damaged

_ALPHA, _PROFILE, _MOVING = 0x10, 0x20, 0x02
_PLACE_BYTES = 16  # left, top, width, height and duration, three bytes each, and flags
_START_CODE = b"\x9d\x01\x2a"
_LOSSLESS_SIGNATURE = 0x2F


class Frame(Still, frozen=True, kw_only=True):
    """A still and how it is shown: `place` is what the format says of a frame; empty where there is only one."""

    lossless: bool
    place: bytes


class _Chunk(Struct, frozen=True):
    name: bytes
    content: bytes


class Webp:
    """One WebP."""

    def __init__(self, data: Data) -> None:
        """Read its head; raises `Damaged`."""
        self._data = data
        self.exif = b""
        self._end = 8 + int.from_bytes(data[4:8], "little")
        self.moving = False
        self._played = b""
        first = next(_chunks(self._cursor()), _Chunk(b"", b""))
        self.width, self.height = _size(first)
        if first.name == b"VP8X":
            self.moving = bool(first.content[0] & _MOVING)

    def _cursor(self) -> Cursor:
        if self._end > len(self._data):
            raise Damaged("it ends too early")
        return Cursor(self._data, at=12, end=self._end)

    def stills(self) -> Iterator[Frame]:
        """Yield its pictures; raises `Damaged`."""
        profile: list[_Chunk] = []
        pixels: list[_Chunk] = []
        for chunk in _chunks(self._cursor()):
            if chunk.name == b"ICCP":
                profile = [chunk]
            elif chunk.name == b"EXIF":
                self.exif = chunk.content
            elif chunk.name == b"ANIM":
                self._played = chunk.content[:6]
            elif chunk.name == b"ANMF" and self.moving:
                yield self._moving_frame(chunk.content, profile)
            elif chunk.name in {b"ALPH", b"VP8 ", b"VP8L"} and not self.moving:
                pixels.append(chunk)
        if not self.moving:
            yield _still(self.width, self.height, b"", profile, pixels)

    def _moving_frame(self, content: bytes, profile: list[_Chunk]) -> Frame:
        cursor = Cursor(content)
        place = cursor.take(_PLACE_BYTES)
        width, height = _three(place, 6) + 1, _three(place, 9) + 1
        if 2 * _three(place, 0) + width > self.width or 2 * _three(place, 3) + height > self.height:
            raise Damaged("a frame that lies outside")
        pixels = [chunk for chunk in _chunks(cursor) if chunk.name in {b"ALPH", b"VP8 ", b"VP8L"}]
        return _still(width, height, place, profile, pixels)

    def assembled(self, remade: Iterable[tuple[Frame, bytes]]) -> bytes:
        """Return a new WebP of its pictures."""
        if not self.moving:
            ((_, picture),) = remade
            return picture
        frames: list[bytes] = []
        for frame, picture in remade:
            chunks = [chunk for chunk in _chunks(Cursor(picture, at=12)) if chunk.name != b"VP8X"]
            place = frame.place[:-1] + bytes([frame.place[-1] & 0x03])
            frames.append(_chunk(b"ANMF", place, *(_chunk(chunk.name, chunk.content) for chunk in chunks)))
        played = _chunk(b"ANIM", self._played or bytes(6))
        return _file(_canvas(_MOVING | _ALPHA, self.width, self.height), played, *frames)


def _chunks(cursor: Cursor) -> Iterator[_Chunk]:
    while cursor.left:
        name = cursor.take(4)
        length = int.from_bytes(cursor.take(4), "little")
        yield _Chunk(name, cursor.take(length))
        cursor.skip(min(length & 1, cursor.left))


def _size(chunk: _Chunk) -> tuple[int, int]:
    content = chunk.content
    if chunk.name == b"VP8X" and len(content) >= 10:
        return _three(content, 4) + 1, _three(content, 7) + 1
    if chunk.name == b"VP8L" and len(content) >= 5 and content[0] == _LOSSLESS_SIGNATURE:
        bits = int.from_bytes(content[1:5], "little")
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    if chunk.name == b"VP8 " and content[3:6] == _START_CODE and len(content) >= 10:
        return int.from_bytes(content[6:8], "little") & 0x3FFF, int.from_bytes(content[8:10], "little") & 0x3FFF
    raise Damaged("no head")


def _still(width: int, height: int, place: bytes, profile: list[_Chunk], pixels: list[_Chunk]) -> Frame:
    flags = (_PROFILE if profile else 0) | (_ALPHA if {b"ALPH", b"VP8L"} & {chunk.name for chunk in pixels} else 0)
    chunks = [_chunk(chunk.name, chunk.content) for chunk in (*profile, *pixels)]
    return Frame(
        width=width,
        height=height,
        data=_file(_canvas(flags, width, height), *chunks),
        lossless=any(chunk.name == b"VP8L" for chunk in pixels),
        place=place,
    )


def _three(content: bytes, at: int) -> int:
    return int.from_bytes(content[at : at + 3], "little")


def _canvas(flags: int, width: int, height: int) -> bytes:
    size = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    return _chunk(b"VP8X", bytes([flags, 0, 0, 0]), size)


def _chunk(name: bytes, *content: bytes) -> bytes:
    length = sum(map(len, content))
    return b"".join([name, length.to_bytes(4, "little"), *content, bytes(length & 1)])


def _file(*chunks: bytes) -> bytes:
    length = 4 + sum(map(len, chunks))
    return b"".join([b"RIFF", length.to_bytes(4, "little"), b"WEBP", *chunks])
