"""Jobs as their account sees them: found by id, listed newest first, and told to the end from PostgreSQL."""

import itertools
from collections.abc import Mapping, Sequence
from uuid import UUID

from sqlalchemy import select, text
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import defer

from infra.coalesce import Coalescer
from infra.database import DatabaseUnavailable
from infra.errors import PulseError
from infra.ground import Ground
from infra.models import LIVE, Document, Job
from infra.streams import Event, EventId, Source
from workers import events, transcript

# Of so many jobs the transcripts are held at a time, each up to a megabyte.
_TRANSCRIPTS = 20
_MOST_AT_ONCE = 500


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


_OWNERS = text("SELECT id, account_id FROM jobs WHERE id = ANY(CAST(:ids AS uuid[]))")


class Owners:
    """Tells whose jobs are, for many viewers that come at once in one statement."""

    def __init__(self, ground: Ground) -> None:
        """Ask the database of `ground`."""
        self._ground = ground
        self._asking = Coalescer(self._ask, most=_MOST_AT_ONCE, passing=(DatabaseUnavailable,))

    async def check(self, account_id: UUID, job_id: UUID) -> None:
        """Raise `JobNotFound` unless there is such a job and it is the account's."""
        if await self._asking.ask(job_id) != account_id:
            raise JobNotFound

    async def _ask(self, job_ids: Sequence[UUID]) -> list[UUID | None]:
        rows = await self._ground.database.ask(_OWNERS, {"ids": list(job_ids)})
        owners: dict[UUID, UUID] = dict(tuple(row) for row in rows)
        return [owners.get(job_id) for job_id in job_ids]


async def page(
    session: AsyncSession,
    account_id: UUID,
    *,
    before: UUID | None,
    limit: int,
    state: str | None = None,
    batch_id: UUID | None = None,
) -> list[Job]:
    """Return at most `limit` of the account's jobs (in `state`, of a batch), newest first, older than `before`."""
    query = select(Job).options(defer(Job.transcript)).where(Job.account_id == account_id)
    if before is not None:
        query = query.where(Job.id < before)
    if state is not None:
        query = query.where(Job.state == state)
    if batch_id is not None:
        query = query.where(Job.batch_id == batch_id)
    return list(await session.scalars(query.order_by(Job.id.desc()).limit(limit)))


def speaker(job_id: UUID, account_id: UUID, kind: str, batch_id: UUID | None) -> Source:
    """Return a job as who speaks; of those of a batch the account hears through the batch, not from each."""
    return Source(job_id, account_id, kind, batch_id, quiet=batch_id is not None)


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


async def told(ground: Ground, job_ids: Sequence[UUID]) -> dict[UUID, list[Event]]:
    """Return what those of the jobs that are over have said at last, the terminal event last.

    None is known to be over while the database is away; a stream that Redis still carries need not end for it.
    """
    found: dict[UUID, list[Event]] = {}
    try:
        async with ground.database.begin() as session:
            query = select(Job.id).where(Job.id.in_(job_ids), Job.state.not_in(LIVE))
            over = list(await session.scalars(query))
            for some in itertools.batched(over, _TRANSCRIPTS):
                jobs = await session.scalars(select(Job).where(Job.id.in_(some)))
                found |= {job.id: _tale(job) for job in jobs}
                session.expunge_all()
    except DatabaseUnavailable:
        return {}
    return found


def _tale(job: Job) -> list[Event]:
    said = transcript.unfold(job.transcript, EventId(0, 0))
    last = said[-1].id.n if said and said[-1].id.attempt == job.attempt else 0
    return [*said, Event(EventId(job.attempt, last + 1), _last(job))]
