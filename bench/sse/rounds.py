"""Runs `bench sse`: ten thousand viewers of few jobs and of many, the delay at a thousand streams, and the faults."""

import asyncio
import os
import signal
import time
from contextlib import ExitStack

from msgspec import Struct

from bench.sse import cast
from bench.sse.cast import Jobs, Play
from bench.sse.figures import Crowd, Delay, Faults, summary
from bench.stage import crowd, servers, usage
from bench.stage.emitter import Pace, Said, Say
from bench.stage.servers import Served, Stage

_ACCOUNTS = 100
_WARM_VIEWERS = 50
#: Rounds of one event of every job that are said before the slowest viewer has heard the first of them.
_AHEAD = 3
_SETTLE_S = 2.0
_WARM_S = 1.0
_CATCH_UP_S = 60.0


class Size(Struct, frozen=True, kw_only=True):
    """How much is measured. Crowds are (jobs, rounds of one event of each job in a segment)."""

    viewers: int
    crowds: tuple[tuple[int, int], ...]
    segments: int
    streams: int
    paced_per_s: float
    paced_s: float
    paced_rounds: int
    fault_jobs: int
    fault_s: float
    fault_per_s: float
    drops: int


QUICK = Size(
    viewers=1_000,
    crowds=((100, 20),),
    segments=1,
    streams=200,
    paced_per_s=200,
    paced_s=3,
    paced_rounds=1,
    fault_jobs=100,
    fault_s=6,
    fault_per_s=100,
    drops=50,
)
FULL = Size(
    viewers=10_000,
    crowds=((1_000, 20), (10_000, 10)),
    segments=3,
    streams=1_000,
    paced_per_s=500,
    paced_s=6,
    paced_rounds=3,
    fault_jobs=1_000,
    fault_s=20,
    fault_per_s=200,
    drops=500,
)


def run(*, quick: bool) -> dict[str, object]:
    """Return memory and connections of ten thousand viewers, deliveries a second, delays, and what faults cost."""
    size = QUICK if quick else FULL
    with servers.opened() as set_up:
        keys = asyncio.run(crowd.make(set_up.settings, _ACCOUNTS))
        others = cast.of_textbook(set_up, max(size.streams, size.crowds[0][0]))

        def jobs(count: int) -> Jobs:
            # New ones for each part: what the old ones said stays in their streams.
            return asyncio.run(cast.admit(set_up.settings, keys, count))

        crowds: list[Crowd] = []
        for count, rounds in size.crowds:
            with set_up.api() as served:
                crowds.append(_crowd(set_up, served, jobs(count), rounds, size, all_of_them=True))
        delays, theirs = _delays(set_up, jobs(size.streams), others.first(size.streams), size)
        faults = _faults(set_up, jobs(size.fault_jobs), size)
        count, rounds = size.crowds[0]
        set_up.settle()
        with set_up.textbook() as served:
            other = _crowd(set_up, served, others.first(count), rounds, size, all_of_them=False)
    return summary(crowds, delays, faults, other, theirs) | {"rounds": size.paced_rounds}


def _crowd(set_up: Stage, served: Served, jobs: Jobs, rounds: int, size: Size, *, all_of_them: bool) -> Crowd:
    with cast.playing(set_up, served, jobs.first(1), _WARM_VIEWERS, all_of_them=all_of_them):
        pass
    time.sleep(_SETTLE_S)
    before_kib = usage.private_kib(served.pid)
    with cast.playing(set_up, served, jobs, size.viewers, all_of_them=all_of_them) as play:
        time.sleep(_SETTLE_S)
        grown_kib = usage.private_kib(served.pid) - before_kib
        connections = set_up.redis_connections()  # nobody else has spoken yet
        before = _used_s(set_up, served, play)
        rates = [_saturate(play, rounds) for _ in range(size.segments)]
        seen = play.until(0).seen
        found = Crowd(
            jobs=len(jobs.speakers),
            viewers=play.viewers,
            kib_per_viewer=grown_kib / play.viewers,
            redis_connections=connections,
            deliveries_per_s=rates,
            cpu_us={part: (s - before[part]) / seen * 1e6 for part, s in _used_s(set_up, served, play).items()},
        )
        wrong = play.recount(rounds * size.segments)
        if all_of_them and (wrong.lost or wrong.repeated or wrong.misnumbered or wrong.resumed):
            raise RuntimeError(f"viewers at rest lost or repeated events, or were cut off: {wrong}")
    servers.tell(f"  {served.name}: {found}")
    return found


def _used_s(set_up: Stage, served: Served, play: Play) -> dict[str, float]:
    """Return the CPU seconds that each process has used so far."""
    valkey_s = set_up.servers_cpu_s()["valkey"]
    return {"api": usage.cpu_s(served.pid), "valkey": valkey_s, "client": play.recount(0).cpu_s}


def _saturate(play: Play, rounds: int) -> float:
    """Have every job speak so many times, never far ahead of the viewers; return the deliveries a second.

    Ends early where viewers do not see any more what they should: the textbook's may have lost their connections.
    """
    before = play.until(0).seen
    begun_s = time.monotonic()
    for number in range(1, rounds + 1):
        play.order(Say())
        wanted = before + max(0, number - _AHEAD) * play.viewers
        if play.until(wanted, _CATCH_UP_S).seen < wanted:
            break
    seen = play.until(before + rounds * play.viewers, _CATCH_UP_S)
    return (seen.seen - before) / (seen.at_s - begun_s)


def _delays(set_up: Stage, ours: Jobs, others: Jobs, size: Size) -> tuple[list[Delay], list[Delay]]:
    """Measure both in turn, each with a viewer of every job, while the other one's viewers are silent."""
    with ExitStack() as stack:
        plays: dict[str, Play] = {}
        for jobs, serving in ((ours, set_up.api()), (others, set_up.textbook())):
            served = stack.enter_context(serving)
            playing = cast.playing(set_up, served, jobs, size.streams, all_of_them=True)
            plays[served.name] = stack.enter_context(playing)
        found: dict[str, list[Delay]] = {name: [] for name in plays}
        for _ in range(size.paced_rounds):
            for name, play in plays.items():
                found[name].append(_delay(play, size))
                servers.tell(f"  {name}: {found[name][-1]}")
    return found["pulse"], found["textbook"]


def _delay(play: Play, size: Size) -> Delay:
    before = play.until(0).seen
    play.order(Pace(size.paced_per_s, _WARM_S))
    play.recount(0)
    said = play.order(Pace(size.paced_per_s, size.paced_s))
    wanted = round(size.paced_per_s * (_WARM_S + size.paced_s))
    seen = play.until(before + wanted, _CATCH_UP_S)
    if seen.seen - before < wanted:
        raise RuntimeError(f"of {said} only {seen} was seen")
    told = play.recount(0)
    return Delay(p50_ms=told.p50_ms, p99_ms=told.p99_ms, samples=told.samples)


def _faults(set_up: Stage, jobs: Jobs, size: Size) -> Faults:
    """Drop viewers at random while their jobs speak, and kill the API in the middle of it."""
    rounds = round(size.fault_per_s * size.fault_s) // len(jobs.speakers)
    events = rounds * len(jobs.speakers)
    with ExitStack() as stack:
        served = stack.enter_context(set_up.api())
        play = stack.enter_context(cast.playing(set_up, served, jobs, size.viewers, all_of_them=True))
        play.drop(size.drops, size.fault_s * 0.8)
        play.emitter.order(Pace(size.fault_per_s, events / size.fault_per_s))
        time.sleep(size.fault_s / 3)
        killed_s = time.monotonic()
        os.kill(served.pid, signal.SIGKILL)
        os.waitid(os.P_PID, served.pid, os.WEXITED | os.WNOWAIT)  # so that it is the next one that listens
        stack.enter_context(set_up.api())
        down_s = time.monotonic() - killed_s
        play.emitter.answer(Said, _CATCH_UP_S)
        said_s = time.monotonic()
        seen = play.until(rounds * play.viewers, _CATCH_UP_S)
        time.sleep(_SETTLE_S)  # for whatever would come twice
        told = play.recount(rounds)
    return Faults(
        events=events,
        viewers=play.viewers,
        drops=told.dropped,
        kills=1,
        resumed=told.resumed,
        lost=told.lost,
        repeated=told.repeated,
        misnumbered=told.misnumbered,
        down_s=round(down_s, 1),
        caught_up_s=round(max(0.0, seen.at_s - said_s), 1),
    )
