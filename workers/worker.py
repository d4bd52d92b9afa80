"""A worker of the studio: the pool that performs jobs, stops the cancelled ones and keeps what the others have used."""

import asyncio
from collections.abc import Mapping
from contextlib import AsyncExitStack
from typing import Any
from uuid import UUID

import structlog
from arq.connections import ArqRedis
from arq.worker import Retry, func

from infra import ground, queue
from infra import redis as road
from infra.settings import Settings
from infra.subscriber import Subscriber
from providers.gateway import Gateway
from workers import lifecycle, pools
from workers.context import LostLease, Run
from workers.craft.child import Spares
from workers.desk import Desk
from workers.perform import Tools, perform
from workers.pool import Pool
from workers.trial import Failed

log = structlog.stdlib.get_logger()

# Our own limit of tries stands in the job's row; arq's counter, which also counts shutdowns, must never end a job.
_NEVER = 1_000_000_000


class _Cancels:
    """Hears which jobs are not wanted any more; what is said while it is deaf, their next checkpoint tells."""

    def __init__(self, runs: Mapping[UUID, Run]) -> None:
        """Stop those of `runs`."""
        self._runs = runs

    def on_message(self, _channel: str, job_id: bytes) -> None:
        """Stop a job, if it runs here."""
        run = self._runs.get(UUID(job_id.decode()))
        if run is not None:
            run.cancel()

    def on_subscribed(self, _channel: str) -> None:
        """Nothing has to be read."""

    def on_deaf(self) -> None:
        """Nothing has to be known."""


class StudioPool(Pool):
    """Runs the jobs of one of the studio's pools, `slots` at a time."""

    def __init__(
        self, settings: Settings, name: str, *, slots: int, burst: bool = False, handle_signals: bool = True
    ) -> None:
        """Prepare the worker; `run` connects. `burst` stops it when the queue is empty;
        without `handle_signals` it can run inside another program.
        """
        self.settings = settings
        self._name = name
        self._opened = AsyncExitStack()
        self.runs: dict[UUID, Run] = {}
        self._watching: list[asyncio.Task[None]] = []
        super().__init__(
            [func(self.perform, name=queue.FUNCTION, timeout=None, max_tries=_NEVER)],
            queue_name=queue.name(name),
            redis_pool=ArqRedis(
                road.pool(settings),
                job_serializer=queue.serialize,
                job_deserializer=queue.deserialize,
                default_queue_name=queue.name(name),
            ),
            burst=burst,
            handle_signals=handle_signals,
            on_startup=self._open,
            on_shutdown=self._close,
            max_jobs=slots,
            job_timeout=None,
            keep_result=0,
            job_completion_wait=settings.grace_s,
            health_check_interval=10,
            lease_s=settings.lease_s,
            account_cap=settings.account_cap,
        )

    async def _open(self, ctx: dict[Any, Any]) -> None:  # noqa: ARG002 (arq passes it by name)
        self.ground = ground.lay(self.settings)
        preloaded = pools.PRELOADS.get(self._name)
        self.tools = Tools(
            ground=self.ground,
            desk=Desk(self.ground),
            gateway=Gateway(self.settings, self.ground.redis),
            runs=self.runs,
            spares=await self._opened.enter_async_context(Spares(*preloaded)) if preloaded else None,
        )
        cancels = Subscriber(self.ground.redis, _Cancels(self.runs))
        cancels.want(queue.CANCELS)
        self._watching = [asyncio.create_task(cancels.run()), asyncio.create_task(self._keep_progress())]
        log.info("pool is ready", queue=self.queue_name, slots=self.max_jobs)

    async def _close(self, ctx: dict[Any, Any]) -> None:  # noqa: ARG002
        for task in self._watching:
            task.cancel()
        await asyncio.gather(*self._watching, return_exceptions=True)
        await self.tools.gateway.close()
        await self._opened.aclose()
        await ground.leave(self.ground)

    async def perform(self, ctx: dict[Any, Any], job_id: str) -> None:  # noqa: ARG002
        """Run one try of a job: the one function that the pool calls."""
        try:
            outcome = await perform(self.tools, UUID(job_id))
        except LostLease:
            self.losing.add(job_id)  # nothing is to become of it here, whatever the queue still believes
            raise
        if outcome == "failed":
            raise Failed
        if outcome is not None:
            raise Retry(defer=outcome)

    def lose(self, job_ids: list[str]) -> None:
        """Stop jobs that another worker has taken, without a word from them."""
        for job_id in job_ids:
            if run := self.runs.get(UUID(job_id)):
                run.lose()
        super().lose(job_ids)

    async def _keep_progress(self) -> None:
        """Keep what the running jobs have used, and see the cancels whose message was lost, three times a lease."""
        while True:
            await asyncio.sleep(self.settings.lease_s / 3)
            await self._checkpoint(dict(self.runs))  # what cannot be kept now is kept the next time

    async def _checkpoint(self, runs: dict[UUID, Run]) -> None:
        for told in await asyncio.gather(*map(self._keep, runs.values()), return_exceptions=True):
            if isinstance(told, BaseException):
                log.warning("progress not kept", reason=repr(told))

    async def _keep(self, run: Run) -> None:
        so_far = run.so_far
        kept = lifecycle.Kept(
            job_id=run.job.id,
            attempt=run.job.attempt,
            used=so_far.used if so_far else None,
            result=so_far.result if so_far else None,
        )
        told = await self.tools.desk.keep(kept)
        if self.runs.get(run.job.id) is not run:
            return  # ended while we asked
        if told == "lost":
            run.lose()
        elif told == "canceled":
            run.cancel()
