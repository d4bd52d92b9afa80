"""The only writer of job state: submit, claim, checkpoint, hand back, retry, finish, cancel.

Each is one transaction in which the job's row and its units move together; the queue and the stream hear of it after
the commit, and what they miss `workers/tend.py` repairs. `attempt` is the fencing token: whoever ends a job must name
the attempt that runs it.
"""

import hashlib
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Literal
from uuid import UUID

import msgspec
import structlog
from msgspec import Struct
from sqlalchemy import ColumnElement, delete, func, select, text, update
from sqlalchemy.ext.asyncio import AsyncSession

from infra import ids
from infra import redis as road
from infra.errors import PulseError
from infra.ground import Ground
from infra.models import LIVE, Account, Document, Hold, IdempotencyKey, Job
from infra.streams import EventId, Fenced
from quotas import ledger
from workers import events, jobs, pools
from workers import transcript as transcripts
from workers.request import Request

log = structlog.stdlib.get_logger()

#: A caller's key is remembered this long.
KEEP_KEYS = timedelta(hours=24)
#: A job that loses its worker this often is what kills the workers.
MOST_LOSSES = 20


class IdempotencyKeyReused(PulseError):
    """This Idempotency-Key was used for another request within the last 24 hours."""

    ar = "استُخدم مفتاح Idempotency-Key هذا لطلب آخر خلال الأربع والعشرين ساعة الماضية."
    status = 422


class JobAbandoned(PulseError):
    """The job lost its worker too often and was given up."""

    ar = "فقدت المهمة عاملها مرات كثيرة، فتوقفت المحاولة."


class Submitted(Struct, frozen=True, kw_only=True):
    """An admitted job, how its meters stand, and whether it had been submitted before."""

    job: Job
    quota: dict[str, ledger.Standing]
    replayed: bool


class Progress(Struct, frozen=True, kw_only=True):
    """What a running attempt has used and made so far."""

    job_id: UUID
    attempt: int
    used: dict[str, int]
    result: Document


async def submit(
    ground: Ground, account: Account, request: Request, *, idempotency_key: str | None = None
) -> Submitted:
    """Admit a job: hold the most it can cost and keep its row, together; then queue it.

    Raises `QuotaExceeded`, `IdempotencyKeyReused`, or what the request's own `resolved` raises; nothing is kept then.
    """
    fingerprint = hashlib.sha256(b"POST /v1/jobs\n" + msgspec.json.encode(request, order="sorted")).digest()
    async with ground.database.begin() as session:
        if idempotency_key is not None:
            # The lock comes first: of two submissions with one key, the second sees what the first has kept.
            await _lock_key(session, account.id, idempotency_key)
            known = await _replay(session, account.id, idempotency_key, fingerprint)
            if known is not None:
                return Submitted(job=known, quota=await _quota(session, account, known), replayed=True)
        resolved = request.resolved(ground.settings)
        most = resolved.most(ground.settings)
        balances = await ledger.lock(session, account, sorted(most))
        job = _new(account.id, resolved)
        crossings = ledger.hold(session, balances, job.id, most)
        session.add(job)
        if idempotency_key is not None:
            session.add(_remember(job, idempotency_key, fingerprint))
        await session.flush()
    await _announce(ground, job, crossings)
    quota = {meter: ledger.standing(balance) for meter, balance in balances.items()}
    return Submitted(job=job, quota=quota, replayed=False)


async def _lock_key(session: AsyncSession, account_id: UUID, key: str) -> None:
    """Wait until no other submission of the account uses this key."""
    await session.execute(select(func.pg_advisory_xact_lock(func.hashtextextended(f"{account_id} {key}", 0))))


async def _quota(session: AsyncSession, account: Account, job: Job) -> dict[str, ledger.Standing]:
    """Return how the meters that a job drew on stand now."""
    meters = sorted(await session.scalars(select(Hold.meter).where(Hold.job_id == job.id)))
    return {meter: ledger.standing(balance) for meter, balance in (await ledger.lock(session, account, meters)).items()}


def _new(account_id: UUID, request: Request) -> Job:
    spec: Document = msgspec.to_builtins(request)
    labels = spec.pop("metadata", {})
    now = datetime.now(UTC)
    return Job(
        id=ids.new(),
        account_id=account_id,
        kind=spec["kind"],
        state="queued",
        spec=spec,
        labels=labels,
        attempt=0,
        tries=0,
        created_at=now,
        run_at=now,
    )


def _remember(job: Job, key: str, fingerprint: bytes) -> IdempotencyKey:
    return IdempotencyKey(
        account_id=job.account_id,
        key=key,
        fingerprint=fingerprint,
        job_id=job.id,
        expires_at=job.created_at + KEEP_KEYS,
    )


async def _replay(session: AsyncSession, account_id: UUID, key: str, fingerprint: bytes) -> Job | None:
    known = await session.get(IdempotencyKey, (account_id, key))
    if known is None:
        return None
    if known.expires_at <= datetime.now(UTC):
        await session.delete(known)
        await session.flush()
        return None
    if known.fingerprint != fingerprint:
        raise IdempotencyKeyReused(field="Idempotency-Key")
    return await jobs.get(session, account_id, known.job_id)


async def _announce(ground: Ground, job: Job, crossings: Sequence[ledger.Crossing]) -> None:
    said: list[events.Said] = [events.Queued()]
    said += [events.Warning(code=f"quota_{it.percent}", detail={"meter": it.meter}) for it in crossings]
    try:
        # The event first: once the job is on the queue, its worker may speak at any moment.
        await ground.streams.append(job.id, job.attempt, [events.encode(event) for event in said], 0)
        await ground.queue.enqueue(pools.of(job.kind), [(job.id, job.account_id)])
    except Fenced:
        pass
    except road.AWAY:
        log.warning("admitted while the queue is away; the tender will queue it", job=str(job.id))


async def claim(ground: Ground, job_id: UUID) -> Job | None:
    """Take a job for a new attempt, if it is still wanted; the queue's lease says that nobody else runs it.

    A job that was cancelled while nobody ran it, or that has lost its worker too often, is ended here instead.
    """
    async with ground.database.begin() as session:
        job = await session.scalar(select(Job).where(Job.id == job_id).with_for_update())
        if job is None or job.state not in LIVE:
            return None
        # Nobody gave it back: its worker is dead, or lost it.
        job.losses += 1 if job.state == "running" else 0
        if job.cancel_requested_at is None and job.losses < MOST_LOSSES:
            job.state, job.attempt = "running", job.attempt + 1
            job.started_at = job.started_at or datetime.now(UTC)
            return job
    await abandon(ground, job)
    return None


async def abandon(ground: Ground, job: Job) -> None:
    """End a job that nobody runs: cancelled, with what its last checkpoint says was used, or given up.

    It ends as the next attempt, so that a worker that comes back from the dead cannot speak after the end.
    """
    checkpoint = job.checkpoint or {}
    said = await _said(ground, job)
    if job.cancel_requested_at is not None:
        used, result = checkpoint.get("used", {}), checkpoint.get("result")
        ended = await finish(ground, job, "canceled", used=used, result=result, transcript=said, next_attempt=True)
    else:
        error = failure(JobAbandoned())
        ended = await finish(ground, job, "failed", error=error, transcript=said, next_attempt=True)
    if ended is None:
        return
    try:
        await ground.streams.append(ended.id, ended.attempt, [events.encode(jobs.terminal(ended))], 0, over=True)
    except (Fenced, *road.AWAY):
        log.warning("the last event stays unsaid", job=str(job.id))


async def _said(ground: Ground, job: Job) -> Document | None:
    """Return what the job's last attempt had said before its worker died, as far as Redis still knows."""
    try:
        told = await ground.streams.read(job.id, EventId(job.attempt, 0), count=None)
    except road.AWAY:
        return None
    said = [event.data for event in told if event.id.attempt == job.attempt]
    return transcripts.compact(job.attempt, said) if said else None


def failure(error: PulseError) -> Document:
    """Return what a failed job's row keeps of an error: its code and its text in both languages."""
    return {"code": error.code, "en": error.text("en"), "ar": error.text("ar")}


def _running(job: Job) -> ColumnElement[bool]:
    return (Job.id == job.id) & (Job.attempt == job.attempt) & (Job.state == "running")


async def checkpoint(ground: Ground, progress: Sequence[Progress]) -> dict[UUID, Literal["runs", "canceled"]]:
    """Keep what running attempts have used and made so far, in one statement.

    Returns, for those that still have their job, whether it runs or is asked to stop; the others lost it.
    """
    if not progress:
        return {}
    rows = [{"id": str(p.job_id), "attempt": p.attempt, "kept": {"used": p.used, "result": p.result}} for p in progress]
    async with ground.database.begin() as session:
        found = await session.execute(
            text("""
            UPDATE jobs SET checkpoint = p.kept
            FROM jsonb_to_recordset(CAST(:rows AS jsonb)) AS p(id uuid, attempt integer, kept jsonb)
            WHERE jobs.id = p.id AND jobs.attempt = p.attempt AND jobs.state = 'running'
            RETURNING jobs.id, jobs.cancel_requested_at IS NOT NULL
            """),
            {"rows": msgspec.json.encode(rows).decode()},
        )
        return {job_id: "canceled" if stop else "runs" for job_id, stop in found}


async def hand_back(ground: Ground, job: Job) -> None:
    """Give a running job back to the queue, because its worker stops; not counted as a failed try."""
    async with ground.database.begin() as session:
        await session.execute(update(Job).where(_running(job)).values(state="queued", run_at=func.now()))


async def retry(ground: Ground, job: Job, wait_s: float) -> bool:
    """Count a failed try and give the job back to the queue for `wait_s` seconds; False when it was lost meanwhile."""
    async with ground.database.begin() as session:
        given_back = await session.scalar(
            update(Job)
            .where(_running(job))
            .values(state="queued", tries=Job.tries + 1, run_at=datetime.now(UTC) + timedelta(seconds=wait_s))
            .returning(Job.id)
        )
        return given_back is not None


async def finish(
    ground: Ground,
    job: Job,
    state: Literal["succeeded", "failed", "canceled"],
    *,
    used: Mapping[str, int] | None = None,
    result: Document | None = None,
    error: Document | None = None,
    transcript: Document | None = None,
    next_attempt: bool = False,
) -> Job | None:
    """End a job and its holds, once: charge what was `used`, free the rest.

    `next_attempt` ends it under a new fencing token. Returns the ended job, or None when this attempt no longer has
    it: then nothing is written.
    """
    async with ground.database.begin() as session:
        ended = await session.scalar(
            select(Job).where(Job.id == job.id, Job.attempt == job.attempt, Job.state == job.state).with_for_update()
        )
        if ended is None:
            return None
        ended.charged = await ledger.settle(session, job.id, used or {})
        ended.state, ended.finished_at = state, datetime.now(UTC)
        ended.tries += 1 if state == "failed" else 0
        ended.attempt += 1 if next_attempt else 0
        ended.checkpoint, ended.result, ended.error, ended.transcript = None, result, error, transcript
    return ended


async def cancel(ground: Ground, account_id: UUID, job_id: UUID) -> Job:
    """Stop the account's job: a queued one ends now and costs nothing, a running one is told to stop.

    A job that is over stays as it is: a success that committed first wins. Raises `JobNotFound`.
    """
    async with ground.database.begin() as session:
        # The lock comes first: a retry or a hand-back that commits meanwhile is then seen.
        job = await jobs.get(session, account_id, job_id, lock=True)
        if job.state in LIVE:
            job.cancel_requested_at = job.cancel_requested_at or datetime.now(UTC)
        if waited := job.state == "queued":
            job.state, job.finished_at, job.charged = "canceled", datetime.now(UTC), {}
            await ledger.void(session, job_id)
    try:
        if waited:
            await ground.streams.end(job.id, job.attempt, events.encode(jobs.terminal(job)))
            await ground.queue.forget(pools.of(job.kind), [job.id])
        elif job.state == "running":
            await ground.queue.cancel(job.id)
    except (Fenced, *road.AWAY):
        log.warning("cancelled while Redis is away; the worker's next checkpoint will see it", job=str(job.id))
    return job


async def forget_keys(session: AsyncSession) -> None:
    """Delete the idempotency keys that are past their time."""
    await session.execute(delete(IdempotencyKey).where(IdempotencyKey.expires_at <= func.now()))
