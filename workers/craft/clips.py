"""Opens strangers' clips with FFmpeg's libraries: by a forced demuxer, from one open file, and nothing beside it."""

import errno
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing, contextmanager
from math import inf
from pathlib import Path
from typing import Any, BinaryIO, Literal, cast

import av
from av.audio.codeccontext import AudioCodecContext
from av.container import InputContainer, OutputContainer
from av.error import FFmpegError
from av.packet import Packet
from av.stream import Disposition, Stream
from av.video.codeccontext import VideoCodecContext
from av.video.frame import VideoFrame
from av.video.stream import VideoStream
from msgspec import Struct

from workers.craft import traces
from workers.craft.pictures.pillow import Image

# Whatever a clip's headers name, no other decoder is ever run on it, not even to find out what it contains.
_DECODERS = (
    "h264,hevc,vp8,vp9,libdav1d,av1,aac,mp3,mp3float,opus,libopus,vorbis,flac,"
    "pcm_u8,pcm_s16le,pcm_s16be,pcm_s24le,pcm_s24be,pcm_s32le,pcm_f32le,pcm_f32be,pcm_f64le"
)
_BUFFER_BYTES = 256 * 1024
# How far to look for the first picture, and how many packets on the way may be damaged.
_FIRST_PACKETS = 600
_DAMAGED_PACKETS = 32
# What the way there may cost: pixels of packets that were to be shown and gave no picture, pixels of all (four seconds
# of HD before the place where an edit begins have fewer), and their bytes.
_HIDDEN_PIXELS = 60_000_000
_FIRST_PIXELS = 520_000_000
_FIRST_BYTES = 24_000_000
_WATCHED_PACKETS = 500
_NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}

type Kind = Literal["video", "audio"]
type Piece = Packet[Stream]


class BrokenClip(Exception):
    """The clip cannot be read, or not be copied. The message is for the log."""


class Track(Struct, frozen=True, kw_only=True):
    """A stream of pictures or sound, as the headers tell. `frames` is 0 and `fps` None where they do not."""

    index: int
    kind: Kind
    codec: str
    width: int = 0
    height: int = 0
    fps: float | None = None
    frames: int = 0
    cover: bool = False


class Picture(Struct, frozen=True, kw_only=True):
    """The first picture: upright, and perhaps smaller than the `width` and `height` that the clip is shown at."""

    image: Image.Image
    width: int
    height: int


class Tally(Struct, kw_only=True):
    """What passed of one track: packets, bytes, and seconds from the first one's start to the last one's end."""

    packets: int = 0
    size_bytes: int = 0
    first: float = inf
    last: float = -inf
    unit_s: float = 0.0

    @property
    def seconds(self) -> float:
        """How long it plays."""
        return max(0.0, (self.last - self.first) * self.unit_s) if self.packets else 0.0

    @property
    def end_s(self) -> float:
        """When it is over, by the clip's own clock, which need not begin with it."""
        return max(0.0, self.last * self.unit_s) if self.packets else 0.0

    def add(self, packet: Piece) -> None:
        """Count a packet. Those that players decode but do not show take no time."""
        if not self.packets:
            self.unit_s = float(packet.time_base)
        self.packets += 1
        self.size_bytes += packet.size
        start = packet.dts if packet.pts is None else packet.pts
        if start is not None and not packet.is_discard:
            self.first = min(self.first, start)
            self.last = max(self.last, start + (packet.duration or 0))


class Clip:
    """An open clip. It is read once, so only one of `first_picture`, `prove`, `tally` and `copy` can be asked of it."""

    def __init__(self, container: InputContainer, most_pixels: int) -> None:
        """Wrap an opened container."""
        self._container = container
        self._most_pixels = most_pixels

    @property
    def streams(self) -> int:
        """How many streams there are, of whatever kind."""
        return len(self._container.streams)

    @property
    def seconds(self) -> float | None:
        """How long it is by its own account."""
        whole = self._container.duration
        told = [] if whole is None else [whole / 1_000_000]
        told += [
            float(stream.duration * stream.time_base)
            for stream in (*self._container.streams.video, *self._container.streams.audio)
            if stream.duration is not None and not _is_cover(stream)
        ]
        return max(told, default=None)

    @property
    def tracks(self) -> list[Track]:
        """Its pictures and sound; what else there is (subtitles, data, attachments) is left out."""
        videos = [_video_track(stream) for stream in self._container.streams.video]
        sounds = [
            Track(index=stream.index, kind="audio", codec=_codec(stream), frames=stream.frames)
            for stream in self._container.streams.audio
        ]
        return [*videos, *sounds]

    def best(self, kind: Kind) -> int | None:
        """Return the index of the track that players would choose."""
        best = self._container.streams.best(kind)
        return None if best is None else best.index

    def first_picture(self, index: int, *, edge: int) -> Picture:
        """Decode the first picture that is shown, at most `edge` long. Raises `BrokenClip` where there is none."""
        with _foreseen():
            return _upright(cast("VideoFrame", next(self._decoded(index))), edge)

    def prove(self, index: int) -> None:
        """Decode the first sound. Raises `BrokenClip` where there is none."""
        with _foreseen():
            next(self._decoded(index))

    def tally(self, indexes: Iterable[int]) -> dict[int, Tally]:
        """Count what the tracks contain, undecoded. Raises `BrokenClip`."""
        tallies = {index: Tally() for index in indexes}
        for packet in self._packets(tallies):
            tallies[packet.stream_index].add(packet)
        return tallies

    def copy(
        self,
        indexes: Iterable[int],
        path: Path,
        muxer: str,
        options: dict[str, str],
        *,
        most_bytes: int,
        watch: Callable[[dict[int, Tally]], None],
    ) -> dict[int, Tally]:
        """Write the tracks into a new file, as they are and without anything that was told about them.

        Returns what passed of each; `watch` sees it now and then and may raise. Raises `BrokenClip`, also where the
        packets have more than `most_bytes` in all: headers may name the same bytes many times over.
        """
        size_bytes = 0
        tallies = {index: Tally() for index in indexes}
        with _foreseen():
            target = av.open(str(path), "w", format=muxer, options={"fflags": "+bitexact"} | options)
            writers = {index: _writer(self._container.streams[index], target) for index in tallies}
            for number, packet in enumerate(self._packets(tallies), 1):
                index = packet.stream_index
                size_bytes += packet.size
                if size_bytes > most_bytes:
                    raise BrokenClip("its packets have more bytes than it has")
                tallies[index].add(packet)
                writers[index](packet)
                if number % _WATCHED_PACKETS == 0:
                    watch(tallies)
            watch(tallies)
            target.close()
        return tallies

    def _packets(self, indexes: Iterable[int]) -> Iterator[Piece]:
        # The last packet of a WAV is always called so where the file does not tell how long it is.
        strict = self._container.format.name != "wav"
        # In a bare MP3 whatever lies between frames comes as a packet too: tags, and what somebody has hidden there.
        bare = self._container.format.name == "mp3"
        with _foreseen():
            for packet in self._container.demux([self._container.streams[index] for index in indexes]):
                if packet.is_corrupt and strict:
                    raise BrokenClip("a packet is cut off")
                if packet.size and not (bare and not _is_frame(packet)):
                    yield packet

    def _decoded(self, index: int) -> Iterator[Any]:
        stream = self._container.streams[index]
        context = cast("Any", stream.codec_context)
        context.thread_count = 1
        context.options = {"max_pixels": str(self._most_pixels)}
        damaged = hidden = pixels = size_bytes = 0
        for number, packet in enumerate(self._container.demux(stream)):
            size_bytes += packet.size
            if size_bytes - packet.size > _FIRST_BYTES:
                break
            try:
                yield from packet.decode()
                if stream.type == "video" and packet.is_keyframe and not packet.is_discard:
                    yield from context.decode(None)  # it is to be shown: do not wait for the next ones
                    context.flush_buffers()
            except FFmpegError:
                damaged += 1
            size = context.width * context.height if stream.type == "video" else 0
            pixels += size
            hidden += 0 if packet.is_discard else size
            if pixels > _FIRST_PIXELS or hidden > _HIDDEN_PIXELS:
                break
            if number > _FIRST_PACKETS or damaged > _DAMAGED_PACKETS:
                break
        raise BrokenClip("there is nothing to be seen or heard")


@contextmanager
def opened(path: Path, demuxer: str, *, most_pixels: int) -> Generator[Clip]:
    """Open a clip as what it has to be: `mov`, `matroska`, `mp3`, `wav` or `ogg`. Raises `BrokenClip`."""
    options = {
        "threads": "1",
        "max_pixels": str(most_pixels),
        "codec_whitelist": _DECODERS,
        "probesize": "2000000",
        "analyzeduration": "2000000",
    }
    with path.open("rb") as file:
        with _foreseen():
            container = av.open(
                _Nameless(file), "r", format=demuxer, options=options, buffer_size=_BUFFER_BYTES, io_open=_refuse
            )
        with closing(container):
            yield Clip(container, most_pixels)


def _writer(source: Stream, target: OutputContainer) -> Callable[[Piece], None]:
    """Return what writes packets of a track, in a codec of which none is named that could not be blanked."""
    written = target.add_stream_from_template(  # pyright: ignore[reportUnknownMemberType] (it takes any keyword)
        source, opaque=True
    )
    codec, parameters = _codec(source), source.codec_context.extradata or b""
    units = traces.Units(codec=codec, parameters=parameters) if codec in {"h264", "hevc"} else None
    if codec == "vorbis":
        written.codec_context.extradata = traces.without_comment(parameters)
    if codec == "hevc" and units is not None:
        written.codec_context.extradata = units.blanked(parameters)
        written.codec_context.codec_tag = "hvc1"  # the other one, hev1, is not played by Apple's players

    def write(packet: Piece) -> None:
        if units is not None:
            units.blank(memoryview(packet))
        packet.stream = written
        target.mux_one(packet)  # pyright: ignore[reportUnknownMemberType]

    return write


def _is_frame(packet: Piece) -> bool:
    head = bytes(memoryview(packet)[: traces.MP3_HEAD])
    if traces.is_free_format(head):
        raise BrokenClip("its frames do not tell how long they are")
    return packet.size == traces.mp3_frame_bytes(head)


class _Nameless:
    """A file without a name, so that nothing can be found that lies beside it."""

    def __init__(self, file: BinaryIO) -> None:
        self.read, self.seek, self.tell = file.read, file.seek, file.tell


def _refuse(*_address: object) -> BinaryIO:
    raise BrokenClip("the clip asks for another file")


@contextmanager
def _foreseen() -> Generator[None]:
    """Make one class of what the library raises at a bad clip. That memory or room is short stays what it is."""
    try:
        yield
    except (FFmpegError, ValueError, ArithmeticError) as error:
        if isinstance(error, MemoryError):
            raise
        if isinstance(error, FFmpegError) and error.errno in _NO_ROOM:
            raise OSError(error.errno, str(error)) from error
        raise BrokenClip(str(error)) from error


def _upright(frame: VideoFrame, edge: int) -> Picture:
    scale = min(1.0, edge / max(frame.width, frame.height))
    width, height = (max(1, round(side * scale)) for side in (frame.width, frame.height))
    small = frame.reformat(width=width, height=height, format="rgb24", interpolation="AREA", threads=1)
    image = cast("Image.Image", small.to_image())  # pyright: ignore[reportUnknownMemberType] (it has no types)
    turns = round(frame.rotation / 90) % 4
    sides = (frame.height, frame.width) if turns % 2 else (frame.width, frame.height)
    return Picture(image=image.rotate(90 * turns, expand=True), width=sides[0], height=sides[1])


def _is_cover(stream: Stream) -> bool:
    return bool(stream.disposition & Disposition.attached_pic)


def _codec(stream: Stream) -> str:
    """Return the codec's name, whichever decoder reads it."""
    known = cast("VideoCodecContext | AudioCodecContext | None", stream.codec_context)
    return "unknown" if known is None else known.codec.canonical_name


def _video_track(stream: VideoStream) -> Track:
    known = cast("VideoCodecContext | None", stream.codec_context)
    return Track(
        index=stream.index,
        kind="video",
        codec=_codec(stream),
        width=0 if known is None else known.width,
        height=0 if known is None else known.height,
        fps=float(stream.average_rate) if stream.average_rate else None,
        frames=stream.frames,
        cover=_is_cover(stream),
    )
