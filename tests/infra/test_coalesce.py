"""Coalescing: fewer flushes, the same answers, and nobody fails for a neighbour."""

import asyncio
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infra.coalesce import Coalescer


class Away(Exception):
    """The other side is away."""


async def test_what_is_asked_during_a_flush_goes_out_together_in_the_next() -> None:
    flushes: list[list[int]] = []

    async def flush(items: Sequence[int]) -> list[int]:
        flushes.append(list(items))
        await asyncio.sleep(0.01)
        return [item * 2 for item in items]

    doubles = Coalescer(flush, most=100)
    first = asyncio.create_task(doubles.ask(0))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    rest = await asyncio.gather(*(doubles.ask(n) for n in range(1, 250)))
    assert await first == 0
    assert rest == [n * 2 for n in range(1, 250)]
    assert [len(flush) for flush in flushes] == [1, 100, 100, 49]


@given(bad=st.sets(st.integers(0, 40)), most=st.integers(1, 50))
@settings(max_examples=60, deadline=None)
def test_a_bad_item_fails_alone(bad: set[int], most: int) -> None:
    async def flush(items: Sequence[int]) -> list[int]:
        await asyncio.sleep(0)
        if bad & set(items):
            raise ValueError(sorted(bad & set(items)))
        return list(items)

    async def run() -> list[int | BaseException]:
        same = Coalescer(flush, most=most)
        return await asyncio.gather(*(same.ask(n) for n in range(41)), return_exceptions=True)

    for n, answer in enumerate(asyncio.run(run())):
        assert isinstance(answer, ValueError) if n in bad else answer == n


async def test_when_the_other_side_is_away_everyone_is_told_and_nobody_is_asked_twice() -> None:
    calls = 0

    async def flush(_items: Sequence[int]) -> list[int]:
        nonlocal calls
        calls += 1
        raise Away

    asked = Coalescer(flush, most=10, passing=(Away,))
    answers = await asyncio.gather(*(asked.ask(n) for n in range(10)), return_exceptions=True)
    assert all(isinstance(answer, Away) for answer in answers)
    assert calls == 1


async def test_a_caller_that_leaves_does_not_disturb_the_others() -> None:
    async def flush(items: Sequence[int]) -> list[int]:
        await asyncio.sleep(0.02)
        return list(items)

    same = Coalescer(flush, most=10)
    leaving, staying = asyncio.create_task(same.ask(1)), asyncio.create_task(same.ask(2))
    await asyncio.sleep(0.005)
    leaving.cancel()
    assert await staying == 2
    with pytest.raises(asyncio.CancelledError):
        await leaving
