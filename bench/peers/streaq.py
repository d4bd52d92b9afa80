"""Drives streaQ 7.2 as its documentation has it; by default it prefetches as many jobs as it has slots."""

# Its library is only in its own environment, which pyright does not see.
# pyright: basic, reportMissingImports=false

from collections.abc import Callable, Coroutine
from typing import Any

from streaq.worker import Worker


class Peer:
    """streaQ, as `driver.Peer` asks."""

    def __init__(self, url: str, noop: Callable[[int], None], nap: Callable[[float], Coroutine[Any, Any, None]]):
        """Prepare."""
        self._url = url
        self._noop = noop
        self._nap = nap

    async def open(self) -> None:
        """Connect."""
        self._make(concurrency=1)
        await self._worker.__aenter__()

    async def enqueue(self, job: str, argument: float) -> None:
        """Enqueue one."""
        await self._jobs[job].enqueue(argument)

    async def enqueue_many(self, job: str, arguments: list[float]) -> None:
        """Enqueue many in one pipeline, by the call that is there for it."""
        task = self._jobs[job]
        await self._worker.enqueue_many([task.enqueue(argument) for argument in arguments])

    async def work(self, concurrency: int) -> None:
        """Run a worker."""
        self._make(concurrency)
        await self._worker.run_async()

    async def left(self) -> int:
        """Count the stream: a job leaves it when it is finished."""
        return await self._worker.queue_size(include_scheduled=False)

    def _make(self, concurrency: int) -> None:
        async def job_noop(sent_ns: int) -> None:
            self._noop(sent_ns)

        async def job_nap(seconds: float) -> None:
            await self._nap(seconds)

        self._worker = Worker(redis_url=self._url, concurrency=concurrency)
        self._jobs = {
            "noop": self._worker.task(name="noop", ttl=60)(job_noop),
            "nap": self._worker.task(name="nap", ttl=60)(job_nap),
        }
