"""An adapter for the smallest queue there is, a list in Redis, which survives a restart but not a killed worker."""

import asyncio
import json
from collections.abc import Callable, Coroutine
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import ConnectionError as RedisGone


class Peer:
    """The list, as `driver.Peer` asks."""

    def __init__(self, url: str, noop: Callable[[int], None], nap: Callable[[float], Coroutine[Any, Any, None]]):
        """Connect at the first command."""
        self._noop = noop
        self._nap = nap
        self._redis: Any = Redis.from_url(url)  # pyright: ignore[reportUnknownMemberType]
        self._running = 0

    async def open(self) -> None:
        """Connect."""
        await self._redis.ping()

    async def enqueue(self, job: str, argument: float) -> None:
        """Enqueue one."""
        await self._redis.rpush("jobs", json.dumps([job, argument]))

    async def work(self, concurrency: int) -> None:
        """Run jobs in so many slots."""
        await asyncio.gather(*(self._slot() for _ in range(concurrency)))

    async def left(self) -> int:
        """Count the list and the slots in use."""
        return await self._redis.llen("jobs") + self._running

    async def _slot(self) -> None:
        while True:
            try:
                _key, found = await self._redis.blpop("jobs")
            except RedisGone:
                await asyncio.sleep(0.02)
                continue
            self._running += 1
            job, argument = json.loads(found)
            if job == "noop":
                self._noop(argument)
            else:
                await self._nap(argument)
            self._running -= 1
