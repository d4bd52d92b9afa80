"""Server-sent events: the same ones wherever the pieces of a stream are cut."""

from collections.abc import AsyncIterator

import pytest

from providers import sse

EVENTS = (
    'event: a\nid: 1\ndata: {"سلام": "\u2028\x85"}\n\n: ping\n\ndata:one\ndata: two\ndata\n\nevent: b\n\ndata: \n\n'
)
SAID = ['{"سلام": "\u2028\x85"}', "one\ntwo\n", ""]


async def cut(whole: bytes, at: int) -> AsyncIterator[bytes]:
    """Yield two pieces."""
    yield whole[:at]
    yield whole[at:]


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
async def test_events_are_the_same_wherever_a_stream_is_cut(end: str) -> None:
    whole = EVENTS.replace("\n", end).encode() + b": the last line of all ends what may be half of an end\n"
    for at in range(len(whole)):
        assert [data async for data in sse.events(cut(whole, at))] == SAID, at


async def test_an_event_without_its_end_is_none() -> None:
    assert [data async for data in sse.events(cut(b"data: one\n\ndata: tw", 3))] == ["one"]
    assert [data async for data in sse.events(cut(b"data: one\n\ndata: two\n", 3))] == ["one"]
