"""Lines are the same however the stream comes in pieces, and nothing is gathered of one that is too long."""

import random

import pytest

from workers.batches.cutting import Cut, Cutter

MOST = 12


def cut(data: bytes, sizes: random.Random | int, cutter: Cutter) -> list[Cut]:
    """Cut a stream that comes in pieces of some size."""
    cuts, at = list[Cut](), 0
    while at < len(data):
        size = sizes if isinstance(sizes, int) else sizes.randint(1, 9)
        cuts += cutter.feed(data[at : at + size])
        at += size
    return cuts + cutter.finish()


@pytest.mark.parametrize(
    ("data", "lines"),
    [
        (b"", {}),
        (b"\n", {}),
        (b"a", {1: b"a"}),
        (b"a\n", {1: b"a"}),
        (b"a\r\nb\r\n", {1: b"a", 2: b"b"}),
        (b"a\rb\n\r\n \t\n\nc", {1: b"a\rb", 5: b"c"}),
        (b"a\n\n\n", {1: b"a"}),
        (b"\n \n", {}),
        (b"  ", {}),
        (b"\xef\xbb\xbfa\n\xef\xbb\xbfb\n", {1: b"a", 2: b"\xef\xbb\xbfb"}),
        (b"\xef\xbb\xbf", {}),
        (b"x" * MOST + b"\n" + b"x" * (MOST + 1) + b"\ny\n", {1: b"x" * MOST, 2: None, 3: b"y"}),
        (b"\xef\xbb\xbf" + b"x" * MOST + b"\r\n" + b"x" * MOST + b"\r\n", {1: b"x" * MOST, 2: b"x" * MOST}),
        (b"\xef\xbb\xbf" + b"x" * (MOST + 1) + b"\ny", {1: None, 2: b"y"}),
        (b"z" * 1000 + b"\n" + b"z" * 1000, {1: None, 2: None}),
        ("سطر\nسطر\r\n".encode(), {1: "سطر".encode(), 2: "سطر".encode()}),
    ],
    ids=range(16),
)
@pytest.mark.parametrize("size", [1, 2, 3, 5, 1000])
def test_lines_are_cut_wherever_the_pieces_end(data: bytes, lines: dict[int, bytes | None], size: int) -> None:
    cutter = Cutter(0, 0, MOST)
    cuts = cut(data, size, cutter)
    assert {it.number: it.raw for it in cuts} == lines
    is_open = bool(data) and not data.endswith(b"\n")
    assert [it.is_open for it in cuts] == [is_open and it.end == len(data) for it in cuts]
    assert (cutter.place, cutter.number) == (len(data), data.count(b"\n") + is_open)


def test_cutting_goes_on_from_the_end_of_any_line() -> None:
    dice = random.Random(6)
    for _ in range(300):
        data = b"".join(dice.choice([b"a", b"\n", b"\r\n", b"bc", b"x" * MOST]) for _ in range(dice.randint(0, 40)))
        whole = cut(data, dice, Cutter(0, 0, MOST))
        for done, stop in enumerate(whole):
            assert cut(data[stop.end :], dice, Cutter(stop.end, stop.number, MOST)) == whole[done + 1 :]


def test_nothing_is_gathered_of_a_line_that_is_too_long() -> None:
    cutter = Cutter(0, 0, MOST)
    for _ in range(100):
        assert cutter.feed(b"x" * 1000) == []
        assert sum(map(len, vars(cutter)["_begun"])) <= MOST + 4
    assert cutter.feed(b"\nab\n") == [Cut(1, None, 100_001), Cut(2, b"ab", 100_004)]
