"""A pool's worker process: arq's worker, with leases of seconds, cancels by message and a loop that outlives Redis."""

import asyncio
from typing import Any
from uuid import UUID

import structlog
from arq.connections import ArqRedis
from arq.worker import Retry, Worker, func
from redis.asyncio import ConnectionPool

from infra import embedded, ground, queue
from infra import redis as road
from infra.database import DatabaseUnavailable
from infra.settings import Settings
from providers.vendors import Vendors
from workers import lifecycle
from workers.context import Made, Run
from workers.perform import perform

log = structlog.stdlib.get_logger()

# Our own limit of tries stands in the job's row; arq's counter, which also counts shutdowns, must never end a job.
_NEVER = 1_000_000_000
_NOTHING = Made(result={}, used={})


class Pool(Worker):
    """Runs the jobs of one pool's queue, `slots` at a time."""

    def __init__(
        self, settings: Settings, name: str, *, slots: int, burst: bool = False, handle_signals: bool = True
    ) -> None:
        """Prepare the worker; `run` connects. `burst` stops it when the queue is empty;
        without `handle_signals` it can run inside another program.
        """
        self.settings = settings
        self.runs: dict[UUID, Run] = {}
        self._background: list[asyncio.Task[None]] = []
        url = embedded.redis_url(settings)
        super().__init__(
            functions=[func(self.perform, name=queue.FUNCTION, timeout=None, max_tries=_NEVER)],
            queue_name=queue.name(name),
            redis_pool=ArqRedis(
                ConnectionPool.from_url(url),  # pyright: ignore[reportUnknownMemberType]
                job_serializer=queue.serialize,
                job_deserializer=queue.deserialize,
                default_queue_name=queue.name(name),
            ),
            burst=burst,
            handle_signals=handle_signals,
            on_startup=self._open,
            on_shutdown=self._close,
            max_jobs=slots,
            poll_delay=0.1,
            keep_result=0,
            job_completion_wait=settings.grace_s,  # pyright: ignore[reportArgumentType]: any number works
            health_check_interval=10,
            job_serializer=queue.serialize,
            job_deserializer=queue.deserialize,
        )
        # Stock arq gives a dead worker's job away after its timeout (minutes); `_keep_leases` lets it be seconds.
        self.in_progress_timeout_s = settings.lease_s

    async def _open(self, ctx: dict[Any, Any]) -> None:  # noqa: ARG002 (arq passes it by name)
        self.ground = ground.lay(self.settings)
        self.vendors = Vendors(self.settings)
        listening = road.listen(self.ground.redis, [queue.CANCELS], self._cancel, lambda: None)
        self._background = [asyncio.create_task(listening), asyncio.create_task(self._keep_leases())]
        log.info("pool is ready", queue=self.queue_name, slots=self.max_jobs)

    async def _close(self, ctx: dict[Any, Any]) -> None:  # noqa: ARG002
        for task in self._background:
            task.cancel()
        await asyncio.gather(*self._background, return_exceptions=True)
        await self.vendors.close()
        await ground.leave(self.ground)

    async def perform(self, ctx: dict[Any, Any], job_id: str) -> None:  # noqa: ARG002
        """Run one try of a job: the one function that arq calls."""
        wait_s = await perform(self.ground, self.vendors, self.runs, UUID(job_id))
        if wait_s is not None:
            raise Retry(defer=wait_s)

    def _cancel(self, job_id: bytes) -> None:
        run = self.runs.get(UUID(job_id.decode()))
        if run is not None:
            run.cancel()

    async def _keep_leases(self) -> None:
        """Renew the leases of all running jobs, and keep what they have used, three times a lease."""
        while True:
            await asyncio.sleep(self.settings.lease_s / 3)
            try:
                await self.ground.queue.renew(list(self.job_tasks), self.settings.lease_s)
                await self._keep_progress()
            except (DatabaseUnavailable, *road.AWAY) as error:
                log.warning("leases not renewed", reason=str(error))

    async def _keep_progress(self) -> None:
        runs = dict(self.runs)
        progress = [
            lifecycle.Progress(job_id=job_id, attempt=run.job.attempt, used=made.used, result=made.result)
            for job_id, run in runs.items()
            for made in [run.so_far or _NOTHING]
        ]
        found = await lifecycle.checkpoint(self.ground, progress)
        for job_id, run in runs.items():
            if self.runs.get(job_id) is not run:
                continue  # ended while we asked
            if job_id not in found:
                run.lose()
            elif found[job_id] == "canceled":
                run.cancel()  # the message was lost

    async def close(self) -> None:
        """Close the connections, also when a job was cut short while it ended (stock arq lets that skip the rest)."""
        await asyncio.gather(*self.tasks.values(), return_exceptions=True)
        self.tasks.clear()
        await super().close()

    async def _poll_iteration(self) -> None:
        """Do arq's round; a Redis that is away is waited for (stock arq ends the process)."""
        try:
            await super()._poll_iteration()
        except road.AWAY as error:
            log.warning("Redis is away", reason=str(error))
            self._count_slots_anew()
            await asyncio.sleep(0.5)

    def _count_slots_anew(self) -> None:
        """Free the slot that arq's `start_jobs` had taken when it was interrupted."""
        self.tasks = {job_id: task for job_id, task in self.tasks.items() if not task.done()}
        self.job_counter = len(self.tasks)
        self.sem = asyncio.BoundedSemaphore(self.max_jobs + 1)
        for _ in self.tasks:
            self.sem._value -= 1  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]: acquire() would be a coroutine
