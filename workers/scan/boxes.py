"""Judges an MP4 or MOV by its own boxes (ISO/IEC 14496-12), before a library makes tables of what they claim.

A few bytes may claim a thousand million samples, a length that the file has not, or sound that lies in another file.
"""

import struct
from collections.abc import Iterator
from itertools import chain, pairwise
from typing import BinaryIO, NamedTuple

from workers.scan import active
from workers.scan.limits import CLIP_MOST_FRAMES, CLIP_MOST_MEGAPIXELS
from workers.scan.refusals import ClipTooHeavy, EncryptedFile, TooComplex, TooManyPixels

_MIB = 1024**2
_MOST_MOOV_BYTES = 32 * _MIB
_MOST_MOOF_BYTES = 4 * _MIB
_MOST_BOXES = 20_000
_DEEPEST = 8
# Of all that is no picture: an hour of AAC at 96 kHz has a third of that.
_MOST_SAMPLES = 1_000_000
# Of all tracks together, whether they would be kept or not: a library makes tables of all of them.
_MOST_IN_ALL = 1_500_000
_MOST_TRACKS = 32
_HEAD = 8
_NESTED = {b"moov", b"trak", b"mdia", b"minf", b"dinf", b"stbl", b"edts", b"moof", b"traf"}
_TOP = {b"ftyp", b"moov", b"mdat", b"moof", b"mfra", b"sidx", b"styp", b"free", b"skip", b"wide", b"uuid", b"meta"}
_ENCRYPTED = {b"encv", b"enca", b"drms", b"drmi", b"drmt"}
# What libraries read at once of sound that is not compressed.
_PLAIN_AT_ONCE = 1024


class Malformed(Exception):
    """The file does not hang together. The message is for the log."""


class _Box(NamedTuple):
    kind: bytes
    body: memoryview


class _Track:
    """What the boxes of one track claim."""

    def __init__(self) -> None:
        self.handler = b""
        self.width = self.height = 0
        self.samples = 0
        self.timed = 0
        self.is_plain = False
        self.offsets = 0
        self.edits = 0
        self.chunks = 0
        self.runs = memoryview(b"")

    @property
    def entries(self) -> int:
        """How many entries a library would make for it: one a sample, but of plain sound one for many."""
        if self.handler == b"soun" and self.is_plain:
            return sum(chunks * (samples // _PLAIN_AT_ONCE + 1) for chunks, samples in self._chunked())
        return max(self.samples, self.timed, self.offsets)

    @property
    def repeated(self) -> int:
        """How many entries its edits make of them: each may repeat what is between it and its key frame."""
        return self.entries * max(1, self.edits)

    def _chunked(self) -> Iterator[tuple[int, int]]:
        """Return how many chunks there are of how many samples."""
        for (first, samples, _), (after, _, _) in pairwise(chain(_table(self.runs, 3), [(self.chunks + 1, 0, 0)])):
            yield max(0, after - first), samples


def judge(file: BinaryIO, size: int, first: set[bytes]) -> None:
    """Refuse a file whose boxes are external, encrypted, or claim more than a clip may have.

    `first` are the kinds that it may begin with. Raises `Malformed` where boxes are cut off or missing, and refusals.
    """
    moovs = fragments = 0
    for number, (kind, start, end) in enumerate(_top(file, size)):
        if number == 0 and kind not in first:
            raise Malformed(f"it begins with {kind!r}")
        if kind == b"moov":
            moovs += 1
            _judge_moov(_body(file, start, end, _MOST_MOOV_BYTES))
        if kind == b"moof":
            moof = _body(file, start, end, _MOST_MOOF_BYTES)
            fragments += sum(1 + _number(box.body, 4) for box in _boxes(moof) if box.kind == b"trun")
        if number > CLIP_MOST_FRAMES or fragments > _MOST_SAMPLES:
            raise TooComplex
    if moovs != 1:
        raise Malformed(f"it has {moovs} moov boxes")


def _top(file: BinaryIO, size: int) -> Iterator[tuple[bytes, int, int]]:
    """Return the boxes of the file itself: kind, and where their bodies are. What follows the last one is no box."""
    place = 0
    while place + _HEAD <= size:
        file.seek(place)
        head = file.read(16)
        length, kind, body = _number(head, 0), head[4:8], place + _HEAD
        if length == 1:
            length, body = int.from_bytes(head[8:16], "big"), place + 16
        elif length == 0:
            length = size - place
        whole = body <= place + length <= size
        if not whole and kind in _TOP:
            raise Malformed(f"{kind!r} is cut off")
        if not whole:
            return
        yield kind, body, place + length
        place += length


def _body(file: BinaryIO, start: int, end: int, most_bytes: int) -> memoryview:
    if end - start > most_bytes:
        raise TooComplex
    file.seek(start)
    return memoryview(file.read(end - start))


def _boxes(body: memoryview) -> Iterator[_Box]:
    """Return a box's boxes and those in them, parents first."""
    waiting = [(body, 0)]
    number = 0
    while waiting:
        outer, depth = waiting.pop()
        length = _number(outer, 0) or len(outer)
        if len(outer) < _HEAD:
            continue
        if not _HEAD <= length <= len(outer) or depth > _DEEPEST:
            raise Malformed("a box is longer than what it is in, or in too many others")
        number += 1
        if number > _MOST_BOXES:
            raise TooComplex
        box = _Box(bytes(outer[4:8]), outer[_HEAD:length])
        yield box
        waiting.append((outer[length:], depth))
        if box.kind in _NESTED:
            waiting.append((box.body, depth + 1))


def _judge_moov(body: memoryview) -> None:
    tracks = list[_Track]()
    for box in _boxes(body):
        match box.kind:
            case b"trak":
                tracks.append(_Track())
                if len(tracks) > _MOST_TRACKS:
                    raise TooComplex
            case b"cmov":
                raise Malformed("its headers are compressed")
            case b"rmra" | b"rmda":
                raise active.refusal("external")
            case _:
                if tracks:
                    _note(tracks[-1], box)
    for track in tracks:
        _judge_track(track)
    if sum(track.repeated for track in tracks) > _MOST_IN_ALL:
        raise TooComplex


def _judge_track(track: _Track) -> None:
    if track.handler == b"vide":
        if track.width * track.height > CLIP_MOST_MEGAPIXELS * 1_000_000:
            raise TooManyPixels(width=track.width, height=track.height, limit_megapixels=CLIP_MOST_MEGAPIXELS)
        if track.entries > CLIP_MOST_FRAMES:
            raise ClipTooHeavy(frames=track.entries, limit_frames=CLIP_MOST_FRAMES)
    if track.repeated > _MOST_SAMPLES:
        raise TooComplex


def _note(track: _Track, box: _Box) -> None:
    body = box.body
    match box.kind:
        case b"hdlr" if not track.handler:
            track.handler = bytes(body[8:12])
        case b"stsd":
            if bytes(body[12:16]) in _ENCRYPTED:
                raise EncryptedFile
            track.width, track.height = divmod(_number(body, 40), 1 << 16)
        case b"dref":
            _judge_references(body)
        case b"elst":
            track.edits = max(track.edits, _number(body, 4))
        case b"stsz" | b"stz2":
            track.samples = max(track.samples, _number(body, 8))
        case b"stts":
            track.is_plain = _number(body, 4) == 1 and _number(body, 12) == 1
            track.timed = sum(count for count, _ in _table(body, 2))
        case b"ctts":
            track.offsets = sum(count for count, _ in _table(body, 2))
        case b"stsc":
            track.runs = body
        case b"stco" | b"co64":
            track.chunks = max(track.chunks, _number(body, 4))
        case _:
            pass


def _judge_references(body: memoryview) -> None:
    """Refuse references to where the samples are, other than "in this file" (flag 1)."""
    place = 8
    for _ in range(min(_number(body, 4), _MOST_BOXES)):
        length = _number(body, place)
        if length < _HEAD + 4 or not _number(body, place + _HEAD) & 1:
            raise active.refusal("external")
        place += length


def _table(body: memoryview, columns: int) -> Iterator[tuple[int, ...]]:
    """Return a table of 32-bit numbers; as many rows as it claims, or as there are."""
    rows = min(_number(body, 4), max(0, len(body) - 8) // (4 * columns))
    if rows > _MOST_SAMPLES:
        raise TooComplex
    return struct.iter_unpack(f">{columns}I", body[8 : 8 + 4 * columns * rows])


def _number(body: memoryview | bytes, place: int) -> int:
    """Return the 32 bits at a place; 0 beyond the end."""
    return int.from_bytes(body[place : place + 4], "big") if place + 4 <= len(body) else 0
