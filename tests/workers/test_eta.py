"""The times that waiting jobs are told, held against queues that are played through with a virtual clock."""

import heapq
import random
from collections.abc import Callable

import pytest

from infra.overview import Control, Overview, Place
from infra.queue import Living
from workers import eta

type RunTime = Callable[[random.Random], float]

RUN_TIMES: dict[str, RunTime] = {
    "steady": lambda chance: chance.uniform(9, 11),
    "at random": lambda chance: chance.expovariate(1 / 10),
    "now and then long": lambda chance: chance.lognormvariate(1.5, 0.9),
}


def pool(took_s: list[float], slots: int, **control: object) -> Overview:
    """Return how a queue with one worker stands."""
    worker = Living(host="here", pid=1, slots=slots, running=0, born_s=0, stopping=False)
    return Overview(
        waiting=0,
        lanes={},
        deferred=0,
        running=0,
        oldest_s=None,
        done=0,
        failed=0,
        returned=0,
        control=Control(**control),  # type: ignore[arg-type]
        workers=[worker] if slots else [],
        took_s={"chat": took_s},
    )


def place(before: int, **others: object) -> Place:
    """Return a place in the interactive lane with nobody in the other."""
    facts: dict[str, object] = {
        "lane": "interactive",
        "before_of_account": 0,
        "other_lane": 0,
        "running": 0,
        "account_running": 0,
        "kind_running": 0,
    }
    return Place(before=before, **{**facts, **others})  # type: ignore[arg-type]


def outlook(place: Place, pool: Overview, kind: str, account_cap: int = 0) -> eta.Outlook:
    """Return what a job at a place is told."""
    return eta.Pace(pool).outlook(place, kind, account_cap)


def played(run_time: RunTime, chance: random.Random, slots: int, before: int) -> tuple[float, float]:
    """Return when a job that `before` others precede starts and finishes in a pool that has long been busy."""
    # Jobs are at random points of their run at first, and long before anybody looks.
    ends, now = [chance.random() * run_time(chance) for _ in range(slots)], 300.0
    heapq.heapify(ends)
    while ends[0] < now:
        heapq.heappush(ends, heapq.heappop(ends) + run_time(chance))
    for _ in range(before):
        heapq.heappush(ends, heapq.heappop(ends) + run_time(chance))
    start = heapq.heappop(ends)
    return start - now, start + run_time(chance) - now


@pytest.mark.parametrize("name", RUN_TIMES)
@pytest.mark.parametrize(("slots", "before"), [(1, 5), (4, 20), (8, 100), (32, 40)])
def test_half_start_before_the_p50_and_nine_in_ten_before_the_p90(name: str, slots: int, before: int) -> None:
    chance, run_time = random.Random(f"{name} {slots} {before}"), RUN_TIMES[name]
    seen = [run_time(chance) for _ in range(256)]
    told = outlook(place(before, running=slots), pool(seen, slots), "chat")
    assert told.starts_in_s is not None
    assert told.finishes_in_s is not None
    rounds = [played(run_time, chance, slots, before) for _ in range(400)]
    for span, at in ((told.starts_in_s, 0), (told.finishes_in_s, 1)):
        sooner = [sum(round_[at] <= limit for round_ in rounds) / len(rounds) for limit in (span.p50, span.p90)]
        assert 0.25 <= sooner[0] <= 0.75, (span, sooner)
        assert 0.78 <= sooner[1] <= 1, (span, sooner)


def test_a_free_slot_is_taken_at_once() -> None:
    told = outlook(place(2, running=5), pool([10.0] * 9, 8), "chat")
    assert (told.position, told.starts_in_s) == (3, eta.Span(p50=0, p90=0))
    assert told.finishes_in_s == eta.Span(p50=10, p90=10)


def test_caps_make_a_job_wait_though_slots_are_free() -> None:
    free = pool([10.0] * 9, 100)
    assert outlook(place(0, running=4), free, "chat").starts_in_s == eta.Span(p50=0, p90=0)
    capped = [
        outlook(place(0, running=4, account_running=2), free, "chat", account_cap=2),
        outlook(place(0, running=4, account_running=2), pool([10.0] * 9, 100, account_cap=2), "chat", account_cap=50),
        outlook(place(0, running=4, kind_running=2), pool([10.0] * 9, 100, kind_caps={"chat": 2}), "chat"),
    ]
    for told in capped:
        assert told.starts_in_s is not None
        assert told.starts_in_s.p50 > 2


def test_the_batch_lane_waits_for_the_interactive_one_but_for_its_minimum() -> None:
    busy = pool([8.0] * 9, 8)
    times = [
        span.p50
        for lane, other in (("batch", 0), ("interactive", 1000), ("batch", 10), ("batch", 10_000))
        if (span := outlook(place(7, lane=lane, other_lane=other, running=8), busy, "chat").starts_in_s)
    ]
    assert times == sorted(times)
    assert times[0] < times[2] < times[3] <= 8 * times[0] + 8


def test_nothing_is_told_where_nothing_is_known() -> None:
    silent = [pool([], 8), pool([1.0], 0), pool([1.0], 8, paused=True)]
    assert [outlook(place(4), each, "chat") for each in silent] == [
        eta.Outlook(position=5, starts_in_s=None, finishes_in_s=None)
    ] * 3


def test_run_times_of_nothing_are_no_division_by_nothing() -> None:
    told = outlook(place(4, running=1), pool([0.0, 0.0], 1), "chat")
    assert told.starts_in_s == eta.Span(p50=0, p90=0)
