"""Walks through a ZIP archive (APPNOTE 6.3) as a stranger's: every byte belongs to a part, and no header is believed.

The central directory and the parts' own headers have to say the same, parts lie one after another from the first byte
to the directory, and what they unpack to is counted while it is unpacked.
"""

import os
import stat
import struct
import zlib
from collections.abc import Iterator, Sequence
from typing import BinaryIO, Final

from msgspec import Struct

from workers.scan.limits import MOST_PARTS, MOST_RATIO, MOST_UNPACKED_MIB
from workers.scan.refusals import ArchiveTooLarge, EncryptedFile, TrailingData, UnsafePath

_MIB: Final = 1024**2
_END: Final = struct.Struct("<4s4H2LH")
_ENTRY: Final = struct.Struct("<4s4B4HL2L5H2L")
_LOCAL: Final = struct.Struct("<4s5HL2L2H")
_STORED, _DEFLATED = 0, 8
_ENCRYPTED, _DESCRIBED, _STRONG, _MASKED, _UTF8 = 1, 8, 1 << 6, 1 << 13, 1 << 11
_COMPARED = _ENCRYPTED | _DESCRIBED | _UTF8
# A part's own header says so when its sizes stand elsewhere, as some writers do for short parts too (Zip64).
_LONG = 0xFFFF_FFFF
_DESCRIPTOR_BYTES: Final = (12, 16, 20, 24)
_MOST_DIRECTORY_BYTES: Final = 8 * _MIB
_STEP_BYTES: Final = 256 * 1024
_NEAR_END_BYTES: Final = 66_000


class BrokenArchive(Exception):
    """The archive does not hang together. The message is for the log."""


class Part(Struct, frozen=True, kw_only=True):
    """A part, as the central directory tells of it."""

    name: str
    method: int
    flags: int
    crc: int
    packed_bytes: int
    size_bytes: int
    start: int


class Budget(Struct, kw_only=True):
    """How much may still be unpacked, of this archive and those in it."""

    parts: int = MOST_PARTS
    unpacked_bytes: int = MOST_UNPACKED_MIB * _MIB

    def take(self, *, parts: int = 0, unpacked_bytes: int = 0) -> None:
        """Use some of it. Raises `ArchiveTooLarge`."""
        self.parts -= parts
        self.unpacked_bytes -= unpacked_bytes
        if self.parts < 0 or self.unpacked_bytes < 0:
            raise too_large()


def too_large() -> ArchiveTooLarge:
    """Return the error that says what an archive may be."""
    return ArchiveTooLarge(limit_parts=MOST_PARTS, limit_mib=MOST_UNPACKED_MIB)


class Archive:
    """An archive whose structure has been judged. Raises refusals, and `BrokenArchive`."""

    def __init__(self, file: BinaryIO, budget: Budget) -> None:
        """Read the directory, and see that the parts are where it says, and that there is nothing else."""
        self._file = file
        self._budget = budget
        size = file.seek(0, os.SEEK_END)
        start, end, count = _directory(file, size)
        budget.take(parts=count)
        self.parts = _parts(_read(file, start, end - start), count)
        _judge_names(self.parts)
        self._starts = _judge_places(file, self.parts, start)

    def unpacked(self, part: Part) -> Iterator[bytes]:
        """Unpack a part, piece by piece, whatever its headers say of its length."""
        crc = written = 0
        for taken, piece in self._inflated(part):
            written += len(piece)
            self._budget.take(unpacked_bytes=len(piece))
            if written > _MIB and written > MOST_RATIO * taken:
                raise too_large()
            crc = zlib.crc32(piece, crc)
            yield piece
        if (crc, written) != (part.crc, part.size_bytes):
            raise BrokenArchive(f"{part.name} is not what the directory says")

    def _inflated(self, part: Part) -> Iterator[tuple[int, bytes]]:
        """Return pieces, each with how many packed bytes have been taken so far."""
        start, taken = self._starts[part.name], 0
        inflating = zlib.decompressobj(-zlib.MAX_WBITS) if part.method == _DEFLATED else None
        while taken < part.packed_bytes:
            packed = _read(self._file, start + taken, min(_STEP_BYTES, part.packed_bytes - taken))
            taken += len(packed)
            if inflating is None:
                yield taken, packed
                continue
            while packed and not inflating.eof:
                try:
                    piece = inflating.decompress(packed, _STEP_BYTES)
                except zlib.error as error:
                    raise BrokenArchive(f"{part.name}: {error}") from error
                packed = inflating.unconsumed_tail
                yield taken - len(packed), piece
        if inflating is not None and (not inflating.eof or inflating.unused_data):
            raise BrokenArchive(f"{part.name} is cut off, or has something after its end")


def _directory(file: BinaryIO, size: int) -> tuple[int, int, int]:
    """Return where the central directory starts and ends, and how many parts it lists."""
    near = _read(file, max(0, size - _NEAR_END_BYTES), min(size, _NEAR_END_BYTES))
    place = near.rfind(b"PK\x05\x06")
    if place < 0 or place + _END.size > len(near):
        raise BrokenArchive("the end of the archive is missing")
    _, disk, first_disk, here, count, length, start, comment = _END.unpack_from(near, place)
    end = size - len(near) + place
    if comment or end + _END.size != size:
        raise TrailingData
    if count >= 0xFFFF or length > _MOST_DIRECTORY_BYTES:
        raise too_large()
    if start + length < end:
        raise TrailingData  # before the first part, where some tools skip it, or between directory and end
    if disk or first_disk or here != count or start + length != end:
        raise BrokenArchive("the directory is not where the end says")
    return start, end, count


def _parts(directory: bytes, count: int) -> list[Part]:
    parts, place = list[Part](), 0
    for _ in range(count):
        if place + _ENTRY.size > len(directory):
            raise BrokenArchive("the directory is cut off")
        entry = _ENTRY.unpack_from(directory, place)
        signature, _, system, _, _, flags, method, _, _, crc, packed, size = entry[:12]
        name_length, extra, comment, disk, _, attributes, start = entry[12:]
        raw = directory[place + _ENTRY.size : place + _ENTRY.size + name_length]
        place += _ENTRY.size + name_length + extra + comment
        if signature != b"PK\x01\x02" or disk or place > len(directory):
            raise BrokenArchive("the directory is damaged")
        if flags & (_ENCRYPTED | _STRONG | _MASKED):
            raise EncryptedFile
        name = _name(raw, flags)
        if system == 3 and stat.S_ISLNK(attributes >> 16):
            raise UnsafePath(path=name[:200])
        if method not in {_STORED, _DEFLATED}:
            raise BrokenArchive(f"{name} is packed by method {method}")
        parts.append(
            Part(name=name, method=method, flags=flags, crc=crc, packed_bytes=packed, size_bytes=size, start=start)
        )
    if place != len(directory):
        raise TrailingData
    return parts


def _name(raw: bytes, flags: int) -> str:
    try:
        name = raw.decode("utf-8" if flags & _UTF8 else "cp437")
    except UnicodeDecodeError as error:
        raise BrokenArchive("a name is not what it is said to be") from error
    pieces = name.removesuffix("/").split("/")
    unsafe = "\\" in name or ":" in pieces[0] or any(ord(letter) < 32 for letter in name)
    if unsafe or any(piece in {"", ".", ".."} for piece in pieces):
        raise UnsafePath(path=name[:200].replace("\x00", "\N{REPLACEMENT CHARACTER}"))
    return name


def _judge_names(parts: Sequence[Part]) -> None:
    seen = {part.name.lower() for part in parts}
    if len(seen) != len(parts):
        raise BrokenArchive("two parts have one name")


def _judge_places(file: BinaryIO, parts: Sequence[Part], directory: int) -> dict[str, int]:
    """Return where each part's data starts; the parts' own headers have to agree, and nothing to lie between them."""
    starts, place = dict[str, int](), 0
    described = False
    for part in sorted(parts, key=lambda part: part.start):
        _judge_gap(part.start - place, described=described)
        header = _read(file, part.start, _LOCAL.size)
        signature, _, flags, method, _, _, crc, packed, size, name_length, extra = _LOCAL.unpack(header)
        raw = _read(file, part.start + _LOCAL.size, name_length)
        described = bool(flags & _DESCRIBED)
        same = (flags & _COMPARED, method) == (part.flags & _COMPARED, part.method) and _name(raw, flags) == part.name
        told = (crc, packed, size) == (part.crc, part.packed_bytes, part.size_bytes)
        if signature != b"PK\x03\x04" or not same or not (told or described or packed == size == _LONG):
            raise BrokenArchive(f"{part.name} is described in two ways")
        starts[part.name] = part.start + _LOCAL.size + name_length + extra
        place = starts[part.name] + part.packed_bytes
    _judge_gap(directory - place, described=described)
    return starts


def _judge_gap(gap: int, *, described: bool) -> None:
    """Judge what lies between the end of a part and the next one, or the directory: a description, or nothing."""
    if gap < 0:
        raise BrokenArchive("parts overlap")
    if gap not in (_DESCRIPTOR_BYTES if described else (0,)):
        raise TrailingData


def _read(file: BinaryIO, start: int, length: int) -> bytes:
    file.seek(start)
    data = file.read(length)
    if len(data) != length:
        raise BrokenArchive("the archive is cut off")
    return data
