"""Units: held, settled, voided; never oversold, never counted twice, always explained by entries."""

import asyncio
import random
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from sqlalchemy import select, text, update
from sqlalchemy.exc import IntegrityError

from infra import ids
from infra.ground import Ground
from infra.models import Account, Balance, Job, LedgerEntry
from quotas import accounts, audit, ledger, plans
from tests.support.books import assert_even, balance_of
from workers import lifecycle
from workers.lifecycle import End

TOKENS = "chat_tokens"


async def hold(ground: Ground, account: Account, **units: int) -> UUID:
    """Hold `units` for a new job, which is kept so that the books know it."""
    job_id = ids.new()
    async with ground.database.begin() as session:
        drawing = await ledger.lock(session, [(account, meter) for meter in units])
        drawing.hold(account.id, job_id, units)
        await drawing.write(session)
        session.add(Job(id=job_id, account_id=account.id, kind="chat", spec={}))
    return job_id


async def settle(ground: Ground, job_id: UUID, **used: int) -> dict[str, int]:
    """End a job, and with it its holds; return what was charged."""
    end = End(job_id=job_id, attempt=0, was="queued", state="succeeded", used=used)
    (ended,) = await lifecycle.finish(ground, [end])
    return ended.charged if ended is not None else {}


async def test_a_hold_counts_at_once_and_a_settlement_frees_the_rest(ground: Ground, account: Account) -> None:
    job_id = await hold(ground, account, chat_tokens=1000, images=2)
    held = await balance_of(ground, account)
    assert (held.held, held.used) == (1000, 0)
    assert await settle(ground, job_id, chat_tokens=300) == {TOKENS: 300, "images": 0}
    balance = await balance_of(ground, account)
    assert (balance.granted, balance.held, balance.used) == (500_000, 0, 300)
    assert (await balance_of(ground, account, "images")).used == 0
    await assert_even(ground)


async def test_a_job_settles_once(ground: Ground, account: Account) -> None:
    job_id = await hold(ground, account, chat_tokens=1000)
    both = await asyncio.gather(*(settle(ground, job_id, chat_tokens=400) for _ in range(5)))
    assert sorted(both, key=len) == [{}, {}, {}, {}, {TOKENS: 400}]
    assert (await balance_of(ground, account)).used == 400
    await assert_even(ground)


async def test_a_job_gets_all_of_its_meters_or_none(ground: Ground, account: Account) -> None:
    with pytest.raises(ledger.QuotaExceeded) as refused:
        await hold(ground, account, chat_tokens=10, documents=11)
    assert refused.value.facts["meter"] == "documents"
    assert (await balance_of(ground, account)).held == 0
    await assert_even(ground)


async def test_a_hundred_at_once_on_a_limit_of_ten_are_ten(ground: Ground, account: Account) -> None:
    asked = await asyncio.gather(*(hold(ground, account, documents=1) for _ in range(100)), return_exceptions=True)
    assert sum(isinstance(answer, UUID) for answer in asked) == 10
    assert sum(isinstance(answer, ledger.QuotaExceeded) for answer in asked) == 90
    balance = await balance_of(ground, account, "documents")
    assert (balance.held, balance.granted) == (10, 10)
    assert balance.warned_at is not None
    assert balance.stopped_at is not None
    await assert_even(ground)


async def test_thresholds_are_crossed_once(ground: Ground, account: Account) -> None:
    crossings: list[ledger.Crossing] = []
    for _ in range(10):
        async with ground.database.begin() as session:
            drawing = await ledger.lock(session, [(account, "documents")])
            crossings += drawing.hold(account.id, ids.new(), {"documents": 1})
            await drawing.write(session)
    assert crossings == [ledger.Crossing("documents", 80), ledger.Crossing("documents", 100)]


async def test_settling_and_holding_at_once_never_deadlocks_or_oversells(ground: Ground, account: Account) -> None:
    async def life(seed: int) -> None:
        chance = random.Random(seed)
        job_id = await hold(ground, account, chat_tokens=chance.randint(1, 900), storage_bytes=5)
        await settle(ground, job_id, chat_tokens=chance.randint(0, 1200))

    await asyncio.gather(*(life(seed) for seed in range(120)))
    balance = await balance_of(ground, account)
    assert balance.held == 0
    await assert_even(ground)


async def test_the_database_itself_refuses_to_oversell(ground: Ground, account: Account) -> None:
    with pytest.raises(IntegrityError, match="never_oversold"):
        async with ground.database.begin() as session:
            await session.execute(update(Balance).where(Balance.meter == TOKENS).values(held=500_001))


async def test_the_audit_finds_a_unit_that_nobody_entered(ground: Ground, account: Account) -> None:
    await hold(ground, account, chat_tokens=5)
    async with ground.database.begin() as session:
        await session.execute(update(Balance).where(Balance.meter == TOKENS).values(held=6))
        lines = await audit.disagreements(session)
    assert len(lines) == 2, "the entries and the holds both say 5"
    assert all("held 6" in line and "5" in line for line in lines)


async def test_the_audit_finds_a_hold_that_outlived_its_job(ground: Ground, account: Account) -> None:
    job_id = await hold(ground, account, chat_tokens=5)
    async with ground.database.begin() as session:
        await session.execute(update(Job).where(Job.id == job_id).values(state="failed", finished_at=datetime.now(UTC)))
        (line,) = await audit.disagreements(session)
    assert str(job_id) in line


async def test_a_new_period_opens_by_itself_and_old_holds_stay_in_theirs(ground: Ground, account: Account) -> None:
    job_id = await hold(ground, account, chat_tokens=700)
    async with ground.database.begin() as session:  # a month later
        await session.execute(
            text(
                "UPDATE balances SET period_start = period_start - interval '1 month',"
                " period_end = period_end - interval '1 month' WHERE meter = 'chat_tokens'"
            )
        )
    later = await hold(ground, account, chat_tokens=500_000)
    await settle(ground, job_id, chat_tokens=600)
    await settle(ground, later, chat_tokens=1)
    async with ground.database.begin() as session:
        rows = await session.scalars(select(Balance).where(Balance.meter == TOKENS).order_by(Balance.period_start))
        assert [(row.granted, row.used, row.held) for row in rows] == [(500_000, 600, 0), (500_000, 1, 0)]
    await assert_even(ground)


async def test_what_an_account_was_granted_is_an_entry_that_names_its_plan(ground: Ground, account: Account) -> None:
    async with ground.database.begin() as session:
        grants = list(await session.scalars(select(LedgerEntry).where(LedgerEntry.kind == "grant")))
    assert {entry.meter: entry.granted for entry in grants} == plans.load().plans["free"].units
    assert {entry.reason for entry in grants} == {"plan:free"}


async def test_a_level_meter_never_resets(ground: Ground, account: Account) -> None:
    assert (await balance_of(ground, account, "storage_bytes")).period_end is None
    tokens = await balance_of(ground, account)
    assert tokens.period_end is not None
    assert timedelta(days=27) < tokens.period_end - datetime.now(UTC) < timedelta(days=32)


async def test_two_accounts_do_not_meet(ground: Ground, account: Account) -> None:
    async with ground.database.begin() as session:
        other = await accounts.create(session, "omar@example.com")
    await hold(ground, account, documents=10)
    await hold(ground, other, documents=10)
    await assert_even(ground)


@pytest.mark.parametrize(
    ("anchor", "moment", "start", "end"),
    [
        ("2026-01-31", "2026-02-27", "2026-01-31", "2026-02-28"),
        ("2026-01-31", "2026-02-28", "2026-02-28", "2026-03-31"),
        ("2024-01-31", "2024-02-29", "2024-02-29", "2024-03-31"),
        ("2025-12-15", "2026-01-14", "2025-12-15", "2026-01-15"),
        ("2025-12-15", "2026-01-15", "2026-01-15", "2026-02-15"),
        ("2020-02-29", "2026-03-01", "2026-02-28", "2026-03-29"),
    ],
)
def test_a_month_begins_on_the_anchors_day_or_the_last_there_is(anchor: str, moment: str, start: str, end: str) -> None:
    at = [datetime.fromisoformat(day).replace(tzinfo=UTC) for day in (anchor, moment, start, end)]
    assert plans.month_of(at[1], at[0]) == (at[2], at[3])


@given(
    anchor=st.datetimes(datetime(2020, 1, 1), datetime(2030, 1, 1), timezones=st.just(UTC)),  # noqa: DTZ001 (hypothesis adds it)
    days=st.integers(0, 4000),
)
@hypothesis_settings(max_examples=300, deadline=None)
def test_months_follow_one_another_without_gap_or_overlap(anchor: datetime, days: int) -> None:
    moment = anchor + timedelta(days=days)
    start, end = plans.month_of(moment, anchor)
    assert start <= moment < end
    assert plans.month_of(end, anchor)[0] == end
    assert plans.month_of(end - timedelta(microseconds=1), anchor) == (start, end)


@pytest.mark.parametrize(
    "change",
    [
        ('default = "free"', 'default = "gold"'),
        ("documents = 10,", "documents = -1,"),
        ("documents = 10,", "poems = 1,"),
    ],
)
def test_a_plan_file_that_makes_no_sense_is_refused(change: tuple[str, str]) -> None:
    from pathlib import Path  # noqa: PLC0415

    written = (Path(plans.__file__).parent / "plans.toml").read_text(encoding="utf-8")
    assert change[0] in written
    with pytest.raises(Exception, match="plan"):
        plans.read(written.replace(*change))


async def kept(ground: Ground, account: Account, units: int) -> UUID:
    """Hold and settle `units` of storage for a new file."""
    file_id = ids.new()
    async with ground.database.begin() as session:
        drawing = await ledger.lock(session, [(account, "storage_bytes")])
        drawing.hold(account.id, file_id, {"storage_bytes": units})
        await drawing.write(session)
        assert await ledger.settle(session, {file_id: {"storage_bytes": units}}) == {file_id: {"storage_bytes": units}}
    return file_id


async def let_go(ground: Ground, *file_ids: UUID) -> None:
    """Release what is kept for files."""
    async with ground.database.begin() as session:
        await ledger.release(session, file_ids)


async def test_what_a_level_meter_keeps_is_used_until_it_is_released(ground: Ground, account: Account) -> None:
    first, second = await kept(ground, account, 1000), await kept(ground, account, 500)
    assert (await balance_of(ground, account, "storage_bytes")).used == 1500
    await let_go(ground, first)
    assert (await balance_of(ground, account, "storage_bytes")).used == 500
    await let_go(ground, first, second)
    await let_go(ground, second)
    balance = await balance_of(ground, account, "storage_bytes")
    assert (balance.held, balance.used) == (0, 0)
    await assert_even(ground)


async def test_a_released_level_meter_warns_anew(ground: Ground, account: Account) -> None:
    limit = plans.load().plans["free"].units["storage_bytes"]
    small, large = await kept(ground, account, limit // 2), await kept(ground, account, limit // 2)
    full = await balance_of(ground, account, "storage_bytes")
    assert full.warned_at is not None
    assert full.stopped_at is not None
    await let_go(ground, small)
    half = await balance_of(ground, account, "storage_bytes")
    assert (half.warned_at, half.stopped_at) == (None, None)
    await let_go(ground, large)


async def test_a_settled_flow_is_never_released(ground: Ground, account: Account) -> None:
    job_id = await hold(ground, account, chat_tokens=100)
    await settle(ground, job_id, chat_tokens=100)
    await let_go(ground, job_id)
    assert (await balance_of(ground, account)).used == 100
    await assert_even(ground)


async def test_what_a_file_takes_beyond_its_hold_is_overage(ground: Ground, account: Account) -> None:
    file_id = ids.new()
    async with ground.database.begin() as session:
        drawing = await ledger.lock(session, [(account, "storage_bytes")])
        drawing.hold(account.id, file_id, {"storage_bytes": 100})
        await drawing.write(session)
        assert await ledger.settle(session, {file_id: {"storage_bytes": 130}}) == {file_id: {"storage_bytes": 100}}
        assert await ledger.settle(session, {file_id: {"storage_bytes": 130}}) == {}
    balance = await balance_of(ground, account, "storage_bytes")
    assert (balance.used, balance.overage) == (100, 30)
