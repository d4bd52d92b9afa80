"""Looks through a whole PDF for the names of what could act (ISO 32000-1), wherever in the file they are hidden.

Names are found in plain objects, spelled with or without escapes (`/J#61vaScript`), and in objects that are packed
into streams: whether they are in use or not, since readers differ in what they take for the document.
"""

import mmap
import re
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from workers.scan import active
from workers.scan.active import Active
from workers.scan.refusals import TooComplex

_MIB: Final = 1024**2
_ACTIVE: Final[dict[bytes, Active]] = {
    b"JavaScript": "javascript",
    b"Rendition": "rich_media",
    b"RichMedia": "rich_media",
    b"Launch": "launch",
    b"ImportData": "launch",
    b"EmbeddedFile": "embedded_file",
    b"EmbeddedFiles": "embedded_file",
    b"GoToE": "embedded_file",
    b"XFA": "form_program",
}
_PACKED: Final = b"ObjStm"
_END: Final = rb"(?=[\x00\t\n\f\r ()<>\[\]{}/%]|\Z)"
_NAMED: Final = re.compile(rb"/(" + b"|".join([*_ACTIVE, _PACKED]) + rb")" + _END)
_ESCAPED: Final = re.compile(rb"/((?:[A-Za-z]|#[0-9A-Fa-f]{2}){2,40})" + _END)
_ESCAPE: Final = re.compile(rb"#([0-9A-Fa-f]{2})")
_STREAM: Final = re.compile(rb"(?<!end)stream[ \t]*\r?\n?")
_FLATE: Final = re.compile(rb"/Filter\s*(?:/FlateDecode|\[\s*/FlateDecode\s*\])\s*(?:/|>>)")
_LONGEST_DICTIONARY: Final = 4096
# Packed objects begin with pairs of numbers: the object's, and where it is.
_NUMBERS: Final = re.compile(rb"(?:[\x00\s]|%[^\r\n]*[\r\n])*\d+\s+\d+\s")
# What packed objects may be in all: those of a book of 2,000 pages are some 20 MiB.
_MOST_UNPACKED_BYTES: Final = 128 * _MIB
_LOOK_BYTES: Final = 512
_STEP_BYTES: Final = _MIB
_LONGEST_NAME_BYTES: Final = 128


def judge(path: Path) -> bool:
    """Refuse a PDF in which something active is named.

    Returns whether all was seen; if not, objects are packed in a way that is not followed here. Raises `ActiveContent`.
    """
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        claimed = _judge_names(data)
        unpacked = before = 0
        left = _MOST_UNPACKED_BYTES
        for match in _STREAM.finditer(data):
            unpacked += _is_followed(data[max(before, match.start() - _LONGEST_DICTIONARY) : match.start()])
            before, tail = match.end(), b""
            for piece in _packed(data, match.end()):
                left -= len(piece)
                if left < 0:
                    raise TooComplex
                _judge_names(tail + piece)
                tail = piece[-_LONGEST_NAME_BYTES:]
    return claimed <= unpacked


def _judge_names(data: bytes | mmap.mmap) -> int:
    """Refuse active names; return how many streams there are by their names that have objects packed in them."""
    found = [match[1] for match in _NAMED.finditer(data)]
    if data.find(b"#") >= 0:
        escaped = (match[1] for match in _ESCAPED.finditer(data) if b"#" in match[1])
        found += [_spelled_out(name) for name in escaped]
    for name in found:
        if name in _ACTIVE:
            raise active.refusal(_ACTIVE[name])
    return found.count(_PACKED)


def _spelled_out(text: bytes) -> bytes:
    return _ESCAPE.sub(lambda escape: bytes([int(escape[1], 16)]), text)


def _is_followed(before: bytes) -> bool:
    """Whether a stream, by what stands before it, has objects packed in it, and in no other way than is followed."""
    dictionary = _spelled_out(before[before.rfind(b"obj") + 3 :])
    plain = dictionary.count(b"/Filter") == 1 and b"/DecodeParms" not in dictionary
    return b"/" + _PACKED in dictionary and plain and _FLATE.search(dictionary) is not None


def _packed(data: mmap.mmap, start: int) -> Iterator[bytes]:
    """Inflate a stream piece by piece, if objects are packed in it, until it ends or is damaged, as readers would."""
    begun = data[start : start + _LOOK_BYTES]
    try:
        if not _NUMBERS.match(zlib.decompressobj().decompress(begun, _LOOK_BYTES)):
            return
        inflating, place = zlib.decompressobj(), start
        while not inflating.eof:
            given = inflating.unconsumed_tail
            if not given:
                given = data[place : place + 65_536]
                place += len(given)
            piece = inflating.decompress(given, _STEP_BYTES)
            if piece:
                yield piece
            elif not given:
                return
    except zlib.error:
        return
