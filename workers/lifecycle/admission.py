"""Admission: a job is kept together with the most that it can cost, or not at all; many at once."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from uuid import UUID

import msgspec
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import defer

from infra.errors import PulseError
from infra.ground import Ground
from infra.models import Hold, Job
from quotas import ledger, spend
from workers import jobs
from workers.lifecycle import call
from workers.lifecycle.call import Known, Unopened
from workers.lifecycle.submissions import Ready, Submission, Submitted, prepare

# What was opened for a call is open in the next one, unless that period has ended meanwhile.
_MOST_CALLS = 4


async def admit(ground: Ground, submissions: Sequence[Submission]) -> list[Submitted | PulseError]:
    """Admit jobs in their order: hold the most that each can cost and keep its row, together. The queue hears nothing.

    Each is answered for itself: `QuotaExceeded`, `IdempotencyKeyReused`, `PoolDraining`, or what the request's own
    `resolved` raises; nothing is kept of such a one, and it does not stand in the way of those behind it.
    """
    return await admit_ready(ground, [prepare(ground, asked) for asked in submissions])


async def admit_ready(ground: Ground, readies: Sequence[Ready]) -> list[Submitted | PulseError]:
    """Admit what was worked out before, as `admit` does.

    Asked again with the same ids, as after `DatabaseUnavailable`, what was admitted then is admitted once.
    """
    if len({ready.job.id for ready in readies}) < len(readies):  # the same one twice at once has one answer
        once: dict[UUID, Ready] = {}
        for ready in readies:
            once.setdefault(ready.job.id, ready)
        told = dict(zip(once, await admit_ready(ground, list(once.values())), strict=True))
        return [told[ready.job.id] for ready in readies]
    for _ in range(_MOST_CALLS):
        verdicts = await call.ask(ground.database, readies)
        if not any(isinstance(verdict, Unopened) for verdict in verdicts):
            return await _answers(ground, verdicts)
        async with ground.database.begin() as session:
            caps = spend.caps(ground.settings)
            wanted = {(ready.job.account_id, meter): ready.asked.account for ready in readies for meter in ready.most}
            await ledger.open_periods(session, [(account, meter) for (_, meter), account in wanted.items()], caps)
    raise RuntimeError("the periods that were opened are not open")


async def _answers(ground: Ground, verdicts: Sequence[call.Verdict]) -> list[Submitted | PulseError]:
    known = {verdict.job_id for verdict in verdicts if isinstance(verdict, Known)}
    there = await _look_up(ground, known) if known else {}
    answers: list[Submitted | PulseError] = []
    for verdict in verdicts:
        match verdict:
            case Known(job_id, how) if job_id in there:
                answers.append(msgspec.structs.replace(there[job_id], known=how))
            case Known() | Unopened():
                answers.append(jobs.JobNotFound())
            case _:
                answers.append(verdict)
    return answers


async def _look_up(ground: Ground, job_ids: Iterable[UUID]) -> dict[UUID, Submitted]:
    """Return jobs that were there before, with how the meters that they drew on stand now."""
    async with ground.database.begin() as session:
        found = list(await session.scalars(select(Job).options(defer(Job.transcript)).where(Job.id.in_(job_ids))))
        quotas = await _quotas(session, [job.id for job in found])
    return {job.id: Submitted(job=job, quota=quotas[job.id]) for job in found}


async def _quotas(session: AsyncSession, job_ids: Sequence[UUID]) -> dict[UUID, dict[str, ledger.Standing]]:
    quotas: dict[UUID, dict[str, ledger.Standing]] = defaultdict(dict)
    query = select(Hold.holder_id, Hold.account_id, Hold.meter).where(Hold.holder_id.in_(job_ids))
    drawn = await session.execute(query)
    pairs = [(job_id, (account_id, meter)) for job_id, account_id, meter in drawn]
    standings = await ledger.standings(session, {pair for _, pair in pairs})
    for job_id, pair in pairs:
        if pair in standings:
            quotas[job_id][pair[1]] = standings[pair]
    return quotas
