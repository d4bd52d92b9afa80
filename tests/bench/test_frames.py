"""How a viewer of the benches reads a stream, and how it counts what it has seen."""

import pytest

from bench.stage import frames
from bench.stage.frames import BrokenStream, Heard, Stream, Tally

_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"


def _event(number: int, line_end: bytes = b"\n") -> bytes:
    data = b'{"type":"delta","text":"%s"}' % frames.text(1_000 + number, number).encode()
    return line_end.join([b"id: 1-%d" % number, b"event: delta", b"data: " + data, b"", b""])


def _chunk(text: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(text), text)


def _heard(stream: Stream, *pieces: bytes) -> list[Heard]:
    read = [frames.read(frame) for piece in pieces for frame in stream.take(piece)]
    return [heard for heard in read if heard is not None]


@pytest.mark.parametrize("line_end", [b"\n", b"\r\n"])
def test_events_are_read_whatever_the_pieces_that_they_come_in(line_end: bytes) -> None:
    said = _event(1, line_end) + _event(2, line_end)
    wire = _HEAD + _chunk(b"retry: 1000\n\n") + _chunk(said[:30]) + _chunk(said[30:]) + _chunk(_event(3))
    wanted = [Heard(b"1-1", 1_001, 1), Heard(b"1-2", 1_002, 2), Heard(b"1-3", 1_003, 3)]
    assert _heard(Stream(), wire) == wanted
    if line_end == b"\n":
        assert _heard(Stream(), *(wire[at : at + 1] for at in range(len(wire)))) == wanted


def test_an_event_that_has_not_come_whole_was_not_seen() -> None:
    stream = Stream()
    assert _heard(stream, _HEAD + _chunk(_event(1)[:-1])) == []
    assert stream.is_open
    assert _heard(stream, _chunk(b"\n")) == [Heard(b"1-1", 1_001, 1)]


def test_comments_and_other_events_are_passed_over() -> None:
    assert frames.read(b": ") is None
    assert frames.read(b'id: 0-1\nevent: queued\ndata: {"type":"queued"}') is None


def test_the_end_of_a_stream_is_told_from_a_pause() -> None:
    stream = Stream()
    assert _heard(stream, _HEAD + _chunk(b": \n\n")) == []
    assert not stream.is_over
    assert _heard(stream, b"0\r\n\r\n") == []
    assert stream.is_over


def test_an_answer_that_is_no_stream_is_refused_with_what_it_says() -> None:
    with pytest.raises(BrokenStream, match="too many"):
        _heard(Stream(), b"HTTP/1.1 429 Too Many Requests\r\ncontent-length: 8\r\n\r\ntoo many")


def _tally(*numbers: int) -> Tally:
    tally = Tally()
    for number in numbers:
        tally.see(number)
    return tally


def test_each_once_and_in_order_is_neither_lost_nor_repeated() -> None:
    assert (_tally(1, 2, 3).missing(3), _tally(1, 2, 3).repeated) == (0, 0)


def test_a_gap_and_a_missing_end_are_lost() -> None:
    assert _tally(1, 4).missing(4) == 2
    assert _tally(1, 2).missing(5) == 3
    assert _tally().missing(2) == 2


def test_what_comes_again_is_repeated_and_no_news() -> None:
    tally = _tally(1, 2)
    assert not tally.see(2)
    assert not tally.see(1)
    assert tally.see(3)
    assert (tally.missing(3), tally.repeated) == (0, 2)
