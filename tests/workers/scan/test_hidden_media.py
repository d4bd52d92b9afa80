"""What hides in clips and pictures: samples named many times, frames beyond the picture, words between frames."""

import struct
import time
from fractions import Fraction
from pathlib import Path
from typing import Any, cast

import av
import pytest
from PIL import Image

from tests.support import clips
from tests.support.clips import GOOD, Made
from tests.support.corpus import asked
from tests.support.corpus_clips import HOSTILE, Canary
from tests.support.pictured import crowded_gif, encoded, opened, photo, profiled_png
from workers.scan.examine import examine
from workers.scan.refusals import TooComplex, TooManyFrames, UnreadableFile

_av = cast("Any", av)  # its types are full of holes


def test_a_picture_that_is_named_hundreds_of_times_does_not_become_a_huge_copy(tmp_path: Path) -> None:
    HOSTILE["one picture named 400 times"].write(tmp_path / "clip", Canary(path=tmp_path / "other", url=""))
    data = (tmp_path / "clip").read_bytes()
    question = asked(tmp_path, data, "video/mp4")
    with pytest.raises(UnreadableFile):
        examine(question)
    assert sum(path.stat().st_size for path in question.folder.iterdir() if path.suffix == ".mp4") <= 2 * len(data)


def test_frames_larger_than_their_gif_count_as_what_they_are(tmp_path: Path) -> None:
    with pytest.raises(TooManyFrames) as raised:
        examine(asked(tmp_path, crowded_gif(12, 6000), "image/gif"))
    assert raised.value.facts["width"] == 6000
    assert examine(asked(tmp_path, crowded_gif(12, 60), "image/gif")).facts["frames"] == 12


def _noted(notes: bytes, *, jfif: bool) -> bytes:
    """Return a JPEG with a camera's notes, and without the head that says that it is one in the usual format."""
    plain = encoded(photo(), "JPEG")
    rest = plain[2:] if jfif else plain[4 + int.from_bytes(plain[4:6], "big") :]
    segment = b"Exif\0\0" + notes
    return plain[:2] + b"\xff\xe1" + struct.pack(">H", 2 + len(segment)) + segment + rest


@pytest.mark.parametrize("jfif", [True, False])
@pytest.mark.parametrize(
    "notes",
    [
        b"II*\0" + struct.pack("<IHHHII", 8, 2, 0x0112, 3, 1, 6) + struct.pack("<HHIII", 0x010F, 2, 500, 4000, 0),
        b"MM\0*" + struct.pack(">IH", 8, 40) + b"24.7136N" * 4,
        b"II*\0" + struct.pack("<IHHHIII", 8, 1, 0x0128, 3, 2, 0x0002_0002, 0),
        b"II*\0" + struct.pack("<I", 4000),
    ],
    ids=["a maker beyond the end", "fields cut off", "two units of resolution", "fields beyond the end"],
)
def test_damaged_notes_of_a_camera_do_no_harm_and_are_gone(tmp_path: Path, notes: bytes, jfif: bool) -> None:
    data = _noted(notes, jfif=jfif)
    found = examine(asked(tmp_path, data, "image/jpeg"))
    assert sorted((found.facts["width"], found.facts["height"])) == sorted(photo().size)
    served = found.path.read_bytes()
    assert b"Exif" not in served
    assert b"24.7136N" not in served
    assert not opened(served).getexif()


def test_a_picture_that_pillow_calls_a_bomb_is_still_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 50_000)
    with pytest.raises(UnreadableFile):
        examine(asked(tmp_path, crowded_gif(2, 300), "image/gif"))


_TOLD = b"polyglot-7319 24.7136N"
_SONG = Made(muxer="mp3", audio="libmp3lame", seconds=1, options={"id3v2_version": "0"})


@pytest.mark.parametrize(
    "between",
    [
        b"LYRICSBEGIN" + _TOLD * 3 + b"000070LYRICS200",
        b"<html>" + _TOLD * 20 + b"</html>",
        b"ID3\4\0\0\0\0\1\0" + _TOLD.ljust(128, b"\0"),
        b"TAG" + _TOLD.ljust(125, b"\0"),
    ],
    ids=["lyrics", "HTML", "a tag of the second kind", "a tag of the first kind"],
)
@pytest.mark.parametrize("last", [False, True])
def test_what_lies_between_or_behind_the_frames_of_an_mp3_is_not_served(
    tmp_path: Path, between: bytes, last: bool
) -> None:
    song = clips.write(tmp_path / "song.mp3", _SONG, {}).read_bytes()
    found = examine(asked(tmp_path, song + between + (b"" if last else song), "audio/mpeg"))
    assert _TOLD not in found.path.read_bytes()
    assert found.facts["duration_s"] == pytest.approx(1.02 if last else 2.05, abs=0.06)


def test_an_mp3_whose_frames_do_not_tell_their_length_is_refused(tmp_path: Path) -> None:
    frame = bytes.fromhex("fffb0064") + bytes(413)
    with pytest.raises(UnreadableFile):
        examine(asked(tmp_path, b"ID3\4" + bytes(6) + frame * 40, "audio/mpeg"))


@pytest.mark.parametrize("name", ["opus.ogg", "vorbis.ogg", "flac.ogg"])
def test_an_ogg_after_which_another_begins_is_refused(tmp_path: Path, name: str) -> None:
    media_type, made = GOOD[name]
    song = clips.write(tmp_path / name, made, {}).read_bytes()
    assert examine(asked(tmp_path, song, media_type)).facts["duration_s"] == pytest.approx(2.0, abs=0.1)
    with pytest.raises(UnreadableFile):
        examine(asked(tmp_path, song + clips.write(tmp_path / name, made).read_bytes(), media_type))


def test_pictures_that_are_not_to_be_shown_are_not_all_decoded(tmp_path: Path) -> None:
    HOSTILE["300 pictures that are not to be shown"].write(tmp_path / "clip", Canary(path=tmp_path / "other", url=""))
    question = asked(tmp_path, (tmp_path / "clip").read_bytes(), "video/webm")
    start = time.process_time()
    with pytest.raises(UnreadableFile):
        examine(question)
    assert time.process_time() - start < 1


@pytest.mark.parametrize("profile_mib", [1, 40])
def test_a_profile_is_not_copied_to_any_number_of_frames(tmp_path: Path, profile_mib: int) -> None:
    data = profiled_png(900, profile_mib * 1024**2)
    start = time.process_time()
    with pytest.raises(TooComplex):
        examine(asked(tmp_path, data, "image/png"))
    assert time.process_time() - start < 1


@pytest.mark.parametrize("times", [[0], [5000], [5000 + 40 * number for number in range(20)], [0, 1, 2, 500, 900]])
@pytest.mark.parametrize("live", ["0", "1"])
def test_a_recorder_may_begin_late_or_at_once_or_stop_after_one_picture(
    tmp_path: Path, times: list[int], live: str
) -> None:
    made = Made(muxer="webm", video="libvpx", seconds=1, coding=clips.HASTE)
    path = tmp_path / "recorded.webm"
    with (
        _av.open(str(clips.write(tmp_path / "whole.webm", made, {}))) as source,
        _av.open(str(path), "w", options={"live": live}) as target,
    ):
        stream = target.add_stream_from_template(source.streams.video[0], opaque=True)
        for at, packet in zip(times, source.demux(), strict=False):
            packet.time_base, packet.stream = Fraction(1, 1000), stream
            packet.pts = packet.dts = at
            packet.duration = None
            target.mux(packet)
    found = examine(asked(tmp_path, path.read_bytes(), "video/webm"))
    assert found.facts["frames"] == len(times)
    assert found.facts["duration_s"] == pytest.approx((times[-1] - times[0]) / 1000, abs=0.1)


@pytest.mark.parametrize("codec", ["pcm_u8", "pcm_s32le", "pcm_f64le"])
def test_plain_sound_in_other_depths_is_kept(tmp_path: Path, codec: str) -> None:
    data = clips.write(tmp_path / "plain.wav", Made(muxer="wav", audio=codec, seconds=1)).read_bytes()
    found = examine(asked(tmp_path, data, "audio/wav"))
    assert found.facts == {"duration_s": 1.0}
    assert clips.SECRET.encode() not in found.path.read_bytes()
