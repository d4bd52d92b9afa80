"""Admission: a job is kept together with the most that it can cost, or not at all; then the queue hears of it."""

import asyncio
import hashlib
from collections import defaultdict
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Literal
from uuid import UUID

import msgspec
import structlog
from msgspec import Struct
from sqlalchemy import delete, func, select, text
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import defer

from infra import ids
from infra import redis as road
from infra.errors import PulseError
from infra.ground import Ground
from infra.models import Account, Document, Hold, IdempotencyKey, Job, PoolControl
from infra.queue import Lane
from quotas import ledger
from workers import events, jobs, pools
from workers.request import Request

log = structlog.stdlib.get_logger()

#: A caller's key is remembered this long.
KEEP_KEYS = timedelta(hours=24)
# How long a submission waits for a Redis that hangs.
_PATIENCE_S = 2.0
# Of one request, whoever asks; what is decided from it is not part of it.
_ROUTE = b"POST /v1/jobs\n"


class IdempotencyKeyReused(PulseError):
    """This Idempotency-Key was used for another request within the last 24 hours."""

    ar = "استُخدم مفتاح Idempotency-Key هذا لطلب آخر خلال الأربع والعشرين ساعة الماضية."
    status = 422


class PoolDraining(PulseError):
    """No new {kind} jobs are taken right now: the studio finishes what it has first. Please try again later."""

    ar = "لا تُقبل مهام جديدة من نوع {kind} الآن: يُنهي الاستوديو ما لديه أولًا. حاول لاحقًا."
    status = 503


class Submission(Struct, frozen=True, kw_only=True):
    """What an account asks for. `replay_of` is the failed job of its own that this is another go at."""

    account: Account
    request: Request
    idempotency_key: str | None = None
    replay_of: UUID | None = None


class Admitted(Struct, frozen=True, kw_only=True):
    """A job as it was just kept; the same facts as its row (`infra.models.Job`), which nobody has to read for them."""

    id: UUID
    account_id: UUID
    kind: str
    spec: Document
    labels: Document
    created_at: datetime
    run_at: datetime
    lane: Lane
    start_by: datetime | None
    unique_key: str | None
    replay_of: UUID | None
    state: str = "queued"
    attempt: int = 0
    tries: int = 0
    replayed_as: UUID | None = None
    started_at: datetime | None = None
    finished_at: datetime | None = None
    cancel_requested_at: datetime | None = None
    result: Document | None = None
    error: Document | None = None
    charged: Document | None = None


class Submitted(Struct, frozen=True, kw_only=True):
    """An admitted job and how its meters stand.

    `known` says how the job was there before: submitted under the same Idempotency-Key ("replayed"), alive under the
    same unique key ("unique"), or made as another go at the same failed job ("replay").
    """

    job: Job | Admitted
    quota: dict[str, ledger.Standing]
    known: Literal["replayed", "unique", "replay"] | None = None
    crossings: Sequence[ledger.Crossing] = ()


#: A caller's name for something, and whose caller it is.
type _Name = tuple[UUID, str]


class _Plan(Struct, kw_only=True):
    """A submission on its way: what it is answered, or the job that it would be and the most that it can cost."""

    asked: Submission
    fingerprint: bytes
    answer: Submitted | PulseError | None = None
    found: tuple[UUID, Literal["replayed", "unique", "replay"]] | None = None
    job: Admitted | None = None
    most: dict[str, int] = {}
    crossings: list[ledger.Crossing] = []

    @property
    def key(self) -> _Name | None:
        key = self.asked.idempotency_key
        return None if key is None else (self.asked.account.id, key)

    @property
    def unique(self) -> _Name | None:
        key = self.asked.request.unique_key
        return None if key is None else (self.asked.account.id, key)


async def submit(ground: Ground, submissions: Sequence[Submission]) -> list[Submitted | PulseError]:
    """Admit jobs, and announce those that are new."""
    answers = await admit(ground, submissions)
    await announce(ground, [answer for answer in answers if isinstance(answer, Submitted)])
    return answers


async def admit(ground: Ground, submissions: Sequence[Submission]) -> list[Submitted | PulseError]:
    """Admit jobs in their order: hold the most that each can cost and keep its row, together. The queue hears nothing.

    Each is answered for itself: `QuotaExceeded`, `IdempotencyKeyReused`, `PoolDraining`, or what the request's own
    `resolved` raises; nothing is kept of such a one, and it does not stand in the way of those behind it.
    """
    plans = [_Plan(asked=asked, fingerprint=_fingerprint(asked.request)) for asked in submissions]
    async with ground.database.begin() as session:
        keys, uniques, replays = await _known(session, plans)
        draining = frozenset(await session.scalars(select(PoolControl.name).where(PoolControl.draining)))
        for plan in plans:
            _prepare(ground, plan, keys, draining)
        drawing = await ledger.lock(session, _meters(plans))
        for plan in plans:
            if plan.job is not None:
                _decide(plan, plan.job, drawing, keys, uniques, replays)
        new = [plan for plan in plans if plan.job is not None and plan.answer is None and plan.found is None]
        await drawing.write(session)
        await _insert(session, new)
        await _look_up(session, [plan for plan in plans if plan.found is not None])
        for plan in new:
            assert plan.job is not None
            quota = {meter: drawing.standing(plan.asked.account.id, meter) for meter in plan.most}
            plan.answer = Submitted(job=plan.job, quota=quota, crossings=plan.crossings)
    return [_answered(plan) for plan in plans]


def _answered(plan: _Plan) -> Submitted | PulseError:
    assert plan.answer is not None, "every submission has been answered by now"
    return plan.answer


def _fingerprint(request: Request) -> bytes:
    return hashlib.sha256(_ROUTE + msgspec.json.encode(request, order="sorted")).digest()


async def _known(
    session: AsyncSession, plans: Sequence[_Plan]
) -> tuple[dict[_Name, tuple[bytes, UUID]], dict[_Name, UUID], dict[UUID, UUID]]:
    """Return what is known under the callers' keys, under their unique keys, and which failed jobs had another go.

    The locks come first: of two submissions with one key, the second sees what the first has kept.
    """
    keys = [plan.key for plan in plans if plan.key is not None]
    uniques = [plan.unique for plan in plans if plan.unique is not None]
    failed = [plan.asked.replay_of for plan in plans if plan.asked.replay_of is not None]
    known: dict[_Name, tuple[bytes, UUID]] = {}
    live: dict[_Name, UUID] = {}
    replays: dict[UUID, UUID] = {}
    if failed:
        rows = await session.execute(_LOCK_FAILED, {"ids": failed})
        replays = {job_id: replayed_as for job_id, replayed_as in rows if replayed_as is not None}
    if keys or uniques:
        names = [f"key {account} {key}" for account, key in keys] + [f"unique {a} {key}" for a, key in uniques]
        await session.execute(_LOCK_NAMES, {"names": names})
    if keys:
        await session.execute(_FORGET_EXPIRED, _names(keys))
        rows = await session.execute(_FIND_KEYS, _names(keys))
        known = {(account_id, key): (fingerprint, job_id) for account_id, key, fingerprint, job_id in rows}
    if uniques:
        rows = await session.execute(_FIND_UNIQUE, _names(uniques))
        live = {(account_id, key): job_id for account_id, key, job_id in rows}
    return known, live, replays


def _names(names: Sequence[_Name]) -> dict[str, list[object]]:
    return {"accounts": [account_id for account_id, _ in names], "keys": [key for _, key in names]}


_LOCK_NAMES = text("""
    SELECT pg_advisory_xact_lock(name) FROM (
        SELECT DISTINCT hashtextextended(n, 0) AS name FROM unnest(CAST(:names AS text[])) AS n ORDER BY 1
    ) AS sorted
""")
_LOCK_FAILED = text("""
    SELECT id, replayed_as FROM jobs WHERE id = ANY(CAST(:ids AS uuid[])) ORDER BY id FOR NO KEY UPDATE
""")
_THESE = "unnest(CAST(:accounts AS uuid[]), CAST(:keys AS text[])) AS n(account_id, key)"
_FORGET_EXPIRED = text(f"""
    DELETE FROM idempotency_keys k USING {_THESE}
    WHERE k.account_id = n.account_id AND k.key = n.key AND k.expires_at <= now()
""")  # noqa: S608 (a constant of this module)
_FIND_KEYS = text(
    f"SELECT account_id, key, fingerprint, job_id FROM idempotency_keys JOIN {_THESE} USING (account_id, key)"  # noqa: S608
)
_FIND_UNIQUE = text(f"SELECT account_id, key, job_id FROM unique_jobs JOIN {_THESE} USING (account_id, key)")  # noqa: S608


def _prepare(ground: Ground, plan: _Plan, keys: dict[_Name, tuple[bytes, UUID]], draining: frozenset[str]) -> None:
    """Answer what was asked before and what is wrong; make the job of everything else."""
    if plan.key in keys:
        _replay(plan, *keys[plan.key])
        return
    request = plan.asked.request
    try:
        request.check()
        if pools.of(request.kind) in draining:
            raise PoolDraining(kind=request.kind)
        resolved = request.resolved(ground.settings)
        plan.most = resolved.most(ground.settings)
    except PulseError as error:
        plan.answer = error
    else:
        plan.job = _new(plan.asked, resolved)


def _replay(plan: _Plan, fingerprint: bytes, job_id: UUID) -> None:
    if fingerprint == plan.fingerprint:
        plan.found = (job_id, "replayed")
    else:
        plan.answer = IdempotencyKeyReused(field="Idempotency-Key")


def _new(asked: Submission, request: Request) -> Admitted:
    spec: Document = msgspec.to_builtins(request)
    now = datetime.now(UTC)
    for name in ("metadata", "priority", "run_at", "start_deadline", "unique_key"):
        spec.pop(name, None)
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
    return list(
        {(plan.asked.account.id, meter): (plan.asked.account, meter) for plan in plans for meter in plan.most}.values()
    )


def _decide(
    plan: _Plan,
    job: Admitted,
    drawing: ledger.Drawing,
    keys: dict[_Name, tuple[bytes, UUID]],
    uniques: dict[_Name, UUID],
    replays: dict[UUID, UUID],
) -> None:
    """Hold what the job needs, unless it is there already: known before, or admitted a moment ago."""
    replay_of = plan.asked.replay_of
    if plan.key in keys:
        _replay(plan, *keys[plan.key])
    elif plan.unique in uniques:
        plan.found = (uniques[plan.unique], "unique")
    elif replay_of is not None and replay_of in replays:
        plan.found = (replays[replay_of], "replay")
    else:
        try:
            plan.crossings = drawing.hold(job.account_id, job.id, plan.most)
        except ledger.QuotaExceeded as error:
            plan.answer = error
            return
        if plan.key is not None:
            keys[plan.key] = (plan.fingerprint, job.id)
        if plan.unique is not None:
            uniques[plan.unique] = job.id
        if replay_of is not None:
            replays[replay_of] = job.id


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
        INSERT INTO idempotency_keys (account_id, key, fingerprint, job_id, created_at, expires_at)
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


async def _insert(session: AsyncSession, plans: Sequence[_Plan]) -> None:
    rows = [(plan, plan.job) for plan in plans if plan.job is not None]
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
            "keys": [plan.asked.idempotency_key for plan, _ in rows],
            "fingerprints": [plan.fingerprint for plan, _ in rows],
            "keep": KEEP_KEYS,
        },
    )


async def _look_up(session: AsyncSession, plans: Sequence[_Plan]) -> None:
    """Answer those whose jobs are there already, with how the meters that those drew on stand now."""
    wanted = {plan.found[0] for plan in plans if plan.found is not None}
    if not wanted:
        return
    found = {
        job.id: job
        for job in await session.scalars(select(Job).options(defer(Job.transcript)).where(Job.id.in_(wanted)))
    }
    quotas = await _quotas(session, wanted)
    for plan in plans:
        assert plan.found is not None
        job_id, known = plan.found
        job = found.get(job_id)
        plan.answer = jobs.JobNotFound() if job is None else Submitted(job=job, quota=quotas[job_id], known=known)


async def _quotas(session: AsyncSession, job_ids: Iterable[UUID]) -> dict[UUID, dict[str, ledger.Standing]]:
    quotas: dict[UUID, dict[str, ledger.Standing]] = defaultdict(dict)
    drawn = await session.execute(select(Hold.job_id, Hold.account_id, Hold.meter).where(Hold.job_id.in_(job_ids)))
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
            await asyncio.gather(*(ground.streams.append(each.job.id, 0, _first_words(each), 0) for each in new))
            await enqueue(ground, [each.job for each in new])
    except road.AWAY:
        log.warning("admitted while the queue is away; the tender will queue them", jobs=len(new))
    return [None for _ in submitted]


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


async def forget_keys(session: AsyncSession) -> None:
    """Delete the idempotency keys that are past their time."""
    await session.execute(delete(IdempotencyKey).where(IdempotencyKey.expires_at <= func.now()))
