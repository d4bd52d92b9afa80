"""arq's worker, driven well: jobs are claimed many at a time under leases, idle workers are woken, ends leave together.

Whatever one writes for arq runs here unchanged: functions with `ctx`, `WorkerSettings`, `Retry`, `cron`, hooks,
`Job.status()`, `.result()` and `.abort()`, `arq --check`. What is replaced is how a job comes to a worker and leaves,
and pickle: arguments and results are what MessagePack knows, so a tuple or a set comes back as a list, and a moment, a
UUID or a Decimal as text.
"""

import asyncio
import contextlib
import os
import signal
import socket
import time
from functools import partial
from typing import Any, cast
from uuid import uuid4

import msgspec
import structlog
from arq.connections import RedisSettings, create_pool
from arq.constants import abort_jobs_ss, job_key_prefix
from arq.worker import Worker

from infra import backoff, queue
from infra import redis as road
from infra.queue import Claimed, Consumer, Ended, Turn
from workers.leases import Leases
from workers.outbox import Outbox
from workers.trial import Trial

log = structlog.stdlib.get_logger()
# Of more slots some are claimed for while others run, so that neither this process nor the queue waits for the other.
_MOST_AT_ONCE = 50
# How long an idle worker blocks at a time; also how soon it notices that it should stop.
_IDLE_S = 1.0
# How often arq's aborts are looked for while jobs run, and those of jobs that are gone are forgotten.
_ABORTS_EVERY_S = 0.05
_FORGET_EVERY_S = 10.0
_CRON_EVERY_S = 0.5
# How long a worker that leaves waits for Redis to hear of its last jobs; then their leases run out.
_LAST_WORDS_S = 5.0


class Pool(Worker):
    """A worker process of one queue; takes everything that `arq.worker.Worker` takes.

    `lease_s` is how long a silent worker keeps its jobs; `account_cap` how many jobs of one account run at once on the
    whole queue (0: any number) where operators have not said otherwise.
    """

    def __init__(self, *functions: Any, lease_s: float = 8.0, account_cap: int = 0, **options: Any) -> None:
        """Prepare the worker; `run` connects."""
        options.setdefault("job_serializer", queue.serialize)
        options.setdefault("job_deserializer", queue.deserialize)
        super().__init__(*functions, **options)
        self.name = uuid4().hex
        self.lease_s = lease_s
        self.account_cap = account_cap
        #: How many jobs it runs at a time; operators can change it while it runs.
        self.slots = self.max_jobs
        #: Jobs that another worker has taken: their tasks are being stopped, and nothing is to become of them here.
        self.losing: set[str] = set()
        # There may be something to do; and: there is room that the last claim could not fill.
        self._waking, self._hungry = asyncio.Event(), asyncio.Event()
        self._trials: dict[str, Trial] = {}
        self._background: list[asyncio.Task[None]] = []
        self._born_s = time.time()
        self._leases: Leases | None = None

    async def main(self) -> None:
        """Claim and run jobs until told to stop, or until none are left in burst mode."""
        if self._pool is None:  # pyright: ignore[reportUnnecessaryComparison]: arq types it by what it becomes
            self._pool = await create_pool(
                cast("RedisSettings", self.redis_settings),
                job_deserializer=self.job_deserializer,
                job_serializer=self.job_serializer,
                default_queue_name=self.queue_name,
                expires_extra_ms=self.expires_extra_ms,
            )
        self.ctx["redis"] = self.pool
        if self.on_startup:
            await self.on_startup(self.ctx)
        if self._leases is None:  # it may be run again, as arq's can
            self._begin()
        failures = 0
        while True:
            try:
                if await self._is_burst_over():
                    return
                await self._round()
                failures = 0
            except road.AWAY as error:
                failures += 1
                log.warning("Redis is away", reason=str(error), failures=failures)
                await asyncio.sleep(backoff.wait_s(failures, base_s=0.1, most_s=1.0))

    def _begin(self) -> None:
        self._leases = Leases(
            road.blocking_twin(self.pool),
            self.queue_name,
            self.name,
            self.lease_s,
            describe=self._describe,
            on_answer=self._heard,
        )
        self._consumer = Consumer(self.pool, self.queue_name, self.name, self.lease_s)
        self._outbox = Outbox(self._consumer, self._leases, self._look_again)
        self._leases.start()
        routines = [self._hear_of_work(), self._keep_time()]
        if self.allow_abort_jobs:
            routines += [self._watch_aborts(), self._forget_aborts()]
        self._background = [asyncio.create_task(routine) for routine in routines]

    def _describe(self) -> bytes:
        """Return what operators may know of this worker (`infra.queue.Living`); called from the leases' thread."""
        return msgspec.msgpack.encode(
            queue.Living(
                host=socket.gethostname(),
                pid=os.getpid(),
                slots=self.slots,
                running=len(self.tasks),
                born_s=self._born_s,
                stopping=not self.allow_pick_jobs,
            )
        )

    def _heard(self, slots: int | None, lost: list[str]) -> None:
        self._resize(slots)
        if lost:
            self.lose(lost)

    def _resize(self, slots: int | None) -> None:
        wanted = self.max_jobs if slots is None else slots
        if wanted != self.slots:
            log.info("slots changed", queue=self.queue_name, before=self.slots, now=wanted)
            self.slots = wanted
            self._look_again()

    def _look_again(self) -> None:
        """There may be room now, or nothing left to do."""
        self._waking.set()

    async def _round(self) -> None:
        """Claim what there is room for; when that is not everything there was room for, wait for more."""
        self._waking.clear()
        for routine in self._background:
            if routine.done():
                routine.result()  # none ends but by an error, and none can be missed
        room, wait_s = self._room(), _IDLE_S
        # The claim leaves in this turn of the loop and the ends in the next: the queue takes them while the claimed
        # jobs start. Slots wait for jobs, nobody waits for an end.
        self._outbox.send()
        if room > 0:
            turn = await self._claim(room)
            self._resize(turn.slots)
            self._start(turn.jobs)
            if len(turn.jobs) == room:
                self._hungry.clear()
                return
            self._hungry.set()
            wait_s = turn.wait_s
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._waking.wait(), max(0.001, min(wait_s, _IDLE_S)))

    async def _claim(self, room: int) -> Turn:
        """Claim. When the worker is told to stop meanwhile, what was claimed is handed back."""
        assert self._leases is not None
        claim = self._consumer.claim(
            room,
            account_cap=self.account_cap,
            heed_aborts=self.allow_abort_jobs,
            heard_ms=self._leases.heard_ms,
        )
        claiming = asyncio.Task(claim, loop=self.loop, eager_start=True)
        try:
            return await asyncio.shield(claiming)
        except asyncio.CancelledError:
            with contextlib.suppress(TimeoutError, *road.AWAY):
                async with asyncio.timeout(_LAST_WORDS_S):
                    for job in (await claiming).jobs:
                        self._outbox.put(Ended(job.id, "back"))
            raise

    def _room(self) -> int:
        if not self.allow_pick_jobs:
            return 0
        # A job leaves its slot when it has ended, not when the queue has heard of it; but no more are taken while the
        # queue hears of none.
        room = min(self.slots - len(self.tasks), 2 * self.slots - len(self._outbox), _MOST_AT_ONCE)
        if self.burst and self.max_burst_jobs >= 0:
            room = min(room, self.max_burst_jobs - self._jobs_started())
        return max(0, room)

    async def _is_burst_over(self) -> bool:
        if not self.burst or self.tasks or self._outbox:
            return False
        if 0 <= self.max_burst_jobs <= self._jobs_started():
            return True
        return await self.pool.zcard(self.queue_name) == 0

    async def _hear_of_work(self) -> None:
        """Wake the claiming loop when the queue says that there is work, and leave that word to others while full."""
        failures = 0
        while True:
            await self._hungry.wait()
            try:
                if await self._consumer.woken(_IDLE_S):
                    if self._room() == 0:
                        self._hungry.clear()
                        await self._consumer.pass_on()
                    self._waking.set()
                failures = 0
            except road.AWAY:
                failures += 1
                await asyncio.sleep(backoff.wait_s(failures, base_s=0.1, most_s=1.0))

    def _start(self, jobs: list[Claimed]) -> None:
        assert self._leases is not None
        self._leases.hold(job.id for job in jobs)
        for job in jobs:
            if job.id in self.tasks:
                # A Redis that came back old gave us what runs here: it goes on, under the new lease. Or it was lost and
                # still stops: then that lease is given up with it, and the job is claimed anew.
                continue
            # Eager: what needs no waiting is over when the task is made, and never comes to the loop.
            task = asyncio.Task(self._run(job), loop=self.loop, eager_start=True)
            if task.done():
                self._left(job.id, task)
            else:
                self.tasks[job.id] = task
                task.add_done_callback(partial(self._left, job.id))

    def _left(self, job_id: str, done: "asyncio.Task[None]") -> None:
        # However it ended: this worker may get the job again.
        self.tasks.pop(job_id, None)
        del self._trials[job_id]
        self.losing.discard(job_id)
        self.aborting_tasks.discard(job_id)
        self._look_again()
        if not done.cancelled() and (error := done.exception()) is not None:
            log.error("a hook failed", job=job_id, exc_info=error)

    async def _run(self, job: Claimed) -> None:
        trial = self._trials[job.id] = Trial(self, self.losing, job)
        ended = None
        try:
            ended = await trial.run()
        finally:
            if ended is None:  # another worker has it, or a hook failed and the lease is to run out
                await self._give_up(job.id)
        if ended is not None:
            hook, ctx = self.after_job_end, trial.ctx
            self._outbox.put(ended, partial(hook, ctx) if hook is not None and ctx is not None else None)

    async def _give_up(self, job_id: str) -> None:
        assert self._leases is not None
        await self._leases.release([job_id])

    async def _keep_time(self) -> None:
        """Do what arq does at every poll: record the worker's health and enqueue what cron says."""
        while True:
            due = [job.next_run for job in self.cron_jobs]
            try:
                await self.heart_beat()
            except road.AWAY:  # nothing of it was said: it is done when Redis is back
                self._last_health_check = 0
                for job, next_run in zip(self.cron_jobs, due, strict=True):
                    job.next_run = next_run
            await asyncio.sleep(_CRON_EVERY_S)

    async def _watch_aborts(self) -> None:
        """Stop the running jobs that `Job.abort()` names."""
        while True:
            await asyncio.sleep(_ABORTS_EVERY_S)
            running = list(self.job_tasks)
            if not running:
                continue
            try:
                named: Any = await self.pool.zmscore(abort_jobs_ss, running)  # pyright: ignore[reportUnknownMemberType, reportGeneralTypeIssues]
            except road.AWAY:
                await asyncio.sleep(_CRON_EVERY_S)
                continue
            for job_id, aborted_ms in zip(running, named, strict=True):
                if aborted_ms is not None:
                    self._abort(job_id, aborted_ms)

    def _abort(self, job_id: str, aborted_ms: float) -> None:
        task = self.job_tasks.get(job_id)
        if task is not None and job_id not in self.aborting_tasks and self._trials[job_id].is_meant(aborted_ms):
            self.aborting_tasks.add(job_id)
            task.cancel()

    async def _forget_aborts(self) -> None:
        """Forget the aborts of jobs that no queue has, as every abort of a job that is over leaves one."""
        while True:
            with contextlib.suppress(*road.AWAY):
                named: Any = await self.pool.zrange(abort_jobs_ss, 0, -1)  # pyright: ignore[reportUnknownMemberType]
                if named:
                    there: Any = await self.pool.mget([job_key_prefix + job_id.decode() for job_id in named])
                    if gone := [job_id for job_id, known in zip(named, there, strict=True) if known is None]:
                        await self.pool.zrem(abort_jobs_ss, *gone)
            await asyncio.sleep(_FORGET_EVERY_S)

    async def close(self) -> None:
        """Close every connection, also when a job was cut short while it ended."""
        if not self._handle_signals:
            for task in self.tasks.values():
                task.cancel()
        while self.tasks:  # the others are not kept waiting for the slowest one
            await asyncio.wait(self.tasks.values(), return_when=asyncio.FIRST_COMPLETED)
            self._outbox.send()
        for task in self._background:
            task.cancel()
        await asyncio.gather(*self._background, return_exceptions=True)
        leases, self._leases = self._leases, None
        if leases is not None:
            with contextlib.suppress(TimeoutError, *road.AWAY):
                async with asyncio.timeout(_LAST_WORDS_S):
                    await self._outbox.empty()
            await asyncio.to_thread(leases.stop)
            with contextlib.suppress(*road.AWAY):
                await self._consumer.leave()
        if not self._handle_signals:
            self.handle_sig(signal.SIGUSR1)
        if self._pool is None:  # pyright: ignore[reportUnnecessaryComparison]
            return
        with contextlib.suppress(*road.AWAY):  # it expires by itself
            await self.pool.delete(self.health_check_key)
        if self.on_shutdown:
            await self.on_shutdown(self.ctx)
        await self.pool.aclose(close_connection_pool=True)
        self._pool = None

    def lose(self, job_ids: list[str]) -> None:
        """Stop jobs that another worker has taken."""
        for job_id in job_ids:
            log.warning("lost the lease", job=job_id)
            task = self.job_tasks.get(job_id)
            if task is not None and job_id not in self.losing:  # every renewal says it until the job has stopped
                self.losing.add(job_id)
                task.cancel()
