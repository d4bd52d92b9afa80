"""A worker that is told to stop: it claims nothing more, ends what it can, and hands the rest to another one."""

import asyncio
import signal
from collections.abc import AsyncGenerator, Callable
from typing import Any

import pytest
from arq.connections import ArqRedis
from arq.worker import func

from infra.queue import Consumer
from tests.support.line import QUEUE, put, until
from workers.pool import Pool

Ctx = dict[str, Any]
Build = Callable[..., Pool]


@pytest.fixture
async def started(build: Build) -> AsyncGenerator[Callable[..., Pool]]:
    """Start workers of the queue as they run in a pool."""
    running: list[asyncio.Task[None]] = []

    def start(*functions: Any, **options: Any) -> Pool:
        worker = build(*functions, queue_name=QUEUE, burst=False, **options)
        running.append(asyncio.create_task(worker.async_run()))
        return worker

    yield start
    for task in running:
        task.cancel()
    await asyncio.gather(*running, return_exceptions=True)


async def test_after_sigterm_nothing_is_claimed_and_what_ends_in_the_grace_is_finished(
    redis: ArqRedis, started: Callable[..., Pool]
) -> None:
    ended: list[str] = []

    async def work(ctx: Ctx, seconds: float) -> None:
        await asyncio.sleep(seconds)
        ended.append(ctx["job_id"])

    worker = started(func(work, name="work"), max_jobs=10, job_completion_wait=30, keep_result=0)
    before = await put(redis, "work", 0.6, 0.7)
    await until(lambda: len(worker.job_tasks) == 2)
    await asyncio.sleep(0.2)  # a claim that is on its way may still find something
    worker.handle_sig_wait_for_completion(signal.SIGTERM)
    after = await put(redis, "work", 0.0, 0.0)
    assert worker.main_task is not None
    await asyncio.wait([worker.main_task])
    await worker.close()
    assert ended == before
    turn = await Consumer(redis, QUEUE, "next", 8).claim(10)
    assert [job.id for job in turn.jobs] == after


async def test_what_does_not_end_in_the_grace_goes_back_to_the_head_of_its_list_and_starts_at_once(
    redis: ArqRedis, started: Callable[..., Pool]
) -> None:
    async def work(ctx: Ctx, seconds: float) -> None:
        await asyncio.sleep(seconds)

    worker = started(func(work, name="work"), max_jobs=3, job_completion_wait=0.2)
    jobs = await put(redis, "work", 30.0, 30.0, 30.0, 30.0, 30.0)
    await until(lambda: len(worker.job_tasks) == 3)
    worker.handle_sig_wait_for_completion(signal.SIGTERM)
    assert worker.main_task is not None
    await asyncio.wait([worker.main_task])
    await worker.close()
    turn = await Consumer(redis, QUEUE, "next", 8).claim(10)
    assert [job.id for job in turn.jobs] == jobs, "in the order in which they came"
    assert {(job.tries, job.losses) for job in turn.jobs} == {(0, 0)}


async def test_jobs_of_a_claim_that_the_stop_cut_short_are_handed_back(redis: ArqRedis, build: Build) -> None:
    async def work(ctx: Ctx, seconds: float) -> None:
        pytest.fail("it had been told to stop")

    jobs = await put(redis, "work", 0.0, 0.0)
    worker = build(func(work, name="work"), queue_name=QUEUE, burst=False)
    await worker.pool.exists("anything")  # connect
    await redis.client_pause(400, all=False)  # pyright: ignore[reportUnknownMemberType]
    running = asyncio.create_task(worker.async_run())
    await asyncio.sleep(0.1)  # the claim is at the server, which writes nothing for now
    worker.handle_sig(signal.SIGTERM)
    await asyncio.gather(running, return_exceptions=True)
    await worker.close()
    turn = await Consumer(redis, QUEUE, "next", 8).claim(10)
    assert [(job.id, job.tries, job.losses) for job in turn.jobs] == [(job_id, 0, 0) for job_id in jobs]


async def test_another_worker_starts_what_was_handed_back_without_waiting(
    redis: ArqRedis, started: Callable[..., Pool]
) -> None:
    seen: list[tuple[str, int]] = []

    async def work(ctx: Ctx, seconds: float) -> None:
        seen.append((ctx["job_id"], ctx["job_try"]))
        await asyncio.sleep(seconds)

    first = started(func(work, name="work"), job_completion_wait=0.1)
    (job,) = await put(redis, "work", 30.0)
    await until(lambda: seen)
    second = started(func(work, name="work"))
    first.handle_sig_wait_for_completion(signal.SIGTERM)
    assert first.main_task is not None
    await asyncio.wait([first.main_task])
    await first.close()
    await until(lambda: second.job_tasks)  # a lease would run out after eight seconds
    assert seen == [(job, 1), (job, 1)]
