"""Drives our own pool, as `bench/peers/driver.py` asks, with everything on that a job of the studio has.

Leases, fair turns over 50 accounts, arq's result kept, and a stream of three events for every no-op job.
"""

import logging
from collections.abc import Callable, Coroutine
from itertools import count
from typing import Any
from uuid import UUID

import structlog
from arq.connections import ArqRedis
from arq.worker import func

from infra import ids, queue
from infra import redis as road
from infra.queue import Queue, Waiting
from infra.settings import Settings
from infra.streams import Source, Streams
from workers import events
from workers.pool import Pool

_NAME = queue.name("bench")
_ACCOUNTS = [str(ids.new()) for _ in range(50)]
_AT_ONCE = 1000
_ACCOUNT = UUID(_ACCOUNTS[0])
_SAID = [
    events.line(said) for said in (events.Started(attempt=1), events.Delta(text="word"), events.Succeeded(charged={}))
]


def _source(job_id: str) -> Source:
    return Source(UUID(job_id), _ACCOUNT, "noop")


class Peer:
    """Ours."""

    def __init__(self, url: str, noop: Callable[[int], None], nap: Callable[[float], Coroutine[Any, Any, None]]):
        """Prepare."""

        async def job_noop(ctx: dict[Any, Any], sent_ns: int) -> None:
            noop(sent_ns)
            await self._streams.append(_source(ctx["job_id"]), ctx["job_try"], _SAID, 0, over=True)

        async def job_nap(ctx: dict[Any, Any], seconds: float) -> None:  # noqa: ARG001
            await nap(seconds)

        # Standard output carries the bench's events; the pool's own log lines would be read as such.
        structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
        self._functions: Any = [func(job_noop, name="noop"), func(job_nap, name="nap")]
        self._url = url
        self._turn = count()

    async def open(self) -> None:
        """Connect."""
        self._queue = Queue(self._connect())

    def _connect(self) -> ArqRedis:
        pool = road.pool(Settings(redis_url=self._url))
        serializers: Any = {"job_serializer": queue.serialize, "job_deserializer": queue.deserialize}
        return ArqRedis(pool, default_queue_name=_NAME, **serializers)

    def _job(self, job: str, argument: float) -> Waiting:
        return Waiting(str(ids.new()), job, (argument,), _ACCOUNTS[next(self._turn) % len(_ACCOUNTS)])

    async def enqueue(self, job: str, argument: float) -> None:
        """Enqueue one."""
        await self._queue.put(_NAME, [self._job(job, argument)])

    async def enqueue_many(self, job: str, arguments: list[float]) -> None:
        """Enqueue many, a call for each thousand."""
        for start in range(0, len(arguments), _AT_ONCE):
            await self._queue.put(_NAME, [self._job(job, one) for one in arguments[start : start + _AT_ONCE]])

    async def work(self, concurrency: int) -> None:
        """Run a worker."""
        redis = self._connect()
        self._streams = Streams(redis, keep_s=60)
        self._worker = Pool(
            self._functions,
            queue_name=_NAME,
            redis_pool=redis,
            max_jobs=concurrency,
            keep_result=60,
            handle_signals=False,
            log_results=False,
        )
        await self._worker.async_run()

    async def left(self) -> int:
        """Count the queue: a job leaves it when it is finished."""
        return await self._worker.pool.zcard(_NAME)
