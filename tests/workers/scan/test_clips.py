"""Clips: the copy that is served plays the same and tells nothing, and what is hostile is refused in the child."""

import sys
from pathlib import Path
from typing import Any, cast

import av
import pytest
from PIL import Image

from tests.support import beside, clips, examining
from tests.support.clips import GOOD, PLACE, SECRET, Made
from tests.support.corpus_clips import HOSTILE, HTML, SMUGGLED, Canary, box, mp4, mp4a, numbers, some, track
from tests.support.examining import LIMITS
from workers.craft.child import ChildWroteTooMuch, Limits
from workers.scan.findings import Findings
from workers.scan.refusals import FileRefused, UnreadableFile

_av = cast("Any", av)  # its types are full of holes


async def examined(path: Path, media_type: str, limits: Limits = LIMITS) -> Findings:
    """Examine a clip in a child."""
    return await examining.examined("clips:examine", path, media_type, limits)


def first_picture(path: Path) -> tuple[Any, int]:
    """Return the first picture as it is stored, and by how much it is to be turned counterclockwise."""
    with _av.open(str(path)) as clip:
        frame = next(clip.decode(video=0))
        return frame.to_image(), frame.rotation


def red(picture: Any) -> list[tuple[int, int]]:
    """Return which corners are red: across and down."""
    size = (picture.width, picture.height)
    places = {
        (x, y): (round(size[0] * (0.1 + 0.8 * x)), round(size[1] * (0.1 + 0.8 * y))) for x in (0, 1) for y in (0, 1)
    }
    return [corner for corner, place in places.items() if picture.getpixel(place)[0] > 150]


@pytest.mark.parametrize("name", GOOD)
async def test_a_good_clip_is_kept_as_a_copy_that_plays_the_same_and_tells_nothing(name: str, tmp_path: Path) -> None:
    media_type, made = GOOD[name]
    path = clips.write(tmp_path / name, made)
    found = await examined(path, media_type)
    assert found.media_type == media_type
    assert found.facts["duration_s"] == pytest.approx(2.0, abs=0.1)
    if made.video:
        turned = made.turned % 180 != 0
        size = (made.height, made.width) if turned else (made.width, made.height)
        assert (found.facts["width"], found.facts["height"], found.facts["frames"]) == (*size, 50)
        assert [picture.name for picture in found.pictures] == ["poster", "thumbnail"]
    else:
        assert set(found.facts) == {"duration_s"}
        assert found.pictures == []
    _assert_tells_nothing(found.path)
    with _av.open(str(path)) as before, _av.open(str(found.path)) as after:
        kinds = [kind for kind, there in (("video", made.video), ("audio", made.audio)) if there]
        assert [stream.type for stream in after.streams] == kinds
        assert _contents(after) == _contents(before)


def _assert_tells_nothing(path: Path) -> None:
    served = path.read_bytes()
    for told in (SECRET.encode(), SECRET.encode("utf-16-le"), PLACE.encode(), b"2026-11-22", b"x264 - core", b"x265 ("):
        assert told not in served
    with _av.open(str(path)) as clip:
        ours = {"major_brand", "minor_version", "compatible_brands", "encoder"}
        assert set(clip.metadata) <= ours
        assert clip.metadata.get("encoder", "Lavf") == "Lavf", "which program copied it, and no version of it"
        assert clip.chapters() == []
        for stream in clip.streams:
            assert set(stream.metadata) <= {"language", "handler_name", "vendor_id", "DURATION", "encoder"}


def _contents(clip: Any) -> dict[str, int]:
    """Return how much there is of pictures and of sound."""
    sizes = dict[str, int]()
    for packet in clip.demux([*clip.streams.video, *clip.streams.audio]):
        sizes[packet.stream.type] = sizes.get(packet.stream.type, 0) + packet.size
    return sizes


def test_the_clips_of_these_tests_do_tell_what_must_be_gone(tmp_path: Path) -> None:
    media_type, made = GOOD["h264.mp4"]
    told = clips.write(tmp_path / media_type.replace("/", "."), made).read_bytes()
    assert SECRET.encode() in told
    assert PLACE.encode() in told
    assert b"x264 - core" in told
    assert SECRET.encode() in clips.write(tmp_path / "vorbis.ogg", GOOD["vorbis.ogg"][1]).read_bytes()
    assert SECRET.encode() in clips.write(tmp_path / "vp8.webm", GOOD["vp8.webm"][1]).read_bytes()
    assert SECRET.encode() in clips.write(tmp_path / "song.mp3", GOOD["song.mp3"][1]).read_bytes()


@pytest.mark.parametrize(("turned", "corner"), [(0, (0, 0)), (90, (0, 1)), (180, (1, 1)), (-90, (1, 0))], ids=str)
async def test_posters_are_upright_and_the_copy_is_still_turned(
    turned: int, corner: tuple[int, int], tmp_path: Path
) -> None:
    path = clips.write(
        tmp_path / "turned.mov", Made(muxer="mov", video="libx264", width=1600, height=900, turned=turned)
    )
    found = await examined(path, "video/quicktime")
    upright = (900, 1600) if turned in {90, -90} else (1600, 900)
    assert (found.facts["width"], found.facts["height"]) == upright
    sizes = list[tuple[int, int]]()
    for picture in found.pictures:
        with Image.open(picture.path) as drawn:
            assert drawn.format == "WEBP"
            assert drawn.size == (picture.width, picture.height)
            assert red(drawn.convert("RGB")) == [corner]
            sizes.append(drawn.size)
    assert [max(size) for size in sizes] == [1280, 512]
    assert first_picture(found.path)[1] == first_picture(path)[1]
    assert abs(first_picture(path)[1]) == abs(turned)


async def test_the_copy_of_an_mp4_can_be_played_before_all_of_it_is_there(tmp_path: Path) -> None:
    path = clips.write(tmp_path / "clip.mp4", GOOD["h264.mp4"][1])
    assert path.read_bytes().index(b"moov") > path.read_bytes().index(b"mdat")
    served = (await examined(path, "video/mp4")).path.read_bytes()
    assert served.index(b"moov") < served.index(b"mdat")


async def test_what_was_cut_off_by_an_edit_is_not_on_the_poster_and_does_not_count(tmp_path: Path) -> None:
    whole = clips.write(tmp_path / "whole.mp4", Made(muxer="mp4", video="libx264", audio="aac", seconds=4), {})
    path = tmp_path / "edited.mp4"
    with _av.open(str(whole)) as source, _av.open(str(path), "w") as target:
        streams = [target.add_stream_from_template(stream, opaque=True) for stream in source.streams]
        for packet in source.demux():
            if packet.size:
                shift = round(1.5 / packet.time_base)
                packet.pts, packet.dts = packet.pts - shift, packet.dts - shift
                packet.stream = streams[packet.stream_index]
                target.mux(packet)
    found = await examined(path, "video/mp4")
    assert found.facts["duration_s"] == pytest.approx(2.5, abs=0.1)
    with Image.open(found.pictures[0].path) as poster:
        drawn = poster.convert("RGB")
        shown = clips.drawn(320, 240, 1.5 / 4)
        assert red(drawn) == [(0, 0)]
        for place in ((300, 40), (300, 200), (40, 200)):
            assert drawn.getpixel(place) == pytest.approx(shown.getpixel(place), abs=12), "not the first of all"


async def test_of_more_tracks_those_are_kept_that_players_would_choose(tmp_path: Path) -> None:
    path = tmp_path / "many.mp4"
    one = clips.write(tmp_path / "one.mp4", Made(muxer="mp4", video="libx264", audio="aac"), {})
    with _av.open(str(one)) as source, _av.open(str(path), "w") as target:
        video, sound = source.streams
        copies = {
            0: [target.add_stream_from_template(video, opaque=True)],
            1: [target.add_stream_from_template(sound, opaque=True) for _ in range(3)],
        }
        packets = [(packet.stream_index, bytes(packet), packet) for packet in source.demux() if packet.size]
        for index, data, packet in packets:
            for stream in copies[index]:
                again = _av.Packet(data)
                again.pts, again.dts, again.duration = packet.pts, packet.dts, packet.duration
                again.time_base, again.is_keyframe, again.stream = packet.time_base, packet.is_keyframe, stream
                target.mux(again)
    found = await examined(path, "video/mp4")
    with _av.open(str(found.path)) as clip:
        assert [stream.type for stream in clip.streams] == ["video", "audio"]


async def test_what_sound_tells_among_its_parameters_is_gone(tmp_path: Path) -> None:
    song = clips.write(tmp_path / "song.ogg", GOOD["vorbis.ogg"][1])
    path = tmp_path / "song.webm"
    with _av.open(str(song)) as source, _av.open(str(path), "w") as target:
        stream = target.add_stream_from_template(source.streams.audio[0], opaque=True)
        plain = stream.codec_context.extradata
        first, second = plain[1], plain[2]
        told = b"TITLE=" + SECRET.encode()
        comment = b"\x03vorbis" + bytes(4) + b"\1\0\0\0" + len(told).to_bytes(4, "little") + told + b"\1"
        rest = plain[3 + first + second :]
        stream.codec_context.extradata = bytes([2, first, len(comment)]) + plain[3 : 3 + first] + comment + rest
        for packet in source.demux():
            if packet.size:
                packet.stream = stream
                target.mux(packet)
    assert SECRET.encode() in path.read_bytes()
    found = await examined(path, "video/webm")
    _assert_tells_nothing(found.path)
    with _av.open(str(found.path)) as clip:
        assert len(list(clip.decode(audio=0))) > 10


async def test_a_recorder_need_not_tell_how_long_its_wav_is(tmp_path: Path) -> None:
    path = clips.write(tmp_path / "recorded.wav", GOOD["s16.wav"][1])
    data = bytearray(path.read_bytes())
    at = data.index(b"data") + 4
    data[at : at + 4] = b"\xff\xff\xff\xff"
    path.write_bytes(data)
    assert (await examined(path, "audio/wav")).facts["duration_s"] == pytest.approx(2.0, abs=0.01)


async def test_a_cover_is_no_video_and_is_gone(tmp_path: Path) -> None:
    song = clips.write(tmp_path / "song.mp3", Made(muxer="mp3", audio="libmp3lame", options={"id3v2_version": "0"}), {})
    Image.new("RGB", (64, 64), "red").save(tmp_path / "cover.png")
    cover = b"\0image/png\0\3\0" + (tmp_path / "cover.png").read_bytes()
    frame = b"APIC" + len(cover).to_bytes(4, "big") + b"\0\0" + cover
    length = bytes((len(frame) >> shift) & 0x7F for shift in (21, 14, 7, 0))
    song.write_bytes(b"ID3\x03\0\0" + length + frame + song.read_bytes())
    with _av.open(str(song)) as clip:
        assert [stream.type for stream in clip.streams] == ["audio", "video"]
    found = await examined(song, "audio/mpeg")
    assert b"PNG" not in found.path.read_bytes()


@pytest.mark.parametrize("name", HOSTILE)
async def test_a_hostile_clip_is_refused_for_what_it_is(name: str, tmp_path: Path) -> None:
    hostile = HOSTILE[name]
    path = tmp_path / "clip"
    hostile.write(path, Canary(path=tmp_path / "other.ts", url="http://127.0.0.1:9"))
    with pytest.raises(FileRefused) as raised:
        await examined(path, hostile.media_type)
    assert type(raised.value) is hostile.refusal
    assert raised.value.text("en") != raised.value.text("ar")


@pytest.mark.skipif(sys.platform != "linux", reason="watches files by inotify")
async def test_no_clip_makes_anybody_read_another_file_or_address(tmp_path: Path) -> None:
    other = clips.write(tmp_path / "other.ts", Made(muxer="mpegts", video="libx264", seconds=0.2), {})
    with beside.untouched(other) as (watched, heard):
        canary = Canary(path=other, url=heard.url)
        for name, hostile in HOSTILE.items():
            if any(
                word in name for word in ("playlist", "list of files", "manifest", "session", "another", "elsewhere")
            ):
                path = tmp_path / "clip.mp4"
                hostile.write(path, canary)
                with pytest.raises(FileRefused):
                    await examined(path, hostile.media_type)
                (tmp_path / "made of it").rmdir()
        assert not watched.was_opened()
        assert heard.paths == []
        other.read_bytes()
        heard.ask("/a.ts")
        assert watched.was_opened(), "it would have been noticed"
        assert heard.paths == ["/a.ts"], "it would have been heard"


@pytest.mark.parametrize("name", SMUGGLED)
async def test_what_is_hidden_in_a_good_clip_is_not_served(name: str, tmp_path: Path) -> None:
    smuggled = SMUGGLED[name]
    path = tmp_path / "clip"
    smuggled.write(path, Canary(path=tmp_path / "other.ts", url=""))
    assert b"polyglot-7319" in path.read_bytes()
    served = (await examined(path, smuggled.media_type)).path.read_bytes()
    assert b"polyglot-7319" not in served
    assert HTML not in served
    assert b"PK\x05\x06" not in served


async def test_a_clip_may_be_larger_than_the_memory_of_who_examines_it(tmp_path: Path) -> None:
    small = clips.write(tmp_path / "small.mp4", Made(muxer="mp4", video="libx264", seconds=4), {})
    path = tmp_path / "large.mp4"
    filler = b"\x0c" + b"\xff" * (3 * 1024**2) + b"\x80"
    with _av.open(str(small)) as source, _av.open(str(path), "w") as target:
        stream = target.add_stream_from_template(source.streams.video[0], opaque=True)
        for packet in source.demux():
            if packet.size:
                fat = _av.Packet(bytes(packet) + len(filler).to_bytes(4, "big") + filler)
                fat.pts, fat.dts, fat.duration = packet.pts, packet.dts, packet.duration
                fat.time_base, fat.is_keyframe, fat.stream = packet.time_base, packet.is_keyframe, stream
                target.mux(fat)
    assert path.stat().st_size > 300 * 1024**2
    found = await examined(path, "video/mp4", Limits(seconds=120, memory_bytes=150 * 1024**2, file_bytes=400 * 1024**2))
    assert found.facts["frames"] == 100
    assert found.path.stat().st_size > 300 * 1024**2


async def test_a_clip_is_not_to_blame_when_there_is_no_room_for_its_copy(tmp_path: Path) -> None:
    path = clips.write(tmp_path / "clip.wav", GOOD["s16.wav"][1])
    with pytest.raises(ChildWroteTooMuch):
        await examined(path, "audio/wav", Limits(seconds=60, file_bytes=100_000))


async def test_a_clip_that_lies_about_its_length_is_measured(tmp_path: Path) -> None:
    told = track(mp4a(b"sowt"), some(8, 1), handler=b"soun", scale=48_000, seconds=100)
    path = tmp_path / "clip.m4a"
    path.write_bytes(mp4(told, seconds=100))
    with pytest.raises(UnreadableFile):
        await examined(path, "audio/mp4")


async def test_nothing_comes_of_a_clip_without_tracks(tmp_path: Path) -> None:
    path = tmp_path / "clip.mp4"
    path.write_bytes(mp4(more=box(b"udta", numbers(0))))
    with pytest.raises(UnreadableFile):
        await examined(path, "video/mp4")
