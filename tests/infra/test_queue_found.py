"""What the simulation found in the queue, each as small as it can be told."""

import asyncio
from uuid import UUID

from arq.connections import ArqRedis

from infra import ids, queue
from infra.overview import Control, Overseer
from infra.queue import Consumer, Ended, Lane, Queue, Renewer
from infra.redis import blocking_twin

CHAT = queue.name("chat")


def consumer(redis: ArqRedis, name: str = "a", lease_s: float = 10) -> Consumer:
    """Return a worker's side of the queue."""
    return Consumer(redis, CHAT, name, lease_s)


async def fill(
    redis: ArqRedis, account: UUID, many: int = 1, *, kind: str = "", lane: Lane = "interactive"
) -> list[UUID]:
    """Enqueue an account's jobs."""
    job_ids = [ids.new() for _ in range(many)]
    await Queue(redis).enqueue("chat", [(job_id, account) for job_id in job_ids], kind=kind, lane=lane)
    return job_ids


async def claimed(worker: Consumer, room: int, *, batch_every: int = 8) -> list[UUID]:
    """Claim, and return what was claimed."""
    return [UUID(job.id) for job in (await worker.claim(room, batch_every=batch_every)).jobs]


async def test_who_cancels_and_submits_again_gets_no_second_place_in_the_ring(redis: ArqRedis) -> None:
    pushing, modest = ids.new(), ids.new()
    for _ in range(5):
        (canceled,) = await fill(redis, pushing)
        await Queue(redis).forget("chat", [canceled])
    many, few = await fill(redis, pushing, 10), await fill(redis, modest, 10)
    worker = consumer(redis)
    turns = [job_id for _ in range(6) for job_id in await claimed(worker, 1)]
    assert sorted(turns) == sorted([*many[:3], *few[:3]])


async def test_every_kind_of_a_lane_gets_its_turn_beside_a_busy_other_lane(redis: ArqRedis) -> None:
    account = ids.new()
    await fill(redis, account, 100)
    batches = {kind: await fill(redis, account, 10, kind=kind, lane="batch") for kind in ("chat", "scan")}
    worker = consumer(redis)
    served = [job_id for _ in range(12) for job_id in await claimed(worker, 1, batch_every=2)]
    assert {kind: sum(job_id in batch for job_id in served) for kind, batch in batches.items()} == {
        "chat": 3,
        "scan": 3,
    }


async def test_more_accounts_can_run_at_once_than_lua_passes_arguments(redis: ArqRedis) -> None:
    jobs = [(ids.new(), ids.new()) for _ in range(5000)]
    await Queue(redis).enqueue("chat", jobs)
    worker = consumer(redis)
    for _ in range(25):
        assert len(await claimed(worker, 200)) == 200
    await Overseer(redis).recount("chat")
    await Overseer(redis).control("chat", Control(account_cap=1))
    (second,) = await fill(redis, jobs[0][1])
    assert await claimed(worker, 10) == []
    await worker.finish([Ended(str(jobs[0][0]), "over")])
    assert await claimed(worker, 10) == [second]


async def test_a_running_job_that_redis_forgot_counts_for_its_account_when_the_tender_has_told_again(
    redis: ArqRedis,
) -> None:
    account = ids.new()
    (running,) = await fill(redis, account, kind="chat")
    worker, line = consumer(redis), Queue(redis)
    await worker.claim(1)
    await redis.flushall()  # pyright: ignore[reportUnknownMemberType]
    Renewer(blocking_twin(redis), CHAT, "a", 10)([str(running)])
    assert await line.lost("chat", [running]) == [running], "nobody knows whose it is"
    await line.enqueue("chat", [(running, account)], kind="chat")
    assert await line.lost("chat", [running]) == []
    await Overseer(redis).control("chat", Control(account_cap=1))
    (second,) = await fill(redis, account, kind="chat")
    assert await claimed(worker, 10) == []
    await worker.finish([Ended(str(running), "over")])
    assert await claimed(worker, 10) == [second]


async def test_a_job_that_redis_forgot_is_never_handed_out_without_what_is_to_be_called(redis: ArqRedis) -> None:
    account = ids.new()
    given_back, orphan, again = await fill(redis, account, 3)
    worker, line = consumer(redis), Queue(redis)
    await worker.claim(3)
    await redis.flushall()  # pyright: ignore[reportUnknownMemberType]
    Renewer(blocking_twin(redis), CHAT, "a", 10)([str(given_back), str(again)])
    Renewer(blocking_twin(redis), CHAT, "dead", 0.001)([str(orphan)])
    await worker.finish([Ended(str(given_back), "back"), Ended(str(again), "again")])
    await asyncio.sleep(0.01)
    assert await claimed(worker, 10) == []
    assert await line.lost("chat", [given_back, orphan, again]) == [given_back, orphan, again], "the tender's to mend"
    await line.enqueue("chat", [(job_id, account) for job_id in (given_back, orphan, again)])
    turn = await worker.claim(10)
    assert [UUID(job.id) for job in turn.jobs] == [given_back, orphan, again]
    assert all(job.definition for job in turn.jobs)
