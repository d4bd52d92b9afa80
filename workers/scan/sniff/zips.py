"""Tells an Office document from any other archive by a light look at its table of contents: nothing is unpacked but
the one part, a short one, that says what the document's main part is (ECMA-376, part 2).
"""

import zlib
from typing import IO, Final

from workers.scan import limits
from workers.scan.refusals import ArchiveTooLarge

ZIP: Final = "application/zip"
_OFFICE: Final = "application/vnd.openxmlformats-officedocument"
#: What the main part is called in the list of parts -> what the document is.
_MAIN_PARTS: Final = (
    (b"wordprocessingml.document.main+xml", f"{_OFFICE}.wordprocessingml.document"),
    (b"presentationml.presentation.main+xml", f"{_OFFICE}.presentationml.presentation"),
    (b"spreadsheetml.sheet.main+xml", f"{_OFFICE}.spreadsheetml.sheet"),
    (b"ms-word.document.macroenabled.main+xml", "application/vnd.ms-word.document.macroenabled.12"),
    (b"ms-powerpoint.presentation.macroenabled.main+xml", "application/vnd.ms-powerpoint.presentation.macroenabled.12"),
    (b"ms-excel.sheet.macroenabled.main+xml", "application/vnd.ms-excel.sheet.macroenabled.12"),
)
_LIST: Final = b"[Content_Types].xml"
_LIST_MOST_BYTES: Final = 1024**2
_ENTRY, _LOCAL, _END = b"PK\1\2", b"PK\3\4", b"PK\5\6"
_END_BYTES: Final = 22
_COMMENT_MOST_BYTES: Final = 65_535
_STORED, _DEFLATED = 0, 8
# Of one entry in the table of contents: its fixed part, and more of a name and notes than any writer of Office makes.
_ENTRY_BYTES: Final = 46
_TABLE_MOST_BYTES: Final = limits.MOST_PARTS * 512


def kind(file: IO[bytes]) -> str:
    """Return the media type of an archive; raises `ArchiveTooLarge` where its table of contents is beyond measure."""
    parts = _parts(file)
    if parts is None:
        return ZIP
    lowered = parts.lower()
    return next((media_type for name, media_type in _MAIN_PARTS if name in lowered), ZIP)


def _parts(file: IO[bytes]) -> bytes | None:
    """Return the list of parts, unpacked, if there is one."""
    size = file.seek(0, 2)
    start = max(0, size - _END_BYTES - _COMMENT_MOST_BYTES)
    file.seek(start)
    tail = file.read()
    at = tail.rfind(_END)
    if at < 0 or len(tail) - at < _END_BYTES:
        return None
    entries, length, offset = _numbers(tail, at + 10, 2, 4, 4)
    if entries > limits.MOST_PARTS or length > _TABLE_MOST_BYTES:
        raise ArchiveTooLarge(limit_parts=limits.MOST_PARTS, limit_mib=limits.MOST_UNPACKED_MIB)
    file.seek(offset)
    return _listed(file, file.read(length))


def _listed(file: IO[bytes], table: bytes) -> bytes | None:
    at = 0
    while table[at : at + 4] == _ENTRY and len(table) - at >= _ENTRY_BYTES:
        method, packed = _numbers(table, at + 10, 2) + _numbers(table, at + 20, 4)
        name, extra, comment = _numbers(table, at + 28, 2, 2, 2)
        if table[at + _ENTRY_BYTES : at + _ENTRY_BYTES + name] == _LIST:
            (place,) = _numbers(table, at + 42, 4)
            return _unpacked(file, place, method, packed)
        at += _ENTRY_BYTES + name + extra + comment
    return None


def _unpacked(file: IO[bytes], place: int, method: int, packed: int) -> bytes | None:
    file.seek(place)
    local = file.read(30)
    if len(local) < 30 or not local.startswith(_LOCAL):
        return None
    file.seek(sum(_numbers(local, 26, 2, 2)), 1)
    content = file.read(min(packed, _LIST_MOST_BYTES))
    if method == _STORED:
        return content
    if method != _DEFLATED:
        return None
    try:
        return zlib.decompressobj(-zlib.MAX_WBITS).decompress(content, _LIST_MOST_BYTES)
    except zlib.error:
        return None


def _numbers(data: bytes, at: int, *lengths: int) -> tuple[int, ...]:
    numbers: list[int] = []
    for length in lengths:
        numbers.append(int.from_bytes(data[at : at + length], "little"))
        at += length
    return tuple(numbers)
