"""Ends: every job ends once, with its holds, and whoever follows it is told."""

import asyncio
import contextlib
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Literal
from uuid import UUID

import msgspec
import structlog
from msgspec import Raw, Struct
from sqlalchemy import false, func, null, select, text
from sqlalchemy.ext.asyncio import AsyncSession

from infra import redis as road
from infra.errors import PulseError
from infra.ground import Ground
from infra.models import LIVE, Document, Job
from infra.streams import EventId, Fenced, Source
from quotas import ledger
from workers import events, jobs, pools
from workers import transcript as transcripts
from workers.lifecycle import orphans

log = structlog.stdlib.get_logger()

type Last = Literal["succeeded", "failed", "canceled", "expired"]
# How long a cancel waits for a Redis that hangs.
_PATIENCE_S = 2.0


class JobAbandoned(PulseError):
    """The job lost its worker too often and was given up."""

    ar = "فقدت المهمة عاملها مرات كثيرة، فتوقفت المحاولة."


class End(Struct, frozen=True, kw_only=True):
    """How a job ends: what is charged of its holds (`used`, units per meter), and what its row keeps.

    It holds for the job only while it `was` in that state at that `attempt`. `next_attempt` ends it under a new fencing
    token, so that a worker that comes back from the dead cannot speak after the end. `asked_before` is said by whoever
    asks again because the answer was lost.
    """

    job_id: UUID
    attempt: int
    state: Last
    used: dict[str, int] = {}
    result: Document | None = None
    error: Document | None = None
    transcript: Raw | None = None
    was: Literal["running", "queued"] = "running"
    next_attempt: bool = False
    asked_before: bool = False


class Ended(Struct, frozen=True, kw_only=True):
    """A job that is over.

    `left` is the token of an answer that a vendor may still be making: nobody ran the job that could have it stopped,
    or it failed for what the vendor knows nothing of.
    """

    id: UUID
    account_id: UUID
    kind: str
    batch_id: UUID | None
    attempt: int
    state: Last
    charged: dict[str, int]
    error: Document | None
    left: Document | None = None

    def source(self) -> Source:
        """Return the job as who speaks."""
        return jobs.speaker(self.id, self.account_id, self.kind, self.batch_id)

    def terminal(self) -> events.Said:
        """Return the job's last event."""
        return jobs.terminal(self.state, charged=self.charged, error=self.error)


_FINISH = text(f"""
    WITH given AS MATERIALIZED (
        SELECT * FROM unnest(CAST(:ids AS uuid[]), CAST(:attempts AS integer[]), CAST(:was AS text[]),
                             CAST(:states AS text[]), CAST(:used AS text[]), CAST(:results AS text[]),
                             CAST(:errors AS text[]), CAST(:transcripts AS text[]), CAST(:next_attempts AS integer[]))
                      AS g(id, attempt, was, state, used, result, error, transcript, next_attempt)
    ), locked AS MATERIALIZED (
        SELECT g.*, CASE WHEN g.was = 'queued' OR g.next_attempt = 1 OR g.state = 'failed'
                         THEN j.checkpoint #> '{{resume,token}}' END AS token
        FROM jobs j JOIN given g ON g.id = j.id AND g.attempt = j.attempt AND g.was = j.state
        WHERE j.id = ANY(CAST(:ids AS uuid[])) ORDER BY j.id FOR NO KEY UPDATE OF j
    ), over AS (
        SELECT id AS holder_id, CAST(used AS jsonb) AS used FROM locked
    ), {ledger.SETTLING}, ending AS (
        UPDATE jobs j
        SET state = l.state, finished_at = now(), charged = coalesce(c.charged, '{{}}'), checkpoint = NULL,
            attempt = j.attempt + l.next_attempt, tries = j.tries + (l.state = 'failed')::int,
            result = CAST(l.result AS jsonb), error = CAST(l.error AS jsonb), transcript = CAST(l.transcript AS jsonb)
        FROM locked l LEFT JOIN charges c ON c.holder_id = l.id
        WHERE j.id = l.id AND j.id = ANY(CAST(:ids AS uuid[]))
        RETURNING j.id, j.account_id, j.kind, j.batch_id, j.attempt, j.state, j.charged, j.unique_key, j.webhook,
                  l.token
    ), freeing AS (
        DELETE FROM unique_jobs u USING ending e
        WHERE u.account_id = e.account_id AND u.key = e.unique_key AND u.job_id = e.id
    ), telling AS (
        INSERT INTO webhook_messages (id, account_id, type, subject_id, url)
        SELECT uuidv7(), account_id, 'job.' || state, id, webhook FROM ending
        WHERE batch_id IS NULL AND kind <> ALL('{{{",".join(pools.OWN)}}}')
              AND (webhook IS NOT NULL OR account_id IN (
                  SELECT w.account_id FROM webhook_endpoints w
                  WHERE w.account_id IN (SELECT account_id FROM ending) AND w.disabled_at IS NULL))
    )
    SELECT id, account_id, kind, batch_id, attempt, state, charged, token FROM ending
""")  # noqa: S608 (constants)


async def finish(ground: Ground, ends: Sequence[End]) -> list[Ended | None]:
    """End jobs and their holds, each once: charge what was used, free the rest.

    None stands for a job that its attempt no longer has: then nothing is written for it.
    """
    rows = await ground.database.ask(_FINISH, _columns(ends))
    ended = {(job.id, job.attempt): job for job in map(_ended, rows)}
    unsure = [end for end in ends if end.asked_before and _token(end) not in ended]
    if unsure:
        ended |= await _ended_before(ground, unsure)
    return [_answer(end, ended.get(_token(end))) for end in ends]


async def finish_in(session: AsyncSession, ends: Sequence[End]) -> int:
    """End jobs and their holds inside the caller's transaction; returns how many that were."""
    return len((await session.execute(_FINISH, _columns(ends))).all())


def _token(end: End) -> tuple[UUID, int]:
    """Return under which fencing token a job is over by this end."""
    return end.job_id, end.attempt + end.next_attempt


def _columns(ends: Sequence[End]) -> dict[str, list[object]]:
    return {
        "ids": [end.job_id for end in ends],
        "attempts": [end.attempt for end in ends],
        "was": [end.was for end in ends],
        "states": [end.state for end in ends],
        "used": [ledger.encoded(end.used) for end in ends],
        "results": [_text(end.result) for end in ends],
        "errors": [_text(end.error) for end in ends],
        "transcripts": [None if end.transcript is None else bytes(end.transcript).decode() for end in ends],
        "next_attempts": [int(end.next_attempt) for end in ends],
    }


def _text(document: Document | None) -> str | None:
    return None if document is None else msgspec.json.encode(document).decode()


def _ended(row: Sequence[object]) -> Ended:
    names = ("id", "account_id", "kind", "batch_id", "attempt", "state", "charged", "left")
    return msgspec.convert({**dict(zip(names, row, strict=True)), "error": None}, Ended)


def _answer(end: End, ended: Ended | None) -> Ended | None:
    if ended is None or ended.state != end.state:
        return None
    return msgspec.structs.replace(ended, error=end.error)


async def _ended_before(ground: Ground, ends: Sequence[End]) -> dict[tuple[UUID, int], Ended]:
    """Return those that ended just so before: the commit came through, its answer did not."""
    async with ground.database.begin() as session:
        query = select(Job.id, Job.account_id, Job.kind, Job.batch_id, Job.attempt, Job.state, Job.charged, null())
        over = query.where(Job.id.in_({end.job_id for end in ends}), Job.state.not_in(LIVE))
        rows = (await session.execute(over)).all()
    return {(job.id, job.attempt): job for job in map(_ended, rows)}


def failure(error: PulseError) -> Document:
    """Return what a failed job's row keeps of an error: its code and its text in both languages."""
    return {"code": error.code, "en": error.text("en"), "ar": error.text("ar")}


async def close(ground: Ground, job_id: UUID) -> None:
    """End a job that nobody runs and nobody is to run.

    It was cancelled (what its last checkpoint says was used is charged), was to be over by now, was not started in
    time, or is given up.
    """
    # Whether it is late is for the database's clock to say, as it was when the job was found.
    late = func.coalesce(Job.cancel_by <= func.now(), false())
    async with ground.database.begin() as session:
        query = select(Job, late).where(Job.id == job_id, Job.state.in_(LIVE))
        found = (await session.execute(query)).one_or_none()
    if found is None:
        return
    job, is_late = found
    ended = (await finish(ground, [await _close(ground, job, is_late)]))[0]
    if ended is not None:
        await tell(ground, ended, alone=True)


async def _close(ground: Ground, job: Job, late: bool) -> End:  # noqa: FBT001 (what the database says)
    end = End(
        job_id=job.id,
        attempt=job.attempt,
        state="canceled",
        transcript=await _said(ground, job),
        was="running" if job.state == "running" else "queued",
        next_attempt=True,
    )
    if job.cancel_requested_at is not None or (late and job.state == "running"):
        checkpoint = job.checkpoint or {}
        used = msgspec.convert(checkpoint.get("used", {}), dict[str, int])
        return msgspec.structs.replace(end, used=used, result=checkpoint.get("result") or None)
    if late:  # and waits: as where the account cancels it then, for nothing
        return end
    if job.started_at is None and job.start_by is not None:
        return msgspec.structs.replace(end, state="expired")
    return msgspec.structs.replace(end, state="failed", error=failure(JobAbandoned()))


async def _said(ground: Ground, job: Job) -> Raw | None:
    """Return what the job's last attempt had said before its worker died, as far as Redis still knows."""
    try:
        told = await ground.streams.read(job.id, EventId(job.attempt, 0), count=None)
    except road.AWAY:
        return None
    said = [event.data for event in told if event.id.attempt == job.attempt]
    return transcripts.compact(job.attempt, said) if said and job.attempt else None


async def tell(ground: Ground, ended: Ended, *, alone: bool = False) -> None:
    """Say the last event of a job that no worker speaks for (`alone` of its attempt), and take it off the queue."""
    last = events.line(ended.terminal())
    try:
        async with asyncio.timeout(_PATIENCE_S):
            if ended.left is not None:
                await orphans.keep(ground, ended.left)
            if alone:
                await ground.streams.append(ended.source(), ended.attempt, [last], 0, over=True)
            else:
                await ground.streams.end(ended.source(), ended.attempt, last)
            with contextlib.suppress(KeyError):  # a kind that only another build knows is on none of our queues
                await ground.queue.forget(pools.of(ended.kind), [ended.id])
    except (Fenced, *road.AWAY):
        log.warning("the last event stays unsaid", job=str(ended.id))


async def cancel(ground: Ground, account_id: UUID, job_id: UUID) -> Job:
    """Stop the account's job: a queued one ends now and costs nothing, a running one is told to stop.

    A job that is over stays as it is: a success that committed first wins. Raises `JobNotFound`.
    """
    async with ground.database.begin() as session:
        # The lock comes first: a retry or a hand-back that commits meanwhile is then seen.
        job = await jobs.get(session, account_id, job_id, lock=True)
        if job.state in LIVE:
            job.cancel_requested_at = job.cancel_requested_at or datetime.now(UTC)
            await session.flush()
        ended = await _cancel_queued(session, job) if job.state == "queued" else None
    if ended is not None:
        await tell(ground, ended)
    elif job.state == "running":
        try:
            async with asyncio.timeout(_PATIENCE_S):
                await ground.queue.cancel(job.id)
        except road.AWAY:
            log.warning("cancelled while Redis is away; the worker's next checkpoint will see it", job=str(job.id))
    return job


async def _cancel_queued(session: AsyncSession, job: Job) -> Ended:
    """End a queued job, for nothing: what a try before this one used was given up with it, or handed back."""
    end = End(job_id=job.id, attempt=job.attempt, state="canceled", was="queued")
    (row,) = await session.execute(_FINISH, _columns([end]))
    await session.refresh(job)
    return _ended(row)
