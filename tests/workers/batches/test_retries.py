"""What came to nothing of a batch is given another go, once; a go that never came to run is none."""

import asyncio
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from sqlalchemy import update

from infra import ids
from infra.ground import Ground
from infra.models import Account, Batch
from tests.support import batches, readings
from tests.support.books import assert_even
from workers.batches import copying, keeping, retries
from workers.batches.feeding import feed
from workers.batches.retries import NothingToRetry
from workers.batches.rows import Made


async def _over(ground: Ground, account: Account, mode: str = "each") -> Batch:
    """Return a batch of five lines that was cancelled before any of them was a job."""
    await readings.allow(ground, account, 1000)
    batch = await batches.put(ground, account, 5, kind="chat")
    async with ground.database.begin() as session:
        await session.execute(update(Batch).where(Batch.id == batch.id).values(mode=mode))
    await batches.cancel(ground, batch.id)
    await feed(ground, batch.id)
    over = await batches.batch_of(ground, batch.id)
    assert (over.state, over.canceled) == ("canceled", 5)
    return over


async def _read(ground: Ground, account: Account, made: Made) -> Batch:
    return await readings.read(ground, account, made.batch.id)


async def test_a_go_for_which_there_was_not_enough_keeps_nobody_from_another(ground: Ground, account: Account) -> None:
    old = await _over(ground, account, "all")
    await readings.allow(ground, account, 0)
    first = await retries.retry(ground, account, old.id)
    assert (await _read(ground, account, first)).state == "failed"
    with pytest.raises(NothingToRetry):
        await retries.retry(ground, account, first.batch.id)
    await readings.allow(ground, account, 1000)
    second = await retries.retry(ground, account, old.id)
    assert (second.replayed, second.batch.id == first.batch.id) == (False, False)
    assert (await _read(ground, account, second)).state == "running"
    assert (await retries.retry(ground, account, old.id)).batch.id == second.batch.id, "that one runs"
    await assert_even(ground)


async def test_a_go_that_is_cancelled_while_its_lines_are_copied_loses_none_of_them(
    ground: Ground, account: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(copying, "_AT_ONCE", 2)
    old = await _over(ground, account)
    first = await retries.retry(ground, account, old.id)
    await copying.copy(ground, first.batch.id, 0)
    await batches.cancel(ground, first.batch.id)
    await feed(ground, first.batch.id)
    assert (await batches.batch_of(ground, first.batch.id)).canceled == 2
    second = await _read(ground, account, await retries.retry(ground, account, old.id))
    assert (second.state, second.lines) == ("running", 5)


async def test_lines_are_kept_as_long_as_they_are_still_to_be_copied(
    ground: Ground, account: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(copying, "_AT_ONCE", 2)
    old = await _over(ground, account)
    made = await retries.retry(ground, account, old.id)
    await copying.copy(ground, made.batch.id, 0)
    await _age(ground, old.id)
    assert await keeping.forget(ground) == 0
    batch = await _read(ground, account, made)
    assert (batch.state, batch.lines) == ("running", 5)
    assert await keeping.forget(ground) == 1


async def _age(ground: Ground, batch_id: UUID) -> None:
    ago = datetime.now(UTC) - timedelta(days=ground.settings.batch_keep_days, hours=1)
    async with ground.database.begin() as session:
        await session.execute(update(Batch).where(Batch.id == batch_id).values(finished_at=ago))


async def test_a_clock_that_was_set_back_makes_no_second_go(
    ground: Ground, account: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    earlier = [ids.new() for _ in range(2)]
    await asyncio.sleep(0.002)
    old = await _over(ground, account)
    new = iter([earlier[0], ids.new(), earlier[1], ids.new()])
    monkeypatch.setattr(ids, "new", lambda: next(new))
    first = await retries.retry(ground, account, old.id)
    assert first.batch.id < old.id
    again = await retries.retry(ground, account, old.id)
    assert (again.replayed, again.batch.id) == (True, first.batch.id)
