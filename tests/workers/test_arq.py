"""Drop-in is a fact: what arq's users rely on, run on our pool."""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from arq import cron
from arq.connections import ArqRedis
from arq.jobs import Job, JobStatus, ResultNotFound
from arq.worker import FailedJobs, Function, Retry, func

from infra import queue
from workers.pool import Pool

Ctx = dict[str, Any]
Build = Callable[..., Pool]


async def add(ctx: Ctx, a: int, b: int = 0) -> int:
    """Add."""
    assert ctx["job_try"] >= 1
    return a + b


async def fail(ctx: Ctx) -> None:
    """Fail for good."""
    raise ValueError("no")


async def test_a_function_runs_and_its_result_is_there(redis: ArqRedis, build: Build) -> None:
    job = await redis.enqueue_job("add", 1, b=2)
    assert job is not None
    assert await job.status() == JobStatus.queued
    assert await build(add).run_check() == 1
    assert await job.status() == JobStatus.complete
    assert await job.result(timeout=1) == 3
    info = await job.result_info()
    assert info is not None
    assert (info.function, list(info.args), info.kwargs, info.job_try, info.success) == ("add", [1], {"b": 2}, 1, True)


async def test_a_failure_is_final_and_raised_where_the_result_is_asked_for(redis: ArqRedis, build: Build) -> None:
    job = await redis.enqueue_job("fail")
    assert job is not None
    with pytest.raises(FailedJobs):
        await build(fail).run_check()
    with pytest.raises(ValueError, match="no"):
        await job.result(timeout=1)


async def test_retry_runs_again_and_counts_the_tries(redis: ArqRedis, build: Build) -> None:
    tries: list[int] = []

    async def flaky(ctx: Ctx) -> str:
        tries.append(ctx["job_try"])
        if ctx["job_try"] < 3:
            raise Retry(defer=0.01)
        return "done"

    job = await redis.enqueue_job("flaky")
    worker = build(func(flaky, name="flaky"))
    await worker.run_check()
    assert job is not None
    assert await job.result(timeout=1) == "done"
    assert (tries, worker.jobs_retried, worker.jobs_complete) == ([1, 2, 3], 2, 1)


async def test_retries_end_after_max_tries(redis: ArqRedis, build: Build) -> None:
    async def never(ctx: Ctx) -> None:
        raise Retry

    job = await redis.enqueue_job("never")
    with pytest.raises(FailedJobs):
        await build(func(never, name="never", max_tries=2)).run_check()
    assert job is not None
    with pytest.raises(RuntimeError, match="max 2 retries exceeded"):
        await job.result(timeout=1)


async def test_a_timeout_cancels_the_function(redis: ArqRedis, build: Build) -> None:
    async def slow(ctx: Ctx) -> None:
        await asyncio.sleep(30)

    job = await redis.enqueue_job("slow")
    with pytest.raises(FailedJobs):
        await build(func(slow, name="slow", timeout=0.05)).run_check()
    assert job is not None
    with pytest.raises(TimeoutError):
        await job.result(timeout=1)


async def test_an_unknown_function_fails_and_stops_nobody(redis: ArqRedis, build: Build) -> None:
    unknown = await redis.enqueue_job("poem")
    known = await redis.enqueue_job("add", 1)
    with pytest.raises(FailedJobs):
        await build(add).run_check()
    assert unknown is not None
    assert known is not None
    with pytest.raises(RuntimeError, match="'poem' not found"):
        await unknown.result(timeout=1)
    assert await known.result(timeout=1) == 1


async def test_a_job_id_is_unique_until_its_result_is_gone(redis: ArqRedis, build: Build) -> None:
    assert await redis.enqueue_job("add", 1, _job_id="one") is not None
    assert await redis.enqueue_job("add", 2, _job_id="one") is None
    await build(add).run_check()
    assert await redis.enqueue_job("add", 3, _job_id="one") is None
    assert await Job("one", redis, _deserializer=queue.deserialize).result(timeout=1) == 1


@pytest.mark.parametrize("how", ["_defer_by", "_defer_until"])
async def test_a_deferred_job_waits_for_its_time(redis: ArqRedis, build: Build, how: str) -> None:
    by = timedelta(seconds=0.3)
    options: dict[str, Any] = {how: by if how == "_defer_by" else datetime.now(UTC) + by}
    job = await redis.enqueue_job("add", 1, **options)
    assert job is not None
    assert await job.status() == JobStatus.deferred
    started = asyncio.get_running_loop().time()
    await build(add).run_check()
    assert asyncio.get_running_loop().time() - started >= 0.25
    assert await job.result(timeout=1) == 1


async def test_a_result_can_be_waited_for_while_the_job_runs(redis: ArqRedis, build: Build) -> None:
    go = asyncio.Event()

    async def held(ctx: Ctx) -> int:
        await go.wait()
        return 7

    job = await redis.enqueue_job("held")
    running = asyncio.create_task(build(func(held, name="held")).run_check())
    assert job is not None
    async with asyncio.timeout(5):
        while await job.status() != JobStatus.in_progress:  # noqa: ASYNC110 (another process would poll as well)
            await asyncio.sleep(0.01)
    waiting = asyncio.create_task(job.result(timeout=5, poll_delay=0.02))
    await asyncio.sleep(0.1)
    assert not waiting.done()
    go.set()
    assert await waiting == 7
    await running


async def test_a_running_job_is_aborted(redis: ArqRedis, build: Build) -> None:
    async def long(ctx: Ctx) -> None:
        await asyncio.sleep(30)

    job = await redis.enqueue_job("long")
    assert job is not None
    worker = build(func(long, name="long"), allow_abort_jobs=True)
    running = asyncio.create_task(worker.async_run())
    async with asyncio.timeout(5):
        while await job.status() != JobStatus.in_progress:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        assert await job.abort(timeout=5, poll_delay=0.02)
        await running
    assert (worker.jobs_failed, worker.jobs_retried) == (1, 0)


async def test_a_waiting_job_is_aborted_before_it_starts(redis: ArqRedis, build: Build) -> None:
    job = await redis.enqueue_job("add", 1, _defer_by=60)
    assert job is not None
    aborting = asyncio.create_task(job.abort(timeout=5, poll_delay=0.02))
    await asyncio.sleep(0.05)
    worker = build(add, allow_abort_jobs=True)
    await worker.async_run()
    assert await aborting
    assert worker.jobs_complete == 0


async def test_of_many_running_jobs_each_abort_stops_its_own(redis: ArqRedis, build: Build) -> None:
    stopped: list[str] = []

    async def long(ctx: Ctx) -> None:
        try:
            await asyncio.sleep(30)
        finally:
            stopped.append(ctx["job_id"])

    jobs = [await redis.enqueue_job("long") for _ in range(20)]
    worker = build(func(long, name="long"), allow_abort_jobs=True, max_jobs=20)
    running = asyncio.create_task(worker.async_run())
    async with asyncio.timeout(20):
        while len(worker.job_tasks) < len(jobs):  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        for done, job in enumerate(jobs):
            assert job is not None
            assert await job.abort(timeout=5, poll_delay=0.01)
            assert stopped[done:] == [job.job_id]
        await running


async def test_an_aborted_function_may_take_its_time_to_clean_up(redis: ArqRedis, build: Build) -> None:
    cleaned = False

    async def long(ctx: Ctx) -> None:
        nonlocal cleaned
        try:
            await asyncio.sleep(30)
        finally:
            await asyncio.sleep(0.3)  # several looks for aborts later
            cleaned = True

    job = await redis.enqueue_job("long")
    assert job is not None
    worker = build(func(long, name="long"), allow_abort_jobs=True)
    running = asyncio.create_task(worker.async_run())
    async with asyncio.timeout(5):
        while not worker.job_tasks:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        assert await job.abort(poll_delay=0.02)
        await running
    assert cleaned


@pytest.mark.parametrize("there", ["while the worker is there", "before the worker is there"])
async def test_aborting_an_unknown_id_does_not_kill_the_next_job_of_that_name(
    redis: ArqRedis, build: Build, there: str
) -> None:
    with pytest.raises((ResultNotFound, TimeoutError)):
        await Job("later", redis).result(timeout=0.01)
    idle = build(add, allow_abort_jobs=True, burst=False)
    running = asyncio.create_task(idle.async_run()) if there.startswith("while") else None
    assert not await Job("later", redis).abort(timeout=0.1, poll_delay=0.02)
    await asyncio.sleep(0.002)  # arq counts in milliseconds
    job = await redis.enqueue_job("add", 1, _job_id="later")
    assert job is not None
    running = running or asyncio.create_task(idle.async_run())
    assert await job.result(timeout=5, poll_delay=0.02) == 1
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def test_aborting_a_finished_job_does_not_kill_the_next_one_of_its_name(redis: ArqRedis, build: Build) -> None:
    first = await redis.enqueue_job("add", 1, _job_id="again")
    assert first is not None
    await build(func(add, keep_result=0), allow_abort_jobs=True).async_run()
    assert not await first.abort(timeout=0.1, poll_delay=0.02)
    await asyncio.sleep(0.002)

    async def slow(ctx: Ctx) -> int:
        await asyncio.sleep(0.3)  # several looks for aborts
        return 2

    second = await redis.enqueue_job("slow", _job_id="again")
    assert second is not None
    await build(func(slow, name="slow"), allow_abort_jobs=True).async_run()
    assert await second.result(timeout=1) == 2


async def test_aborts_of_jobs_that_are_not_there_are_forgotten_and_others_kept(
    redis: ArqRedis, build: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workers.pool._FORGET_EVERY_S", 0.05)
    elsewhere = await redis.enqueue_job("add", 1, _queue_name="arq:queue:other", _job_id="elsewhere")
    assert elsewhere is not None
    for name in ("nobody", "elsewhere"):
        await redis.zadd("arq:abort", {name: 1_900_000_000_000})  # pyright: ignore[reportUnknownMemberType]
    idle = build(add, allow_abort_jobs=True, burst=False)
    running = asyncio.create_task(idle.async_run())
    async with asyncio.timeout(5):
        while await redis.zscore("arq:abort", "nobody") is not None:  # noqa: ASYNC110
            await asyncio.sleep(0.02)
    assert await redis.zscore("arq:abort", "elsewhere") is not None, "another queue's worker has to see it"
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def test_a_worker_remembers_nothing_of_a_job_that_it_lost(redis: ArqRedis, build: Build) -> None:
    stopped = 0

    async def stubborn(ctx: Ctx) -> int:
        nonlocal stopped
        try:
            await asyncio.sleep(0.3)
        except asyncio.CancelledError:
            stopped += 1  # and it returns as if nothing had happened
        if stopped and ctx["job_try"] == 1:
            raise Retry(defer=0.01)
        return ctx["job_try"]

    job = await redis.enqueue_job("stubborn")
    assert job is not None
    worker = build(func(stubborn, name="stubborn"), burst=False)
    running = asyncio.create_task(worker.async_run())
    async with asyncio.timeout(5):
        while job.job_id not in worker.job_tasks:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    worker.losing.add("another")
    worker.lose([job.job_id])
    await asyncio.sleep(0.1)
    assert (stopped, worker.losing) == (1, {"another"}), "nothing is remembered of what has left"
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def test_cron_runs_on_its_second_and_once(redis: ArqRedis, build: Build) -> None:
    ran: list[datetime] = []

    async def tick(ctx: Ctx) -> None:
        ran.append(datetime.now(UTC))

    soon = datetime.now().astimezone() + timedelta(seconds=2)
    job = cron(tick, hour=soon.hour, minute=soon.minute, second=soon.second)  # type: ignore[arg-type]
    workers = [build(cron_jobs=[job], burst=False), build(cron_jobs=[job], burst=False)]
    running = [asyncio.create_task(worker.async_run()) for worker in workers]
    await asyncio.sleep(4)
    for task in running:
        task.cancel()
    await asyncio.gather(*running, return_exceptions=True)
    assert len(ran) == 1
    assert abs((ran[0] - soon.replace(microsecond=0)).total_seconds()) < 1


async def test_hooks_see_every_job(redis: ArqRedis, build: Build) -> None:
    seen: list[str] = []

    def hook(name: str) -> Callable[[Ctx], Any]:
        async def note(ctx: Ctx) -> None:
            seen.append(f"{name} {ctx.get('job_id', '')}".strip())

        return note

    await redis.enqueue_job("add", 1, _job_id="j")
    worker = build(
        add,
        on_startup=hook("startup"),
        on_shutdown=hook("shutdown"),
        on_job_start=hook("start"),
        on_job_end=hook("end"),
        after_job_end=hook("after"),
    )
    await worker.run_check()
    await worker.close()
    assert seen == ["startup", "start j", "end j", "after j", "shutdown"]


async def test_keep_result_zero_keeps_nothing(redis: ArqRedis, build: Build) -> None:
    job = await redis.enqueue_job("add", 1)
    assert job is not None
    await build(func(add, keep_result=0)).run_check()
    assert await job.status() == JobStatus.not_found


async def test_more_jobs_than_slots_all_run_and_never_more_than_the_slots_at_once(
    redis: ArqRedis, build: Build
) -> None:
    running = most = 0

    async def count(ctx: Ctx) -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0.01)
        running -= 1

    for _ in range(50):
        await redis.enqueue_job("count")
    assert await build(func(count, name="count"), max_jobs=7).run_check() == 50
    assert most == 7


async def test_max_burst_jobs_stops_after_that_many(redis: ArqRedis, build: Build) -> None:
    for n in range(10):
        await redis.enqueue_job("add", n)
    assert await build(add, max_burst_jobs=4).run_check() == 4
    assert await redis.zcard("arq:queue") == 6


async def test_a_function_that_cannot_be_encoded_fails_the_job_and_not_the_worker(
    redis: ArqRedis, build: Build
) -> None:
    async def strange(ctx: Ctx) -> object:
        return object()

    job = await redis.enqueue_job("strange")
    await redis.enqueue_job("add", 1)
    worker = build(func(strange, name="strange"), add)
    await worker.async_run()
    assert job is not None
    info = await job.result_info()
    assert info is not None
    assert not info.success


async def test_functions_are_taken_in_every_form_that_arq_takes() -> None:
    pool = Pool([add, func(fail, name="other"), "asyncio.sleep"], handle_signals=False)
    assert set(pool.functions) == {"add", "other", "asyncio.sleep"}
    assert isinstance(pool.functions["add"], Function)


async def test_arqs_own_check_sees_the_worker(redis: ArqRedis, build: Build) -> None:
    worker = build(add, burst=False, health_check_interval=5)
    running = asyncio.create_task(worker.async_run())
    await asyncio.sleep(0.8)
    assert (await redis.get("arq:queue:health-check") or b"").endswith(b"queued=0")
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def test_a_job_that_was_lost_and_comes_back_while_it_stops_is_not_run_beside_itself(
    redis: ArqRedis, build: Build
) -> None:
    running_now, most = 0, 0

    async def stubborn(ctx: Ctx) -> str:
        nonlocal running_now, most
        running_now += 1
        most = max(most, running_now)
        try:
            await asyncio.sleep(0.6)
        except asyncio.CancelledError:
            await asyncio.sleep(0.3)
            raise
        finally:
            running_now -= 1
        return "done"

    job = await redis.enqueue_job("stubborn")
    assert job is not None
    worker = build(func(stubborn, name="stubborn"), burst=False, max_jobs=2, lease_s=1.0)
    running = asyncio.create_task(worker.async_run())
    async with asyncio.timeout(10):
        while not worker.job_tasks:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        await redis.delete("pulse:arq:queue:leases", "pulse:arq:queue:owners")
        await redis.zadd("arq:queue", {job.job_id: 1})  # pyright: ignore[reportUnknownMemberType]
        worker.lose([job.job_id])
        await redis.lpush("pulse:arq:queue:wake", 1)  # pyright: ignore[reportGeneralTypeIssues]
        assert await job.result(timeout=8, poll_delay=0.05) == "done"
    assert most == 1
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
