"""What a batch holds: drawn by its jobs, given back in parts, freed with its end; the balance is right throughout."""

import random
from collections.abc import Generator

import pytest
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError

from infra.ground import Ground
from infra.models import Account, Batch, Hold
from quotas import audit, ledger
from tests.support.batches import METER, MOST, USED, assert_exact, feed_all, land, put
from tests.support.books import assert_even, balance_of, grant
from tests.support.pairs import pairs
from workers import lifecycle


@pytest.fixture(autouse=True)
def kind() -> Generator[None]:
    """Let the kind that is asked for have a pool."""
    with pairs():
        yield


async def draw(ground: Ground, batch: Batch, most: int) -> list[lifecycle.Drawn]:
    """Draw some of a batch's lines."""
    async with ground.database.begin() as session:
        locked = await session.get_one(Batch, batch.id, with_for_update=True)
        return await lifecycle.draw(session, locked, most)


async def give_back(ground: Ground, batch: Batch, units: int) -> None:
    """Give a part of a batch's hold back."""
    async with ground.database.begin() as session:
        await ledger.give_back(session, batch.id, {METER: units})


async def hold_of(ground: Ground, batch: Batch) -> Hold:
    """Return a batch's hold."""
    async with ground.database.begin() as session:
        return await session.get_one(Hold, (batch.id, METER))


async def test_what_jobs_draw_leaves_the_balance_as_it_is(ground: Ground, account: Account) -> None:
    batch = await put(ground, account, 5)
    before = await balance_of(ground, account)
    drawn = await draw(ground, batch, 3)
    after = await balance_of(ground, account)
    assert before.held == after.held == 5 * MOST
    assert (before.used, before.warned_at) == (after.used, after.warned_at) == (0, None)
    assert ((await hold_of(ground, batch)).units, (await hold_of(ground, batch)).drawn) == (5 * MOST, 3 * MOST)
    await assert_even(ground)
    await land(ground, [job.id for job in drawn])
    assert (await balance_of(ground, account)).held == 2 * MOST
    assert (await balance_of(ground, account)).used == 3 * USED
    await assert_even(ground)


async def test_a_part_of_a_hold_is_given_back_and_no_more_than_is_left(ground: Ground, account: Account) -> None:
    batch = await put(ground, account, 5)
    await draw(ground, batch, 2)
    await give_back(ground, batch, MOST)
    assert (await balance_of(ground, account)).held == 4 * MOST
    await assert_even(ground)
    with pytest.raises(IntegrityError):
        await give_back(ground, batch, 2 * MOST + 1)
    async with ground.database.begin() as session:
        with pytest.raises(RuntimeError, match="no such hold"):
            await ledger.give_back(session, batch.id, {"images": 1})
    async with ground.database.begin() as session:
        await ledger.give_back(session, batch.id, {METER: 0})
        assert await ledger.settle(session, {batch.id: {}}) == {batch.id: {METER: 0}}
    assert (await balance_of(ground, account)).held == 2 * MOST, "what jobs hold is not the batch's any more"
    await assert_even(ground)


async def test_what_a_batch_gives_back_was_never_taken_and_warns_anew(ground: Ground, account: Account) -> None:
    await grant(ground, 10 * MOST)
    batch = await put(ground, account, 10)
    taken = await balance_of(ground, account)
    assert (taken.warned_at is None, taken.stopped_at is None) == (False, False)
    await give_back(ground, batch, MOST)
    less = await balance_of(ground, account)
    assert (less.warned_at, less.stopped_at) == (taken.warned_at, None)
    await give_back(ground, batch, 2 * MOST)
    assert (await balance_of(ground, account)).warned_at is None


async def test_the_books_see_what_is_wrong_with_a_batch(ground: Ground, account: Account) -> None:
    batch = await put(ground, account, 4)
    await draw(ground, batch, 2)
    async with ground.database.begin() as session:
        assert await audit.disagreements(session) == []
        for wrong, said in {
            "UPDATE batches SET state = 'completed', finished_at = now()": "its hold on chat_tokens is still open",
            "UPDATE holds SET drawn = 0": "its holds say",
            "UPDATE ledger_entries SET held = held + 1 WHERE kind = 'draw'": "were drawn",
            "DELETE FROM batches": "there is no such job, file or batch",
        }.items():
            savepoint = await session.begin_nested()
            await session.execute(text(wrong))
            assert said in "\n".join(await audit.disagreements(session))
            await savepoint.rollback()


async def test_a_batch_beyond_its_period_charges_the_one_that_it_was_accepted_in(
    ground: Ground, account: Account
) -> None:
    batch = await put(ground, account, 2)
    async with ground.database.begin() as session:
        past = "UPDATE balances SET period_start = period_start - interval '1 month', period_end = now()"
        await session.execute(text(f"{past} WHERE meter = 'chat_tokens'"))
    await feed_all(ground, batch.id)
    async with ground.database.begin() as session:
        held = list(await session.scalars(text("SELECT held FROM balances WHERE meter = 'chat_tokens'")))
    assert held == [0]
    assert (await balance_of(ground, account)).used == 2 * USED
    await assert_exact(ground)


@pytest.mark.parametrize("seed", [0, 1, *(pytest.param(seed, marks=pytest.mark.trial) for seed in range(2, 10))])
async def test_however_a_batch_is_drawn_given_back_and_ended_no_unit_is_lost(
    ground: Ground, account: Account, seed: int
) -> None:
    dice = random.Random(seed)
    batch = await put(ground, account, 10)
    of_batch, of_jobs, used = 10 * MOST, 0, 0
    flying: list[lifecycle.Drawn] = []
    for _ in range(14):
        match dice.choice(["draw", "give back", "end"]):
            case "draw":
                drawn = await draw(ground, batch, dice.randint(1, min(3, of_batch // MOST))) if of_batch >= MOST else []
                flying += drawn
                of_batch, of_jobs = of_batch - MOST * len(drawn), of_jobs + MOST * len(drawn)
            case "give back":
                units = dice.randint(0, of_batch)
                await give_back(ground, batch, units)
                of_batch -= units
            case _:
                ending = [flying.pop() for _ in range(min(len(flying), dice.randint(1, 3)))]
                await land(ground, [job.id for job in ending], dice.choice(["succeeded", "failed"]))
                of_jobs -= MOST * len(ending)
        async with ground.database.begin() as session:
            charged = "SELECT coalesce(sum((charged ->> 'chat_tokens')::bigint), 0) FROM jobs"
            used = await session.scalar(text(charged)) or 0
        balance = await balance_of(ground, account)
        assert (balance.held, balance.used) == (of_batch + of_jobs, used)
        await assert_even(ground)
    async with ground.database.begin() as session:
        await ledger.settle(session, {batch.id: {}})
    await land(ground, [job.id for job in flying])
    assert (await balance_of(ground, account)).held == 0
    await assert_even(ground)
