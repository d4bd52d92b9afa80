"""A job in a worker's hands: retried, timed out, fenced, handed back, recovered, and never charged twice."""

import asyncio
import signal
import sys
from datetime import UTC, datetime, timedelta
from uuid import UUID

import msgspec
import pytest
from sqlalchemy import text, update

from infra import queue
from infra.ground import Ground
from infra.models import Account, Job
from infra.settings import ROOT, Settings
from infra.streams import START
from tests.support import process
from tests.support.books import assert_even, balance_of
from tests.support.chats import Client, events, submit, until
from tests.support.chats import text as text_of
from tests.support.lives import age, end, give_back, keep, run_of, take, tools
from tests.support.vendor import Answer, Vendor
from tests.support.work import work_off, working
from workers import tend
from workers.context import LostLease
from workers.perform import perform

RETRYABLE = [
    Answer(end="cut"),
    Answer(end="drop"),
    Answer(end="garbage"),
    Answer(end="error event"),
    Answer(status=500),
    Answer(status=503),
    Answer(status=429, headers={"retry-after": "0"}),
]


@pytest.mark.parametrize("fault", RETRYABLE, ids=lambda fault: f"{fault.status} {fault.end}")
async def test_a_faulted_answer_is_tried_again_and_never_told_twice(
    client: Client, settings: Settings, ground: Ground, vendor: Vendor, fault: Answer
) -> None:
    vendor.script = [msgspec.structs.replace(fault)]
    async with working(settings):
        job = await until(client, await submit(client))
    assert (job["state"], job["attempt"]) == ("succeeded", 2)
    assert job["result"]["text"] == "Hello from the wire."
    assert job["charged"] == {"chat_tokens": 46}, "the answer that broke off is not charged"
    told = events((await client.get(job["urls"]["events"])).text)
    assert text_of(told) == "Hello from the wire."
    assert [event["attempt"] for _, event in told if event["type"] == "restarted"] == [2]
    await assert_even(ground)


@pytest.mark.parametrize("fault", RETRYABLE[:1], ids=["cut"])
async def test_a_truncated_answer_never_succeeds_and_is_given_up_after_the_last_try(
    client: Client, settings: Settings, ground: Ground, account: Account, vendor: Vendor, fault: Answer
) -> None:
    vendor.script = [msgspec.structs.replace(fault) for _ in range(3)]
    async with working(settings):
        job = await until(client, await submit(client))
    assert (job["state"], job["error"]["code"], len(vendor.requests)) == ("failed", "answer_truncated", 3)
    assert job["charged"] == {"chat_tokens": 0}
    balance = await balance_of(ground, account)
    assert (balance.used, balance.held) == (0, 0)
    arabic = (await client.get(job["urls"]["self"], headers={"Accept-Language": "ar"})).json()
    assert arabic["error"]["detail"] == "انقطعت إجابة النموذج قبل نهايتها."
    last = events((await client.get(job["urls"]["events"])).text)[-1][1]
    assert last["type"] == "failed"
    assert last["ar"] == arabic["error"]["detail"]
    await assert_even(ground)


@pytest.mark.parametrize(
    ("status", "code"), [(400, "provider_refused"), (401, "provider_misconfigured"), (404, "provider_misconfigured")]
)
async def test_a_refusal_is_final_at_once(
    client: Client, settings: Settings, ground: Ground, vendor: Vendor, status: int, code: str
) -> None:
    vendor.script = [Answer(status=status)]
    async with working(settings):
        job = await until(client, await submit(client))
    assert (job["state"], job["error"]["code"], len(vendor.requests)) == ("failed", code, 1)
    told = await ground.overseer.overview("chat", ["chat"])
    assert (told.failed > 0, told.done >= told.failed) == (True, True), "operators see it"


async def test_a_vendor_that_is_not_there_is_retried_then_given_up(
    client: Client, settings: Settings, ground: Ground
) -> None:
    away = msgspec.structs.replace(settings, compatible_url="http://127.0.0.1:1/v1")
    async with working(away):
        job = await until(client, await submit(client))
    assert (job["error"]["code"], job["attempt"]) == ("provider_unavailable", 3)
    await assert_even(ground)


async def test_a_job_that_takes_too_long_is_stopped(
    client: Client, settings: Settings, ground: Ground, vendor: Vendor
) -> None:
    vendor.script = [Answer(hold=asyncio.Event())]
    async with working(msgspec.structs.replace(settings, chat_timeout_s=0.3)):
        job = await until(client, await submit(client))
    assert (job["state"], job["error"]["code"], job["attempt"]) == ("failed", "job_timed_out", 1)
    assert "0.3" in job["error"]["detail"]
    await assert_even(ground)


async def test_retry_after_is_honoured(ground: Ground, client: Client, vendor: Vendor, settings: Settings) -> None:
    vendor.script = [Answer(status=429, headers={"retry-after": "7"})]
    job = await submit(client)
    used = tools(ground)
    wait_s = await perform(used, UUID(job["id"]))
    await used.gateway.close()
    assert isinstance(wait_s, float)
    assert wait_s >= 7
    async with ground.database.begin() as session:
        kept = await session.get_one(Job, UUID(job["id"]))
    assert (kept.state, kept.tries) == ("queued", 1)
    assert kept.run_at - datetime.now(UTC) > timedelta(seconds=6)


async def test_a_worker_told_to_stop_hands_its_job_back_without_counting_a_try(
    client: Client, settings: Settings, ground: Ground, vendor: Vendor
) -> None:
    vendor.script = [Answer(hold=asyncio.Event())]
    job = await submit(client)
    async with working(msgspec.structs.replace(settings, grace_s=0.2)) as worker:
        await vendor.speaking.wait()
        while not all(run.so_far for run in worker.runs.values()):  # noqa: ASYNC110 (until the first word is here)
            await asyncio.sleep(0.01)
    async with ground.database.begin() as session:
        kept = await session.get_one(Job, UUID(job["id"]))
    assert (kept.state, kept.tries, kept.attempt) == ("queued", 0, 1)
    assert kept.checkpoint is not None
    assert kept.checkpoint["result"]["text"] == "Hello", "what it had made so far is kept"
    await work_off(settings)
    assert (await until(client, job))["result"]["text"] == "Hello from the wire."
    await assert_even(ground)


async def test_a_zombie_can_neither_speak_nor_finish_nor_charge(
    client: Client, settings: Settings, ground: Ground, account: Account
) -> None:
    job = await submit(client)
    first, second = await take(ground, job), await take(ground, job)
    assert (first.attempt, second.attempt) == (1, 2)
    winner, zombie = run_of(ground, second), run_of(ground, first)
    from workers import events as say  # noqa: PLC0415

    await winner.say(say.Started(attempt=2))
    await asyncio.sleep(0.05)
    await zombie.say(say.Delta(text="from the grave"))
    await asyncio.sleep(0.05)
    assert zombie.lost
    assert await end(ground, first, used={"chat_tokens": 1}, result={"text": "x"}) is None
    assert await give_back(ground, first, failed=True) is False
    assert await keep(ground, first, used={"chat_tokens": 1}, result={"text": "x"}) == "lost"
    with pytest.raises(LostLease):
        await run_of(ground, first).checkpoint({"operation": "op-1"})
    assert (await balance_of(ground, account)).used == 0
    told = b"".join(event.data for event in await ground.streams.read(first.id, START))
    assert b"grave" not in told
    assert await end(ground, second, used={"chat_tokens": 5}, result={}) is not None
    assert await end(ground, second, used={"chat_tokens": 5}, result={}) is None
    again = await end(ground, second, used={"chat_tokens": 5}, result={}, asked_before=True)
    assert again is not None, "whoever did not hear the answer is told it again"
    assert again.charged == {"chat_tokens": 5}
    assert (await balance_of(ground, account)).used == 5
    await assert_even(ground)


@pytest.mark.slow
async def test_the_job_of_a_killed_worker_runs_again_and_is_charged_once(
    client: Client, settings: Settings, ground: Ground, vendor: Vendor
) -> None:
    quick = msgspec.structs.replace(settings, lease_s=2.0)
    vendor.script = [Answer(hold=asyncio.Event())]
    job = await submit(client)
    with process.started("workers", "chat", env=process.environ(quick)):
        await asyncio.wait_for(vendor.speaking.wait(), 30)
    async with working(quick):
        done = await until(client, job)
    assert (done["state"], done["attempt"]) == ("succeeded", 2)
    assert done["charged"] == {"chat_tokens": 46}
    await assert_even(ground)


@pytest.mark.slow
async def test_python_m_workers_starts_our_pool_and_stops_on_sigterm(settings: Settings) -> None:
    command = [sys.executable, "-m", "workers", "chat"]
    pool = await asyncio.create_subprocess_exec(
        *command, cwd=ROOT, env=process.environ(settings), stdout=asyncio.subprocess.PIPE
    )
    assert pool.stdout is not None
    line = await asyncio.wait_for(pool.stdout.readline(), 30)
    assert b"pool is ready" in line
    assert b"arq:queue:chat" in line
    pool.send_signal(signal.SIGTERM)
    await asyncio.wait_for(pool.communicate(), 20)
    assert pool.returncode == 0


async def test_the_tender_queues_what_the_queue_lost(client: Client, settings: Settings, ground: Ground) -> None:
    job = await submit(client)
    await ground.redis.flushall()  # pyright: ignore[reportUnknownMemberType]
    assert (await tend.reconcile(ground, {})).queued == 0, "too young: it may still be on its way"
    await age(ground)
    assert (await tend.reconcile(ground, {})).queued == 1
    assert (await tend.reconcile(ground, {})).queued == 0
    await work_off(settings)
    assert (await until(client, job))["state"] == "succeeded"
    await assert_even(ground)


async def test_the_tender_queues_a_running_job_whose_worker_and_lease_are_gone(
    client: Client, settings: Settings, ground: Ground
) -> None:
    job = await submit(client)
    await take(ground, job)  # by a worker that died
    await ground.redis.flushall()  # pyright: ignore[reportUnknownMemberType]
    await age(ground)
    missing: tend.Missing = {}
    assert (await tend.reconcile(ground, missing)).queued == 0, "its worker may live, and take its lease again"
    missing[UUID(job["id"])] -= settings.lease_s
    assert (await tend.reconcile(ground, missing)).queued == 1
    await work_off(settings)
    assert (await until(client, job))["attempt"] == 2


async def test_the_tender_leaves_a_living_workers_job_alone(
    client: Client, settings: Settings, ground: Ground, vendor: Vendor
) -> None:
    hold = asyncio.Event()
    vendor.script = [Answer(hold=hold)]
    async with working(settings):
        job = await submit(client)
        await vendor.speaking.wait()
        await age(ground)
        assert await tend.reconcile(ground, {}) == tend.Round()
        hold.set()
        assert (await until(client, job))["attempt"] == 1


async def test_a_cancelled_job_of_a_dead_worker_is_settled_by_its_last_checkpoint(
    client: Client, ground: Ground, account: Account
) -> None:
    job = await submit(client)
    claimed = await take(ground, job)
    assert await keep(ground, claimed, used={"chat_tokens": 9}, result={"text": "He"}) == "runs"
    await client.post(job["urls"]["cancel"])
    assert await keep(ground, claimed, used={"chat_tokens": 9}, result={"text": "He"}) == "canceled"
    await age(ground)
    assert (await tend.reconcile(ground, {})).ended == 1
    ended = await until(client, job)
    assert (ended["state"], ended["charged"], ended["result"]) == ("canceled", {"chat_tokens": 9}, {"text": "He"})
    assert events((await client.get(job["urls"]["events"])).text)[-1][1]["type"] == "canceled"
    assert (await balance_of(ground, account)).used == 9
    await assert_even(ground)


async def test_a_job_that_kills_every_worker_is_given_up(client: Client, settings: Settings, ground: Ground) -> None:
    job = await submit(client)
    async with ground.database.begin() as session:
        await session.execute(update(Job).values(losses=queue.MOST_LOSSES - 1, state="running"))
    await work_off(settings)
    ended = await until(client, job)
    assert (ended["state"], ended["error"]["code"]) == ("failed", "job_abandoned")
    await assert_even(ground)


async def test_a_cancel_whose_message_was_lost_is_seen_at_the_next_checkpoint(
    client: Client, settings: Settings, ground: Ground, vendor: Vendor
) -> None:
    vendor.script = [Answer(hold=asyncio.Event())]
    async with working(msgspec.structs.replace(settings, lease_s=2.0)):
        job = await submit(client)
        await vendor.speaking.wait()
        await until(client, job, "running")
        async with ground.database.begin() as session:
            await session.execute(update(Job).values(cancel_requested_at=datetime.now(UTC)))
        assert (await until(client, job))["state"] == "canceled"


async def test_the_queue_takes_a_job_once_however_often_it_is_sent(
    ground: Ground, client: Client, account: Account
) -> None:
    job_id = UUID((await submit(client))["id"])
    for _ in range(3):
        await ground.queue.enqueue("chat", [(job_id, account.id)])
    assert await ground.redis.zcard(queue.name("chat")) == 1  # pyright: ignore[reportUnknownMemberType, reportGeneralTypeIssues]
    definition = await ground.redis.get(f"arq:job:{job_id}")
    assert queue.deserialize(definition)["a"] == [str(job_id)], "the queue carries the id and nothing else"


async def test_the_house_is_kept(ground: Ground, account: Account) -> None:
    async with ground.database.begin() as session:
        await session.execute(
            text(
                "INSERT INTO idempotency_keys (account_id, key, fingerprint, subject_id, expires_at)"
                " VALUES (:a, 'old', '', :a, now()), (:a, 'new', '', :a, now() + interval '1 hour')"
            ),
            {"a": account.id},
        )
        await session.execute(text("DROP TABLE holds_default"))
        last = await session.scalar(text("SELECT max(relname) FROM pg_class WHERE relname ~ '^jobs_\\d{4}_\\d{2}$'"))
        await session.execute(text(f"DROP TABLE {last}"))
    await tend.keep_house(ground)
    async with ground.database.begin() as session:
        assert list(await session.scalars(text("SELECT key FROM idempotency_keys"))) == ["new"]
        assert await session.scalar(text("SELECT to_regclass(:last)"), {"last": last}) is not None
