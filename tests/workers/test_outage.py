"""A Redis that goes away, or comes back as it was some time ago, under a running worker."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from typing import Any

import pytest
from arq.connections import ArqRedis
from arq.worker import func
from structlog.testing import capture_logs

from infra import queue
from infra.embedded.server import Server
from infra.queue import Consumer
from infra.settings import Settings
from tests.support.line import QUEUE, client, put, start, until
from workers.pool import Pool

Ctx = dict[str, Any]
Build = Callable[..., Pool]
#: Key -> ms to live (0: for ever), and value.
type Snapshot = dict[bytes, tuple[int, bytes]]


async def line(home: Settings, own: Server) -> AsyncGenerator[ArqRedis]:
    """A client of that Valkey."""
    redis = client(home)
    yield redis
    await redis.aclose(close_connection_pool=True)


async def until_known(redis: ArqRedis, workers: int) -> None:
    """Wait until so many workers have been heard twice: the first time they may not know of it yet."""
    async with asyncio.timeout(20):
        while await redis.zcard(f"{queue.base(QUEUE)}alive") < workers:  # noqa: ASYNC110
            await asyncio.sleep(0.02)
    await asyncio.sleep(queue.renew_every_s(8))


async def snapshot(redis: ArqRedis) -> Snapshot:
    """Return everything that Redis holds."""
    kept: Snapshot = {}
    for key in await redis.keys("*"):  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
        value = await redis.dump(key)  # pyright: ignore[reportUnknownMemberType, reportUnknownArgumentType, reportUnknownVariableType]
        kept[key] = (max(0, await redis.pttl(key)), value)  # pyright: ignore[reportUnknownArgumentType]
    return kept


async def go_back(redis: ArqRedis, kept: Snapshot) -> None:
    """Make Redis what it was then, in one step."""
    async with redis.pipeline(transaction=True) as pipe:
        pipe.flushall()  # pyright: ignore[reportUnknownMemberType]
        for key, (ttl_ms, value) in kept.items():
            pipe.restore(key, ttl_ms, value)  # pyright: ignore[reportUnknownMemberType]
        await pipe.execute()


async def test_a_worker_outlives_an_outage_and_reports_what_ended_meanwhile(
    home: Settings, own: Server, line: ArqRedis
) -> None:
    go, ran = asyncio.Event(), list[str]()

    async def held(ctx: Ctx, name: str) -> str:
        ran.append(name)
        if name == "during":
            await go.wait()
        return name

    worker = Pool([func(held, name="held")], queue_name=QUEUE, redis_pool=client(home), handle_signals=False)
    running = asyncio.create_task(worker.async_run())
    (during,) = await put(line, "held", "during")
    await until(lambda: ran)
    with capture_logs() as told:
        await asyncio.to_thread(own.stop)
        go.set()
        await asyncio.sleep(3)
        assert not running.done()
        assert len(told) < 60, "it asks now and then, and not all the time"
        await asyncio.to_thread(start, own)
        await put(line, "held", "after")
        await until(lambda: "after" in ran)
    async with asyncio.timeout(20):
        while not await line.exists(f"arq:result:{during}"):  # noqa: ASYNC110
            await asyncio.sleep(0.02)
    assert ran == ["during", "after"]
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    await worker.close()


@pytest.mark.parametrize("then", ["it waited", "another worker ran it", "it was not there"])
async def test_a_running_job_does_not_run_twice_when_redis_goes_back_in_time(
    redis: ArqRedis, build: Build, then: str
) -> None:
    starts: list[str] = []
    earlier: Snapshot = {}

    async def long(ctx: Ctx, seconds: float) -> None:
        starts.append(ctx["job_id"])
        await asyncio.sleep(seconds)

    first, second = (build(func(long, name="long"), queue_name=QUEUE, burst=False) for _ in range(2))
    (job,) = await put(redis, "long", 4.0)
    if then == "another worker ran it":
        await Consumer(redis, QUEUE, "dead", 0.1).claim(1)
        await asyncio.sleep(0.2)
    if then != "it was not there":
        earlier = await snapshot(redis)
    running = [asyncio.create_task(first.async_run())]
    await until(lambda: first.job_tasks)
    running.append(asyncio.create_task(second.async_run()))
    await until_known(redis, 2)
    await go_back(redis, earlier)
    assert first.main_task is not None
    await until(lambda: not first.job_tasks)
    await asyncio.sleep(0.5)
    assert starts == [job]
    assert (first.jobs_complete, first.jobs_retried, second.jobs_complete) == (1, 0, 0)
    assert await redis.zcard(QUEUE) == 0, "and it is over for good"
    for task in running:
        task.cancel()
    await asyncio.gather(*running, return_exceptions=True)


async def test_work_goes_on_in_a_redis_that_went_back_in_time(redis: ArqRedis, build: Build) -> None:
    ran: list[str] = []

    async def note(ctx: Ctx, name: str) -> None:
        ran.append(ctx["job_id"])

    worker = build(func(note, name="note"), queue_name=QUEUE, burst=False)
    (job,) = await put(redis, "note", "first")
    earlier = await snapshot(redis)
    running = asyncio.create_task(worker.async_run())
    await until(lambda: ran)
    await until_known(redis, 1)
    await go_back(redis, earlier)
    await until(lambda: len(ran) == 2)
    assert ran == [job, job], "what was over is told apart by who has the truth, PostgreSQL; it blocks nobody here"
    (later,) = await put(redis, "note", "second")
    await until(lambda: later in ran)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def test_an_idle_worker_hardly_asks_redis_anything(redis: ArqRedis, build: Build) -> None:
    async def nothing(ctx: Ctx) -> None:
        pass

    worker = build(func(nothing, name="nothing"), queue_name=QUEUE, burst=False, allow_abort_jobs=True)
    running = asyncio.create_task(worker.async_run())
    await until_known(redis, 1)
    await redis.config_resetstat()  # pyright: ignore[reportUnknownMemberType]
    await asyncio.sleep(3)
    said: Any = await redis.info("commandstats")  # pyright: ignore[reportUnknownMemberType]
    asked = {name.removeprefix("cmdstat_"): calls["calls"] for name, calls in said.items()}
    assert asked["evalsha"] <= 3 * 5, asked  # a look and a renewal each second
    assert asked["blpop"] <= 3 * 3, asked
    assert sum(asked.values()) <= 3 * 50, f"what the scripts do is counted too: {asked}"
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
