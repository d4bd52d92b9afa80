"""One try of one job: claimed, made in its room, and ended in exactly one way."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from math import inf
from typing import Literal
from uuid import UUID

import msgspec
import structlog
from msgspec import Struct

from infra import backoff
from infra import redis as road
from infra.database import DatabaseUnavailable
from infra.errors import PulseError
from infra.ground import Ground
from infra.models import Document
from infra.redaction import Redactor
from infra.settings import Settings
from infra.whole import whole
from providers.gateway import Gateway
from providers.types import ProviderError
from workers import alarm, events, kinds, lifecycle
from workers.context import LostLease, Made, Run
from workers.craft.child import Spares
from workers.desk import Desk
from workers.lifecycle import End, orphans

log = structlog.stdlib.get_logger()

# How long a finished job waits for an absent Redis to take its last event, before its viewers are left to PostgreSQL.
_PATIENCE_S = 5.0


class JobTimedOut(PulseError):
    """The job took longer than {seconds:g} seconds and was stopped."""

    ar = "استغرقت المهمة أكثر من {seconds:g} ثانية فأُوقفت."


class InternalError(PulseError):
    """Something went wrong on our side."""

    ar = "حدث خطأ من جانبنا."
    retryable = True


class Tools(Struct, frozen=True, kw_only=True):
    """What a worker performs its jobs with; `runs` lists those that run now, `spares` wait for work."""

    ground: Ground
    desk: Desk
    gateway: Gateway
    runs: dict[UUID, Run]
    spares: Spares | None = None


#: What becomes of a job after a try: it is over and failed, is to be tried again in so many seconds, or neither.
type Outcome = Literal["failed"] | float | None


async def perform(tools: Tools, job_id: UUID) -> Outcome:
    """Run one try of a job.

    Raises `LostLease` when another attempt has the job, and `CancelledError` when it was given back.
    """
    clock = asyncio.get_running_loop()
    asked_at = clock.time()
    job = await _held(lambda _: tools.desk.claim(job_id))
    if job is None:
        return None
    run = Run(job, tools.ground, tools.gateway, tools.desk.keep, tools.spares, kinds.SPECS)
    tools.runs[job_id] = run
    left_s = alarm.wait_s(job, clock.time() - asked_at)
    cancelling = None if left_s is None else clock.call_later(left_s, run.cancel)
    try:
        return await _try(tools, run)
    except LostLease:
        log.info("another attempt runs this job", job=str(job.id), attempt=job.attempt)
        raise
    except Exception:
        # Whatever it is, trying it again would not help: the end itself could not be written.
        log.exception("the job could not be ended as it should", job=str(job_id), attempt=job.attempt)
        error = lifecycle.failure(InternalError())
        await _end(tools, run, End(job_id=job_id, attempt=job.attempt, state="failed", error=error))
        return "failed"
    finally:
        if cancelling is not None:
            cancelling.cancel()
        if tools.runs.get(job_id) is run:  # a later attempt may run here by now
            del tools.runs[job_id]


async def _try(tools: Tools, run: Run) -> Outcome:
    job = run.job
    timeout_s, limit = 0.0, asyncio.timeout(None)
    try:
        await run.say(events.Started(attempt=job.attempt))
        room = kinds.room(job.kind)
        timeout_s = min(room.timeout_s(run.settings), job.timeout_s or inf)
        limit = asyncio.timeout(timeout_s)
        async with limit:
            making = asyncio.Task(
                room.make(kinds.read(job.kind, job.spec), run), loop=asyncio.get_running_loop(), eager_start=True
            )
            made = await run.work(making)
    except asyncio.CancelledError:
        if not run.cancel_requested and not run.lost and not _is_told_to_stop():
            log.exception("the room cancelled itself", job=str(job.id), kind=job.kind, attempt=job.attempt)
            return await _failed(tools, run, InternalError())
        return await _stopped(tools, run)
    except LostLease:
        raise
    except PulseError as error:
        if isinstance(error, ProviderError):
            log.warning("the provider failed", job=str(job.id), attempt=job.attempt, code=error.code)
        return await _failed(tools, run, error)
    except Exception as error:
        if isinstance(error, TimeoutError) and limit.expired():
            return await _failed(tools, run, JobTimedOut(seconds=timeout_s))
        log.exception("the room failed", job=str(job.id), kind=job.kind, attempt=job.attempt)
        return await _failed(tools, run, InternalError())
    await _end(tools, run, _end_of(run, "succeeded", made))
    return None


def _is_told_to_stop() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


async def _stopped(tools: Tools, run: Run) -> None:
    """End a cancelled job, leave a lost one alone, and hand the job of a worker that shuts down back."""
    if run.lost:
        raise LostLease
    if run.cancel_requested:
        await _end(tools, run, _end_of(run, "canceled", run.so_far))
        return
    so_far = run.so_far or Made(result={}, used={})
    back = lifecycle.Return(
        job_id=run.job.id,
        attempt=run.job.attempt,
        failed=False,
        used=so_far.used or None,
        result=so_far.result or None,
    )
    try:
        await whole(tools.desk.give_back(back))
    except DatabaseUnavailable:
        log.warning("a job is handed back while the database is away; it counts as lost", job=str(run.job.id))
    raise asyncio.CancelledError


async def _failed(tools: Tools, run: Run, error: PulseError) -> Outcome:
    job = run.job
    if run.cancel_requested or run.lost:
        await _stopped(tools, run)
        return None
    if error.retryable and job.tries + 1 < run.settings.max_tries:
        wait_s = _wait_s(run.settings, job.tries + 1, error)
        back = lifecycle.Return(job_id=job.id, attempt=job.attempt, failed=True, wait_s=wait_s)
        if not await _held(lambda _: tools.desk.give_back(back)):
            raise LostLease
        return wait_s
    # A vendor may repeat in its error the key that it was given.
    told = Redactor(run.settings.secrets).values(lifecycle.failure(error))
    await _end(tools, run, _end_of(run, "failed", error=told))
    return "failed"


def _end_of(
    run: Run,
    state: Literal["succeeded", "failed", "canceled"],
    made: Made | None = None,
    *,
    error: Document | None = None,
) -> End:
    return End(
        job_id=run.job.id,
        attempt=run.job.attempt,
        state=state,
        used=made.used if made else {},
        result=made.result if made else None,
        error=error,
        transcript=run.transcript(),
    )


async def _end(tools: Tools, run: Run, end: End) -> None:
    """Write a job's end and say it. Raises `LostLease` when another attempt has the job."""
    ended = await _held(lambda again: whole(tools.desk.finish(msgspec.structs.replace(end, asked_before=again))))
    if ended is None:
        raise LostLease
    with contextlib.suppress(asyncio.CancelledError):  # it is over: there is nothing left that a shutdown could stop
        await whole(run.end(ended.terminal(), patience_s=_PATIENCE_S))
        if ended.left is not None:
            await _leave(tools, ended.left)


async def _leave(tools: Tools, token: Document) -> None:
    """Have an answer stopped that is not wanted any more, where Redis is there for that."""
    with contextlib.suppress(TimeoutError, *road.AWAY):
        async with asyncio.timeout(_PATIENCE_S):
            await orphans.keep(tools.ground, token)


def _wait_s(settings: Settings, failures: int, error: PulseError) -> float:
    """Return the wait before the next try: exponential with full jitter, never less than the vendor asked for.

    How long depends on what failed: a vendor that is overrun needs more time than an answer that broke off.
    """
    ours = backoff.wait_s(failures, base_s=settings.retry_base_s * error.patience, most_s=settings.retry_max_s)
    theirs = (error.retry_after_s or 0.0) if isinstance(error, ProviderError) else 0.0
    return max(ours, min(theirs, settings.retry_max_s))


async def _held[T](write: Callable[[bool], Awaitable[T]]) -> T:
    """Do a write to the database, again and again while it is away: what was made is held until it is back.

    `write` is told whether it was tried before: then its commit may have come through without an answer.
    """
    failures = 0
    while True:
        try:
            return await write(failures > 0)
        except DatabaseUnavailable:
            failures += 1
            log.warning("the database is away; holding the result", failures=failures)
            await asyncio.sleep(backoff.wait_s(failures, base_s=0.1, most_s=5.0))
