"""Small clips as programs and cameras make them: with titles, places and chapters, turned, in pieces."""

import io
import itertools
from collections.abc import Iterator, Mapping
from fractions import Fraction
from pathlib import Path
from typing import Any, cast

import av
from msgspec import Struct
from PIL import Image, ImageDraw

_av = cast("Any", av)  # its types are full of holes
RATE = 48_000
#: What must be nowhere in what is served, however it got in.
SECRET = "سرّ secret-7319"
PLACE = "+24.7136+046.6753/"
METADATA = {
    "title": SECRET,
    "comment": SECRET,
    "artist": SECRET,
    "location": PLACE,
    "com.apple.quicktime.location.ISO6709": PLACE,
    "creation_time": "2026-11-22T10:11:12.000000Z",
}


class Made(Struct, frozen=True, kw_only=True):
    """How a clip is made. `turned` is by how many degrees players turn it, counterclockwise."""

    muxer: str
    video: str | None = None
    audio: str | None = None
    width: int = 320
    height: int = 240
    fps: int = 25
    seconds: float = 2.0
    turned: int = 0
    options: dict[str, str] = {}
    coding: dict[str, str] = {}


#: For encoders of VP8 and VP9, which take their time.
HASTE = {"deadline": "realtime", "cpu-used": "8"}

#: Encoded by Pillow: the only AV1 encoder of PyAV gives its threads real-time priority, which starves the machine.
AV1 = "av1 by Pillow"

#: name -> its media type, and how it is made.
GOOD: dict[str, tuple[str, Made]] = {
    "h264.mp4": (
        "video/mp4",
        Made(muxer="mp4", video="libx264", audio="aac", options={"movflags": "use_metadata_tags"}),
    ),
    "turned.mp4": ("video/mp4", Made(muxer="mp4", video="libx264", audio="aac", turned=90)),
    "upside down.mp4": ("video/mp4", Made(muxer="mp4", video="libx264", turned=180)),
    "hevc.mp4": (
        "video/mp4",
        Made(muxer="mp4", video="libx265", audio="aac", coding={"x265-params": "log-level=none"}),
    ),
    "av1.mp4": ("video/mp4", Made(muxer="mp4", video=AV1, audio="libopus")),
    "silent.mp4": ("video/mp4", Made(muxer="mp4", video="libx264")),
    "fragments.mp4": (
        "video/mp4",
        Made(muxer="mp4", video="libx264", audio="aac", options={"movflags": "frag_keyframe+empty_moov"}),
    ),
    "h264.mov": ("video/quicktime", Made(muxer="mov", video="libx264", audio="pcm_s16le")),
    "turned.mov": ("video/quicktime", Made(muxer="mov", video="libx264", audio="aac", turned=-90)),
    "vp8.webm": ("video/webm", Made(muxer="webm", video="libvpx", audio="vorbis", coding={"strict": "-2", **HASTE})),
    "vp9.webm": ("video/webm", Made(muxer="webm", video="libvpx-vp9", audio="libopus", turned=90, coding=HASTE)),
    "recorded.webm": (
        "video/webm",
        Made(muxer="webm", video="libvpx", audio="libopus", options={"live": "1"}, coding=HASTE),
    ),
    "voice.webm": ("video/webm", Made(muxer="webm", audio="libopus")),
    "aac.m4a": ("audio/mp4", Made(muxer="ipod", audio="aac")),
    "song.mp3": ("audio/mpeg", Made(muxer="mp3", audio="libmp3lame")),
    "s16.wav": ("audio/wav", Made(muxer="wav", audio="pcm_s16le")),
    "s24.wav": ("audio/wav", Made(muxer="wav", audio="pcm_s24le")),
    "f32.wav": ("audio/wav", Made(muxer="wav", audio="pcm_f32le")),
    "opus.ogg": ("audio/ogg", Made(muxer="ogg", audio="libopus")),
    "vorbis.ogg": ("audio/ogg", Made(muxer="ogg", audio="vorbis", coding={"strict": "-2"})),
    "flac.ogg": ("audio/ogg", Made(muxer="ogg", audio="flac")),
}


def write(path: Path, made: Made, metadata: Mapping[str, str] = METADATA) -> Path:
    """Make a clip: red is the upper left quarter of its pictures, and blue, brighter and brighter, the rest."""
    with _av.open(str(path), "w", format=made.muxer, options=made.options) as target:
        target.metadata.update(metadata)
        if metadata and made.muxer != "ogg":
            target.set_chapters([_chapter(number) for number in range(2)])
        pictures = _pictures(target, made) if made.video else iter(())
        sounds = _sounds(target, made) if made.audio else iter(())
        for pair in itertools.zip_longest(list(pictures), list(sounds)):
            for packet in filter(None, pair):
                target.mux(packet)
    return path


def _chapter(number: int) -> dict[str, Any]:
    start, end = 1000 * number, 1000 * number + 1000
    return {
        "id": number,
        "start": start,
        "end": end,
        "time_base": Fraction(1, 1000),
        "metadata": {"title": SECRET},
    }


def _pictures(target: Any, made: Made) -> Iterator[Any]:
    if made.video == AV1:
        yield from _moving(target, made)
        return
    stream = target.add_stream(made.video, rate=made.fps, width=made.width, height=made.height, options=made.coding)
    stream.pix_fmt = "yuv420p"
    if made.turned:
        stream.set_display_rotation(made.turned)
    count = max(1, round(made.fps * made.seconds))
    for number in range(count):
        frame = _av.VideoFrame.from_image(drawn(made.width, made.height, number / count))
        frame.pts, frame.time_base = number, Fraction(1, made.fps)
        yield from stream.encode(frame)
    yield from stream.encode(None)


def _moving(target: Any, made: Made) -> Iterator[Any]:
    """Take the track out of a moving AVIF."""
    count = round(made.fps * made.seconds)
    first, *others = [drawn(made.width, made.height, number / count) for number in range(count)]
    file = io.BytesIO()
    every_ms = round(1000 / made.fps)
    first.save(file, "AVIF", save_all=True, append_images=others, duration=every_ms, codec="aom", speed=10)
    file.seek(0)
    with _av.open(file) as source:
        track = next(each for each in source.streams.video if each.frames == count)
        stream = target.add_stream_from_template(track, opaque=True)
        for packet in source.demux(track):
            if packet.dts is not None:
                packet.stream = stream
                yield packet


def drawn(width: int, height: int, done: float) -> Image.Image:
    """Draw one picture."""
    picture = Image.new("RGB", (width, height), (0, 0, 80 + round(170 * done)))
    ImageDraw.Draw(picture).rectangle((0, 0, width // 2, height // 2), fill=(250, 0, 0))
    return picture


def _sounds(target: Any, made: Made) -> Iterator[Any]:
    stream = target.add_stream(made.audio, rate=RATE, options=made.coding)
    whole, done = round(RATE * made.seconds), 0
    while done < whole:
        context = stream.codec_context
        frame = _av.AudioFrame(context.format.name, "stereo", min(context.frame_size or 1024, whole - done))
        for plane in frame.planes:
            plane.update(bytes(plane.buffer_size))
        frame.sample_rate, frame.pts, frame.time_base = RATE, done, Fraction(1, RATE)
        yield from stream.encode(frame)
        done += frame.samples
    yield from stream.encode(None)
