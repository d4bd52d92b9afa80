"""Hostile files, made when they are asked for: pictures, texts, and what lies about its type. None is kept on disk."""

import gzip
import hashlib
import io
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

from msgspec import Struct
from PIL import Image

from tests.support import pictured
from tests.support.pictured import chunk, encoded, photo, png
from workers.scan.findings import Asked
from workers.scan.refusals import (
    ArchiveTooLarge,
    EncryptedFile,
    FileRefused,
    HashMismatch,
    MalformedLine,
    SizeMismatch,
    TooComplex,
    TooManyFrames,
    TooManyPixels,
    TypeMismatch,
    UnreadableFile,
    UnreadableText,
)

MIB = 1024**2
DOCX = "application/vnd.openxmlformats-officedocument.wordprocessingml.document"
XLSX = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"


class Hostile(Struct, frozen=True, kw_only=True):
    """A file that has to be refused: what it is declared to be, and why it is refused."""

    name: str
    make: Callable[[], bytes]
    media_type: str
    refusal: type[FileRefused]
    #: What is declared instead of the truth.
    size_bytes: int | None = None
    sha256: str | None = None

    def asked(self, folder: Path) -> Asked:
        """Write it into a folder, and return what is asked of an examination of it."""
        data = self.make()
        return asked(folder, data, self.media_type, size_bytes=self.size_bytes, sha256=self.sha256)


def asked(
    folder: Path,
    data: bytes,
    media_type: str,
    *,
    size_bytes: int | None = None,
    sha256: str | None = None,
    purpose: str = "attachment",
) -> Asked:
    """Write a file into `folder`, an empty folder beside it, and return what is asked of an examination of it."""
    path, made = folder / "upload", folder / "made"
    path.write_bytes(data)
    made.mkdir(exist_ok=True)
    return Asked(
        path=path,
        folder=made,
        media_type=media_type,
        size_bytes=len(data) if size_bytes is None else size_bytes,
        sha256=sha256 or hashlib.sha256(data).hexdigest(),
        purpose=purpose,
    )


def eicar() -> bytes:
    """Return the test virus of the EICAR institute, which is none; nowhere in the repository is it as a whole."""
    return b"X5O!P%@AP[4" + rb"\PZX54(P^)7CC)7}$" + b"EICAR" + b"-STANDARD-" + b"ANTIVIRUS" + b"-TEST-FILE!" + b"$H+H*"


def archive(parts: dict[str, bytes]) -> bytes:
    """Return a ZIP archive."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as packed:
        for name, content in parts.items():
            packed.writestr(name, content)
    return file.getvalue()


def office(main: str = "application/vnd.openxmlformats-officedocument.wordprocessingml.document.main+xml") -> bytes:
    """Return an archive whose list of parts says that its main part is of this type."""
    listed = f'<?xml version="1.0"?><Types><Override PartName="/word/document.xml" ContentType="{main}"/></Types>'
    return archive({"[Content_Types].xml": listed.encode(), "word/document.xml": b"<w:document/>"})


def box(name: bytes, content: bytes = b"") -> bytes:
    """Return a box of an MP4."""
    return struct.pack(">I", 8 + len(content)) + name + content


def branded(main: bytes, *others: bytes) -> bytes:
    """Return a file made of boxes, of these brands."""
    return box(b"ftyp", main + bytes(4) + b"".join(others)) + box(b"mdat", bytes(64))


def ole(*streams: str) -> bytes:
    """Return an old Office file in which there are streams of these names."""
    head = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(504)
    return head + b"".join(name.encode("utf-16-le").ljust(128, b"\0") for name in streams)


SVG = b'<?xml version="1.0"?>\n<!-- a -->\n<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>'
HTML = b"\xef\xbb\xbf  <!DOCTYPE html><html><script>alert(1)</script></html>"
M3U8 = b"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nsecret.ts\n#EXT-X-ENDLIST\n"
FFCONCAT = b"ffconcat version 1.0\nfile secret.ts\n"
MPD = b'<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011"><BaseURL>http://127.0.0.1/</BaseURL></MPD>'
SDP = b"v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=x\r\nc=IN IP4 127.0.0.1\r\nm=video 5004 RTP/AVP 96\r\n"


def _webp_lies() -> bytes:
    bits = (16_383 - 1) | (16_383 - 1) << 14
    return pictured.webp((b"VP8L", b"\x2f" + struct.pack("<I", bits) + bytes(8)))


def _webp_moves() -> bytes:
    place = bytes(6) + (4999).to_bytes(3, "little") * 2 + (100).to_bytes(3, "little") + b"\0"
    bits = 4999 | 4999 << 14
    frame = place + b"VP8L" + struct.pack("<I", 10) + b"\x2f" + struct.pack("<I", bits) + bytes(5)
    canvas = pictured.webp_canvas(5000, 5000, flags=0x02)
    return pictured.webp(canvas, (b"ANIM", bytes(6)), *[(b"ANMF", frame)] * 2000)


def _avif_lies() -> bytes:
    data = encoded(Image.new("RGB", (64, 64)), "AVIF", speed=10)
    at = data.index(b"ispe") + 8
    return data[:at] + struct.pack(">II", 16_000, 16_000) + data[at + 8 :]


def _timeless_avif() -> bytes:
    data = pictured.moving("AVIF", [Image.new("RGB", (64, 64), colour) for colour in ("red", "blue")], speed=10)
    at = data.index(b"mdhd")
    clock = at + (24 if data[at + 4] else 16)
    return data[:clock] + bytes(4) + data[clock + 4 :]


def _jpeg_lies() -> bytes:
    data = encoded(Image.new("RGB", (64, 64)), "JPEG")
    at = data.index(b"\xff\xc0") + 5
    return data[:at] + struct.pack(">HH", 65_500, 65_500) + data[at + 4 :]


def _profile_bomb() -> bytes:
    profile = b"bomb\0\0" + zlib.compress(bytes(200 * MIB), 9)
    return png(8, 8, chunk(b"iCCP", profile))


def _changed_png() -> bytes:
    data = bytearray(encoded(photo(), "PNG"))
    data[len(data) // 2] ^= 1
    return bytes(data)


def _changed_palette() -> bytes:
    data = bytearray(encoded(photo().quantize(16), "PNG"))
    data[data.index(b"PLTE") + 6] ^= 1
    return bytes(data)


def _crowded_archive() -> bytes:
    return office()[:-12] + struct.pack("<HIIH", 65_535, 100 * MIB, 0, 0)[-12:]


def parts_list_bomb() -> bytes:
    """Return an archive whose list of parts is short only while it is packed."""
    return archive({"[Content_Types].xml": bytes(300 * MIB), "word/document.xml": b""})


def _hostile() -> Iterator[Hostile]:
    def of(name: str, media_type: str, refusal: type[FileRefused], make: Callable[[], bytes]) -> Hostile:
        return Hostile(name=name, make=make, media_type=media_type, refusal=refusal)

    yield of("png of 144 megapixels", "image/png", TooManyPixels, lambda: png(12_000, 12_000))
    yield of("png that claims 4 gigapixels", "image/png", TooManyPixels, lambda: png(65_535, 65_535, pixels=b""))
    yield of("webp that claims 268 megapixels", "image/webp", TooManyPixels, _webp_lies)
    yield of("jpeg that claims 4 gigapixels", "image/jpeg", TooManyPixels, _jpeg_lies)
    yield of("avif that claims 256 megapixels", "image/avif", TooManyPixels, _avif_lies)
    yield of("gif of 20,000 large frames", "image/gif", TooManyFrames, lambda: pictured.gif(5000, 5000, 20_000))
    yield of("gif of 1,001 small frames", "image/gif", TooManyFrames, lambda: pictured.gif(1, 1, 1001))
    yield of(
        "gif with a frame larger than itself",
        "image/gif",
        TooManyPixels,
        lambda: pictured.gif(9, 9, 1, (65_535, 65_535)),
    )
    yield of(
        "gif of one pixel with frames of 36 megapixels",
        "image/gif",
        TooManyFrames,
        lambda: pictured.crowded_gif(40, 6000),
    )
    yield of(
        "gif of one pixel with frames far outside",
        "image/gif",
        TooManyPixels,
        lambda: (
            pictured.gif(1, 1, 2)[:-1] + b"," + struct.pack("<HHHHB", 60_000, 60_000, 1, 1, 0) + b"\x02\x02\x44\x01\0;"
        ),
    )
    yield of(
        "png of 2,000 frames that claims one",
        "image/png",
        TooManyFrames,
        lambda: pictured.moving_png(3000, 3000, 2000, claimed=1),
    )
    yield of(
        "png of 900 frames with a profile of 40 MiB",
        "image/png",
        TooComplex,
        lambda: pictured.profiled_png(900, 40 * MIB),
    )
    yield of("webp of 2,000 frames", "image/webp", TooManyFrames, _webp_moves)
    yield of("jpeg of 5,000 scans", "image/jpeg", TooComplex, lambda: pictured.scans(2000, 2000, 5000))
    yield of("png with a profile of 200 MiB", "image/png", UnreadableFile, _profile_bomb)
    yield of("moving avif without a clock", "image/avif", UnreadableFile, _timeless_avif)
    yield of("png that was changed", "image/png", UnreadableFile, _changed_png)
    yield of("png with a palette that was changed", "image/png", UnreadableFile, _changed_palette)
    yield of("png without pixels", "image/png", UnreadableFile, lambda: png(8, 8, pixels=b""))
    yield of("gif without a picture", "image/gif", UnreadableFile, lambda: pictured.gif(8, 8, 0))
    yield of("gif of no width", "image/gif", UnreadableFile, lambda: pictured.gif(0, 8, 1))
    for kind in ("PNG", "JPEG", "WEBP", "GIF", "AVIF"):
        yield of(
            f"{kind.lower()} that is cut off",
            f"image/{kind.lower()}",
            UnreadableFile,
            lambda kind=kind: pictured.cut(encoded(photo(), kind)),
        )

    for name, media_type, data in (
        ("svg as png", "image/png", SVG),
        ("svg as text", "text/plain", SVG),
        ("html as jpeg", "image/jpeg", HTML),
        ("html as text", "text/markdown", HTML),
        ("m3u8 as mp4", "video/mp4", M3U8),
        ("m3u8 as text", "text/plain", M3U8),
        ("ffconcat as mp4", "video/mp4", FFCONCAT),
        ("mpd as mp4", "video/mp4", MPD),
        ("sdp as mp4", "video/mp4", SDP),
        ("shell script as text", "text/plain", b"#!/bin/sh\nrm -rf /\n"),
        ("program of Linux as png", "image/png", b"\x7fELF\2\1\1" + bytes(64)),
        ("program of Windows as text", "text/plain", b"MZ\x90\0" + bytes(64)),
        ("program of macOS as mp4", "video/mp4", b"\xcf\xfa\xed\xfe" + bytes(64)),
        ("heic as avif", "image/avif", branded(b"heic", b"mif1", b"heic")),
        ("mp4 as avif", "image/avif", branded(b"isom", b"iso2", b"mp41")),
        ("matroska as webm", "video/webm", b"\x1a\x45\xdf\xa3\x8b\x42\x82\x88matroska" + bytes(64)),
        ("tiff as jpeg", "image/jpeg", b"II*\0\x08\0\0\0" + bytes(64)),
        ("photoshop as png", "image/png", b"8BPS\0\1" + bytes(64)),
        ("old Office as docx", DOCX, ole("WordDocument")),
        ("tar as text", "text/plain", gzip.compress(b"x" * 1000)),
    ):
        yield of(name, media_type, TypeMismatch, lambda data=data: data)
    yield of("png as jpeg", "image/jpeg", TypeMismatch, lambda: encoded(photo(), "PNG"))
    yield of("zip as docx", DOCX, TypeMismatch, lambda: archive({"a.txt": b"a"}))
    yield of("docx as xlsx", XLSX, TypeMismatch, office)
    yield of(
        "docx with macros",
        DOCX,
        TypeMismatch,
        lambda: office("application/vnd.ms-word.document.macroEnabled.main+xml"),
    )
    yield of("encrypted docx", DOCX, EncryptedFile, lambda: ole("Root Entry", "EncryptionInfo", "EncryptedPackage"))
    yield of("docx of 65,535 parts", DOCX, ArchiveTooLarge, _crowded_archive)
    yield of("docx with a list of 300 MiB", DOCX, TypeMismatch, parts_list_bomb)

    yield of("text in UTF-16", "text/plain", UnreadableText, lambda: "سلام".encode("utf-16"))
    yield of("text in Windows-1256", "text/csv", UnreadableText, lambda: "سلام".encode("cp1256"))
    yield of("text with NUL", "text/plain", UnreadableText, lambda: b"a" * 10_000 + b"\0")
    yield of("text with orders to the terminal", "text/plain", UnreadableText, lambda: b"a\x1b]0;x\x07")
    yield of("text that is cut off", "text/plain", UnreadableText, lambda: "سلام".encode()[:-1])
    yield of("json that is none", "application/json", UnreadableFile, lambda: b'{"a": 1,}')
    yield of("json in a million brackets", "application/json", UnreadableFile, lambda: b"[" * MIB + b"]" * MIB)
    yield of("json of 17 MiB", "application/json", TooComplex, lambda: b'"' + b"a" * 17 * MIB + b'"')
    yield of("jsonl with a list in it", "application/jsonl", MalformedLine, lambda: b'{"a":1}\n[1]\n')
    yield of("jsonl with a line of 17 MiB", "application/jsonl", TooComplex, lambda: b'{"a":"' + b"a" * 17 * MIB)
    yield of(
        "jsonl of brackets",
        "application/jsonl",
        MalformedLine,
        lambda: b'{"a":1}\n\r\n{"a":' + b"[" * MIB + b"]" * MIB + b"}",
    )
    yield Hostile(
        name="shorter than declared",
        make=lambda: b"abc",
        media_type="text/plain",
        refusal=SizeMismatch,
        size_bytes=4,
    )
    yield Hostile(
        name="another than declared",
        make=lambda: b"abc",
        media_type="text/plain",
        refusal=HashMismatch,
        sha256=hashlib.sha256(b"abd").hexdigest(),
    )


HOSTILE = {each.name: each for each in _hostile()}
