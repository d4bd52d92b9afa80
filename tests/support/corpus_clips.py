"""Hostile clips, each with the refusal that it has to get; and clips with strange things in them that must be gone.

Most are written byte by byte (ISO/IEC 14496-12), since no encoder would make them.
"""

import struct
import zlib
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any, cast

import av
from msgspec import Struct

from tests.support import clips, documents
from tests.support.clips import Made
from workers.scan import refusals
from workers.scan.refusals import FileRefused

HTML = b"<html><script>alert('polyglot-7319')</script></html>"


class Canary(Struct, frozen=True, kw_only=True):
    """What must not be touched: a file that lies beside the clip, and an address."""

    path: Path
    url: str


class Hostile(Struct, frozen=True, kw_only=True):
    """A file, how it is declared, how it is written, and what has to become of it."""

    media_type: str
    write: Callable[[Path, Canary], object]
    refusal: type[FileRefused]


def box(kind: bytes, *bodies: bytes) -> bytes:
    """Return a box."""
    body = b"".join(bodies)
    return struct.pack(">I", 8 + len(body)) + kind + body


def full(kind: bytes, *bodies: bytes, version: int = 0, flags: int = 0) -> bytes:
    """Return a box that has a version and flags."""
    return box(kind, struct.pack(">I", version << 24 | flags), *bodies)


def numbers(*values: int) -> bytes:
    """Return 32-bit numbers."""
    return struct.pack(f">{len(values)}I", *values)


_MATRIX = numbers(0x10000, 0, 0, 0, 0x10000, 0, 0, 0, 0x40000000)
_SELF = full(b"url ", flags=1)


#: Where the samples of our clips are, behind 24 bytes and the head of their box.
_FIRST_BYTE = 32


class Sample(Struct, frozen=True, kw_only=True):
    """What a track claims of its samples: their sizes and times, and more tables."""

    sizes: bytes
    times: bytes
    chunks: bytes = numbers(1, 1, 1, 1)
    more: bytes = b""
    places: bytes = numbers(1, _FIRST_BYTE)


def some(count: int, duration: int) -> Sample:
    """Return samples of one byte each."""
    return Sample(sizes=numbers(1, count), times=numbers(1, count, duration), chunks=numbers(1, 1, count, 1))


def track(
    entry: bytes,
    sample: Sample,
    *,
    handler: bytes = b"vide",
    scale: int = 1000,
    seconds: float = 1,
    reference: bytes = _SELF,
) -> bytes:
    """Return a track in one chunk that begins with the file's 32nd byte, where there is always something."""
    length = int(seconds * scale)
    header = full(b"vmhd", bytes(8), flags=1) if handler == b"vide" else full(b"smhd", bytes(4))
    tables = box(
        b"stbl",
        full(b"stsd", numbers(1), entry),
        full(b"stts", sample.times),
        full(b"stsc", sample.chunks),
        full(b"stsz", sample.sizes),
        full(b"stco", sample.places),
        sample.more,
    )
    return box(
        b"trak",
        full(
            b"tkhd",
            numbers(0, 0, 1, 0, int(seconds * 1000), 0, 0, 0, 0),
            _MATRIX,
            numbers(320 << 16, 240 << 16),
            flags=3,
        ),
        box(
            b"mdia",
            full(b"mdhd", numbers(0, 0, scale, length), b"\x55\xc4\0\0"),
            full(b"hdlr", numbers(0), handler, bytes(12), b"\0"),
            box(b"minf", header, box(b"dinf", full(b"dref", numbers(1), reference)), tables),
        ),
    )


def mp4(
    *tracks: bytes,
    seconds: float = 1,
    more: bytes = b"",
    after: bytes = b"",
    moov: bytes = b"",
    brand: bytes = b"isom",
    media: bytes = bytes(4096),
) -> bytes:
    """Return a clip of tracks whose samples are zeros, or `media`."""
    head = full(b"mvhd", numbers(0, 0, 1000, int(seconds * 1000), 0x10000), bytes(12), _MATRIX, bytes(24), numbers(9))
    return (
        box(b"ftyp", brand, numbers(512), brand, b"mp42")
        + box(b"mdat", media)
        + (moov or box(b"moov", head, *tracks, more))
        + after
    )


def avc1(width: int = 320, height: int = 240, parameters: bytes = b"", kind: bytes = b"avc1") -> bytes:
    """Return how pictures in H.264 are described."""
    config = box(b"avcC", parameters or avcc(width, height))
    return box(kind, bytes(6), b"\0\1", bytes(16), struct.pack(">2H", width, height), numbers(0x480000, 0x480000, 0),
               b"\0\1", bytes(32), b"\0\x18\xff\xff", config)  # fmt: skip


def mp4a(kind: bytes = b"mp4a", *more: bytes) -> bytes:
    """Return how sound is described."""
    return box(kind, bytes(6), b"\0\1", bytes(8), struct.pack(">4HI", 2, 16, 0, 0, 48_000 << 16), *more)


def avcc(width: int, height: int) -> bytes:
    """Return parameters of H.264 for pictures of this size."""
    bits = "1" + "1" + "011" + "00100" + "0"  # numbers of the set, of frames, order by 2, one reference, no gaps
    bits += _golomb(width // 16 - 1) + _golomb(height // 16 - 1) + "1" + "1" + "0" + "0" + "1"
    bits += "0" * (-len(bits) % 8)
    sequence = b"\x67\x42\x00\x3e" + int(bits, 2).to_bytes(len(bits) // 8, "big")
    picture = b"\x68\xce\x38\x80"
    return (
        b"\x01\x42\x00\x3e\xff\xe1"
        + struct.pack(">H", len(sequence))
        + sequence
        + b"\x01"
        + struct.pack(">H", len(picture))
        + picture
    )


def _golomb(value: int) -> str:
    bits = f"{value + 1:b}"
    return "0" * (len(bits) - 1) + bits


def _written(data: bytes) -> Callable[[Path, Canary], object]:
    return lambda path, _: path.write_bytes(data)


def _text(template: str) -> Callable[[Path, Canary], object]:
    return lambda path, canary: path.write_text(
        template.format(path=canary.path, name=canary.path.name, url=canary.url)
    )


def _changed(made: Made, change: Callable[[bytes], bytes]) -> Callable[[Path, Canary], object]:
    def write(path: Path, _: Canary) -> None:
        clips.write(path, made, {})
        path.write_bytes(change(path.read_bytes()))

    return write


def _made(made: Made) -> Callable[[Path, Canary], object]:
    return lambda path, _: clips.write(path, made, {})


def _two_pictures(path: Path, _: Canary) -> None:
    """Write two pictures that lie ten hours apart."""
    clips.write(path, Made(muxer="mp4", video="libx264", seconds=0.08), {})
    library = cast("Any", av)  # its types are full of holes
    with library.open(str(path)) as source, library.open(f"{path}.long", "w", format="mp4") as target:
        stream = target.add_stream_from_template(source.streams.video[0], opaque=True)
        for number, packet in enumerate(packet for packet in source.demux() if packet.size):
            packet.stream, packet.duration = stream, None
            packet.pts = packet.dts = round(36_000 * number / packet.time_base)
            target.mux(packet)
    Path(f"{path}.long").rename(path)


def _external(path: Path, canary: Canary) -> None:
    """Write a MOV whose samples lie in another file, named in two ways."""
    target = full(b"url ", canary.path.as_uri().encode() + b"\0")
    path.write_bytes(mp4(track(avc1(), some(10, 100), reference=target), brand=b"qt  "))


def _alias(path: Path, canary: Canary) -> None:
    name = canary.path.name.encode()
    record = bytes(4) + struct.pack(">HHH", 150, 2, 0) + bytes([len(name)]) + name.ljust(63, b"\0") + bytes(74)
    path.write_bytes(mp4(track(avc1(), some(10, 100), reference=full(b"alis", record)), brand=b"qt  "))


def _wrong_sound(path: Path, _: Canary) -> None:
    clips.write(path, Made(muxer="mp4", video="libx264", audio="ac3"), {})


def _beside(kind: bytes, inner: bytes) -> Callable[[bytes], bytes]:
    """Return what puts a box before the others of a clip whose headers come last."""

    def change(data: bytes) -> bytes:
        at = int.from_bytes(data[:4], "big")
        return data[:at] + box(kind, inner) + data[at:] if data[at + 4 : at + 8] == b"moov" else data + box(kind, inner)

    return change


def _emptied(data: bytes) -> bytes:
    """Return a clip of whose samples only a few bytes are there, in a box that is whole."""
    return data[: data.find(b"mdat") - 4] + box(b"mdat", bytes(64))


def _shortened(data: bytes) -> bytes:
    """Return a clip without its last bytes, in a box that is whole."""
    at = data.find(b"mdat") - 4
    return data[:at] + box(b"mdat", data[at + 8 : -50])


def _cut(part: float) -> Callable[[bytes], bytes]:
    return lambda data: data[: int(len(data) * part)]


_VIDEO = Made(muxer="mp4", video="libx264", audio="aac")
_FAST = Made(muxer="mp4", video="libx264", audio="aac", options={"movflags": "faststart"})
_SILENT = Made(muxer="mp4", video="libx264", options={"movflags": "faststart"})
_WEBM = Made(muxer="webm", video="libvpx", audio="libopus", coding=clips.HASTE)
_MP4, _MOV, _WEBM_TYPE = "video/mp4", "video/quicktime", "video/webm"
_PLAIN_SOUND = mp4a(b"sowt")
_TRUN = full(b"trun", numbers(2**31 - 1, 0), flags=1)
_FRAGMENT = box(b"moof", full(b"mfhd", numbers(1)), box(b"traf", full(b"tfhd", numbers(1), flags=0x20000), _TRUN))
_EXTENDS = box(b"mvex", full(b"trex", numbers(1, 1, 1, 1, 0)))
_EDITS = box(b"edts", full(b"elst", numbers(4000), numbers(1, 0, 0x10000) * 4000))


def _xing(frames: int) -> Callable[[bytes], bytes]:
    """Return what makes an MP3 claim so many frames."""

    def change(data: bytes) -> bytes:
        at = data.find(b"Xing") if b"Xing" in data else data.find(b"Info")
        return data[: at + 8] + numbers(frames) + data[at + 12 :]

    return change


def _many_streams(path: Path, _: Canary) -> None:
    sound = track(_PLAIN_SOUND, Sample(sizes=numbers(4, 100), times=numbers(1, 100, 1)), handler=b"soun", scale=48_000)
    path.write_bytes(mp4(*[sound] * 9))


def _named_often(path: Path, _: Canary) -> None:
    """Write a clip whose one picture is named by all its chunks."""
    clips.write(path, Made(muxer="mp4", video="libx264", seconds=0.04), {})
    with cast("Any", av).open(str(path)) as source:  # its types are full of holes
        stream = source.streams.video[0]
        picture, parameters = bytes(next(source.demux(stream))), stream.codec_context.extradata
    count = 400
    claimed = Sample(
        sizes=numbers(len(picture), count),
        times=numbers(1, count, 40),
        places=numbers(count, *[_FIRST_BYTE] * count),
    )
    seconds = count / 25
    path.write_bytes(mp4(track(avc1(parameters=parameters), claimed, seconds=seconds), seconds=seconds, media=picture))


def _hidden(path: Path, _: Canary) -> None:
    """Write a WebM of large pictures in VP8 that all say that they are not to be shown (RFC 6386, section 9.1)."""
    clips.write(path, Made(muxer="webm", video="libvpx", width=2992, height=2992, seconds=0.04, coding=clips.HASTE), {})
    library = cast("Any", av)  # its types are full of holes
    with library.open(str(path)) as source, library.open(f"{path}.hidden", "w", format="webm") as target:
        stream = target.add_stream_from_template(source.streams.video[0], opaque=True)
        first = bytearray(bytes(next(source.demux())))
        first[0] &= ~0x10
        for number in range(300):
            packet = library.Packet(bytes(first))
            packet.stream, packet.is_keyframe = stream, True
            packet.pts = packet.dts = 10 * number
            packet.time_base = Fraction(1, 1000)
            target.mux(packet)
    Path(f"{path}.hidden").rename(path)


def _with_edits(path: Path, _: Canary) -> None:
    video = track(avc1(), some(2000, 1))
    path.write_bytes(mp4(box(b"trak", video[8:], _EDITS)))


HOSTILE: dict[str, Hostile] = {
    "300 pictures that are not to be shown": Hostile(
        media_type=_WEBM_TYPE, write=_hidden, refusal=refusals.UnreadableFile
    ),
    "30 tracks of 249,000 pictures": Hostile(
        media_type=_MP4, write=_written(mp4(*[track(avc1(), some(249_000, 1))] * 30)), refusal=refusals.TooComplex
    ),
    "33 tracks": Hostile(
        media_type=_MP4, write=_written(mp4(*[track(avc1(), some(1, 1))] * 33)), refusal=refusals.TooComplex
    ),
    "one picture named 400 times": Hostile(media_type=_MP4, write=_named_often, refusal=refusals.UnreadableFile),
    "ten hours of two pictures": Hostile(media_type=_MP4, write=_two_pictures, refusal=refusals.ClipTooLong),
    "ten hours by its headers": Hostile(
        media_type=_MP4,
        write=_written(mp4(track(avc1(), some(2, 18_000_000), seconds=36_000), seconds=36_000)),
        refusal=refusals.ClipTooLong,
    ),
    "an MP3 of years": Hostile(
        media_type="audio/mpeg",
        write=_changed(Made(muxer="mp3", audio="libmp3lame"), _xing(2**31)),
        refusal=refusals.ClipTooLong,
    ),
    "8192 x 8192": Hostile(
        media_type=_MP4, write=_written(mp4(track(avc1(8192, 8192), some(2, 500)))), refusal=refusals.TooManyPixels
    ),
    "8192 x 8192 inside, small outside": Hostile(
        media_type=_MP4,
        write=_written(mp4(track(avc1(320, 240, avcc(8192, 8192)), some(2, 500)))),
        refusal=refusals.UnreadableFile,
    ),
    "a thousand million samples": Hostile(
        media_type=_MP4, write=_written(mp4(track(avc1(), some(2**30, 1)))), refusal=refusals.ClipTooHeavy
    ),
    "a thousand million times": Hostile(
        media_type=_MP4,
        write=_written(mp4(track(avc1(), Sample(sizes=numbers(1, 10), times=numbers(2, 10, 100, 2**31, 0))))),
        refusal=refusals.ClipTooHeavy,
    ),
    "a thousand million samples of sound": Hostile(
        media_type="audio/mp4",
        write=_written(mp4(track(mp4a(), some(2**30, 2), handler=b"soun"))),
        refusal=refusals.TooComplex,
    ),
    "chunks of a thousand million samples": Hostile(
        media_type="audio/mp4",
        write=_written(
            mp4(
                track(
                    _PLAIN_SOUND,
                    Sample(
                        sizes=numbers(4, 2**31),
                        times=numbers(1, 2**31, 1),
                        chunks=numbers(1, 1, 2**31, 1),
                        more=full(b"co64", numbers(4000), bytes(8 * 4000)),
                    ),
                    handler=b"soun",
                )
            )
        ),
        refusal=refusals.TooComplex,
    ),
    "a fragment of two thousand million samples": Hostile(
        media_type=_MP4,
        write=_written(mp4(track(avc1(), some(0, 1)), more=_EXTENDS, after=_FRAGMENT)),
        refusal=refusals.TooComplex,
    ),
    "edits that repeat the clip 4000 times": Hostile(media_type=_MP4, write=_with_edits, refusal=refusals.TooComplex),
    "50,000 pictures a second": Hostile(
        media_type=_MP4,
        write=_written(mp4(track(avc1(), some(4000, 1), scale=50_000, seconds=0.08), seconds=0.08)),
        refusal=refusals.ClipTooHeavy,
    ),
    "nine streams": Hostile(media_type=_MP4, write=_many_streams, refusal=refusals.TooComplex),
    "boxes in boxes": Hostile(
        media_type=_MP4,
        write=_written(mp4(moov=box(b"moov", *[struct.pack(">I", 8 * (5000 - n)) + b"trak" for n in range(5000)]))),
        refusal=refusals.UnreadableFile,
    ),
    "headers cut off": Hostile(media_type=_MP4, write=_changed(_VIDEO, _cut(0.8)), refusal=refusals.UnreadableFile),
    "pictures cut off": Hostile(media_type=_MP4, write=_changed(_FAST, _cut(0.7)), refusal=refusals.UnreadableFile),
    "pictures overwritten": Hostile(
        media_type=_MP4,
        write=_changed(_FAST, lambda data: data[: data.find(b"mdat") + 4] + bytes(len(data) - data.find(b"mdat") - 4)),
        refusal=refusals.UnreadableFile,
    ),
    "samples beyond the end": Hostile(
        media_type=_MP4, write=_changed(_FAST, _emptied), refusal=refusals.UnreadableFile
    ),
    "the last picture cut short": Hostile(
        media_type=_MP4, write=_changed(_SILENT, _shortened), refusal=refusals.UnreadableFile
    ),
    "a WebM cut off": Hostile(media_type=_WEBM_TYPE, write=_changed(_WEBM, _cut(0.6)), refusal=refusals.UnreadableFile),
    "an Ogg cut off": Hostile(
        media_type="audio/ogg",
        write=_changed(Made(muxer="ogg", audio="libopus"), _cut(0.8)),
        refusal=refusals.UnreadableFile,
    ),
    "a WAV cut off": Hostile(
        media_type="audio/wav",
        write=_changed(Made(muxer="wav", audio="pcm_s16le"), _cut(0.5)),
        refusal=refusals.UnreadableFile,
    ),
    "an MP3 cut off": Hostile(
        media_type="audio/mpeg",
        write=_changed(Made(muxer="mp3", audio="libmp3lame", seconds=10), _cut(0.5)),
        refusal=refusals.UnreadableFile,
    ),
    "a playlist (m3u8) of a file": Hostile(
        media_type=_MP4,
        write=_text("#EXTM3U\n#EXT-X-TARGETDURATION:5\n#EXTINF:5,\n{name}\n#EXT-X-ENDLIST\n"),
        refusal=refusals.UnreadableFile,
    ),
    "a playlist (m3u8) of an address": Hostile(
        media_type=_MP4,
        write=_text("#EXTM3U\n#EXT-X-TARGETDURATION:5\n#EXTINF:5,\n{url}/a.ts\n#EXT-X-ENDLIST\n"),
        refusal=refusals.UnreadableFile,
    ),
    "a list of files (ffconcat)": Hostile(
        media_type=_MP4, write=_text("ffconcat version 1.0\nfile {name}\n"), refusal=refusals.UnreadableFile
    ),
    "a list of files (ffconcat) as WebM": Hostile(
        media_type=_WEBM_TYPE, write=_text("ffconcat version 1.0\nfile '{path}'\n"), refusal=refusals.UnreadableFile
    ),
    "a manifest (mpd)": Hostile(
        media_type=_MP4,
        write=_text(
            '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static"><Period><AdaptationSet '
            'mimeType="video/mp4"><Representation id="1" bandwidth="1"><BaseURL>{url}/a.mp4</BaseURL>'
            "</Representation></AdaptationSet></Period></MPD>"
        ),
        refusal=refusals.UnreadableFile,
    ),
    "a session (sdp)": Hostile(
        media_type=_MP4,
        write=_text("v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 5004 RTP/AVP 96\n"),
        refusal=refusals.UnreadableFile,
    ),
    "samples in another file": Hostile(media_type=_MOV, write=_external, refusal=refusals.ActiveContent),
    "samples in another file, by alias": Hostile(media_type=_MOV, write=_alias, refusal=refusals.ActiveContent),
    "a movie that is elsewhere": Hostile(
        media_type=_MOV,
        write=_text(
            "\0\0\0\x14ftypqt  \0\0\0\0qt  \0\0\0\x3dmoov\0\0\0\x35rmra\0\0\0\x2drmda\0\0\0\x25rdrf\0\0\0\0url \0\0\0\x11http://evil.test/"
        ),
        refusal=refusals.ActiveContent,
    ),
    "compressed headers": Hostile(
        media_type=_MOV,
        write=_written(
            mp4(
                brand=b"qt  ",
                moov=box(
                    b"moov",
                    box(b"cmov", box(b"dcom", b"zlib"), box(b"cmvd", numbers(2**31), zlib.compress(bytes(10**6)))),
                ),
            )
        ),
        refusal=refusals.UnreadableFile,
    ),
    "encrypted pictures": Hostile(
        media_type=_MP4,
        write=_written(mp4(track(avc1(kind=b"encv"), some(10, 100)))),
        refusal=refusals.EncryptedFile,
    ),
    "another video codec": Hostile(
        media_type=_MP4, write=_made(Made(muxer="mp4", video="mpeg4")), refusal=refusals.CodecNotAllowed
    ),
    "another audio codec": Hostile(media_type=_MP4, write=_wrong_sound, refusal=refusals.CodecNotAllowed),
    "Matroska that is no WebM": Hostile(
        media_type=_WEBM_TYPE, write=_made(Made(muxer="matroska", video="libx264")), refusal=refusals.UnreadableFile
    ),
    "a video as sound": Hostile(media_type="audio/mp4", write=_made(_VIDEO), refusal=refusals.TypeMismatch),
    "an MP4 as WebM": Hostile(media_type=_WEBM_TYPE, write=_made(_VIDEO), refusal=refusals.UnreadableFile),
    "a page (HTML)": Hostile(media_type="audio/mpeg", write=_written(HTML * 100), refusal=refusals.UnreadableFile),
    "nothing": Hostile(media_type=_MP4, write=_written(b""), refusal=refusals.UnreadableFile),
}

#: Clips that are good but for what somebody hid in them.
SMUGGLED: dict[str, Hostile] = {
    "HTML after the end": Hostile(
        media_type=_MP4, write=_changed(_VIDEO, lambda data: data + HTML), refusal=FileRefused
    ),
    "an archive after the end": Hostile(
        media_type=_MP4,
        write=_changed(_VIDEO, lambda data: data + documents.archive([("polyglot-7319.html", HTML)])),
        refusal=FileRefused,
    ),
    "HTML in a free box": Hostile(media_type=_MP4, write=_changed(_VIDEO, _beside(b"free", HTML)), refusal=FileRefused),
    "HTML in a box of its own": Hostile(
        media_type=_MP4, write=_changed(_VIDEO, _beside(b"uuid", HTML)), refusal=FileRefused
    ),
    "HTML in front of an MP3's frames": Hostile(
        media_type="audio/mpeg",
        write=_changed(
            Made(muxer="mp3", audio="libmp3lame", options={"id3v2_version": "0"}),
            lambda data: (
                b"ID3\x04\0\0\0\0\0"
                + bytes([len(HTML) + 10])
                + b"TXXX\0\0\0"
                + bytes([len(HTML)])
                + b"\0\0"
                + HTML
                + data
            ),
        ),
        refusal=FileRefused,
    ),
}
