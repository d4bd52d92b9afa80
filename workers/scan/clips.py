"""Judges a clip and makes the copy of it that is served: the same pictures and sound, and nothing told about them."""

from collections.abc import Generator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, Final, Literal

from msgspec import Struct

from workers.craft import clips, pictures
from workers.craft.clips import BrokenClip, Clip, Kind, Picture, Tally, Track
from workers.scan import outlines
from workers.scan.boxes import Malformed
from workers.scan.findings import Asked, Findings, Pictured
from workers.scan.limits import CLIP_MOST_FRAMES, CLIP_MOST_MEGAPIXELS, CLIP_MOST_S
from workers.scan.refusals import (
    ClipTooHeavy,
    ClipTooLong,
    CodecNotAllowed,
    TooComplex,
    TooManyPixels,
    TypeMismatch,
    UnreadableFile,
)

_MOST_PIXELS: Final = CLIP_MOST_MEGAPIXELS * 1_000_000
# Of pictures and sound, and with all else that cameras write beside them.
_MOST_TRACKS: Final = 8
_MOST_STREAMS: Final = 32
# Slow motion is filmed at 240, which a clip's own clock may turn into a little more.
_MOST_FPS: Final = 241
_MOST_PACKETS: Final = 1_000_000
_POSTER_EDGE: Final = 1280
_THUMBNAIL_EDGE: Final = 512

_PCM: Final = {"pcm_s16le", "pcm_s16be", "pcm_s24le", "pcm_s24be", "pcm_f32le", "pcm_f32be"}
_WAV_PCM: Final = {*_PCM, "pcm_u8", "pcm_s32le", "pcm_f64le"}


class _Container(Struct, frozen=True, kw_only=True):
    """How a media type is read and written, and what may be in it."""

    demuxer: str
    muxer: str
    video: frozenset[str] = frozenset()
    audio: frozenset[str]
    options: dict[str, str] = {}


_MP4 = _Container(
    demuxer="mov",
    muxer="mp4",
    video=frozenset({"h264", "hevc", "vp9", "av1"}),
    audio=frozenset({"aac", "mp3", "opus", "flac", *_PCM}),
    options={"movflags": "+faststart"},
)
_CONTAINERS: Final[dict[str, _Container]] = {
    "video/mp4": _MP4,
    "video/quicktime": _Container(demuxer="mov", muxer="mov", video=_MP4.video, audio=_MP4.audio, options=_MP4.options),
    "video/webm": _Container(
        demuxer="matroska",
        muxer="webm",
        video=frozenset({"vp8", "vp9", "av1"}),
        audio=frozenset({"opus", "vorbis"}),
        options={"avoid_negative_ts": "make_zero"},  # a recorder may have begun late
    ),
    "audio/mp4": _Container(demuxer="mov", muxer="mp4", audio=_MP4.audio, options=_MP4.options),
    "audio/mpeg": _Container(
        demuxer="mp3", muxer="mp3", audio=frozenset({"mp3"}), options={"id3v2_version": "0", "write_id3v1": "0"}
    ),
    "audio/wav": _Container(demuxer="wav", muxer="wav", audio=frozenset(_WAV_PCM)),
    "audio/ogg": _Container(demuxer="ogg", muxer="ogg", audio=frozenset({"opus", "vorbis", "flac"})),
}


def examine(asked: Asked) -> Findings:
    """Judge a clip. Raises a refusal; what is found has `duration_s`, and of a video its size, posters and BlurHash."""
    container = _CONTAINERS[asked.media_type]
    with _readable(asked.media_type):
        outlines.judge(asked.path, container.demuxer, asked.media_type)
        kept = _judged(asked, container)
        facts, made = _pictured(asked, container, kept)
        target = asked.folder / f"clip.{container.muxer}"
        passed = _copied(asked, container, kept, target)
        facts |= _checked(target, container, kept, passed)
    return Findings(path=target, media_type=asked.media_type, facts=facts, pictures=made)


@contextmanager
def _readable(media_type: str) -> Generator[None]:
    try:
        yield
    except (BrokenClip, Malformed) as error:
        raise UnreadableFile(media_type=media_type) from error
    except MemoryError as error:
        raise TooComplex from error


def _judged(asked: Asked, container: _Container) -> list[Track]:
    """Refuse what exceeds a budget by the clip's own account; return the tracks that are kept, in their order."""
    with _opened(asked.path, container) as clip:
        tracks = [track for track in clip.tracks if not track.cover]
        if clip.streams > _MOST_STREAMS or len(tracks) > _MOST_TRACKS:
            raise TooComplex
        videos = [track for track in tracks if track.kind == "video"]
        if videos and asked.media_type.startswith("audio/"):
            raise TypeMismatch(declared=asked.media_type, found=f"video/{container.muxer}")
        for track in videos:
            _judge_size(track)
        seconds = clip.seconds or 0.0
        if seconds > CLIP_MOST_S:
            raise ClipTooLong(seconds=seconds, limit_s=CLIP_MOST_S)
        for track in videos:
            _judge_frames(track, seconds)
        kept = [
            *_best(clip, videos, "video", container.video),
            *_best(clip, [track for track in tracks if track.kind == "audio"], "audio", container.audio),
        ]
    if not kept:
        raise UnreadableFile(media_type=asked.media_type)
    return sorted(kept, key=lambda track: track.index)


def _judge_size(track: Track) -> None:
    if track.width * track.height > _MOST_PIXELS:
        raise TooManyPixels(width=track.width, height=track.height, limit_megapixels=CLIP_MOST_MEGAPIXELS)


def _judge_frames(track: Track, seconds: float) -> None:
    fps = track.fps or 0.0
    frames = max(track.frames, round(seconds * fps))
    # A few pictures that follow at once are no slow motion: some recorders begin so.
    too_fast = fps > _MOST_FPS and frames > _MOST_FPS
    if frames > CLIP_MOST_FRAMES or too_fast:
        raise ClipTooHeavy(frames=max(frames, round(fps)), limit_frames=CLIP_MOST_FRAMES)


def _best(clip: Clip, tracks: Sequence[Track], kind: Kind, codecs: frozenset[str]) -> list[Track]:
    """Return the one to keep: the players' choice, or else the first that is in an allowed codec."""
    allowed = [track for track in tracks if track.codec in codecs]
    if tracks and not allowed:
        raise CodecNotAllowed(codec=tracks[0].codec)
    best = clip.best(kind)
    return sorted(allowed, key=lambda track: track.index != best)[:1]


def _pictured(asked: Asked, container: _Container, kept: Sequence[Track]) -> tuple[dict[str, Any], list[Pictured]]:
    """Decode the first picture and the first sound, which proves that they can be, and make pictures of the former."""
    facts: dict[str, Any] = {}
    made = list[Pictured]()
    for track in kept:
        with _opened(asked.path, container) as clip:
            if track.kind == "audio":
                clip.prove(track.index)
                continue
            first = clip.first_picture(track.index, edge=_POSTER_EDGE)
        facts |= {"width": first.width, "height": first.height, "blurhash": pictures.blurhash(first.image)}
        made += [
            _drawn(asked.folder, first, "poster", _POSTER_EDGE),
            _drawn(asked.folder, first, "thumbnail", _THUMBNAIL_EDGE),
        ]
    return facts, made


def _drawn(folder: Path, first: Picture, name: Literal["poster", "thumbnail"], edge: int) -> Pictured:
    path = folder / f"{name}.webp"
    width, height = pictures.thumbnail(first.image, path, edge=edge)
    return Pictured(name=name, path=path, media_type="image/webp", width=width, height=height)


def _copied(asked: Asked, container: _Container, kept: Sequence[Track], target: Path) -> dict[int, Tally]:
    """Write the kept tracks to `target`, whole and within the budgets whatever the headers said."""
    indexes = [track.index for track in kept]

    def watch(tallies: dict[int, Tally]) -> None:
        _judge_passed(tallies, kept)

    with _opened(asked.path, container) as clip:
        declared = clip.seconds
        tallies = clip.copy(
            indexes, target, container.muxer, container.options, most_bytes=asked.size_bytes, watch=watch
        )
    if any(not tally.packets for tally in tallies.values()):
        raise BrokenClip("a track has nothing in it")
    longest = max((max(tally.seconds, tally.end_s) for tally in tallies.values()), default=0.0)
    if declared is not None and longest < declared * 0.98 - 1.0:
        raise BrokenClip(f"{longest} of the declared {declared} seconds are there")
    return tallies


def _judge_passed(tallies: dict[int, Tally], kept: Sequence[Track]) -> None:
    for track in kept:
        tally = tallies[track.index]
        if track.kind == "video" and tally.packets > CLIP_MOST_FRAMES:
            raise ClipTooHeavy(frames=tally.packets, limit_frames=CLIP_MOST_FRAMES)
        if tally.seconds > CLIP_MOST_S + 1:
            raise ClipTooLong(seconds=tally.seconds, limit_s=CLIP_MOST_S)
        if tally.packets > _MOST_PACKETS:
            raise TooComplex


def _checked(target: Path, container: _Container, kept: Sequence[Track], passed: dict[int, Tally]) -> dict[str, Any]:
    """See that the copy has all that passed, and return what its owner is told of it."""
    with _opened(target, container) as clip:
        seconds = clip.seconds
        found = clip.tally(range(len(kept)))
    for track, copied in zip(kept, found.values(), strict=True):
        original = passed[track.index]
        same = copied.size_bytes == original.size_bytes and (
            copied.packets == original.packets or track.codec in _WAV_PCM
        )
        if not same or abs(copied.seconds - original.seconds) > 0.1 + original.seconds * 0.01:
            raise BrokenClip(f"the copy of track {track.index} differs: {copied}, {original}")
    if seconds is None:  # as of a WebM with one picture, of which nobody says for how long it is shown
        seconds = max(tally.seconds for tally in found.values())
    facts: dict[str, Any] = {"duration_s": round(seconds, 3)}
    frames = [tally.packets for track, tally in zip(kept, found.values(), strict=True) if track.kind == "video"]
    return facts | ({"frames": frames[0]} if frames else {})


def _opened(path: Path, container: _Container) -> AbstractContextManager[Clip]:
    return clips.opened(path, container.demuxer, most_pixels=_MOST_PIXELS)
