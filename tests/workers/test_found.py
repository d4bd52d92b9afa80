"""What a hostile reading of the queue and the pool found, each as it would hurt, and mended."""

import asyncio
import os
import signal
import threading
import time
from collections.abc import Callable
from datetime import datetime, timedelta
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import pytest
from arq import cron
from arq.connections import ArqRedis
from arq.worker import Retry, func
from redis.asyncio.sentinel import Sentinel
from redis.exceptions import ReadOnlyError

from infra import ids, pidfile, queue
from infra import redis as road
from infra.embedded.server import Server
from infra.queue import Consumer, Queue, Renewer, Waiting
from infra.settings import Settings
from tests.support import chats
from tests.support.chats import Client, submit
from tests.support.line import QUEUE, put, start, until
from tests.support.work import working
from workers import kinds
from workers.context import Made, Run
from workers.leases import Leases
from workers.lifecycle import Attempt
from workers.pool import Pool

Ctx = dict[str, Any]


def renewer(redis: ArqRedis, worker: str) -> Renewer:
    """Return what a worker's thread renews with."""
    return Renewer(road.blocking_twin(redis), QUEUE, worker, 8)


class Clock:
    """What time it is for whoever asks; the queue's servers know nothing of it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Begin now."""
        self.ahead_ms = 0
        monkeypatch.setattr(queue, "_now_ms", lambda: int(time.time() * 1000) + self.ahead_ms)


async def test_no_living_workers_job_is_handed_out_after_an_outage_longer_than_a_lease(
    line: ArqRedis, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock(monkeypatch)
    (job,) = await put(line, "long", 1)
    a, b = Consumer(line, QUEUE, "a", 8), Consumer(line, QUEUE, "b", 8)
    beat_a, beat_b = renewer(line, "a"), renewer(line, "b")
    beat_b([])
    assert [each.id for each in (await a.claim(1)).jobs] == [job]
    beat_a([job])
    clock.ahead_ms += 30_000  # Redis was away, or hung, for half a minute: nobody could renew
    turn = await b.claim(1, heard_ms=beat_b.heard_ms)
    assert turn.jobs == [], "its worker lives, and renews within a second"


@pytest.mark.parametrize("first", ["the claim", "the renewal"])
async def test_a_redis_that_went_back_settles_whichever_of_its_clients_comes_first(line: ArqRedis, first: str) -> None:
    (job,) = await put(line, "long", 1)
    a, b = Consumer(line, QUEUE, "a", 8), Consumer(line, QUEUE, "b", 8)
    beat_a, beat_b = renewer(line, "a"), renewer(line, "b")
    keys: Any = await line.keys("*")  # pyright: ignore[reportUnknownMemberType]
    kept = {key: await line.dump(key) for key in keys}  # pyright: ignore[reportUnknownMemberType]
    beat_b([])
    assert [each.id for each in (await a.claim(1)).jobs] == [job]
    beat_a([job])
    await line.flushall()  # pyright: ignore[reportUnknownMemberType]
    for key, value in kept.items():
        await line.restore(key, 0, value)  # pyright: ignore[reportUnknownMemberType]
    if first == "the renewal":
        beat_b([])
    turn = await b.claim(1, heard_ms=beat_b.heard_ms)
    assert turn.jobs == [], "worker a runs it, and is about to say so"


async def test_a_worker_whose_clock_is_ahead_takes_no_living_workers_job(
    line: ArqRedis, monkeypatch: pytest.MonkeyPatch
) -> None:
    (job,) = await put(line, "long", 1)
    a, b = Consumer(line, QUEUE, "a", 8), Consumer(line, QUEUE, "b", 8)
    beat_a, beat_b = renewer(line, "a"), renewer(line, "b")
    assert [each.id for each in (await a.claim(1)).jobs] == [job]
    beat_a([job])
    real = time.time
    ahead = SimpleNamespace(time=lambda: real() + 10)  # the clock of b's machine
    monkeypatch.setattr(queue, "time", ahead, raising=False)
    beat_b([])
    assert (await b.claim(1, heard_ms=beat_b.heard_ms)).jobs == []


async def test_a_function_that_raises_cancelled_error_by_itself_does_not_run_for_ever(
    line: ArqRedis, make: Callable[..., Pool]
) -> None:
    ran = 0

    async def broken(ctx: Ctx) -> None:
        nonlocal ran
        ran += 1
        raise asyncio.CancelledError  # as a library does that awaits a task which somebody else has cancelled

    job = await line.enqueue_job("broken", _queue_name=QUEUE)
    assert job is not None
    worker = make(func(broken, name="broken", max_tries=3), burst=True)
    running = asyncio.create_task(worker.async_run())
    await asyncio.wait([running], timeout=3)
    assert ran == 3, "as many as arq's own worker"


async def test_a_hook_that_hangs_keeps_no_other_job_from_ending(line: ArqRedis, make: Callable[..., Pool]) -> None:
    async def add(ctx: Ctx, number: int) -> int:
        return number

    async def after(ctx: Ctx) -> None:
        if ctx["job_id"] == "first":
            await asyncio.sleep(3600)

    worker = make(func(add, name="add"), after_job_end=after)
    running = asyncio.create_task(worker.async_run())
    await line.enqueue_job("add", 1, _job_id="first", _queue_name=QUEUE)
    await until(lambda: worker.jobs_complete == 1)
    second = await line.enqueue_job("add", 2, _queue_name=QUEUE)
    assert second is not None
    try:
        assert await second.result(timeout=3, poll_delay=0.05) == 2
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


@pytest.mark.parametrize(
    "error",
    [ExceptionGroup("two", [ValueError("a")]), UnicodeDecodeError("utf-8", b"\xff", 0, 1, "bad"), ValueError("no")],
    ids=lambda error: type(error).__name__,
)
def test_whatever_a_job_raised_can_be_read_again(error: Exception) -> None:
    read = queue.deserialize(queue.serialize({"r": error}))["r"]
    assert isinstance(read, Exception)
    assert str(error) in str(read)


async def test_a_cron_job_whose_moment_falls_into_an_outage_runs_when_redis_is_back(
    own: Server, make: Callable[..., Pool]
) -> None:
    ran: list[str] = []

    async def tick(ctx: Ctx) -> None:
        ran.append(ctx["job_id"])

    soon = datetime.now().astimezone() + timedelta(seconds=3)
    when = {"month": soon.month, "day": soon.day, "hour": soon.hour, "minute": soon.minute, "second": soon.second}
    worker = make(cron_jobs=[cron(tick, **when)])  # type: ignore[arg-type]
    running = asyncio.create_task(worker.async_run())
    await asyncio.sleep(0.7)
    await asyncio.to_thread(own.stop)
    await asyncio.sleep(6)
    await asyncio.to_thread(start, own)
    try:
        await until(lambda: ran, 10)
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
async def test_a_renewal_that_fails_for_an_unforeseen_reason_is_not_the_last_one(line: ArqRedis) -> None:
    told = 0

    def describe() -> bytes:
        nonlocal told
        told += 1
        if told == 1:
            raise RuntimeError("unforeseen")
        return b""

    leases = Leases(road.blocking_twin(line), QUEUE, "a", 0.3, describe=describe, on_answer=lambda _slots, _lost: None)
    leases.start()
    try:
        await until(lambda: told >= 3, 3)
        async with asyncio.timeout(3):
            await leases.release(["job"])
    finally:
        leases.stop()


async def test_a_worker_that_is_run_twice_has_one_heart(line: ArqRedis, make: Callable[..., Pool]) -> None:
    async def add(ctx: Ctx, number: int) -> int:
        return number

    worker = make(func(add, name="add"), burst=True)
    await worker.main()
    await line.enqueue_job("add", 1, _queue_name=QUEUE)
    await worker.main()  # arq's own tests do so throughout
    hearts = [thread for thread in threading.enumerate() if thread.name == "leases"]
    await worker.close()
    left = [thread for thread in threading.enumerate() if thread.name == "leases" and thread.is_alive()]
    assert (len(hearts), left) == (1, [])


async def test_waiting_for_a_renewal_leaves_the_loop_to_others(line: ArqRedis) -> None:
    leases: Any = Leases(road.blocking_twin(line), QUEUE, "a", 8, describe=lambda: b"", on_answer=lambda _s, _l: None)
    # The loop was held (a room does so) while one renewal ended and the next began: it hears of the first one late.
    leases._renewing = True
    leases._tell(None)
    began_s = time.monotonic()

    def end() -> None:
        leases._renewing = False

    timer = threading.Timer(1.5, end)  # what a hung Redis takes is five seconds
    timer.start()
    turns = 0

    async def count() -> None:
        nonlocal turns
        while time.monotonic() - began_s < 1:
            turns += 1
            await asyncio.sleep(0.05)

    counting = asyncio.create_task(count())
    releasing = asyncio.create_task(leases.release(["job"]))
    await asyncio.sleep(1)
    assert turns > 5
    timer.join()
    leases._tell(None)
    await asyncio.gather(counting, releasing)


async def test_a_lost_job_that_cleans_up_is_stopped_once(line: ArqRedis, make: Callable[..., Pool]) -> None:
    cleaned = False

    async def long(ctx: Ctx, number: int) -> None:
        nonlocal cleaned
        try:
            await asyncio.sleep(3600)
        finally:
            await asyncio.sleep(0.5)
            cleaned = True

    worker = make(func(long, name="long"))
    running = asyncio.create_task(worker.async_run())
    (job,) = await put(line, "long", 1)
    await until(lambda: job in worker.job_tasks)
    for _ in range(2):  # what every renewal says until it has stopped
        worker.lose([job])
        await asyncio.sleep(0.1)
    await until(lambda: job not in worker.tasks)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert cleaned


async def test_the_shutdown_hook_runs_also_while_redis_is_away(own: Server, make: Callable[..., Pool]) -> None:
    closed: list[str] = []

    async def nothing(ctx: Ctx) -> None:
        pass

    async def shut(ctx: Ctx) -> None:
        closed.append("closed")

    worker = make(func(nothing, name="nothing"), on_shutdown=shut)
    running = asyncio.create_task(worker.async_run())
    await asyncio.sleep(0.5)
    await asyncio.to_thread(own.stop)
    worker.handle_sig(signal.SIGTERM)
    await asyncio.gather(running, return_exceptions=True)
    await worker.close()
    assert closed == ["closed"]


async def test_a_job_that_begins_at_its_third_try_goes_on_with_its_fourth(
    line: ArqRedis, make: Callable[..., Pool]
) -> None:
    tries: list[int] = []

    async def never(ctx: Ctx) -> None:
        tries.append(ctx["job_try"])
        raise Retry

    await line.enqueue_job("never", _queue_name=QUEUE, _job_try=3)
    worker = make(func(never, name="never", max_tries=5), burst=True)
    await asyncio.wait_for(worker.async_run(), 10)
    assert tries == [3, 4, 5], "as arq's own worker"


async def test_a_background_routine_that_ends_is_not_missed_in_silence(
    line: ArqRedis, make: Callable[..., Pool], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def nothing(ctx: Ctx) -> None:
        pass

    async def broken(self: Pool) -> None:
        raise ValueError("unforeseen")

    monkeypatch.setattr(Pool, "heart_beat", broken)
    worker = make(func(nothing, name="nothing"))
    running = asyncio.create_task(worker.async_run())
    done, _ = await asyncio.wait([running], timeout=3)
    assert done, "arq's own worker ends, and its supervisor starts another; ours never runs a cron job again"
    with pytest.raises(ValueError, match="unforeseen"):
        running.result()


async def test_a_job_runs_once_while_redis_hangs_for_longer_than_a_lease(
    line: ArqRedis, own: Server, make: Callable[..., Pool], home: Settings
) -> None:
    """The same as 1, with a real server and the real clock."""
    starts: list[str] = []

    async def long(ctx: Ctx, seconds: float) -> None:
        starts.append(ctx["job_id"])
        await asyncio.sleep(seconds)

    first = make(func(long, name="long"), lease_s=2.0, max_jobs=4)
    running = [asyncio.create_task(first.async_run())]
    jobs = await put(line, "long", *[14.0] * 4)
    await until(lambda: len(first.job_tasks) == 4)
    second = make(func(long, name="long"), lease_s=2.0, max_jobs=4)
    running.append(asyncio.create_task(second.async_run()))
    await asyncio.sleep(2)
    pid = pidfile.named(home.folder / "run" / "valkey.pid")
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    await asyncio.sleep(4)
    os.kill(pid, signal.SIGCONT)
    jobs += await put(line, "long", 0.1)  # somebody submits a job, and wakes the second worker
    await asyncio.sleep(4)
    for task in running:
        task.cancel()
    await asyncio.gather(*running, return_exceptions=True)
    assert sorted(starts) == sorted(jobs)


async def test_the_twin_of_a_sentinels_client_asks_no_other_server() -> None:
    sentinel: Any = Sentinel([("127.0.0.1", 1)])
    redis = sentinel.master_for("mymaster", redis_class=ArqRedis)
    with pytest.raises(ValueError, match="Sentinel"):
        road.blocking_twin(redis)


async def test_two_jobs_that_want_many_slots_find_that_lua_has_room_for_them(line: ArqRedis) -> None:
    many = 4500
    await Queue(line).put(QUEUE, [Waiting(uuid4().hex, "x", (), "one") for _ in range(many)])
    worker = Consumer(line, QUEUE, "a", 8)
    taken = 0
    for _ in range(10):
        taken += len((await worker.claim(many)).jobs)
    assert taken == many


async def test_a_connection_to_a_server_that_became_read_only_is_given_up(home: Settings, own: Server) -> None:
    """After a failover the name leads to another server, but whoever stays connected talks to the old one for ever."""
    redis: Any = road.connect(home)
    before = await redis.client_id()
    await redis.execute_command("REPLICAOF", "127.0.0.1", "1")
    with pytest.raises(ReadOnlyError):
        await redis.set("a", 1)
    after = await redis.client_id()
    await redis.execute_command("REPLICAOF", "NO", "ONE")
    await redis.aclose(close_connection_pool=True)
    assert after != before


async def test_a_stopped_room_is_stopped_once() -> None:
    """The checkpoint says again and again that the job is cancelled: that may not cut its cleaning short."""
    cleaned = False

    async def room() -> Made:
        nonlocal cleaned
        try:
            await asyncio.sleep(3600)
        finally:
            await asyncio.sleep(0.2)
            cleaned = True
        raise AssertionError

    attempt = Attempt(id=ids.new(), account_id=ids.new(), kind="chat", spec={}, attempt=1)
    ground: Any = SimpleNamespace(streams=None, settings=Settings())
    gateway: Any = None
    keep: Any = None
    run = Run(attempt, ground, gateway, keep)
    working = asyncio.create_task(run.work(asyncio.create_task(room())))
    for _ in range(2):
        await asyncio.sleep(0.05)
        run.cancel()
    await asyncio.gather(working, return_exceptions=True)
    assert cleaned


async def test_a_room_whose_library_raises_cancelled_error_is_not_run_for_ever(
    client: Client, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = 0

    async def make(request: Any, run: Any) -> Any:
        nonlocal made
        made += 1
        raise asyncio.CancelledError

    def timeout_s(_settings: Settings) -> float:
        return 60.0

    def room(_kind: str) -> Any:
        return SimpleNamespace(make=make, timeout_s=timeout_s)

    monkeypatch.setattr(kinds, "room", room)
    async with working(settings):
        done = await chats.until(client, await submit(client))
    assert (done["state"], done["error"]["code"], made) == ("failed", "internal_error", settings.max_tries)
