"""What a worker has to say of its ended jobs: kept until the queue has heard it, however long Redis is away."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import structlog

from infra import backoff
from infra import redis as road
from infra.queue import Consumer, Ended
from workers.leases import Leases

log = structlog.stdlib.get_logger()
_MOST_AT_ONCE = 200

#: What is done when an end has been heard.
Then = Callable[[], Awaitable[None]] | None


class Outbox:
    """Ends of jobs on their way: what gathers while one call is under way leaves in the next."""

    def __init__(self, consumer: Consumer, leases: Leases, on_heard: Callable[[], None]) -> None:
        """Tell `consumer`, and hold the jobs in `leases` until it has heard; then call `on_heard`."""
        self._consumer = consumer
        self._on_heard = on_heard
        self._leases = leases
        self._waiting: list[tuple[Ended, Then]] = []
        self._sending: asyncio.Task[None] | None = None
        self._under_way = 0
        self._following: set[asyncio.Task[None]] = set()

    def __len__(self) -> int:
        """Return how many ends have not been heard yet."""
        return len(self._waiting) + self._under_way

    def put(self, ended: Ended, then: Then = None) -> None:
        """Take an end; it leaves when `send` is called."""
        self._waiting.append((ended, then))

    def send(self) -> None:
        """Begin to send what is there, in the loop's next turn, if that has not begun."""
        if self._waiting and (self._sending is None or self._sending.done()):
            self._sending = asyncio.get_running_loop().create_task(self._send())

    async def empty(self) -> None:
        """Send everything, and wait until it has been heard."""
        self.send()
        while self._sending is not None and not self._sending.done():
            await asyncio.wait([self._sending])
        if self._following:
            await asyncio.wait(self._following)

    async def _send(self) -> None:
        while self._waiting:
            some, self._waiting = self._waiting[:_MOST_AT_ONCE], self._waiting[_MOST_AT_ONCE:]
            self._under_way = len(some)
            await self._tell([ended for ended, _ in some])
            self._under_way = 0
            self._on_heard()
            for _, then in some:
                if then is not None:  # beside the ends: one that takes long keeps nobody waiting
                    following = asyncio.create_task(self._follow(then))
                    self._following.add(following)
                    following.add_done_callback(self._following.discard)

    async def _tell(self, ended: list[Ended]) -> None:
        job_ids, failures = [job.id for job in ended], 0
        while True:
            await self._leases.release(job_ids)
            try:
                await self._consumer.finish(ended)
            except road.AWAY as error:
                failures += 1
                self._leases.hold(job_ids)
                log.warning("ends of jobs wait for Redis", jobs=len(job_ids), reason=str(error))
                await asyncio.sleep(backoff.wait_s(failures, base_s=0.1, most_s=1.0))
            else:
                return

    @staticmethod
    async def _follow(then: Callable[[], Awaitable[Any]]) -> None:
        try:
            await then()
        except Exception:
            log.exception("a hook failed")
