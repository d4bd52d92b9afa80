"""Admission: a job is kept together with the most that it can cost, or not at all; then the queue hears of it."""

import asyncio
import contextlib
from collections import defaultdict
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from uuid import UUID

import msgspec
import structlog
from msgspec import Struct
from sqlalchemy import select, text
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import defer

from infra import ids
from infra import redis as road
from infra.errors import PulseError
from infra.ground import Ground
from infra.models import Account, Document, Hold, Job, PoolControl
from infra.queue import Lane
from infra.streams import Fenced
from quotas import ledger
from workers import events, jobs, pools
from workers.lifecycle import names
from workers.lifecycle.names import Known
from workers.lifecycle.submissions import Admitted, Before, Submission, Submitted
from workers.request import Request

log = structlog.stdlib.get_logger()

# How long a submission waits for a Redis that hangs.
_PATIENCE_S = 2.0


class PoolDraining(PulseError):
    """No new {kind} jobs are taken right now: the studio finishes what it has first. Please try again later."""

    ar = "لا تُقبل مهام جديدة من نوع {kind} الآن: يُنهي الاستوديو ما لديه أولًا. حاول لاحقًا."
    status = 503


class _Plan(Struct, kw_only=True):
    """A submission on its way: refused, there already, or the job that it would be and the most that it can cost."""

    asked: Submission
    refusal: PulseError | None = None
    before: tuple[UUID, Before] | None = None
    job: Admitted | None = None
    most: dict[str, int] = {}
    crossings: Sequence[ledger.Crossing] = ()


async def admit(ground: Ground, submissions: Sequence[Submission]) -> list[Submitted | PulseError]:
    """Admit jobs in their order: hold the most that each can cost and keep its row, together. The queue hears nothing.

    Each is answered for itself: `QuotaExceeded`, `IdempotencyKeyReused`, `PoolDraining`, or what the request's own
    `resolved` raises; nothing is kept of such a one, and it does not stand in the way of those behind it.
    """
    plans = [_Plan(asked=asked) for asked in submissions]
    async with ground.database.begin() as session:
        known = await Known.of(session, submissions)
        draining = frozenset(await session.scalars(select(PoolControl.name).where(PoolControl.draining)))
        for plan in plans:
            _prepare(ground, plan, known, draining)
        drawing = await ledger.lock(session, _meters(plans))
        for plan in plans:
            _decide(plan, known, drawing)
        await drawing.write(session)
        await _insert(session, plans)
        await names.keep(session, [(plan.asked, plan.before[0]) for plan in plans if plan.before is not None])
        there = await _look_up(session, plans)
    return [_answer(plan, drawing, there) for plan in plans]


def _prepare(ground: Ground, plan: _Plan, known: Known, draining: frozenset[str]) -> None:
    """Find what was asked before and refuse what is wrong; make the job of everything else."""
    request = plan.asked.request
    try:
        plan.before = known.find(plan.asked)
        if plan.before is not None:
            return
        request.check()
        if pools.of(request.kind) in draining:
            raise PoolDraining(kind=request.kind)
        resolved = request.resolved(ground.settings)
        plan.most, plan.job = resolved.most(ground.settings), _new(plan.asked, resolved)
    except PulseError as error:
        plan.refusal = error


def _new(asked: Submission, request: Request) -> Admitted:
    spec: Document = msgspec.to_builtins(request)
    now = datetime.now(UTC)
    for name in ("metadata", "priority", "run_at", "start_deadline", "unique_key"):
        del spec[name]
    return Admitted(
        id=ids.new(),
        account_id=asked.account.id,
        kind=request.kind,
        spec=spec,
        labels=request.metadata,
        created_at=now,
        run_at=max(now, request.run_at or now),
        lane=request.priority,
        start_by=request.start_deadline,
        unique_key=request.unique_key,
        replay_of=asked.replay_of,
    )


def _meters(plans: Iterable[_Plan]) -> list[tuple[Account, str]]:
    wanted = {(plan.asked.account.id, meter): plan.asked.account for plan in plans for meter in plan.most}
    return [(account, meter) for (_, meter), account in wanted.items()]


def _decide(plan: _Plan, known: Known, drawing: ledger.Drawing) -> None:
    """Hold what the job needs, unless one before it in the same transaction is the answer by now."""
    job = plan.job
    if job is None:
        return
    try:
        plan.before = known.find(plan.asked)
        if plan.before is None:
            plan.crossings = drawing.hold(job.account_id, job.id, plan.most)
            known.add(plan.asked, job.id)
            return
    except PulseError as error:
        plan.refusal = error
    plan.job = None


_INSERT = text("""
    WITH given AS (
        SELECT * FROM unnest(
            CAST(:ids AS uuid[]), CAST(:accounts AS uuid[]), CAST(:kinds AS text[]), CAST(:specs AS text[]),
            CAST(:labels AS text[]), CAST(:created AS timestamptz[]), CAST(:runs AS timestamptz[]),
            CAST(:lanes AS text[]), CAST(:start_bys AS timestamptz[]), CAST(:uniques AS text[]),
            CAST(:replays AS uuid[]), CAST(:keys AS text[]), CAST(:fingerprints AS bytea[]))
            AS g(id, account_id, kind, spec, labels, created_at, run_at, lane, start_by, unique_key, replay_of,
                 key, fingerprint)
    ), keeping AS (
        INSERT INTO idempotency_keys (account_id, key, fingerprint, subject_id, created_at, expires_at)
        SELECT account_id, key, fingerprint, id, created_at, created_at + CAST(:keep AS interval)
        FROM given WHERE key IS NOT NULL
    ), naming AS (
        INSERT INTO unique_jobs (account_id, key, job_id)
        SELECT account_id, unique_key, id FROM given WHERE unique_key IS NOT NULL
    ), replaying AS (
        UPDATE jobs j SET replayed_as = g.id FROM given g
        WHERE g.replay_of IS NOT NULL AND j.id = g.replay_of AND j.id = ANY(CAST(:replays AS uuid[]))
    )
    INSERT INTO jobs (id, account_id, kind, spec, labels, created_at, run_at, lane, start_by, unique_key, replay_of)
    SELECT id, account_id, kind, CAST(spec AS jsonb), CAST(labels AS jsonb), created_at, run_at, lane, start_by,
           unique_key, replay_of
    FROM given
""")


async def _insert(session: AsyncSession, plans: Iterable[_Plan]) -> None:
    rows = [(plan.asked, plan.job) for plan in plans if plan.job is not None]
    if not rows:
        return
    await session.execute(
        _INSERT,
        {
            "ids": [job.id for _, job in rows],
            "accounts": [job.account_id for _, job in rows],
            "kinds": [job.kind for _, job in rows],
            "specs": [msgspec.json.encode(job.spec).decode() for _, job in rows],
            "labels": [msgspec.json.encode(job.labels).decode() for _, job in rows],
            "created": [job.created_at for _, job in rows],
            "runs": [job.run_at for _, job in rows],
            "lanes": [job.lane for _, job in rows],
            "start_bys": [job.start_by for _, job in rows],
            "uniques": [job.unique_key for _, job in rows],
            "replays": [job.replay_of for _, job in rows],
            "keys": [asked.idempotency_key for asked, _ in rows],
            "fingerprints": [names.fingerprint(asked.request) if asked.idempotency_key else None for asked, _ in rows],
            "keep": names.KEEP_KEYS,
        },
    )


async def _look_up(session: AsyncSession, plans: Iterable[_Plan]) -> dict[UUID, Submitted]:
    """Return the jobs that are there already, with how the meters that they drew on stand now."""
    before = dict(plan.before for plan in plans if plan.before is not None)
    if not before:
        return {}
    found = await session.scalars(select(Job).options(defer(Job.transcript)).where(Job.id.in_(before)))
    quotas = await _quotas(session, before)
    return {job.id: Submitted(job=job, quota=quotas[job.id], known=before[job.id]) for job in found}


def _answer(plan: _Plan, drawing: ledger.Drawing, there: dict[UUID, Submitted]) -> Submitted | PulseError:
    if plan.refusal is not None:
        return plan.refusal
    if plan.before is not None:
        job_id, how = plan.before
        submitted = there.get(job_id)
        return jobs.JobNotFound() if submitted is None else msgspec.structs.replace(submitted, known=how)
    assert plan.job is not None, "what is neither refused nor there already is new"
    quota = {meter: drawing.standing(plan.job.account_id, meter) for meter in plan.most}
    return Submitted(job=plan.job, quota=quota, crossings=plan.crossings)


async def _quotas(session: AsyncSession, job_ids: Iterable[UUID]) -> dict[UUID, dict[str, ledger.Standing]]:
    quotas: dict[UUID, dict[str, ledger.Standing]] = defaultdict(dict)
    query = select(Hold.holder_id, Hold.account_id, Hold.meter).where(Hold.holder_id.in_(job_ids))
    drawn = await session.execute(query)
    pairs = [(job_id, (account_id, meter)) for job_id, account_id, meter in drawn]
    standings = await ledger.standings(session, {pair for _, pair in pairs})
    for job_id, pair in pairs:
        if pair in standings:
            quotas[job_id][pair[1]] = standings[pair]
    return quotas


async def announce(ground: Ground, submitted: Sequence[Submitted]) -> list[None]:
    """Say "queued" and put on the queue what was admitted just now; where that cannot be done, the tender will."""
    new = [each for each in submitted if each.known is None]
    try:
        async with asyncio.timeout(_PATIENCE_S):
            # The events first: once a job is on the queue, its worker may speak at any moment.
            await asyncio.gather(*(_say_first(ground, each) for each in new))
            await enqueue(ground, [each.job for each in new])
    except road.AWAY:
        log.warning("admitted while the queue is away; the tender will queue them", jobs=len(new))
    return [None for _ in submitted]


async def _say_first(ground: Ground, admitted: Submitted) -> None:
    with contextlib.suppress(Fenced):  # the tender was quicker, and a worker speaks already
        await ground.streams.append(admitted.job.id, 0, _first_words(admitted), 0)


def _first_words(admitted: Submitted) -> list[bytes]:
    said: list[events.Said] = [events.Queued()]
    said += [events.Warning(code=f"quota_{it.percent}", detail={"meter": it.meter}) for it in admitted.crossings]
    return [events.encode(event) for event in said]


async def enqueue(ground: Ground, waiting: Iterable[Job | Admitted]) -> None:
    """Put jobs on the queues of their pools, in their lanes, to start when they are due."""
    now = datetime.now(UTC)
    groups: dict[tuple[str, str, Lane, datetime | None], list[tuple[UUID, UUID]]] = defaultdict(list)
    for job in waiting:
        lane: Lane = "batch" if job.lane == "batch" else "interactive"
        due = job.run_at if job.run_at > now else None
        groups[pools.of(job.kind), job.kind, lane, due].append((job.id, job.account_id))
    for (pool, kind, lane, due), members in groups.items():
        await ground.queue.enqueue(pool, members, kind=kind, lane=lane, due=due)
