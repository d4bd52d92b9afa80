"""The only code that moves units: hold before a job, settle or void with its end; every move is a ledger entry.

All functions work inside the caller's transaction, so that units move together with the job's row or not at all.
Locks are always taken on balances first, in id order, and everything else is looked at after that: a decision made on
what was read before the lock would be made on a stale snapshot.
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Literal
from uuid import UUID

from msgspec import Struct
from sqlalchemy import or_, select, text
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from infra import ids
from infra.errors import PulseError
from infra.models import Account, Balance, Hold, LedgerEntry
from quotas import plans


class QuotaExceeded(PulseError):
    """Your plan does not have enough {name_en} left: this needs up to {needed} and {remaining} remain."""

    ar = "لا يتبقى في باقتك ما يكفي من {name_ar}: يحتاج هذا الطلب إلى {needed} كحد أقصى والمتبقي {remaining}."
    status = 402
    hidden = frozenset({"name_en", "name_ar"})


class Standing(Struct, frozen=True, kw_only=True):
    """How one meter stands, in units; `resets_at` is empty for a level meter."""

    limit: int
    used: int
    held: int
    remaining: int
    resets_at: datetime | None


class Crossing(Struct, frozen=True):
    """A meter went past 80 % (warned) or to 100 % (stopped) of its grant, for the first time in its period."""

    meter: str
    percent: Literal[80, 100]


def standing(balance: Balance) -> Standing:
    """Return what `balance` says."""
    return Standing(
        limit=balance.granted,
        used=balance.used,
        held=balance.held,
        remaining=balance.granted - balance.used - balance.held,
        resets_at=balance.period_end,
    )


async def lock(session: AsyncSession, account: Account, meters: Sequence[str]) -> dict[str, Balance]:
    """Lock and return the current balances of `meters`, opening the period (with the plan's grant) where it is new."""
    now = datetime.now(UTC)
    found = await _lock_current(session, account.id, meters, now)
    missing = [meter for meter in meters if meter not in found]
    if missing:
        for meter in missing:
            await _open_period(session, account, meter, now)
        found = await _lock_current(session, account.id, meters, now)
    return found


async def _lock_current(
    session: AsyncSession, account_id: UUID, meters: Sequence[str], now: datetime
) -> dict[str, Balance]:
    rows = await session.scalars(
        select(Balance)
        .where(
            Balance.account_id == account_id,
            Balance.meter.in_(meters),
            Balance.period_start <= now,
            or_(Balance.period_end.is_(None), Balance.period_end > now),
        )
        .order_by(Balance.id)
        .with_for_update(key_share=True)
        .execution_options(populate_existing=True)
    )
    return {row.meter: row for row in rows}


async def _open_period(session: AsyncSession, account: Account, meter: str, now: datetime) -> None:
    catalog = plans.load()
    start, end = plans.month_of(now, account.created_at)
    if not catalog.meters[meter].resets:
        start, end = account.created_at, None
    granted = catalog.plans[account.plan].units.get(meter, 0)
    opened = await session.scalar(
        insert(Balance)
        .values(id=ids.new(), account_id=account.id, meter=meter, period_start=start, period_end=end, granted=granted)
        .on_conflict_do_nothing()  # another request opened it meanwhile
        .returning(Balance.id)
    )
    if opened is not None:
        session.add(
            LedgerEntry(
                id=ids.new(),
                account_id=account.id,
                balance_id=opened,
                meter=meter,
                kind="grant",
                granted=granted,
                reason=f"plan:{account.plan}",
            )
        )
        await session.flush()


def hold(
    session: AsyncSession, balances: Mapping[str, Balance], job_id: UUID, units: Mapping[str, int]
) -> list[Crossing]:
    """Set `units` (per meter) aside for a job on locked `balances`: all of its meters, or none.

    Returns the thresholds that were crossed. Raises `QuotaExceeded` for the first meter that does not fit.
    """
    wanted = {meter: amount for meter, amount in units.items() if amount > 0}
    for meter, amount in wanted.items():
        _refuse_what_does_not_fit(balances[meter], meter, amount)
    crossings: list[Crossing] = []
    for meter, amount in wanted.items():
        balance = balances[meter]
        balance.held += amount
        crossings += _crossed(balance)
        session.add(
            Hold(job_id=job_id, meter=meter, account_id=balance.account_id, balance_id=balance.id, units=amount)
        )
        session.add(_entry(balance, "hold", job_id, held=amount))
    return crossings


def _refuse_what_does_not_fit(balance: Balance, meter: str, amount: int) -> None:
    remaining = balance.granted - balance.used - balance.held
    if amount > remaining:
        name = plans.load().meters[meter]
        raise QuotaExceeded(
            meter=meter,
            needed=amount,
            remaining=remaining,
            resets_at=balance.period_end,
            name_en=name.en,
            name_ar=name.ar,
        )


def _crossed(balance: Balance) -> list[Crossing]:
    taken, now = balance.held + balance.used, datetime.now(UTC)
    crossings: list[Crossing] = []
    if balance.warned_at is None and taken * 100 >= balance.granted * 80:
        balance.warned_at = now
        crossings.append(Crossing(balance.meter, 80))
    if balance.stopped_at is None and taken >= balance.granted:
        balance.stopped_at = now
        crossings.append(Crossing(balance.meter, 100))
    return crossings


def _entry(balance: Balance, kind: str, job_id: UUID, *, held: int = 0, used: int = 0, overage: int = 0) -> LedgerEntry:
    return LedgerEntry(
        id=ids.new(),
        account_id=balance.account_id,
        balance_id=balance.id,
        meter=balance.meter,
        kind=kind,
        granted=0,
        held=held,
        used=used,
        overage=overage,
        job_id=job_id,
    )


async def settle(session: AsyncSession, job_id: UUID, used: Mapping[str, int]) -> dict[str, int]:
    """End the holds of a job: charge what was `used` per meter, free the rest; what exceeds a hold is overage.

    Returns the units charged per meter. A second call finds no open hold and changes nothing.
    """
    open_hold = (Hold.job_id == job_id) & (Hold.state == "held")
    locked = await session.scalars(
        select(Balance)
        .where(Balance.id.in_(select(Hold.balance_id).where(open_hold)))
        .order_by(Balance.id)
        .with_for_update(key_share=True)
        .execution_options(populate_existing=True)
    )
    balances = {balance.id: balance for balance in locked}
    holds = await session.scalars(select(Hold).where(open_hold).order_by(Hold.balance_id).with_for_update())
    charged: dict[str, int] = {}
    for held in holds:
        balance, wanted = balances[held.balance_id], used.get(held.meter, 0)
        taken = min(wanted, held.units)
        balance.held -= held.units
        balance.used += taken
        balance.overage += wanted - taken
        held.settled, held.state, held.resolved_at = taken, "settled" if taken else "voided", datetime.now(UTC)
        kind = "settle" if wanted else "void"
        session.add(_entry(balance, kind, job_id, held=-held.units, used=taken, overage=wanted - taken))
        charged[held.meter] = taken
    return charged


async def void(session: AsyncSession, job_id: UUID) -> None:
    """End the holds of a job without charging anything."""
    await settle(session, job_id, {})


async def audit(session: AsyncSession) -> list[str]:
    """Return one line for everything in the books that does not agree; none when they balance to the unit."""
    lines = await session.scalars(
        text("""
        SELECT format('balance %s (%s): %s %s, its %s say %s', b.id, b.meter, column_name, kept, source, told)
        FROM balances b
        LEFT JOIN (SELECT balance_id, sum(granted) g, sum(held) h, sum(used) u, sum(overage) o
                   FROM ledger_entries GROUP BY 1) e ON e.balance_id = b.id
        LEFT JOIN (SELECT balance_id, sum(units) FILTER (WHERE state = 'held') h, sum(settled) u
                   FROM holds GROUP BY 1) s ON s.balance_id = b.id,
        LATERAL (VALUES ('granted', b.granted, 'entries', coalesce(e.g, 0)),
                        ('held', b.held, 'entries', coalesce(e.h, 0)),
                        ('used', b.used, 'entries', coalesce(e.u, 0)),
                        ('overage', b.overage, 'entries', coalesce(e.o, 0)),
                        ('held', b.held, 'holds', coalesce(s.h, 0)),
                        ('used', b.used, 'holds', coalesce(s.u, 0))) AS told(column_name, kept, source, told)
        WHERE kept <> told
        UNION ALL
        SELECT format('job %s (%s): its hold on %s is still open', j.id, j.state, h.meter)
        FROM holds h JOIN jobs j ON j.id = h.job_id
        WHERE h.state = 'held' AND j.state NOT IN ('queued', 'running')
        UNION ALL
        SELECT format('hold of job %s on %s: there is no such job', h.job_id, h.meter)
        FROM holds h WHERE NOT EXISTS (SELECT FROM jobs j WHERE j.id = h.job_id)
        """)
    )
    return list(lines)
