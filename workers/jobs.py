"""Jobs as their account sees them: found by id, listed newest first, and told to the end from PostgreSQL."""

from collections.abc import Mapping
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import defer

from infra.database import DatabaseUnavailable
from infra.errors import PulseError
from infra.ground import Ground
from infra.models import LIVE, Document, Job
from infra.streams import Event, EventId
from workers import events, transcript


class JobNotFound(PulseError):
    """There is no such job."""

    ar = "لا توجد مهمة بهذا المعرّف."
    status = 404


async def get(session: AsyncSession, account_id: UUID, job_id: UUID, *, lock: bool = False) -> Job:
    """Return the account's job, without its transcript. Raises `JobNotFound`, also for somebody else's job."""
    query = select(Job).options(defer(Job.transcript)).where(Job.id == job_id, Job.account_id == account_id)
    job = await session.scalar(query.with_for_update() if lock else query)
    if job is None:
        raise JobNotFound
    return job


async def page(
    session: AsyncSession, account_id: UUID, *, before: UUID | None, limit: int, state: str | None = None
) -> list[Job]:
    """Return at most `limit` of the account's jobs (in `state`), newest first, older than `before`."""
    query = select(Job).options(defer(Job.transcript)).where(Job.account_id == account_id)
    if before is not None:
        query = query.where(Job.id < before)
    if state is not None:
        query = query.where(Job.state == state)
    return list(await session.scalars(query.order_by(Job.id.desc()).limit(limit)))


def terminal(state: str, *, charged: Mapping[str, int] | None = None, error: Document | None = None) -> events.Said:
    """Return the last event of a job that is over: how it ended, what it was charged, why it failed."""
    match state:
        case "succeeded":
            return events.Succeeded(charged=dict(charged or {}))
        case "canceled":
            return events.Canceled(charged=dict(charged or {}))
        case "expired":
            return events.Expired()
        case _:
            return events.Failed(**{key: (error or {}).get(key, "") for key in ("code", "en", "ar")})


def _last(job: Job) -> bytes:
    return events.encode(terminal(job.state, charged=job.charged, error=job.error))


async def rest(ground: Ground, job_id: UUID, after: EventId) -> list[Event] | None:
    """Return what a job that is over still has to say after an id, or None while it is not over."""
    try:
        async with ground.database.begin() as session:
            job = await session.scalar(select(Job).where(Job.id == job_id, Job.state.not_in(LIVE)))
    except DatabaseUnavailable:
        return None  # not known to be over; a stream that Redis still carries need not end for it
    if job is None:
        return None
    said = transcript.unfold(job.transcript, EventId(0, 0))
    last = said[-1].id.n if said and said[-1].id.attempt == job.attempt else 0
    # A viewer at or past the last event has seen the end already, but a stream always ends with it.
    end = Event(max(EventId(job.attempt, last + 1), EventId(after.attempt, after.n + 1)), _last(job))
    return [event for event in said if event.id > after] + [end]
