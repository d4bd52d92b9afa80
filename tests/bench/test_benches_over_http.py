"""The arithmetic of `bench api` and `bench sse`, and the viewers that come back when they are cut off."""

import asyncio
import os

import pytest

from bench.api import figures as submits
from bench.api.figures import HOT, MANY, OTHER_HOT, OTHER_MANY, Paced, Round, Top
from bench.sse import figures as views
from bench.sse.figures import Crowd, Delay, Faults
from bench.stage import frames, usage
from bench.stage.child import Child, ChildEnded, ChildSilent
from bench.stage.viewers import Open, Opened, Recount, Recounted, Seen, Until

_HEAD = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"


def _top(per_s: float) -> Top:
    return Top(per_s=per_s, connections=64, p50_ms=1, p99_ms=2, cpu_us={"api": 1e6 / per_s})


def _paced(p99_ms: float) -> Paced:
    return Paced(per_s=10, p50_ms=1, p99_ms=p99_ms, samples=2_000)


def _round(hot: float, other: float, half: dict[str, Paced]) -> Round:
    top = {HOT: _top(hot), MANY: _top(hot / 2), OTHER_HOT: _top(other), OTHER_MANY: _top(other), "bare": _top(100)}
    return Round(top=top, half=half, ledger_per_s=hot * 10)


def test_submissions_are_medians_and_ratios_are_of_one_round() -> None:
    half = {HOT: _paced(3), MANY: _paced(5)}
    rounds = [_round(40, 4, half), _round(60, 3, half), _round(50, 10, half | {OTHER_HOT: _paced(9)})]
    found = submits.summary(rounds)
    assert found["submits_per_s"] == {HOT: 50, MANY: 25, OTHER_HOT: 4, OTHER_MANY: 4, "bare": 100}
    assert found["ledger_hot_per_s"] == 500
    assert submits.ratios(rounds)["hot_to_textbook"] == 10  # 10, 20 and 5
    assert submits.ratios(rounds)["many_to_bare"] == 0.25


def test_the_latency_that_is_quoted_is_the_worse_one_of_ours() -> None:
    half = {HOT: _paced(3), MANY: _paced(5), OTHER_HOT: _paced(9)}
    found = submits.summary([_round(40, 4, half)])
    assert (found["p99_ms_at_half"], found["p99_ms_at_half_is_of"]) == (5, MANY)


def test_of_several_crowds_the_worst_is_quoted() -> None:
    crowds = [
        Crowd(jobs=jobs, viewers=100, kib_per_viewer=kib, redis_connections=2, deliveries_per_s=rates, cpu_us={})
        for jobs, kib, rates in ((10, 9.0, [5.0, 7.0, 6.0]), (100, 12.0, [30.0, 20.0, 40.0]))
    ]
    delays = [Delay(p50_ms=p50, p99_ms=2 * p50, samples=600) for p50 in (1.0, 3.0, 2.0)]
    faults = Faults(
        events=9,
        viewers=3,
        drops=1,
        kills=1,
        resumed=4,
        lost=0,
        repeated=0,
        misnumbered=0,
        down_s=1,
        caught_up_s=0,
    )
    found = views.summary(crowds, delays, faults, None, [])
    assert (found["kib_per_viewer"], found["deliveries_per_s"]) == (12.0, 6)
    assert found["emit_to_byte_ms"] == {"p50": 2.0, "p99": 4.0}


def test_what_this_process_uses_is_read_from_the_kernel() -> None:
    before_s = usage.cpu_s(os.getpid())
    while usage.cpu_s(os.getpid()) == before_s:
        sum(range(10_000))
    assert usage.cpu_of_family_s(os.getpid()) >= before_s
    assert usage.private_kib(os.getpid()) > 1_000


def test_a_child_that_ends_or_says_nothing_is_an_error() -> None:
    with Child("bench.stage.viewers") as silent, pytest.raises(ChildSilent, match="no Seen"):
        silent.answer(Seen, within_s=0.05)
    with Child("bench.stage.nothing") as ended, pytest.raises(ChildEnded):
        ended.answer(Seen, within_s=20)


async def test_viewers_that_are_cut_off_resume_after_what_they_have_seen() -> None:
    resumed: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Say one event and a part of the next, and break off; to one who comes back say all that is left."""
        head = await reader.readuntil(b"\r\n\r\n")
        after = head.partition(b"Last-Event-ID: 1-")[2].split(b"\r\n")[0]
        resumed.append(after)
        said = [_said(number) for number in range(int(after or 0) + 1, 4)]
        text = b"".join(said) if after else said[0] + said[1][:40]
        writer.write(_HEAD + b"%x\r\n%s\r\n" % (len(text), text))
        if not after:
            await asyncio.sleep(0.5)  # all viewers are in by then
        else:
            await reader.read()
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        told = await asyncio.to_thread(_viewed, port)
    assert sorted(resumed) == [b""] * 5 + [b"1"] * 5
    assert (told.lost, told.repeated, told.misnumbered, told.resumed) == (0, 0, 0, 5)


def _said(number: int) -> bytes:
    return b'id: 1-%d\nevent: delta\ndata: {"text":"%s"}\n\n' % (number, frames.text(number, number).encode())


def _viewed(port: int) -> Recounted:
    with Child("bench.stage.viewers") as viewers:
        order = Open(port=port, paths=["/events"] * 5, keys=["key"] * 5, numbered=True)
        assert viewers.ask(order, Opened, 20) == Opened(5, "")
        assert viewers.ask(Until(15, 15), Seen, 20).seen == 15
        return viewers.ask(Recount(3), Recounted, 20)
