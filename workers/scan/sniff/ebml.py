"""Tells WebM from Matroska, which begin alike, by the document type in their head (RFC 8794, section 11.2)."""

from typing import Final

MAGIC: Final = b"\x1a\x45\xdf\xa3"
_DOCUMENT_TYPE: Final = 0x4282
_KINDS: Final = {b"webm": "video/webm", b"matroska": "video/x-matroska"}


def kind(head: bytes) -> str:
    """Return the media type of a file that begins with `head`."""
    unknown = "application/x-ebml"
    at, length = _number(head, len(MAGIC), marked=False)
    end = min(at + length, len(head))
    while 0 < at < end:
        at, name = _number(head, at, marked=True)
        at, length = _number(head, at, marked=False)
        if name == _DOCUMENT_TYPE:
            return _KINDS.get(head[at : at + length].rstrip(b"\0"), unknown)
        at += length
    return unknown


def _number(head: bytes, at: int, *, marked: bool) -> tuple[int, int]:
    """Read a number of one to eight bytes, with or without the bit that tells its length; return where it ends too.

    Where there is none, the place returned is one beyond the end.
    """
    if at >= len(head) or not head[at]:
        return len(head) + 1, 0
    length = 9 - head[at].bit_length()
    value = int.from_bytes(head[at : at + length], "big")
    return at + length, value if marked else value & (1 << 7 * length) - 1
