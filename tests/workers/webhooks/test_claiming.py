"""What is taken up: accounts take turns, nothing is taken twice, and no address has too many at a time."""

import asyncio
from collections import Counter
from uuid import UUID

import pytest
from sqlalchemy import text

from infra import ids
from infra.ground import Ground
from infra.models import Account
from infra.seal import Seal
from tests.support.hooks import deliveries, do, hook, spread_all, tell
from workers.webhooks import claiming, waiting
from workers.webhooks.claiming import MOST_OF_ONE, Claimed, Due

pytestmark = pytest.mark.reused

SLOTS = 48


def due(account_id: UUID, target: UUID, pauses: int = 0) -> Due:
    """Return a delivery that is due."""
    return Due(id=ids.new(), account_id=account_id, target=target, pauses=pauses, dead=False)


def under_way(account_id: UUID, target: UUID) -> Claimed:
    """Return a delivery that is under way."""
    return Claimed(
        id=ids.new(),
        message_id=ids.new(),
        account_id=account_id,
        endpoint_id=target,
        url="",
        body="",
        tries=1,
        failures=0,
    )


def chosen(due_now: list[Due], busy: list[Claimed], slots: int = SLOTS) -> Counter[UUID]:
    """Return how many are chosen of each target."""
    taken = set(claiming.choose(due_now, busy, slots))
    return Counter(each.target for each in due_now if each.id in taken)


def test_accounts_take_turns_and_so_do_their_endpoints() -> None:
    one, other, a, b, c = (ids.new() for _ in range(5))
    waiting = [due(one, a) for _ in range(50)] + [due(one, b) for _ in range(50)] + [due(other, c) for _ in range(3)]
    assert chosen(waiting, []) == {a: 8, b: 8, c: 3}
    assert chosen(waiting, [], slots=8) == {a: 1, b: 1, c: 2}, "a third of eight at most, and by turns"
    first = claiming.choose(waiting, [], 2)
    assert first == [waiting[0].id, waiting[100].id], "the oldest of each"


def test_who_has_more_under_way_has_its_turn_later() -> None:
    one, other, a, c = (ids.new() for _ in range(4))
    waiting = [due(one, a) for _ in range(5)] + [due(other, c) for _ in range(5)]
    busy = [under_way(one, a) for _ in range(4)]
    assert chosen(waiting, busy, slots=8) == {c: 2}
    assert chosen(waiting, busy, slots=12) == {c: 4}
    assert chosen(waiting, busy, slots=30) == {a: 4, c: 5}


def test_many_endpoints_are_no_more_turns() -> None:
    one, other, third, a, b, c = (ids.new() for _ in range(6))
    waiting = [due(one, a), due(one, a), due(one, b), due(one, b), due(other, c), due(other, c)]
    busy = [under_way(third, ids.new()) for _ in range(26)]
    assert chosen(waiting, busy, slots=30) == {a: 1, b: 1, c: 2}


def test_an_endpoint_has_eight_at_a_time_and_one_where_it_asked_for_less() -> None:
    one, a, b = (ids.new() for _ in range(3))
    waiting = [due(one, a) for _ in range(20)] + [due(one, b, pauses=2) for _ in range(20)]
    assert chosen(waiting, []) == {a: MOST_OF_ONE, b: 1}
    assert chosen(waiting, [under_way(one, a), under_way(one, b)]) == {a: MOST_OF_ONE - 1}


async def test_many_processes_at_once_claim_each_delivery_once(ground: Ground, account: Account) -> None:
    for n in range(6):
        await hook(ground, account.id, f"https://hooks.example.com/{n}")
    await tell(ground, account.id, times=5)
    await spread_all(ground)
    seal = Seal(ground.settings.secret)
    claims = await asyncio.gather(*(claiming.claim(ground, seal, [], 300) for _ in range(5)))
    claims += [await claiming.claim(ground, seal, [], 300)]
    taken = Counter(each.id for claim in claims for each in claim.deliveries)
    assert len(taken) == 30
    assert set(taken.values()) == {1}
    assert all(claim.keys.keys() == {each.target for each in claim.deliveries} for claim in claims)


async def test_what_another_has_just_claimed_is_not_claimed_again(ground: Ground, account: Account) -> None:
    await hook(ground, account.id, "https://hooks.example.com/")
    await tell(ground, account.id)
    await spread_all(ground)
    (delivery,) = await deliveries(ground)
    for count in (1, 0):  # both have seen that it is due
        async with ground.database.begin() as session:
            claims = await claiming._claim(  # pyright: ignore[reportPrivateUsage]
                ground, session, Seal(ground.settings.secret), [delivery.id]
            )
        assert len(claims.deliveries) == count


async def test_what_is_for_an_endpoint_that_is_off_or_was_deleted_is_canceled(ground: Ground, account: Account) -> None:
    off, gone, on = [await hook(ground, account.id, f"https://hooks.example.com/{n}") for n in range(3)]
    await tell(ground, account.id, times=2)
    await spread_all(ground)
    await do(
        ground, "UPDATE webhook_endpoints SET disabled_at = now(), disabled_reason = 'account' WHERE id = :i", i=off.id
    )
    await do(ground, "DELETE FROM webhook_endpoints WHERE id = :i", i=gone.id)
    claim = await claiming.claim(ground, Seal(ground.settings.secret), [], SLOTS)
    assert [each.endpoint_id for each in claim.deliveries] == [on.id] * 2
    assert Counter((each.endpoint_id, each.state) for each in await deliveries(ground)) == {
        (off.id, "canceled"): 2,
        (gone.id, "canceled"): 2,
        (on.id, "pending"): 2,
    }


async def test_what_was_handed_over_while_its_endpoint_moved_finds_it_where_it_is_now(
    ground: Ground, account: Account
) -> None:
    await hook(ground, account.id, "https://hooks.example.com/old")
    await tell(ground, account.id)
    await tell(ground, account.id, url="https://hooks.example.com/given")
    await spread_all(ground)
    await do(ground, "UPDATE webhook_endpoints SET url = 'https://hooks.example.com/new'")
    claim = await claiming.claim(ground, Seal(ground.settings.secret), [], SLOTS)
    urls = ["https://hooks.example.com/given", "https://hooks.example.com/new", "https://hooks.example.com/new"]
    assert sorted(each.url for each in claim.deliveries) == urls
    assert sorted(each.url for each in await deliveries(ground)) == urls


async def test_what_is_canceled_is_locked_in_the_order_in_which_outcomes_are(ground: Ground, account: Account) -> None:
    kept = await hook(ground, account.id, "https://hooks.example.com/")
    await tell(ground, account.id, times=2)
    await spread_all(ground)
    first, second = await deliveries(ground)
    await do(ground, "UPDATE webhook_deliveries SET next_at = now() + interval '1 hour' WHERE id = :id", id=first.id)
    locking = text("SELECT FROM webhook_deliveries WHERE id = :id FOR NO KEY UPDATE")

    async def cancel() -> None:
        async with ground.database.begin() as session:
            for plan in ("seqscan", "bitmapscan"):  # by an index, as of a big table: what is due first comes first
                await session.execute(text(f"SET LOCAL enable_{plan} = off"))
            await waiting.cancel(session, [kept.id])

    async with ground.database.begin() as session:
        await session.execute(locking, {"id": first.id})
        canceling = asyncio.create_task(cancel())
        await until_it_waits(ground)
        await session.execute(locking, {"id": second.id})
    await canceling
    assert {each.state for each in await deliveries(ground)} == {"canceled"}


async def until_it_waits(ground: Ground) -> None:
    """Wait until somebody waits for a lock."""
    async with asyncio.timeout(10):
        while True:
            async with ground.database.begin() as session:
                if await session.scalar(text("SELECT count(*) FROM pg_locks WHERE NOT granted")):
                    return
            await asyncio.sleep(0.01)


async def test_however_much_waits_for_a_paused_endpoint_little_of_it_is_read(ground: Ground, account: Account) -> None:
    paused = await hook(ground, account.id, "https://hooks.example.com/")
    await do(ground, "UPDATE webhook_endpoints SET paused_until = now() + interval '1 hour'")
    await do(
        ground,
        "INSERT INTO webhook_deliveries (id, message_id, account_id, endpoint_id, type, url, body, next_at)"
        " SELECT uuidv7(), uuidv7(), CAST(:account AS uuid), CAST(:endpoint AS uuid), 'file.ready', '', '{}', now()"
        " FROM generate_series(1, 5000)",
        account=account.id,
        endpoint=paused.id,
    )
    await do(ground, "ANALYZE webhook_deliveries")
    nobody: list[UUID] = []
    asked = {"full": nobody, "full_accounts": nobody, "most": MOST_OF_ONE, "window": 500}
    explaining = text(f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {claiming._DUE.text}")  # pyright: ignore[reportPrivateUsage]
    async with ground.database.begin() as session:
        ((plan,),) = (await session.scalars(explaining, asked)).all()
    assert plan["Plan"]["Actual Rows"] == 0
    assert plan["Plan"]["Shared Hit Blocks"] + plan["Plan"]["Shared Read Blocks"] < 50


async def test_what_waits_for_a_full_or_paused_endpoint_hides_nothing_behind_it(
    ground: Ground, account: Account
) -> None:
    full, paused = [await hook(ground, account.id, f"https://hooks.example.com/{n}") for n in range(2)]
    await tell(ground, account.id, times=100)
    await spread_all(ground)
    behind = await hook(ground, account.id, "https://hooks.example.com/behind")
    await tell(ground, account.id)
    await spread_all(ground)
    await do(ground, "UPDATE webhook_endpoints SET paused_until = now() + interval '1 hour' WHERE id = :i", i=paused.id)
    busy = [under_way(account.id, full.id) for _ in range(MOST_OF_ONE)]
    claim = await claiming.claim(ground, Seal(ground.settings.secret), busy, 60)
    assert [each.endpoint_id for each in claim.deliveries] == [behind.id]
