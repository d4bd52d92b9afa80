"""What the boxes of an MP4 claim is added up before anybody believes it."""

import io

import pytest

from tests.support.corpus_clips import avc1, box, full, mp4, mp4a, numbers, some, track
from workers.scan import boxes
from workers.scan.boxes import Malformed
from workers.scan.limits import CLIP_MOST_FRAMES
from workers.scan.refusals import ClipTooHeavy, TooComplex


def judge(data: bytes) -> None:
    """Judge a file of these bytes."""
    boxes.judge(io.BytesIO(data), len(data), {b"ftyp"})


GOOD = mp4(track(avc1(), some(10, 100)), track(mp4a(), some(10, 100), handler=b"soun"))


def test_a_good_one_passes_whatever_follows_its_boxes() -> None:
    judge(GOOD)
    for after in (b"\0", b"<html>", b"PK\x03\x04" + bytes(100), b"\xff\xff\xff\xffjunk"):
        judge(GOOD + after)


@pytest.mark.parametrize("cut", [1, 9, 100, 1000])
def test_a_box_that_is_cut_off_is_noticed(cut: int) -> None:
    with pytest.raises(Malformed):
        judge(GOOD[:-cut])


@pytest.mark.parametrize("length", [2, 7, 0x7FFF_FFFF])
def test_a_length_that_cannot_be_is_noticed(length: int) -> None:
    with pytest.raises(Malformed):
        judge(GOOD + numbers(length) + b"moov")
    with pytest.raises(Malformed):
        judge(mp4(more=numbers(length) + b"trak"))


def test_long_lengths_and_lengths_to_the_end_are_understood() -> None:
    media = numbers(1) + b"mdat" + (16 + 5000).to_bytes(8, "big") + bytes(5000)
    judge(GOOD + media)
    with pytest.raises(Malformed):
        judge(GOOD + media[:-1])
    judge(GOOD + numbers(0) + b"mdat" + bytes(100))


def test_there_is_one_box_of_headers() -> None:
    headers = GOOD[GOOD.index(b"moov") - 4 :]
    with pytest.raises(Malformed):
        judge(GOOD + headers)
    with pytest.raises(Malformed):
        judge(GOOD[: -len(headers)])


def test_pictures_are_counted_by_size_and_by_time() -> None:
    judge(mp4(track(avc1(), some(CLIP_MOST_FRAMES, 1))))
    with pytest.raises(ClipTooHeavy):
        judge(mp4(track(avc1(), some(CLIP_MOST_FRAMES + 1, 1))))


def test_an_hour_of_plain_sound_is_not_too_much() -> None:
    hour = 48_000 * 3600
    judge(mp4(track(mp4a(b"sowt"), some(hour, 1), handler=b"soun")))
    with pytest.raises(TooComplex):
        judge(mp4(track(mp4a(b"sowt"), some(hour, 2), handler=b"soun")))


def test_tracks_are_added_up_before_anybody_makes_tables_of_them() -> None:
    sound = track(mp4a(), some(400_000, 2), handler=b"soun")
    judge(mp4(track(avc1(), some(CLIP_MOST_FRAMES, 1)), sound))
    with pytest.raises(TooComplex):
        judge(mp4(*[sound] * 4))
    with pytest.raises(TooComplex):
        judge(mp4(*[track(avc1(), some(1, 1))] * 33))


def test_tables_that_claim_more_than_there_is_are_read_as_far_as_they_go() -> None:
    short = box(b"moov", box(b"trak", full(b"stts", numbers(2**32 - 1, 1, 1)), full(b"stsc", b""), full(b"elst", b"")))
    judge(mp4(moov=short))
