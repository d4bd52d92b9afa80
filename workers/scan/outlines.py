"""Judges a clip by its outline, read from its own headers: that it begins as its type does, and is not cut off."""

from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO, Final

from workers.scan import boxes
from workers.scan.boxes import Malformed
from workers.scan.limits import CLIP_MOST_FRAMES
from workers.scan.refusals import TooComplex

_UNKNOWN_32: Final = 2**32 - 1
_OGG_HEAD: Final = 27
_BEGINS: Final = 0x02
_MOST_PAGES: Final = 4 * CLIP_MOST_FRAMES
_EBML: Final = 0x1A45DFA3
_SEGMENT: Final = 0x18538067
_DOC_TYPE: Final = b"\x42\x82"


def judge(path: Path, demuxer: str, media_type: str) -> None:
    """Raise `Malformed`, or a refusal, for a file that a demuxer should not even see."""
    with path.open("rb") as file:
        size = file.seek(0, 2)
        file.seek(0)
        if demuxer == "mov":
            plain = {b"moov", b"mdat", b"wide", b"free", b"skip"} if media_type == "video/quicktime" else set[bytes]()
            boxes.judge(file, size, {b"ftyp", *plain})
        else:
            _OUTLINES[demuxer](file, size)


def _matroska(file: BinaryIO, size: int) -> None:
    """See that it is a WebM document and that its segment is whole, where its length is told (RFC 8794, RFC 9559)."""
    element, length = _element(file)
    head = file.read(min(length or 0, 4096))
    if element != _EBML or _DOC_TYPE + b"\x84webm" not in head:
        raise Malformed("it is no WebM document")
    element, length = _element(file)
    if element != _SEGMENT:
        raise Malformed("its segment is missing")
    if length is not None and file.tell() + length > size:
        raise Malformed("its segment is cut off")


def _element(file: BinaryIO) -> tuple[int, int | None]:
    """Read the id and the length of an EBML element; None for "unknown"."""
    return _vint(file, marked=True)[0], _known(*_vint(file, marked=False))


def _known(value: int, bits: int) -> int | None:
    return None if value == (1 << bits) - 1 else value


def _vint(file: BinaryIO, *, marked: bool) -> tuple[int, int]:
    first = int.from_bytes(file.read(1), "big")
    more = 8 - first.bit_length()
    value = first if marked else first & ((1 << max(0, 7 - more)) - 1)
    for byte in file.read(min(more, 7)):
        value = value << 8 | byte
    return value, 7 * (more + 1)


def _wav(file: BinaryIO, size: int) -> None:
    """See that its chunks are whole. A length of all ones is what a recorder writes that cannot go back."""
    if file.read(4) not in {b"RIFF", b"RF64"} or file.seek(8) != 8 or file.read(4) != b"WAVE":
        raise Malformed("it is no WAVE file")
    place = 12
    while place + 8 <= size:
        file.seek(place)
        head = file.read(8)
        length = int.from_bytes(head[4:], "little")
        if head[:4] == b"data":
            if place + 8 + length > size and length != _UNKNOWN_32:
                raise Malformed("its samples are cut off")
            return
        place += 8 + length + length % 2
    raise Malformed("it has no samples")


def _ogg(file: BinaryIO, size: int) -> None:
    """See that it is nothing but whole pages (RFC 3533), and one stream after which no other begins."""
    place, begun = 0, False
    for _ in range(_MOST_PAGES):
        file.seek(place)
        head = file.read(_OGG_HEAD + 255)
        if head[:4] != b"OggS" or len(head) < _OGG_HEAD:
            raise Malformed("a page is missing or something else is between pages")
        if head[5] & _BEGINS and begun:
            raise Malformed("another stream begins after it")  # its headers, with all they tell, would be copied
        begun = begun or not head[5] & _BEGINS
        table = head[_OGG_HEAD : _OGG_HEAD + head[26]]
        place += _OGG_HEAD + head[26] + sum(table)
        if place >= size:
            break
    else:
        raise TooComplex
    if place > size:
        raise Malformed("its last page is cut off")


def _mp3(file: BinaryIO, size: int) -> None:
    """See that frames begin where they have to, after tags (ID3v2) if there are any."""
    place = 0
    while True:
        file.seek(place)
        head = file.read(10)
        if head[:3] != b"ID3":
            break
        length = int.from_bytes(head[6:10], "big")
        place += 10 + (length & 0x7F | (length & 0x7F00) >> 1 | (length & 0x7F0000) >> 2 | (length & 0x7F000000) >> 3)
        place += 10 if head[5] & 0x10 else 0
    if place >= size:
        raise Malformed("there is nothing after its tags")
    file.seek(place)
    start = file.read(4096).lstrip(b"\x00")  # tags are often padded beyond their own length
    if len(start) < 2 or start[0] != 0xFF or start[1] & 0xE0 != 0xE0:
        raise Malformed("no frame begins where one has to")


_OUTLINES: Final[dict[str, Callable[[BinaryIO, int], None]]] = {
    "matroska": _matroska,
    "wav": _wav,
    "ogg": _ogg,
    "mp3": _mp3,
}
