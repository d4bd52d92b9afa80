"""Drives taskiq with the Redis streams of taskiq-redis 1.2, the broker that its README shows and the one with acks.

Its defaults are its fastest settings here: one read takes up to 100 jobs, whatever the worker's slots (fewer was
slower), and prefetching on top (`max_prefetch`) changed nothing.
"""

# Its library is only in its own environment, which pyright does not see.
# pyright: basic, reportMissingImports=false

from collections.abc import Callable, Coroutine
from typing import Any

from redis.asyncio import Redis
from taskiq.api import run_receiver_task
from taskiq_redis import RedisAsyncResultBackend, RedisStreamBroker


class Peer:
    """taskiq, as `driver.Peer` asks."""

    def __init__(self, url: str, noop: Callable[[int], None], nap: Callable[[float], Coroutine[Any, Any, None]]):
        """Prepare."""

        async def job_noop(sent_ns: int) -> None:
            noop(sent_ns)

        async def job_nap(seconds: float) -> None:
            await nap(seconds)

        self._broker = RedisStreamBroker(url).with_result_backend(RedisAsyncResultBackend(url, result_ex_time=60))
        self._jobs = {
            "noop": self._broker.task(task_name="noop")(job_noop),
            "nap": self._broker.task(task_name="nap")(job_nap),
        }

    async def open(self) -> None:
        """Connect."""
        await self._broker.startup()

    async def enqueue(self, job: str, argument: float) -> None:
        """Enqueue one."""
        await self._jobs[job].kiq(argument)

    async def work(self, concurrency: int) -> None:
        """Run a worker by the call that, like the manager of `taskiq worker`, listens again when that has failed."""
        self._redis = Redis(connection_pool=self._broker.connection_pool)
        await run_receiver_task(self._broker, max_async_tasks=concurrency, run_startup=True)

    async def left(self) -> int:
        """Count the messages that were read and are not acknowledged: by default that follows the result."""
        pending = await self._redis.xpending(self._broker.queue_name, self._broker.consumer_group_name)
        return pending["pending"]
