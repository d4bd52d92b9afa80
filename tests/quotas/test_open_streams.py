"""Open streams: counted over all processes, whatever becomes of a process or of Redis."""

import asyncio
import time
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any
from uuid import UUID

import msgspec
import pytest
from arq.connections import ArqRedis

from infra import ids
from infra import redis as road
from infra.settings import Settings
from quotas.limits import OpenStreams, TooManyStreams
from quotas.limits.streams import _PREFIX, _SCRIPT  # pyright: ignore[reportPrivateUsage]
from tests.support.fleet import Backend

LAYLA, OMAR = ids.new(), ids.new()


@asynccontextmanager
async def processes(settings: Settings, most: int) -> AsyncGenerator[tuple[OpenStreams, OpenStreams]]:
    """Give the open streams of two processes, with connections of their own."""
    limited = msgspec.structs.replace(settings, account_streams=most)
    async with road.connect(limited) as one, road.connect(limited) as other:
        both = OpenStreams(one, limited), OpenStreams(other, limited)
        yield both
        for streams in both:
            await streams.close()


async def until_opened(stack: AsyncExitStack, streams: OpenStreams) -> None:
    """Open a stream as soon as there is room; the ends of others may still be on their way."""
    async with asyncio.timeout(5):
        while True:
            if await opened(stack, streams):
                return
            await asyncio.sleep(0.01)


async def opened(stack: AsyncExitStack, streams: OpenStreams, account_id: UUID = LAYLA) -> bool:
    """Open a stream until the end of `stack`, and tell whether that could be."""
    try:
        await stack.enter_async_context(streams.open(account_id))
    except TooManyStreams:
        return False
    return True


async def counts(settings: Settings) -> list[int]:
    """Return how many streams of Layla Redis knows of each process."""
    async with road.connect(settings) as redis:
        client: Any = redis
        told: list[bytes] = await client.hvals(f"{_PREFIX}{LAYLA}")
    return [int(said.partition(b":")[0]) for said in told]


async def test_of_200_at_once_over_two_processes_exactly_as_many_open_as_may(settings: Settings) -> None:
    async with processes(settings, 50) as both:
        async with AsyncExitStack() as stack:
            tried = await asyncio.gather(*(opened(stack, both[n % 2]) for n in range(200)))
            assert sum(tried) == 50
            assert not await opened(stack, both[0])
            assert await opened(stack, both[0], OMAR)
        async with AsyncExitStack() as stack:
            for n in range(50):
                await until_opened(stack, both[n % 2])
            assert not await opened(stack, both[1])


async def test_a_stream_that_ends_makes_room_for_one(settings: Settings, redis: ArqRedis) -> None:
    async with processes(settings, 1) as (one, other), AsyncExitStack() as stack:
        for streams in (one, other, one):
            async with streams.open(LAYLA):
                assert not await opened(stack, one)
                assert not await opened(stack, other)
        await other.renew()
        await one.renew()
    client: Any = redis
    assert await client.keys(f"{_PREFIX}*") == [], "nothing is left behind"


async def test_a_process_that_is_not_heard_of_counts_no_longer(settings: Settings, redis: ArqRedis) -> None:
    long_ago, minute_ms, tomorrow = 1, 60_000, int(time.time() + 86_400) * 1000
    script: Any = redis.register_script(_SCRIPT)
    for process, now in (("dead", long_ago), ("of another clock", tomorrow)):
        said = msgspec.msgpack.encode((now, process, minute_ms, 9, [(str(LAYLA), 0, 9)]))
        assert await script([], [_PREFIX, said]) == [9]
    async with processes(settings, 3) as (one, other), AsyncExitStack() as stack:
        assert [await opened(stack, streams) for streams in (one, other, one, other)] == [True] * 3 + [False]
        assert await redis.hlen(f"{_PREFIX}{LAYLA}") == 2  # pyright: ignore[reportGeneralTypeIssues]


async def test_a_redis_that_forgot_is_told_again(settings: Settings, redis: ArqRedis) -> None:
    async with processes(settings, 2) as (one, other), AsyncExitStack() as stack:
        assert await opened(stack, one)
        assert await opened(stack, one)
        await redis.flushall()  # pyright: ignore[reportUnknownMemberType]
        await one.renew()
        assert not await opened(stack, other)


async def test_whoever_leaves_while_asking_keeps_nothing_open(settings: Settings) -> None:
    async with processes(settings, 1) as (one, other):
        for _ in range(20):
            asking = asyncio.create_task(one.open(LAYLA).__aenter__())
            await asyncio.sleep(0)
            asking.cancel()
            await asyncio.gather(asking, return_exceptions=True)
        await one.renew()  # all that was asked has been answered
        async with AsyncExitStack() as stack:
            await until_opened(stack, other)


@pytest.mark.parametrize("how", ["killed", "frozen"])
async def test_without_redis_each_process_holds_the_limit_for_itself(
    mortal: tuple[Settings, Backend], how: str
) -> None:
    settings, backend = mortal
    async with processes(settings, 5) as (one, other), AsyncExitStack() as stack:
        assert await opened(stack, one)
        if how == "killed":
            await backend.kill()
        else:
            backend.freeze()
        async with asyncio.timeout(10):
            assert sum([await opened(stack, one) for _ in range(20)]) == 4
            assert sum([await opened(stack, other) for _ in range(20)]) == 5
        if how == "killed":
            await backend.start()
        else:
            backend.thaw()
        await asyncio.sleep(1.1)  # then it is asked again
        await one.renew()
        await other.renew()
        assert not await opened(stack, one), "there are ten open, and both know"
        told = await counts(settings)
        assert sorted(told) == [4 + 1, 5]


async def test_a_process_that_goes_down_waits_for_streams_that_are_ending_and_asks_no_more(
    settings: Settings, redis: ArqRedis
) -> None:
    async with processes(settings, 2) as (one, other):
        stack = AsyncExitStack()
        assert await opened(stack, one)
        closing = asyncio.create_task(one.close())
        await asyncio.sleep(0.05)
        assert not closing.done()
        await stack.aclose()
        await closing
        client: Any = redis
        assert await client.keys(f"{_PREFIX}*") == []
        assert not await opened(AsyncExitStack(), one)
        async with AsyncExitStack() as rest:
            assert await opened(rest, other)
