"""Drives arq 0.28 as its documentation has it; its defaults, polling every half second, are what "stock" means."""

from collections.abc import Callable, Coroutine
from typing import Any

from arq import create_pool
from arq.connections import RedisSettings
from arq.constants import default_queue_name
from arq.worker import Worker, func


class Peer:
    """arq, as `driver.Peer` asks."""

    def __init__(self, url: str, noop: Callable[[int], None], nap: Callable[[float], Coroutine[Any, Any, None]]):
        """Prepare."""

        async def job_noop(ctx: dict[Any, Any], sent_ns: int) -> None:  # noqa: ARG001 - arq's word for it
            noop(sent_ns)

        async def job_nap(ctx: dict[Any, Any], seconds: float) -> None:  # noqa: ARG001
            await nap(seconds)

        self._functions = [func(job_noop, name="noop"), func(job_nap, name="nap")]
        self._settings = RedisSettings.from_dsn(url)

    async def open(self) -> None:
        """Connect."""
        self._pool = await create_pool(self._settings)

    async def enqueue(self, job: str, argument: float) -> None:
        """Enqueue one."""
        await self._pool.enqueue_job(job, argument)

    async def work(self, concurrency: int) -> None:
        """Run a worker."""
        self._worker = Worker(
            self._functions,
            redis_settings=self._settings,
            max_jobs=concurrency,
            keep_result=60,
            handle_signals=False,
            log_results=False,
        )
        await self._worker.async_run()

    async def left(self) -> int:
        """Count the queue: a job leaves it when it is finished."""
        return await self._worker.pool.zcard(default_queue_name)
