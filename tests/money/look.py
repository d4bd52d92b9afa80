"""A look at everything that PostgreSQL keeps of units, jobs and names, and at what ought to be there."""

from typing import Any
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from quotas import audit
from tests.money.truth import Balance, Hold, Job, Truth

_BALANCES = text("""
    SELECT id, account_id, meter, granted, held, used, overage, warned_at IS NOT NULL, stopped_at IS NOT NULL,
           period_end IS NULL OR period_end > now()
    FROM balances
""")
_JOBS = text("SELECT id, account_id, state, attempt, tries, charged, finished_at IS NOT NULL FROM jobs")
# What moved is one entry for every hold, and one more for every hold that is over.
_HOLDS = text("""
    SELECT h.holder_id, h.meter, h.account_id, h.balance_id, h.units, h.settled, h.state,
           count(*) FILTER (WHERE e.kind = 'hold'), count(*) FILTER (WHERE e.kind IN ('settle', 'void')),
           count(*) FILTER (WHERE e.kind NOT IN ('hold', 'settle', 'void'))
    FROM holds h LEFT JOIN ledger_entries e ON e.holder_id = h.holder_id AND e.meter = h.meter
    GROUP BY 1, 2, 3, 4, 5, 6, 7
""")
_NAMES = text("""
    SELECT 'key', account_id, key, subject_id FROM idempotency_keys
    UNION ALL SELECT 'unique', account_id, key, job_id FROM unique_jobs
""")


async def look(session: AsyncSession, truth: Truth) -> None:
    """Fail unless everything is as the truth says, to the unit, and the books agree with themselves."""
    _compare_balances(truth, [tuple(row) for row in await session.execute(_BALANCES)])
    jobs = {row[0]: tuple(row)[1:] for row in await session.execute(_JOBS)}
    assert jobs == {job.id: _job(job) for job in truth.jobs.values()}
    holds = {(row[0], row[1]): tuple(row)[2:] for row in await session.execute(_HOLDS)}
    assert holds == {
        (job.id, meter): _hold(job, hold) for job in truth.jobs.values() for meter, hold in job.holds.items()
    }
    names = {(what, account_id, key): job_id for what, account_id, key, job_id in await session.execute(_NAMES)}
    told = {("key", *name): job_id for name, (_, job_id) in truth.keys.items()}
    assert names == told | {("unique", *name): job_id for name, job_id in truth.unique.items()}
    assert await audit.disagreements(session) == []


def _job(job: Job) -> tuple[Any, ...]:
    is_over = job.state not in {"queued", "running"}
    return job.account_id, job.state, job.attempt, job.tries, job.charged, is_over


def _hold(job: Job, hold: Hold) -> tuple[Any, ...]:
    is_over = hold.state != "held"
    return job.account_id, hold.balance.id, hold.units, hold.settled, hold.state, 1, int(is_over), 0


def _compare_balances(truth: Truth, rows: list[tuple[Any, ...]]) -> None:
    seen = set[UUID]()
    for balance_id, account_id, meter, *facts, is_current in rows:
        balance = truth.balance(account_id, meter) if is_current else truth.past[balance_id]
        balance.id = balance.id or balance_id
        assert (balance_id, *facts) == (balance.id, *_balance(balance))
        assert balance.held + balance.used <= balance.granted, "oversold"
        assert balance.is_level or len(balance.told) == len(set(balance.told)), "told twice in a period"
        seen.add(balance_id)
    for balance in (*truth.current.values(), *truth.past.values()):
        assert balance.id in seen or (balance.id is None and not (balance.held or balance.used))


def _balance(balance: Balance) -> tuple[Any, ...]:
    return balance.granted, balance.held, balance.used, balance.overage, balance.warned, balance.stopped
