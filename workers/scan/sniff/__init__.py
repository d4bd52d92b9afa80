"""Tells what a file is by what is in it: its first bytes, and of an Office document its table of contents.

A file's name plays no part. What is none of the types that are taken has a name here too, so that its owner can be
told what it is.
"""

import re
from pathlib import Path
from typing import Final

from workers.scan.sniff import ebml, isobmff, zips

_HEAD_BYTES: Final = 4096
#: More than one can tell: it is no text, and no kind of data that has a name here.
UNKNOWN: Final = "application/octet-stream"
TEXT: Final = "text/plain"
UTF_16: Final = "text/plain; charset=utf-16"
OLE: Final = "application/x-ole-storage"

#: What a file of a type begins with.
_BEGINNINGS: Final = (
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"GIF87a", "image/gif"),
    (b"GIF89a", "image/gif"),
    (b"%PDF-", "application/pdf"),
    (b"fLaC", "audio/flac"),
    (b"ffconcat version", "text/x-ffconcat"),
    (b"#EXTM3U", "application/vnd.apple.mpegurl"),
    (b"v=0\r\no=", "application/sdp"),
    (b"v=0\no=", "application/sdp"),
    (b"#!/", "text/x-shellscript"),
    (b"#! /", "text/x-shellscript"),
    (b"PK\x05\x06", "application/zip"),
    (b"PK\x07\x08", "application/zip"),
    (b"\x1f\x8b", "application/gzip"),
    (b"BZh", "application/x-bzip2"),
    (b"\xfd7zXZ\0", "application/x-xz"),
    (b"\x28\xb5\x2f\xfd", "application/zstd"),
    (b"7z\xbc\xaf\x27\x1c", "application/x-7z-compressed"),
    (b"Rar!\x1a\x07", "application/vnd.rar"),
    (b"\x7fELF", "application/x-elf"),
    (b"\xfe\xed\xfa\xce", "application/x-mach-binary"),
    (b"\xfe\xed\xfa\xcf", "application/x-mach-binary"),
    (b"\xce\xfa\xed\xfe", "application/x-mach-binary"),
    (b"\xcf\xfa\xed\xfe", "application/x-mach-binary"),
    (b"\xca\xfe\xba\xbe", "application/x-mach-binary"),
    (b"\0asm", "application/wasm"),
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", OLE),
    (b"{\\rtf", "application/rtf"),
    (b"%!PS", "application/postscript"),
    (b"II*\0", "image/tiff"),
    (b"MM\0*", "image/tiff"),
    (b"8BPS", "image/vnd.adobe.photoshop"),
    (b"\0\0\1\0", "image/vnd.microsoft.icon"),
    (b"\xff\x0a", "image/jxl"),
    (b"\0\0\0\x0cJXL \r\n\x87\n", "image/jxl"),
    (b"\0\0\0\x0cjP  \r\n\x87\n", "image/jp2"),
    (b"SQLite format 3\0", "application/vnd.sqlite3"),
    (b"FLV\1", "video/x-flv"),
    (b"\x30\x26\xb2\x75\x8e\x66\xcf\x11", "video/x-ms-asf"),
)
#: Those that are texts themselves. The others have bytes in them, soon, that no text has.
_WRITTEN: Final = {
    *("application/pdf", "text/x-ffconcat", "application/vnd.apple.mpegurl", "application/sdp"),
    *("text/x-shellscript", "application/rtf", "application/postscript"),
}
#: Control characters that no text has.
CONTROL: Final = re.compile(rb"[\x00-\x08\x0b\x0e-\x1f\x7f]")
_RIFF: Final = {b"WEBP": "image/webp", b"WAVE": "audio/wav", b"AVI ": "video/x-msvideo"}
_OGG_SOUND: Final = (b"\1vorbis", b"OpusHead", b"\x7fFLAC", b"Speex")
#: How texts begin that browsers and players would act on, by the first tag (in lower case) that is no declaration.
_TAGS: Final = (
    (b"<svg", "image/svg+xml"),
    (b"<mpd", "application/dash+xml"),
    (b"<!doctype svg", "image/svg+xml"),
    (b"<!doctype html", "text/html"),
    (b"<html", "text/html"),
    (b"<head", "text/html"),
    (b"<body", "text/html"),
    (b"<script", "text/html"),
    (b"<iframe", "text/html"),
)
#: What ends the name of a tag; prefixes of names end in a colon.
_TAG_ENDS: Final = b" \t\r\n\f/>:"
_BYTE_ORDER_MARK: Final = b"\xef\xbb\xbf"


def sniff(path: Path) -> str:
    """Return the media type of the file at `path`; raises `ArchiveTooLarge` for an archive nobody should open."""
    with path.open("rb") as file:
        head = file.read(_HEAD_BYTES)
        if head.startswith(b"PK\3\4"):
            return zips.kind(file)
        if head.startswith(b"ID3") and len(head) >= 10 and not _reads_as_text(head):
            file.seek(_tag_bytes(head))
            inner = of_head(file.read(_HEAD_BYTES))
            return "audio/mpeg" if inner in {UNKNOWN, TEXT} else inner
        return of_head(head)


def of_head(head: bytes) -> str:
    """Return the media type of what begins with `head`."""
    is_text = _reads_as_text(head)
    for beginning, media_type in _BEGINNINGS:
        if is_text and media_type not in _WRITTEN:
            continue
        if head.removeprefix(_BYTE_ORDER_MARK if beginning.isascii() else b"").startswith(beginning):
            return media_type
    if is_text:
        return _of_text(head)
    binary = b"\0" in head
    if binary and head.startswith(b"MZ"):
        return "application/vnd.microsoft.portable-executable"
    if head.startswith(b"BM") and head[6:10] == bytes(4):
        return "image/bmp"
    if head.startswith(b"RIFF"):
        return _RIFF.get(head[8:12], UNKNOWN)
    if head.startswith(b"OggS"):
        return _of_ogg(head)
    if head.startswith(ebml.MAGIC):
        return ebml.kind(head)
    return (isobmff.kind(head) if binary else None) or _of_sound(head) or _of_text(head)


def _tag_bytes(head: bytes) -> int:
    """Return how long the ID3 tag is that an MP3 begins with (ID3 2.4, section 3.1: 7 bits a byte)."""
    footer = 10 if head[5] & 0x10 else 0
    return 10 + footer + sum((byte & 0x7F) << shift for byte, shift in zip(head[6:10], (21, 14, 7, 0), strict=True))


def _of_ogg(head: bytes) -> str:
    """Tell sound from pictures by the first packet (RFC 3533, section 6)."""
    packet = head[27 + (head[26] if len(head) > 26 else 0) :]
    return "audio/ogg" if packet.startswith(_OGG_SOUND) else "application/ogg"


def _of_sound(head: bytes) -> str | None:
    """Know a frame of MPEG audio by its first four bytes, if every field of them has a meaning."""
    if len(head) < 4 or head[0] != 0xFF or head[1] & 0xE0 != 0xE0:
        return None
    version, layer = head[1] >> 3 & 3, head[1] >> 1 & 3
    if layer == 0:
        return "audio/aac" if head[1] & 0xF6 == 0xF0 else None
    known = version != 1 and layer == 1 and head[2] >> 4 not in {0, 15} and head[2] >> 2 & 3 != 3
    return "audio/mpeg" if known else None


def _reads_as_text(head: bytes) -> bool:
    """Whether it is UTF-8, of which the last character may be cut off, without control characters."""
    return CONTROL.search(head) is None and _is_utf_8(head)


def _is_utf_8(head: bytes) -> bool:
    try:
        head.decode()
    except UnicodeDecodeError as error:
        return len(head) >= _HEAD_BYTES and error.start >= len(head) - 3
    return True


def _of_text(head: bytes) -> str:
    if head.startswith((b"\xff\xfe", b"\xfe\xff")):
        return UTF_16
    if b"\0" in head or not _is_utf_8(head):
        return UNKNOWN
    tag = _first_tag(head.removeprefix(_BYTE_ORDER_MARK))
    return next((media_type for start, media_type in _TAGS if _begins_with_tag(tag, start)), TEXT)


def _begins_with_tag(text: bytes, start: bytes) -> bool:
    after = text[len(start) : len(start) + 1]
    return text.startswith(start) and (not after or after in _TAG_ENDS)


def _first_tag(text: bytes) -> bytes:
    """Return the text, in lower case, from its first tag on that is neither a declaration nor a comment of XML."""
    rest = text.lower().lstrip()
    while rest.startswith((b"<?", b"<!--")):
        _, _, rest = rest.partition(b"?>" if rest.startswith(b"<?") else b"-->")
        rest = rest.lstrip()
    return rest
