"""Drives SAQ 0.26 on Redis as its documentation has it, with hiredis.

Two of its defaults would leave it without a figure here: a job is tried once, so that one of a killed worker never
runs again, and its result is kept ten minutes.
"""

# Its library is only in its own environment, which pyright does not see.
# pyright: basic, reportMissingImports=false

from collections.abc import Callable, Coroutine
from typing import Any

from saq.queue.redis import RedisQueue
from saq.worker import Worker

#: Kept on every job.
_JOB = {"ttl": 60, "retries": 3}


class Peer:
    """SAQ, as `driver.Peer` asks."""

    def __init__(self, url: str, noop: Callable[[int], None], nap: Callable[[float], Coroutine[Any, Any, None]]):
        """Prepare."""

        async def job_noop(_ctx: dict[str, Any], *, argument: int) -> None:
            noop(argument)

        async def job_nap(_ctx: dict[str, Any], *, argument: float) -> None:
            await nap(argument)

        self._functions = [("noop", job_noop), ("nap", job_nap)]
        self._url = url

    async def open(self) -> None:
        """Connect."""
        self._queue = self._connect(at_once=32)
        await self._queue.connect()

    async def enqueue(self, job: str, argument: float) -> None:
        """Enqueue one."""
        await self._queue.enqueue(job, argument=argument, **_JOB)

    async def work(self, concurrency: int) -> None:
        """Run a worker."""
        self._queue = self._connect(concurrency)
        await self._queue.connect()
        await Worker(self._queue, self._functions, concurrency=concurrency).start()

    async def left(self) -> int:
        """Count the jobs that are not complete."""
        return await self._queue.count("incomplete")

    def _connect(self, at_once: int) -> RedisQueue:
        # Every slot reads its job through this limit, which is 20 by default: no less than the slots there are.
        return RedisQueue.from_url(self._url, max_concurrent_ops=max(20, at_once))
