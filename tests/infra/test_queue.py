"""The queue's own rules: fair order, lanes, leases, and nothing twice."""

import asyncio
from datetime import UTC, datetime, timedelta
from uuid import UUID

from arq.connections import ArqRedis
from arq.jobs import Job, JobStatus

from infra import ids, queue
from infra.queue import Claimed, Consumer, Ended, Queue, Renewer
from infra.redis import blocking_twin

CHAT = queue.name("chat")


def consumer(redis: ArqRedis, name: str = "a", lease_s: float = 10) -> Consumer:
    """Return a worker's side of the queue."""
    return Consumer(redis, CHAT, name, lease_s)


async def fill(redis: ArqRedis, *accounts: UUID, lane: queue.Lane = "interactive") -> list[str]:
    """Enqueue a job for each of `accounts`, in order, and return the jobs' ids."""
    jobs = [(ids.new(), account) for account in accounts]
    await Queue(redis).enqueue("chat", jobs, lane=lane)
    return [str(job_id) for job_id, _ in jobs]


def names(jobs: list[Claimed]) -> list[str]:
    """Return the ids."""
    return [job.id for job in jobs]


async def test_many_jobs_are_claimed_in_one_call_in_the_order_they_came(redis: ArqRedis) -> None:
    account = ids.new()
    filled = await fill(redis, *[account] * 50)
    worker = consumer(redis)
    first = (await worker.claim(30)).jobs
    second = (await worker.claim(30)).jobs
    assert names(first) + names(second) == filled
    assert queue.deserialize(first[0].definition or b"")["a"] == [filled[0]]
    assert (first[0].tries, first[0].losses) == (0, 0)


async def test_two_workers_never_claim_the_same_job(redis: ArqRedis) -> None:
    filled = await fill(redis, *[ids.new() for _ in range(200)])
    workers = [consumer(redis, str(n)) for n in range(8)]
    claims = await asyncio.gather(*(worker.claim(50) for worker in workers))
    claimed = [job_id for turn in claims for job_id in names(turn.jobs)]
    assert sorted(claimed) == sorted(filled)


async def test_an_account_with_ten_thousand_jobs_does_not_keep_another_waiting(redis: ArqRedis) -> None:
    greedy, modest = ids.new(), ids.new()
    await fill(redis, *[greedy] * 10_000)
    worker = consumer(redis)
    await worker.claim(8)
    (single,) = await fill(redis, modest)
    turn = (await worker.claim(2)).jobs
    assert single in names(turn)


async def test_accounts_take_turns(redis: ArqRedis) -> None:
    one, two, three = ids.new(), ids.new(), ids.new()
    filled = await fill(redis, one, one, one, one, two, two, three)
    worker = consumer(redis)
    order = [filled.index(job.id) for _ in range(7) for job in (await worker.claim(1)).jobs]
    assert order == [0, 4, 6, 1, 5, 2, 3]


async def test_interactive_goes_before_batch_but_batch_has_its_minimum(redis: ArqRedis) -> None:
    batch = await fill(redis, *[ids.new()] * 100, lane="batch")
    interactive = await fill(redis, *[ids.new()] * 100)
    jobs = (await consumer(redis).claim(40, batch_every=8)).jobs
    assert sum(job_id in batch for job_id in names(jobs)) == 5
    assert sum(job_id in interactive for job_id in names(jobs)) == 35


async def test_a_capped_account_is_passed_over_and_blocks_nobody(redis: ArqRedis) -> None:
    greedy, modest = ids.new(), ids.new()
    filled = await fill(redis, *[greedy] * 5, modest)
    worker = consumer(redis)
    jobs = (await worker.claim(10, account_cap=2)).jobs
    assert sorted(names(jobs)) == sorted([filled[0], filled[1], filled[5]])
    assert (await worker.claim(10, account_cap=2)).jobs == []
    await worker.finish([Ended(filled[0], "over")])
    assert names((await worker.claim(10, account_cap=2)).jobs) == [filled[2]]


async def test_three_hundred_slots_run_three_hundred_jobs(redis: ArqRedis) -> None:
    await fill(redis, *[ids.new()] * 400)
    claims = [await consumer(redis, str(n)).claim(10) for n in range(30)]
    assert sum(len(turn.jobs) for turn in claims) == 300


async def test_a_dead_workers_jobs_come_back_first_and_a_renewed_lease_does_not_run_out(redis: ArqRedis) -> None:
    account = ids.new()
    filled = await fill(redis, *[account] * 5)
    dead, living = consumer(redis, "dead", 0.3), consumer(redis, "living", 0.3)
    renew = Renewer(blocking_twin(redis), CHAT, "living", 0.3)
    await dead.claim(2)
    await living.claim(1)
    for _ in range(6):
        await asyncio.sleep(0.1)
        assert await asyncio.to_thread(renew, [filled[2]]) == (None, [])
    jobs = (await consumer(redis, "next").claim(10)).jobs
    assert names(jobs) == [filled[0], filled[1], filled[3], filled[4]]
    assert [(job.tries, job.losses) for job in jobs] == [(0, 1), (0, 1), (0, 0), (0, 0)]


async def test_who_lost_a_lease_can_neither_finish_nor_renew_it(redis: ArqRedis) -> None:
    (job_id,) = await fill(redis, ids.new())
    zombie, winner = consumer(redis, "zombie", 0.05), consumer(redis, "winner")
    await zombie.claim(1)
    await asyncio.sleep(0.1)
    assert names((await winner.claim(1)).jobs) == [job_id]
    assert await zombie.finish([Ended(job_id, "over", 0, b"late")]) == {job_id}
    assert Renewer(blocking_twin(redis), CHAT, "zombie", 10)([job_id]) == (None, [job_id])
    assert await redis.get(f"arq:result:{job_id}") is None
    assert await Job(job_id, redis, CHAT).status() == JobStatus.in_progress
    assert await winner.finish([Ended(job_id, "over")]) == set()


async def test_a_job_is_enqueued_once_while_it_waits_and_while_it_runs(redis: ArqRedis) -> None:
    account, job_id = ids.new(), ids.new()
    worker, line = consumer(redis), Queue(redis)
    await line.enqueue("chat", [(job_id, account)])
    await line.enqueue("chat", [(job_id, account)])
    assert len((await worker.claim(10)).jobs) == 1
    await line.enqueue("chat", [(job_id, account)])
    assert (await worker.claim(10)).jobs == []
    assert await line.lost("chat", [job_id]) == []
    await worker.finish([Ended(str(job_id), "over")])
    assert await line.lost("chat", [job_id]) == [job_id]


async def test_a_job_that_is_not_due_waits_and_says_how_long(redis: ArqRedis) -> None:
    job_id = ids.new()
    due = datetime.now(UTC) + timedelta(seconds=0.4)
    await Queue(redis).enqueue("chat", [(job_id, ids.new())], due=due)
    worker = consumer(redis)
    assert await Job(str(job_id), redis, CHAT).status() == JobStatus.deferred
    turn = await worker.claim(10)
    assert turn.jobs == []
    assert 0 < turn.wait_s <= 0.4
    await asyncio.sleep(turn.wait_s + 0.02)
    assert names((await worker.claim(10)).jobs) == [str(job_id)]


async def test_a_job_taken_off_the_queue_is_skipped(redis: ArqRedis) -> None:
    account = ids.new()
    filled = await fill(redis, *[account] * 3)
    worker = consumer(redis)
    await worker.claim(1)  # now the others stand in their account's list
    await Queue(redis).forget("chat", [UUID(filled[1])])
    assert names((await worker.claim(10)).jobs) == [filled[2]]


async def test_again_means_later_and_over_means_gone(redis: ArqRedis) -> None:
    (job_id,) = await fill(redis, ids.new())
    worker = consumer(redis)
    await worker.claim(1)
    await worker.finish([Ended(job_id, "again", 150)])
    assert (await worker.claim(1)).jobs == []
    await asyncio.sleep(0.2)
    (job,) = (await worker.claim(1)).jobs
    assert (job.id, job.tries) == (job_id, 1)
    await worker.finish([Ended(job_id, "over", 60_000, b"r")])
    kept = (b":wake", b":turn", b":stats:", b":took:")  # of no single job, and of a bounded size
    left = {key.decode() for key in await redis.keys("*") if not any(word in key for word in kept)}  # pyright: ignore[reportUnknownMemberType]
    assert left == {f"arq:result:{job_id}"}, "nothing is left behind but the result"


async def test_an_idle_worker_is_woken_and_wakes_the_next_one_when_there_is_more(redis: ArqRedis) -> None:
    first, second = consumer(redis, "1"), consumer(redis, "2")
    waiting = asyncio.create_task(first.woken(5))
    await asyncio.sleep(0.05)
    await fill(redis, *[ids.new() for _ in range(4)])
    assert await waiting
    await first.claim(2)
    assert await second.woken(1), "two more wait"
    assert len((await second.claim(2)).jobs) == 2
    assert not await first.woken(0.05)


async def test_what_arq_itself_enqueues_is_claimed_like_any_other(redis: ArqRedis) -> None:
    job = await redis.enqueue_job("greet", "Layla", _queue_name=CHAT)
    assert job is not None
    ours = await fill(redis, ids.new())
    jobs = (await consumer(redis).claim(10)).jobs
    assert sorted(names(jobs)) == sorted([job.job_id, *ours])


def test_exceptions_go_through_the_queue_without_pickle() -> None:
    class Odd(Exception):
        pass

    kept = queue.deserialize(queue.serialize({"a": ValueError("x"), "b": Odd("y"), "c": asyncio.CancelledError()}))
    assert isinstance(kept["a"], ValueError)
    assert str(kept["a"]) == "x"
    assert isinstance(kept["b"], RuntimeError)
    assert "Odd: y" in str(kept["b"])
    assert isinstance(kept["c"], asyncio.CancelledError)
