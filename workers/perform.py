"""One try of one job: claimed, made in its room, and ended in exactly one way."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Literal
from uuid import UUID

import structlog

from infra import backoff
from infra.database import DatabaseUnavailable
from infra.errors import PulseError
from infra.ground import Ground
from infra.models import Job
from infra.settings import Settings
from providers.types import ProviderError
from providers.vendors import Vendors
from workers import events, jobs, kinds, lifecycle
from workers.context import LostLease, Made, Run

log = structlog.stdlib.get_logger()

# How long a finished job waits for an absent Redis to take its last event, before its viewers are left to PostgreSQL.
_PATIENCE_S = 5.0


class JobTimedOut(PulseError):
    """The job took longer than {seconds:g} seconds and was stopped."""

    ar = "استغرقت المهمة أكثر من {seconds:g} ثانية فأُوقفت."


class InternalError(PulseError):
    """Something went wrong on our side."""

    ar = "حدث خطأ من جانبنا."


async def perform(ground: Ground, vendors: Vendors, runs: dict[UUID, Run], job_id: UUID) -> float | None:
    """Run one try of a job, listed in `runs` while it runs. Returns the seconds to wait before the next try, if any."""
    job = await _held(lambda: lifecycle.claim(ground, job_id))
    if job is None:
        return None
    run = Run(job, ground, vendors)
    runs[job_id] = run
    try:
        return await _try(ground, run)
    except DatabaseUnavailable:
        raise  # the queue gives the job to somebody who can write
    except Exception:
        # Whatever it is, trying it again would not help: the end itself could not be written.
        log.exception("the job could not be ended as it should", job=str(job_id), attempt=job.attempt)
        error = lifecycle.failure(InternalError())
        await _end(run, await _held(lambda: lifecycle.finish(ground, job, "failed", error=error)))
        return None
    finally:
        del runs[job_id]


async def _try(ground: Ground, run: Run) -> float | None:
    job = run.job
    timeout_s = 0.0
    try:
        await run.say(events.Started(attempt=job.attempt))
        room = kinds.room(job.kind)
        timeout_s = room.timeout_s(ground.settings)
        async with asyncio.timeout(timeout_s):
            making = asyncio.create_task(room.make(kinds.read(job.kind, job.spec), run))
            made = await run.work(making)
    except asyncio.CancelledError:
        return await _stopped(ground, run)
    except LostLease:
        log.info("another attempt runs this job", job=str(job.id), attempt=job.attempt)
        return None
    except TimeoutError:
        return await _failed(ground, run, JobTimedOut(seconds=timeout_s), retryable=False)
    except ProviderError as error:
        log.warning("the provider failed", job=str(job.id), attempt=job.attempt, code=error.code)
        return await _failed(ground, run, error, retryable=error.retryable, retry_after_s=error.retry_after_s)
    except PulseError as error:
        return await _failed(ground, run, error, retryable=False)
    except Exception:
        log.exception("the room failed", job=str(job.id), kind=job.kind, attempt=job.attempt)
        return await _failed(ground, run, InternalError(), retryable=True)
    await _end(run, await _held(lambda: _finish(ground, run, "succeeded", made)))
    return None


async def _stopped(ground: Ground, run: Run) -> None:
    """End a cancelled job, leave a lost one alone, and hand the job of a worker that shuts down back."""
    if run.lost:
        return
    if run.cancel_requested:
        await _end(run, await _held(lambda: _finish(ground, run, "canceled", run.so_far)))
        return
    await asyncio.shield(lifecycle.hand_back(ground, run.job))
    raise asyncio.CancelledError


async def _failed(
    ground: Ground, run: Run, error: PulseError, *, retryable: bool, retry_after_s: float | None = None
) -> float | None:
    job = run.job
    if run.cancel_requested:
        await _stopped(ground, run)
        return None
    if retryable and job.tries + 1 < ground.settings.max_tries:
        wait_s = _wait_s(ground.settings, job.tries + 1, retry_after_s)
        return wait_s if await _held(lambda: lifecycle.retry(ground, job, wait_s)) else None
    kept = lifecycle.failure(error)
    ended = await _held(lambda: lifecycle.finish(ground, job, "failed", error=kept, transcript=run.transcript()))
    await _end(run, ended)
    return None


async def _finish(ground: Ground, run: Run, state: Literal["succeeded", "canceled"], made: Made | None) -> Job | None:
    return await lifecycle.finish(
        ground,
        run.job,
        state,
        used=made.used if made else {},
        result=made.result if made else None,
        transcript=run.transcript(),
    )


async def _end(run: Run, ended: Job | None) -> None:
    if ended is not None:
        await run.end(jobs.terminal(ended), patience_s=_PATIENCE_S)


def _wait_s(settings: Settings, failures: int, retry_after_s: float | None) -> float:
    """Return the wait before the next try: exponential with full jitter, never less than the vendor asked for."""
    ours = backoff.wait_s(failures, base_s=settings.retry_base_s, most_s=settings.retry_max_s)
    return max(ours, min(retry_after_s or 0, settings.retry_max_s))


async def _held[T](write: Callable[[], Awaitable[T]]) -> T:
    """Do a write to the database, again and again while it is away: what was made is held until it is back."""
    failures = 0
    while True:
        try:
            return await write()
        except DatabaseUnavailable:
            failures += 1
            log.warning("the database is away; holding the result", failures=failures)
            await asyncio.sleep(backoff.wait_s(failures, base_s=0.1, most_s=5.0))
