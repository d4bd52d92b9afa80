"""A file is what its content says, whatever it is called."""

import io
import struct
import wave
from pathlib import Path

import pytest

from tests.support import corpus, pictured
from tests.support.corpus import archive, asked, box, branded, office
from tests.support.pictured import encoded, photo
from workers.media import ENDINGS, OFFICE, TEXTS
from workers.scan import examine, sniff
from workers.scan.refusals import ArchiveTooLarge, TypeMismatch

MP3_FRAME = b"\xff\xfb\x90\x64" + bytes(400)
OFFICE_MAIN = {
    media_type: f"application/vnd.openxmlformats-officedocument.{main}.main+xml"
    for media_type, main in zip(
        OFFICE, ("wordprocessingml.document", "presentationml.presentation", "spreadsheetml.sheet"), strict=True
    )
}


def _wav() -> bytes:
    file = io.BytesIO()
    with wave.open(file, "wb") as sound:
        sound.setparams((1, 2, 8000, 0, "NONE", ""))
        sound.writeframes(bytes(100))
    return file.getvalue()


def _ogg(packet: bytes) -> bytes:
    return b"OggS\0\2" + bytes(20) + b"\1" + bytes([len(packet)]) + packet


def _ebml(kind: bytes) -> bytes:
    head = b"\x42\x86\x81\1\x42\xf7\x81\1\x42\x82" + bytes([0x80 | len(kind)]) + kind
    return b"\x1a\x45\xdf\xa3" + (0x0100_0000_0000_0000 | len(head)).to_bytes(8, "big") + head + bytes(64)


def _tagged(content: bytes, tag_bytes: int = 5000) -> bytes:
    size = bytes(tag_bytes >> shift & 0x7F for shift in (21, 14, 7, 0))
    return b"ID3\4\0\0" + size + b"TIT2".ljust(tag_bytes, b"\0") + content


TAKEN = {
    "image/png": encoded(photo(), "PNG"),
    "image/jpeg": encoded(photo(), "JPEG"),
    "image/webp": encoded(photo(), "WEBP"),
    "image/gif": encoded(photo(), "GIF"),
    "image/avif": encoded(photo(), "AVIF", speed=10),
    "video/mp4": branded(b"isom", b"iso2", b"avc1", b"mp41"),
    "video/quicktime": branded(b"qt  ", b"qt  "),
    "video/webm": _ebml(b"webm"),
    "audio/mpeg": MP3_FRAME,
    "audio/mp4": branded(b"M4A ", b"M4A ", b"mp42", b"isom"),
    "audio/wav": _wav(),
    "audio/ogg": _ogg(b"OpusHead\1\2"),
    "application/pdf": b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n",
    **{media_type: office(main) for media_type, main in OFFICE_MAIN.items()},
    "text/plain": "السلام عليكم\n".encode(),
}


def kind_of(folder: Path, data: bytes) -> str:
    """Return what a file is, under a name that says something else."""
    path = folder / "holiday.png"
    path.write_bytes(data)
    return sniff.sniff(path)


def test_every_type_that_is_taken_has_an_example_here() -> None:
    assert {*TAKEN} == {*ENDINGS} - {*TEXTS} | {"text/plain"}


@pytest.mark.parametrize(("media_type", "data"), TAKEN.items(), ids=TAKEN)
def test_what_is_taken_is_known_by_its_content(media_type: str, data: bytes, tmp_path: Path) -> None:
    assert kind_of(tmp_path, data) == media_type


@pytest.mark.parametrize("declared", ENDINGS)
@pytest.mark.parametrize(("media_type", "data"), TAKEN.items(), ids=TAKEN)
def test_what_is_declared_has_to_be_so(media_type: str, data: bytes, declared: str, tmp_path: Path) -> None:
    given = asked(tmp_path, data, declared)
    alike = declared == media_type or (media_type == "text/plain" and declared in TEXTS)
    if alike or (media_type, declared) == ("video/mp4", "audio/mp4"):  # its tracks will tell
        examine.check_type(given)
        return
    with pytest.raises(TypeMismatch) as refused:
        examine.check_type(given)
    assert refused.value.facts == {"declared": declared, "found": media_type}


@pytest.mark.parametrize(
    ("media_type", "data"),
    [
        ("image/avif", branded(b"avis", b"msf1")),
        ("image/avif", branded(b"mif1", b"miaf", b"avif")),
        ("image/heic", branded(b"mif1", b"heic")),
        ("image/heif", branded(b"mif1", b"miaf")),
        ("video/mp4", branded(b"mp42")),
        ("video/mp4", branded(b"3gp5", b"isom")),
        ("application/mp4", branded(b"3gp5", b"3gp4")),
        ("video/quicktime", box(b"wide") + box(b"mdat", bytes(64))),
        ("video/quicktime", box(b"moov", box(b"mvhd", bytes(100)))),
        ("video/x-matroska", _ebml(b"matroska")),
        ("application/x-ebml", _ebml(b"poem")),
        ("application/x-ebml", b"\x1a\x45\xdf\xa3" + bytes(64)),
        ("application/x-ebml", b"\x1a\x45\xdf\xa3\xff"),
        ("audio/mpeg", _tagged(MP3_FRAME)),
        ("audio/mpeg", _tagged(bytes(10) + MP3_FRAME)),
        ("audio/mpeg", b"\xff\xf3\x40\xc4" + bytes(64)),
        ("audio/flac", _tagged(b"fLaC\0\0\0\x22")),
        ("application/x-elf", _tagged(b"\x7fELF\2\1\1\0")),
        ("audio/aac", b"\xff\xf1\x50\x80" + bytes(64)),
        ("audio/ogg", _ogg(b"\1vorbis")),
        ("application/ogg", _ogg(b"\x80theora")),
        ("video/x-msvideo", b"RIFF\0\0\0\0AVI LIST"),
        ("application/zip", archive({"a.txt": b"a"})),
        ("application/zip", b"PK\3\4" + bytes(64)),
        ("application/zip", b"PK\5\6" + bytes(18)),
        (
            "application/vnd.ms-excel.sheet.macroenabled.12",
            office("application/vnd.ms-excel.sheet.macroEnabled.main+xml"),
        ),
        ("application/gzip", b"\x1f\x8b\x08" + bytes(16)),
        ("application/x-7z-compressed", b"7z\xbc\xaf\x27\x1c" + bytes(16)),
        ("application/vnd.rar", b"Rar!\x1a\x07\1\0"),
        ("application/x-elf", b"\x7fELF\2\1\1" + bytes(16)),
        ("application/vnd.microsoft.portable-executable", b"MZ\x90\0\3" + bytes(64)),
        ("application/x-mach-binary", b"\xca\xfe\xba\xbe" + bytes(16)),
        ("application/x-ole-storage", corpus.ole("WordDocument")),
        ("image/svg+xml", corpus.SVG),
        ("image/svg+xml", b"\xef\xbb\xbf\n<SVG>"),
        ("text/html", corpus.HTML),
        ("text/html", b"<!-- x --><script>1</script>"),
        ("text/html", b"<script/src=a></script>"),
        ("text/html", b"<head\n>"),
        ("text/html", b"<body"),
        ("text/html", b"<!DOCTYPE html>"),
        ("image/svg+xml", b"<svg/onload=alert(1)>"),
        ("application/x-bzip2", b"BZh91AY&SY\x8e\0"),
        ("application/vnd.apple.mpegurl", corpus.M3U8),
        ("application/vnd.apple.mpegurl", b"\xef\xbb\xbf" + corpus.M3U8),
        ("text/x-ffconcat", corpus.FFCONCAT),
        ("application/dash+xml", corpus.MPD),
        ("application/sdp", corpus.SDP),
        ("text/x-shellscript", b"#!/usr/bin/env python3\n"),
        ("image/tiff", b"MM\0*" + bytes(16)),
        ("image/bmp", b"BM\x36\0\0\0\0\0\0\0\x36" + bytes(16)),
        ("image/vnd.microsoft.icon", b"\0\0\1\0\1\0" + bytes(16)),
        ("image/vnd.adobe.photoshop", b"8BPS\0\1" + bytes(16)),
        ("text/plain; charset=utf-16", "سلام".encode("utf-16")),
        ("application/octet-stream", bytes(range(256))),
        ("application/octet-stream", b"RIFF\0\0\0\0ACON"),
        ("application/octet-stream", b"\xff\xe0\xff\xff"),
    ],
)
def test_what_is_not_taken_has_a_name(media_type: str, data: bytes, tmp_path: Path) -> None:
    assert kind_of(tmp_path, data) == media_type


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a",
        "BMW is a brand",
        "MZansi",
        "The free world, as it is called",
        "Our ftyp is no brand of anything",
        "The moov box is where its tables are",
        "II. Kapitel",
        "PKU",
        "# Title\n<div align='center'>",
        "<p>A paragraph of Markdown</p>",
        "# <svg> is an element",
        "#!important",
        "v=0 is a word of SDP",
        "{}",
        "\ufeffname,age\r\n",
        "ID34",
        "ID3,name,age\n1,Ali,20\n",
        "GIF89a is a format",
        "GIF87a,GIF89a\n1,2\n",
        "fLaC and OggS are magics",
        "RIFF----WEBP is how it begins",
        "BZh",
        "8BPS is what Photoshop writes",
        "<header>A page of Markdown</header>",
        "<scripture>In the beginning</scripture>",
        "<!doctype htmlx>",
        "س" * 5000,
        "a" + "س" * 5000,
        "<?xml version='1.0'?><note/>",
        "<!-- never closed",
    ],
)
def test_a_text_is_a_text_however_it_begins(text: str, tmp_path: Path) -> None:
    assert kind_of(tmp_path, text.encode()) == "text/plain"


def test_an_archive_behind_a_picture_leaves_it_a_picture(tmp_path: Path) -> None:
    assert kind_of(tmp_path, encoded(photo(), "PNG") + office()) == "image/png"


def test_a_table_of_contents_beyond_measure_is_not_read(tmp_path: Path) -> None:
    data = office()
    entries, length = data[-14:-10], data[-10:-6]
    assert struct.unpack("<HH", entries) == (2, 2)
    for lie in (struct.pack("<HH", 20_000, 20_000) + length, entries + struct.pack("<I", 100 * 1024**2)):
        with pytest.raises(ArchiveTooLarge):
            kind_of(tmp_path, data[:-14] + lie + data[-6:])


@pytest.mark.parametrize("at", range(0, 60, 3))
def test_a_damaged_archive_is_an_archive(at: int, tmp_path: Path) -> None:
    data = bytearray(office())
    data[-at - 60 : -at - 57] = b"\xff\xff\xff"
    assert kind_of(tmp_path, bytes(data)) in {"application/zip", OFFICE[0]}


def test_a_list_of_parts_that_unpacks_to_gigabytes_is_read_to_a_limit(tmp_path: Path) -> None:
    assert kind_of(tmp_path, corpus.parts_list_bomb()) == "application/zip"


def test_every_beginning_of_a_file_has_some_name(tmp_path: Path) -> None:
    for data in [*TAKEN.values(), pictured.gif(1, 1, 1)]:
        for length in (1, 4, 8, 12, 16, 30):
            assert "/" in kind_of(tmp_path, data[:length])
