"""Moments: what becomes of jobs by itself, when the time is there that was named for it."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from datetime import UTC, datetime
from functools import partial
from uuid import UUID

import structlog
from sqlalchemy import TextClause, text

from infra.coalesce import Coalescer
from infra.database import DatabaseUnavailable
from infra.ground import Ground
from workers.lifecycle import ends
from workers.lifecycle.ends import End, Ended

log = structlog.stdlib.get_logger()
_MOST_AT_ONCE = 500

#: A job's id, its attempt, its state, and the moment that has come for it.
type _Due = tuple[UUID, int, str, datetime]

# Both walk the index of their moments from its start: no guess at how many there may be leads to a scan of all jobs.
_EXPIRED = text("""
    SELECT id, attempt, state, start_by FROM jobs
    WHERE (start_by, id) > (:moment, :after) AND start_by <= now()
          AND finished_at IS NULL AND started_at IS NULL AND state = 'queued'
    ORDER BY start_by, id LIMIT :most
""")


async def expire(ground: Ground) -> int:
    """End the jobs that were not started in time (`start_by`); returns how many. Nothing is charged."""
    ended = 0
    async for late in _pages(ground, _EXPIRED):
        found = [End(job_id=job_id, attempt=attempt, state="expired", was="queued") for job_id, attempt, *_ in late]
        ended += await _end(ground, found)
    return ended


_LATE = text("""
    WITH due AS MATERIALIZED (
        SELECT id FROM jobs
        WHERE (cancel_by, id) > (:moment, :after) AND cancel_by <= now()
              AND finished_at IS NULL AND (state = 'queued' OR cancel_requested_at IS NULL)
        ORDER BY cancel_by, id LIMIT :most
    ), late AS MATERIALIZED (
        SELECT id, attempt, state, cancel_by FROM jobs
        WHERE id = ANY(ARRAY(SELECT id FROM due)) AND finished_at IS NULL
        ORDER BY id FOR NO KEY UPDATE
    ), stopping AS (
        UPDATE jobs j SET cancel_requested_at = j.cancel_by FROM late l WHERE j.id = l.id AND l.state = 'running'
    )
    SELECT id, attempt, state, cancel_by FROM late ORDER BY cancel_by, id
""")


async def cancel_late(ground: Ground) -> int:
    """Cancel the jobs that were to be over by now (`cancel_by`); returns how many of them waited, and end here.

    Those cost nothing, as where an account cancels them. The others are as if their account had asked for it now: a
    worker that lives stops its jobs by itself, and of a dead one the tender ends them after the lease.
    """
    ended = 0
    async for late in _pages(ground, _LATE):
        found = [
            End(job_id=job_id, attempt=attempt, state="canceled", was="queued")
            for job_id, attempt, state, _ in late
            if state == "queued"
        ]
        ended += await _end(ground, found)
    return ended


_NEXT = text("""
    SELECT CAST(extract(epoch FROM min(cancel_by) - now()) AS float8) FROM jobs
    WHERE cancel_by > now() AND finished_at IS NULL
""")


async def next_cancel_s(ground: Ground) -> float | None:
    """Return in how many seconds the next job is to be over; None where none is."""
    ((seconds,),) = await ground.database.ask(_NEXT, {})
    return seconds


async def _pages(ground: Ground, statement: TextClause) -> AsyncGenerator[list[_Due]]:
    """Yield what a statement finds, page by page, so that one that cannot be ended stands in nobody's way."""
    after, moment = UUID(int=0), datetime.min.replace(tzinfo=UTC)
    while found := await ground.database.ask(statement, {"moment": moment, "after": after, "most": _MOST_AT_ONCE}):
        yield [(job_id, attempt, state, moment) for job_id, attempt, state, moment in found]
        after, moment = found[-1][0], found[-1][3]


async def _end(ground: Ground, found: Sequence[End]) -> int:
    finishing = Coalescer(partial(ends.finish, ground), most=_MOST_AT_ONCE, passing=(DatabaseUnavailable,))
    told = await asyncio.gather(*(finishing.ask(end) for end in found), return_exceptions=True)
    for end, each in zip(found, told, strict=True):
        if isinstance(each, DatabaseUnavailable):
            raise each
        if isinstance(each, BaseException):
            log.error("a job cannot be ended", job=str(end.job_id), exc_info=each)
    ended = [each for each in told if isinstance(each, Ended)]
    await asyncio.gather(*(ends.tell(ground, job) for job in ended))
    return len(ended)
