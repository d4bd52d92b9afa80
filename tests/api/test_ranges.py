"""What of an object is wanted, as RFC 9110 says."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api import ranges
from api.ranges import Part, RangeNotSatisfiable, Tail

ETAG = '"abc"'


@pytest.mark.parametrize(
    ("asked", "part"),
    [
        ("bytes=0-0", Part(start=0, length=1)),
        ("bytes=0-9", Part(start=0, length=10)),
        ("bytes=0-99", Part(start=0, length=10)),
        ("bytes=3-", Part(start=3, length=7)),
        ("bytes=9-", Part(start=9, length=1)),
        ("bytes=-1", Part(start=9, length=1)),
        ("bytes=-10", Part(start=0, length=10)),
        ("bytes=-99", Part(start=0, length=10)),
        ("Bytes= 2-3 ", Part(start=2, length=2)),
        ("", None),
        ("bytes=-", None),
        ("bytes=5-3", None),
        ("bytes=a-b", None),
        ("bytes=1", None),
        ("bytes=0-1,3-4", None),
        ("bytes=+1-2", None),
        ("bytes=\u0661-\u0662", None),
        ("lines=0-1", None),
        ("bytes=0-" + "9" * 5000, None),
    ],
)
def test_one_range_is_honoured_and_anything_else_is_the_whole(asked: str, part: Part | None) -> None:
    assert ranges.wanted({"range": asked}, ETAG, 10) == part


@pytest.mark.parametrize("asked", ["bytes=10-", "bytes=10-20", "bytes=99-", "bytes=-0"])
def test_a_range_beyond_the_end_is_refused(asked: str) -> None:
    with pytest.raises(RangeNotSatisfiable):
        ranges.wanted({"range": asked}, ETAG, 10)


def test_nothing_is_a_range_of_nothing() -> None:
    for asked in ("bytes=0-", "bytes=-5"):
        with pytest.raises(RangeNotSatisfiable):
            ranges.wanted({"range": asked}, ETAG, 0)


@pytest.mark.parametrize(
    ("asked", "tail"),
    [
        ("", None),
        ("bytes=5-3", None),
        ("bytes=0-", Tail(start=0, end=None)),
        ("bytes=3-", Tail(start=3, end=None)),
        ("bytes=10-", Tail(start=10, end=None)),
        ("bytes=3-5", Tail(start=3, end=6)),
        ("bytes=10-19", Tail(start=10, end=20)),
        ("bytes=-4", Tail(start=6, end=None)),
        ("bytes=-99", Tail(start=0, end=None)),
    ],
)
def test_a_range_of_what_grows_may_begin_at_its_end_and_reach_beyond(asked: str, tail: Tail | None) -> None:
    assert ranges.wanted_of_growing({"range": asked}, ETAG, 10) == tail
    assert ranges.wanted_of_growing({"range": asked, "if-range": '"x"'}, ETAG, 10) is None


def test_a_range_of_what_grows_begins_where_something_is_or_comes_next() -> None:
    with pytest.raises(RangeNotSatisfiable):
        ranges.wanted_of_growing({"range": "bytes=11-"}, ETAG, 10)


@given(first=st.integers(0, 50), last=st.integers(0, 50), size=st.integers(1, 40))
def test_a_range_never_leads_out_of_the_object(first: int, last: int, size: int) -> None:
    for asked in (f"bytes={first}-{last}", f"bytes={first}-", f"bytes=-{last}"):
        try:
            part = ranges.wanted({"range": asked}, ETAG, size)
        except RangeNotSatisfiable:
            continue
        if part is not None:
            assert 0 <= part.start < part.start + part.length <= size


@pytest.mark.parametrize(("if_range", "whole"), [(ETAG, False), ('"other"', True), ("W/" + ETAG, True), ("Mon", True)])
def test_if_range_gives_the_whole_of_another_object(if_range: str, whole: bool) -> None:
    part = ranges.wanted({"range": "bytes=0-1", "if-range": if_range}, ETAG, 10)
    assert (part is None) is whole


@pytest.mark.parametrize(
    ("header", "fresh"),
    [
        (ETAG, True),
        ("*", True),
        (f'"x", {ETAG}', True),
        (f"W/{ETAG}", True),
        ('"abcd"', False),
        ("abc", False),
        ("", False),
    ],
)
def test_what_is_had_already_is_known_by_its_tag(header: str, fresh: bool) -> None:
    assert ranges.is_fresh({"if-none-match": header}, ETAG) is fresh
