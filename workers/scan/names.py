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
    b"GoToR": "external",
    b"SubmitForm": "external",
    b"Movie": "rich_media",
    b"XFA": "form_program",
}
# Names so short that pictures have them by chance: only with what has to follow them.
_SHORT: Final[dict[bytes, Active]] = {b"EF": "embedded_file", b"AA": "launch", b"3D": "rich_media"}
# What may stand between two words, no longer than makes the search take a time that the file's length bounds.
_GAP: Final = rb"(?:[\x00\s]{1,200}+|%[^\r\n]{0,200}+[\r\n]){0,8}+"
_REFERRED: Final = rb"(\d{1,10}+)" + _GAP + rb"(\d{1,5}+)" + _GAP + b"R"
_SHORT_NAMED: Final = re.compile(
    b"/(?P<name>EF|AA)" + _GAP + b"(?:<<|" + _REFERRED + b")|/Subtype" + _GAP + rb"/(?P<kind>3D)(?=[\x00\s/>%])"
)
# An address that is opened with the document. (Links, which wait for a click, are everywhere.)
_OPENING: Final = re.compile(b"/OpenAction")
_ADDRESSED: Final = re.compile(_GAP + rb"<<(?:(?!>>|endobj).){0,300}?/URI(?=[\x00\s/(<>%])", re.DOTALL)
_ELSEWHERE: Final = re.compile(_GAP + _REFERRED)
# A document has one, and so has each of its updates; most of them name the same object.
_MOST_OPENINGS: Final = 1000
_MOST_OPENED: Final = 8
# The file in which the content of a stream is, instead of in this one.
_FETCHED: Final = re.compile(b"/F" + _GAP + rb"[(<]")
_PACKED: Final = b"ObjStm"
_END: Final = rb"(?=[\x00\t\n\f\r ()<>\[\]{}/%]|\Z)"
_NAMED: Final = re.compile(rb"/(" + b"|".join([*_ACTIVE, _PACKED]) + rb")" + _END)
# Where the first object is: no other stream has it, and some readers ask for nothing else.
_FIRST: Final = b"/First"
_NAMED_PACKED: Final = re.compile(rb"/" + _PACKED + _END)
_ESCAPED: Final = re.compile(rb"/((?:[0-9A-Za-z]|#[0-9A-Fa-f]{2}){2,40})" + _END)
_ESCAPE: Final = re.compile(rb"#([0-9A-Fa-f]{2})")
_STREAM: Final = re.compile(rb">>[\x00\s]{0,64}stream[ \t]*\r?\n?")
_FLATE: Final = re.compile(rb"/Filter\s*(?:/FlateDecode|\[\s*/FlateDecode\s*\])\s*(?:/|>>)")
_LONGEST_DICTIONARY: Final = 4096
# Packed objects begin with pairs of numbers: the object's, and where it is.
_NUMBERS: Final = re.compile(rb"(?:[\x00\s]|%[^\r\n]*[\r\n])*\d+\s+\d+\s")
# A book of 2,000 pages, with twenty pictures on each of them, has 42,000.
_MOST_STREAMS: Final = 200_000
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
        _judge_opened(data)
        unpacked = before = 0
        left = _MOST_UNPACKED_BYTES
        for number, match in enumerate(_STREAM.finditer(data)):
            if number == _MOST_STREAMS:
                raise TooComplex
            dictionary = _dictionary(data[max(before, match.start() - _LONGEST_DICTIONARY) : match.start() + 2])
            if _FETCHED.search(_spelled_out(dictionary)):
                raise active.refusal("external")
            followed = _is_followed(dictionary)
            before, tail = match.end(), b""
            try:
                for piece in _packed(data, match.end(), sure=followed or _FIRST in dictionary):
                    left -= len(piece)
                    if left < 0:
                        raise TooComplex
                    _judge_names(tail + piece)
                    _judge_opened(tail + piece)
                    tail = piece[-_LONGEST_NAME_BYTES:]
            except zlib.error:  # readers take what came before the damage
                continue
            unpacked += followed
    return claimed <= unpacked


def _judge_names(data: bytes | mmap.mmap) -> int:
    """Refuse active names; return how many streams there are by their names that have objects packed in them."""
    found = [match[1] for match in _NAMED.finditer(data)]
    found += [match["name"] or match["kind"] for match in _SHORT_NAMED.finditer(data)]
    if data.find(b"#") >= 0:
        escaped = (match[1] for match in _ESCAPED.finditer(data) if b"#" in match[1])
        found += [_spelled_out(name) for name in escaped]
    for name in found:
        if what := (_ACTIVE | _SHORT).get(name):
            raise active.refusal(what)
    return found.count(_PACKED)


def _judge_opened(data: bytes | mmap.mmap) -> None:
    """Refuse an address that is opened with the document, in the catalog itself or in an object of its own."""
    elsewhere = set[tuple[bytes, bytes]]()
    for count, opening in enumerate(_OPENING.finditer(data), 1):
        if _ADDRESSED.match(data, opening.end()):
            raise active.refusal("external")
        if referred := _ELSEWHERE.match(data, opening.end()):
            elsewhere.add((referred[1], referred[2]))
        if count > _MOST_OPENINGS or len(elsewhere) > _MOST_OPENED:
            raise TooComplex
    for number, generation in elsewhere:
        begun = re.compile(rb"(?<!\d)%s\s{1,9}%s\s{1,9}obj" % (number, generation))
        if any(_ADDRESSED.match(data, each.end()) for each in begun.finditer(data)):
            raise active.refusal("external")


def _spelled_out(text: bytes) -> bytes:
    return _ESCAPE.sub(lambda escape: bytes([int(escape[1], 16)]), text)


def _dictionary(before: bytes) -> bytes:
    """Return the dictionary of a stream, from what stands before it."""
    return before[before.rfind(b"obj") + 3 :]


def _is_followed(dictionary: bytes) -> bool:
    """Whether a stream has, by its dictionary, objects packed in it, and in no other way than is followed.

    Escapes, strings and comments, in which anything could stand, are nothing that programs write there.
    """
    plain = not any(sign in dictionary for sign in (b"#", b"(", b"%", b"/DecodeParms"))
    named = len(_NAMED_PACKED.findall(dictionary)) == dictionary.count(b"/Filter") == 1
    return plain and named and _FLATE.search(dictionary) is not None


def _packed(data: mmap.mmap, start: int, *, sure: bool) -> Iterator[bytes]:
    """Inflate a stream piece by piece, if objects are packed in it; raises `zlib.error` where it is damaged.

    It is opened where its dictionary says so (`sure`), whatever it begins with, or where it begins as such do.
    """
    begun = data[start : start + _LOOK_BYTES]
    if not sure and not _NUMBERS.match(zlib.decompressobj().decompress(begun, _LOOK_BYTES)):
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
