"""What operators and waiting callers are told of a queue agrees with what the queue then does."""

import random
from datetime import UTC, datetime, timedelta
from uuid import UUID

import msgspec
import pytest
from arq.connections import ArqRedis

from infra import ids, queue
from infra.overview import Control, Overseer
from infra.queue import Consumer, Ended, Lane, Living, Queue, Renewer
from infra.redis import blocking_twin

CHAT = queue.name("chat")
KINDS = ("chat", "title")


def consumer(redis: ArqRedis) -> Consumer:
    """Return a worker's side of the queue."""
    return Consumer(redis, CHAT, "worker", 10)


async def one(redis: ArqRedis, account: UUID, *, kind: str = "chat", lane: Lane = "interactive") -> UUID:
    """Enqueue a job and return its id."""
    job_id = ids.new()
    await Queue(redis).enqueue("chat", [(job_id, account)], kind=kind, lane=lane)
    return job_id


def live(redis: ArqRedis, slots: int) -> None:
    """Be a worker with so many slots."""
    told = Living(host="here", pid=1, slots=slots, running=0, born_s=0, stopping=False)
    with blocking_twin(redis) as twin:
        Renewer(twin, CHAT, "worker", 10)([], msgspec.msgpack.encode(told))


@pytest.mark.parametrize("seed", range(6))
async def test_a_position_is_how_many_go_before(redis: ArqRedis, seed: int) -> None:
    chance = random.Random(seed)
    accounts = [ids.new() for _ in range(5)]
    waiting = [await one(redis, chance.choice(accounts[: chance.randint(1, 5)])) for _ in range(60)]
    worker, overseer = consumer(redis), Overseer(redis)
    for _ in range(chance.randint(0, 7)):  # the ring is in the middle of a round
        (claimed,) = (await worker.claim(1)).jobs
        waiting.remove(UUID(claimed.id))
    told = {job_id: await overseer.place("chat", job_id) for job_id in waiting}
    assert await overseer.places("chat", [ids.new(), *waiting]) == [None, *told.values()], "asked at once"
    order = [UUID(job.id) for _ in waiting for job in (await worker.claim(1)).jobs]
    assert {job_id: place.before for job_id, place in told.items() if place} == {
        job_id: order.index(job_id) for job_id in waiting
    }


async def test_accounts_that_have_had_fewer_turns_go_before_one_that_has_had_more(redis: ArqRedis) -> None:
    accounts = [ids.new() for _ in range(3)]
    for account in (accounts[0], accounts[0], accounts[0], accounts[1]):
        await one(redis, account)
    overseer = Overseer(redis)
    for account, before in ((accounts[2], 2), (accounts[1], 4), (accounts[0], 6)):
        place = await overseer.place("chat", await one(redis, account))
        assert place is not None
        assert (place.before, place.running) == (before, 0)


async def test_lanes_and_kinds_are_counted_apart(redis: ArqRedis) -> None:
    account = ids.new()
    batch = [await one(redis, account, lane="batch") for _ in range(4)]
    title = [await one(redis, account, kind="title") for _ in range(2)]
    overseer = Overseer(redis)
    place = await overseer.place("chat", batch[3])
    assert place is not None
    assert (place.lane, place.before, place.before_of_account, place.other_lane) == ("batch", 3, 3, 2)
    chat = await one(redis, account)
    place = await overseer.place("chat", chat)
    assert place is not None
    assert (place.lane, place.before, place.before_of_account, place.other_lane) == ("interactive", 0, 0, 4)
    assert title


async def test_places_that_are_asked_at_once_are_those_that_are_asked_one_by_one(redis: ArqRedis) -> None:
    chance = random.Random(3)
    accounts = [ids.new() for _ in range(250)]  # more than are looked at
    waiting = [await one(redis, accounts[0], lane="batch") for _ in range(60)]
    for _ in range(400):
        lane: Lane = "batch" if chance.random() < 0.5 else "interactive"
        waiting.append(await one(redis, chance.choice(accounts), kind=chance.choice(KINDS), lane=lane))
    chosen = [*waiting[40:70], *chance.sample(waiting[70:], 80)]
    overseer = Overseer(redis)
    assert await overseer.places("chat", chosen) == [await overseer.place("chat", job_id) for job_id in chosen]


async def test_what_does_not_wait_has_no_place(redis: ArqRedis) -> None:
    overseer, account = Overseer(redis), ids.new()
    runs = await one(redis, account)
    await consumer(redis).claim(1)
    later = ids.new()
    await Queue(redis).enqueue("chat", [(later, account)], due=datetime.now(UTC) + timedelta(hours=1))
    assert [await overseer.place("chat", job_id) for job_id in (runs, later, ids.new())] == [None, None, None]


async def test_one_that_was_taken_off_is_not_counted(redis: ArqRedis) -> None:
    account = ids.new()
    first, second = await one(redis, account), await one(redis, account)
    await Queue(redis).forget("chat", [first])
    place = await Overseer(redis).place("chat", second)
    assert place is not None
    assert place.before == 0
    assert (await Overseer(redis).overview("chat", KINDS)).waiting == 1


async def test_an_overview_counts_everything(redis: ArqRedis) -> None:
    overseer, worker = Overseer(redis), consumer(redis)
    empty = await overseer.overview("chat", KINDS)
    assert (empty.waiting, empty.running, empty.deferred, empty.oldest_s, empty.slots) == (0, 0, 0, None, 0)
    for _ in range(5):
        await one(redis, ids.new())
    await one(redis, ids.new(), lane="batch")
    await Queue(redis).enqueue("chat", [(ids.new(), ids.new())], due=datetime.now(UTC) + timedelta(hours=1))
    jobs = (await worker.claim(3)).jobs
    ways = [
        Ended(jobs[0].id, "over", took_ms=2500),
        Ended(jobs[1].id, "over", took_ms=40, failed=True),
        Ended(jobs[2].id, "again", ms=60_000),
    ]
    await worker.finish(ways)
    live(redis, 7)
    await worker.claim(1)
    seen = await overseer.overview("chat", KINDS)
    assert (seen.waiting, seen.lanes, seen.deferred, seen.running) == (2, {"interactive": 1, "batch": 1}, 2, 1)
    assert (round(seen.done), round(seen.failed), round(seen.returned)) == (2, 1, 1)
    assert (seen.slots, seen.took_s) == (7, {"chat": [0.04, 2.5], "title": []})
    assert seen.oldest_s is not None
    assert seen.oldest_s >= 0


async def test_workers_follow_what_operators_want(redis: ArqRedis) -> None:
    overseer, worker, account = Overseer(redis), consumer(redis), ids.new()
    for kind in ("chat", "chat", "chat", "title"):
        await one(redis, account, kind=kind)
    paused = Control(paused=True, slots=3, account_cap=9, kind_caps={"chat": 2})
    await overseer.control("chat", paused)
    assert (await overseer.overview("chat", KINDS)).control == await overseer.controlled("chat") == paused
    turn = await worker.claim(8)
    assert (turn.jobs, turn.slots) == ([], 3)
    await overseer.control("chat", Control(kind_caps={"chat": 2}))
    turn = await worker.claim(8)
    assert (len(turn.jobs), turn.slots) == (3, None)
    await overseer.control("chat", Control(account_cap=3))
    assert (await worker.claim(8)).jobs == []
    await overseer.control("chat", Control())
    assert len((await worker.claim(8)).jobs) == 1


async def test_a_count_that_went_wrong_is_mended(redis: ArqRedis) -> None:
    account = ids.new()
    for _ in range(3):
        await one(redis, account)
    worker = consumer(redis)
    await worker.claim(1)
    running = f"{queue.base(CHAT)}running"
    await redis.hset(running, f"account:{account}", "5")  # pyright: ignore[reportUnknownMemberType, reportGeneralTypeIssues]
    assert (await worker.claim(1, account_cap=2)).jobs == []
    await Overseer(redis).recount("chat")
    assert len((await worker.claim(2, account_cap=2)).jobs) == 1
