"""Attempts: jobs in workers' hands, what is kept of them on the way, and how they come back."""

import asyncio
from collections.abc import Sequence
from datetime import datetime
from typing import Literal
from uuid import UUID

import msgspec
import structlog
from msgspec import Struct
from sqlalchemy import text

from infra.ground import Ground
from infra.models import Document
from infra.queue import MOST_LOSSES
from workers.lifecycle import ends

log = structlog.stdlib.get_logger()


class Attempt(Struct, frozen=True, kw_only=True):
    """A job in a worker's hands; `attempt` is the fencing token, `tries` are the failures before it.

    `resume` is what the last attempt left for this one (`Run.checkpoint`), empty where it left nothing. The try may run
    for `timeout_s` seconds where its kind allows no less. It is cancelled at `cancel_by`, `cancel_in_s` seconds after
    the database gave it.
    """

    id: UUID
    account_id: UUID
    kind: str
    batch_id: UUID | None = None
    spec: Document
    attempt: int
    tries: int = 0
    resume: Document = {}
    timeout_s: int | None = None
    cancel_by: datetime | None = None
    cancel_in_s: float | None = None


class Kept(Struct, frozen=True, kw_only=True):
    """What a running attempt has `used` and made so far, and what the next one needs to `resume`.

    What is None stays as it was kept before.
    """

    job_id: UUID
    attempt: int
    used: dict[str, int] | None = None
    result: Document | None = None
    resume: Document | None = None


class Return(Struct, frozen=True, kw_only=True):
    """How an attempt gives its job back: in `wait_s` seconds, as a failed try or (shutdown, lost worker) as none."""

    job_id: UUID
    attempt: int
    failed: bool
    wait_s: float = 0.0
    used: dict[str, int] | None = None
    result: Document | None = None


_CLAIM = text("""
    WITH wanted AS MATERIALIZED (
        SELECT id, losses + (state = 'running')::int AS losses,
               cancel_requested_at IS NOT NULL
               OR coalesce(started_at IS NULL AND start_by <= now(), false)
               OR coalesce(cancel_by <= now(), false) AS unwanted
        FROM jobs WHERE id = ANY(CAST(:ids AS uuid[])) AND finished_at IS NULL
        ORDER BY id FOR NO KEY UPDATE
    ), taking AS (
        UPDATE jobs j
        SET state = 'running', attempt = j.attempt + 1, losses = w.losses, started_at = coalesce(j.started_at, now())
        FROM wanted w WHERE j.id = w.id AND j.id = ANY(CAST(:ids AS uuid[])) AND NOT w.unwanted AND w.losses < :most
        RETURNING j.id, j.account_id, j.kind, j.spec, j.attempt, j.tries, j.checkpoint -> 'resume' AS resume,
                  j.batch_id, j.timeout_s, j.cancel_by,
                  CAST(extract(epoch FROM j.cancel_by - clock_timestamp()) AS float8) AS cancel_in_s
    )
    SELECT w.id, t.account_id, t.kind, t.spec, t.attempt, t.tries, t.resume, t.batch_id, t.timeout_s, t.cancel_by,
           t.cancel_in_s
    FROM wanted w LEFT JOIN taking t ON t.id = w.id
""")


async def claim(ground: Ground, job_ids: Sequence[UUID]) -> list[Attempt | None]:
    """Take jobs, each for a new attempt; the queue's leases say that nobody else runs them.

    None stands for those that are over. One that was cancelled while nobody ran it, was to be over by now, has not been
    started in time, or has lost its worker too often (a job that still runs was never given back: that is a loss), is
    ended here.
    """
    rows = await ground.database.ask(_CLAIM, {"ids": list(job_ids), "most": MOST_LOSSES})
    taken: dict[UUID, Attempt] = {}
    unwanted: list[UUID] = []
    for job_id, account_id, kind, spec, attempt, tries, resume, batch_id, timeout_s, cancel_by, cancel_in_s in rows:
        if kind is None:
            unwanted.append(job_id)
        else:
            taken[job_id] = Attempt(
                id=job_id,
                account_id=account_id,
                kind=kind,
                batch_id=batch_id,
                spec=spec,
                attempt=attempt,
                tries=tries,
                resume=resume or {},
                timeout_s=timeout_s,
                cancel_by=cancel_by,
                cancel_in_s=cancel_in_s,
            )
    # The others have been taken: whatever becomes of these, those are to run.
    for told in await asyncio.gather(*(ends.close(ground, job_id) for job_id in unwanted), return_exceptions=True):
        if isinstance(told, BaseException):
            log.error("a job cannot be ended", exc_info=told)
    return [taken.get(job_id) for job_id in job_ids]


_KEEP = text("""
    WITH given AS (
        SELECT * FROM unnest(CAST(:ids AS uuid[]), CAST(:attempts AS integer[]), CAST(:kept AS text[]))
                      AS g(id, attempt, kept)
    ), locked AS MATERIALIZED (
        SELECT j.id, g.kept FROM jobs j JOIN given g ON g.id = j.id AND g.attempt = j.attempt
        WHERE j.id = ANY(CAST(:ids AS uuid[])) AND j.state = 'running' ORDER BY j.id FOR NO KEY UPDATE OF j
    )
    UPDATE jobs j SET checkpoint = coalesce(j.checkpoint, '{}') || CAST(l.kept AS jsonb)
    FROM locked l WHERE j.id = l.id
    RETURNING j.id, j.attempt, j.cancel_requested_at IS NOT NULL OR coalesce(j.cancel_by <= now(), false)
""")


async def keep(ground: Ground, progress: Sequence[Kept]) -> list[Literal["runs", "canceled", "lost"]]:
    """Keep what running attempts have used and made so far.

    Returns for each whether its job runs, is asked to stop, or is not this attempt's any more (then nothing is kept).
    """
    if not progress:
        return []
    # What one attempt keeps twice at once is one change of one row, the later over the earlier.
    whole: dict[tuple[UUID, int], Document] = {}
    for kept in progress:
        whole.setdefault((kept.job_id, kept.attempt), {}).update(_parts(kept.used, kept.result, kept.resume))
    rows = await ground.database.ask(
        _KEEP,
        {
            "ids": [job_id for job_id, _ in whole],
            "attempts": [attempt for _, attempt in whole],
            "kept": [_text(parts) for parts in whole.values()],
        },
    )
    found = {(job_id, attempt): stop for job_id, attempt, stop in rows}
    return [_told(found.get((kept.job_id, kept.attempt))) for kept in progress]


def _told(stop: bool | None) -> Literal["runs", "canceled", "lost"]:  # noqa: FBT001 (what the database says)
    if stop is None:
        return "lost"
    return "canceled" if stop else "runs"


def _parts(used: dict[str, int] | None, result: Document | None, resume: Document | None = None) -> Document:
    parts = {"used": used, "result": result, "resume": resume}
    return {name: part for name, part in parts.items() if part is not None}


def _text(parts: Document) -> str:
    return msgspec.json.encode(parts).decode()


_GIVE_BACK = text("""
    WITH given AS (
        SELECT * FROM unnest(CAST(:ids AS uuid[]), CAST(:attempts AS integer[]), CAST(:failed AS boolean[]),
                             CAST(:waits AS float8[]), CAST(:kept AS text[])) AS g(id, attempt, failed, wait_s, kept)
    ), locked AS MATERIALIZED (
        SELECT j.id, j.attempt, j.state, g.failed, g.wait_s, g.kept
        FROM jobs j JOIN given g ON g.id = j.id AND g.attempt = j.attempt
        WHERE j.id = ANY(CAST(:ids AS uuid[])) AND j.finished_at IS NULL ORDER BY j.id FOR NO KEY UPDATE OF j
    ), giving AS (
        UPDATE jobs j
        SET state = 'queued', tries = j.tries + l.failed::int, run_at = now() + l.wait_s * interval '1 second',
            checkpoint = nullif(  -- a failed try is not charged, whatever comes
                coalesce(CASE WHEN l.failed THEN j.checkpoint - ARRAY['used', 'result'] ELSE j.checkpoint END, '{}')
                || CAST(l.kept AS jsonb), '{}')
        FROM locked l WHERE j.id = l.id AND l.state = 'running'
    )
    SELECT id, attempt FROM locked
""")


async def give_back(ground: Ground, returns: Sequence[Return]) -> list[bool]:
    """Give running jobs back to the queue.

    Returns for each whether it is queued now by this attempt, also when it was given back before (an answer that was
    lost); False when the attempt has lost it.
    """
    rows = await ground.database.ask(
        _GIVE_BACK,
        {
            "ids": [each.job_id for each in returns],
            "attempts": [each.attempt for each in returns],
            "failed": [each.failed for each in returns],
            "waits": [each.wait_s for each in returns],
            "kept": [_text(_parts(each.used, each.result)) for each in returns],
        },
    )
    given = set(rows)
    return [(each.job_id, each.attempt) in given for each in returns]
