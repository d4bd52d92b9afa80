"""What a hostile day brings: nothing is lost, nothing runs on and on, and every job comes to an end."""

import asyncio
from collections.abc import AsyncGenerator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import msgspec
import pytest
from redis.asyncio import Redis
from sqlalchemy import select, text, update

from infra import ids, queue
from infra.database import Database, DatabaseUnavailable
from infra.ground import Ground
from infra.models import Account, ApiKey, Balance, IdempotencyKey, Job
from infra.settings import Settings
from quotas import keys
from tests.support.books import assert_even, balance_of
from tests.support.chats import Client, chat, events, submit, until
from tests.support.lives import age, end, give_back, keep, run_of, take
from tests.support.vendor import Answer, Vendor
from tests.support.work import working
from workers import events as say
from workers import jobs, kinds, lifecycle, tend
from workers.context import LostLease, Run
from workers.desk import Desk
from workers.lifecycle import Return, Submission


@pytest.fixture
async def tending(settings: Settings, ground: Ground) -> AsyncGenerator["asyncio.Task[None]"]:
    """A tender at work."""
    task = asyncio.create_task(tend.tend(ground))
    yield task
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_a_redis_that_forgets_everything_does_not_disturb_a_running_job(
    client: Client, settings: Settings, ground: Ground, vendor: Vendor, tending: "asyncio.Task[None]"
) -> None:
    vendor.script = [Answer(deltas=["a"] * 80, pause_s=0.1)]
    async with working(msgspec.structs.replace(settings, lease_s=2.0)):
        job = await submit(client)
        await vendor.speaking.wait()
        await asyncio.sleep(3.5)  # old enough for the tender
        await ground.redis.flushall()  # pyright: ignore[reportUnknownMemberType]
        done = await until(client, job)
    assert (done["state"], done["attempt"], len(vendor.requests)) == ("succeeded", 1, 1)
    told = events((await client.get(job["urls"]["events"])).text)
    assert "".join(event["text"] for _, event in told if event["type"] == "delta") == "a" * 80
    await assert_even(ground)


async def test_a_worker_that_is_given_a_job_which_still_runs_in_it_goes_on_with_that(
    client: Client, settings: Settings, ground: Ground, account: Account, vendor: Vendor
) -> None:
    vendor.script = [Answer(deltas=["a"] * 20, pause_s=0.1)]
    async with working(settings):
        job = await submit(client)
        await vendor.speaking.wait()
        await ground.redis.flushall()  # pyright: ignore[reportUnknownMemberType]
        await ground.queue.enqueue("chat", [(UUID(job["id"]), account.id)])
        done = await until(client, job)
    assert (done["state"], done["attempt"], len(vendor.requests)) == ("succeeded", 1, 1)
    assert await ground.queue.lost("chat", [UUID(job["id"])]) == [UUID(job["id"])], (
        "and the queue knows that it is over"
    )


async def test_a_job_longer_than_its_lease_runs_once_while_its_worker_lives(
    client: Client, settings: Settings, vendor: Vendor, tending: "asyncio.Task[None]"
) -> None:
    vendor.script = [Answer(deltas=["a"] * 50, pause_s=0.1)]
    quick = msgspec.structs.replace(settings, lease_s=2.0)
    async with working(quick), working(quick):
        done = await until(client, await submit(client))
    assert (done["state"], done["attempt"], len(vendor.requests)) == ("succeeded", 1, 1)


@pytest.mark.parametrize(
    ("deltas", "kept"),
    [
        (["a\x00b"], "a\ufffdb"),
        (["a\ud800b"], "a\ufffdb"),
        (["\ud83d", "\ude00!"], "😀!"),
        (["x", "\ud83d"], "x\ufffd"),
        (["سلام", "\udc00"], "سلام\ufffd"),
    ],
)
async def test_whatever_characters_a_vendor_sends_the_answer_can_be_kept(
    client: Client, settings: Settings, ground: Ground, vendor: Vendor, deltas: list[str], kept: str
) -> None:
    vendor.script = [Answer(deltas=deltas)]
    async with working(settings):
        done = await until(client, await submit(client))
    assert (done["state"], done["result"]["text"], len(vendor.requests)) == ("succeeded", kept, 1)
    await assert_even(ground)


@pytest.mark.parametrize("usage", [(10**30, 1), (-100, 1), (1.5, 2)])
async def test_a_count_that_is_none_is_not_charged_but_estimated(
    client: Client, settings: Settings, ground: Ground, vendor: Vendor, usage: tuple[Any, Any]
) -> None:
    vendor.script = [Answer(input_tokens=usage[0], output_tokens=usage[1])]
    async with working(settings):
        done = await until(client, await submit(client))
    assert (done["state"], done["result"]["usage"]["estimated"]) == ("succeeded", True)
    await assert_even(ground)


async def test_a_room_that_cannot_be_loaded_fails_the_job_after_its_tries(
    client: Client, settings: Settings, ground: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gone(_kind: str) -> kinds.Room:
        raise ImportError("no such library")

    monkeypatch.setattr(kinds, "room", gone)
    async with working(settings):
        done = await until(client, await submit(client))
    assert (done["state"], done["error"]["code"], done["attempt"]) == ("failed", "internal_error", 3)
    await assert_even(ground)


async def test_an_end_that_cannot_be_written_is_written_as_a_failure(
    client: Client, settings: Settings, ground: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(_run: Run) -> None:
        raise UnicodeEncodeError("utf-8", "x", 0, 1, "no")

    monkeypatch.setattr(Run, "transcript", broken)
    async with working(settings):
        done = await until(client, await submit(client))
    assert (done["state"], done["error"]["code"], done["attempt"]) == ("failed", "internal_error", 1)
    await assert_even(ground)


async def test_a_redis_that_refuses_writes_loses_no_job_and_ends_no_process(
    client: Client, settings: Settings, ground: Ground, account: Account, tending: "asyncio.Task[None]"
) -> None:
    async with working(settings):
        await ground.redis.config_set("maxmemory", "1")  # pyright: ignore[reportUnknownMemberType]
        try:
            job = await submit(client)
            assert (await balance_of(ground, account)).held > 0
            await asyncio.sleep(1)
        finally:
            await ground.redis.config_set("maxmemory", "0")  # pyright: ignore[reportUnknownMemberType]
        assert not tending.done()
        assert (await until(client, job))["state"] == "succeeded"
    await assert_even(ground)


async def test_a_worker_told_to_stop_while_the_database_is_away_leaves_its_job_to_the_next(
    client: Client, settings: Settings, ground: Ground, vendor: Vendor, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def away(_returned: Return) -> bool:
        raise DatabaseUnavailable

    vendor.script = [Answer(hold=asyncio.Event())]
    async with working(settings) as worker:
        job = await submit(client)
        await vendor.speaking.wait()
        monkeypatch.setattr(worker.tools.desk, "give_back", away)
    assert worker.jobs_failed == 0
    assert await ground.queue.lost("chat", [UUID(job["id"])]) == []
    async with working(settings):
        done = await until(client, job)
    assert (done["state"], done["attempt"]) == ("succeeded", 2)
    await assert_even(ground)


@pytest.mark.chaos
async def test_whoever_freezes_in_the_middle_of_a_transaction_loses_it_before_others_give_up(
    settings: Settings, ground: Ground, account: Account, client: Client
) -> None:
    with pytest.raises(DatabaseUnavailable):  # noqa: PT012 (it is at the block's end that the loss is seen)
        async with ground.database.begin() as frozen:
            await frozen.execute(select(Balance).where(Balance.account_id == account.id).with_for_update())
            assert (await submit(client))["state"] == "queued"
    await assert_even(ground)


async def test_a_lock_that_is_held_for_too_long_is_a_database_that_is_away(ground: Ground, account: Account) -> None:
    async def lock() -> None:
        async with ground.database.begin() as other:
            await other.execute(text("SET LOCAL lock_timeout = '10ms'"))
            await other.execute(select(Account).where(Account.id == account.id).with_for_update())

    async with ground.database.begin() as session:
        await session.execute(select(Account).where(Account.id == account.id).with_for_update())
        with pytest.raises(DatabaseUnavailable):
            await lock()


async def test_a_worker_waits_for_a_redis_that_is_not_there_yet(settings: Settings) -> None:
    absent = msgspec.structs.replace(settings, redis_url="redis://127.0.0.1:1")
    async with working(absent) as worker:
        await asyncio.sleep(1)
        assert worker.main_task is not None
        assert not worker.main_task.done()


async def test_the_tender_survives_what_it_cannot_mend(
    ground: Ground, account: Account, tending: "asyncio.Task[None]"
) -> None:
    async with ground.database.begin() as session:
        session.add(Job(id=ids.new(), account_id=account.id, kind="poem", spec={}))
    await age(ground)
    await asyncio.sleep(0.8)
    assert not tending.done(), "a job of a kind that this build does not know"


async def test_a_worker_back_from_the_dead_cannot_speak_after_the_end(client: Client, ground: Ground) -> None:
    job = await submit(client)
    zombie = run_of(ground, await take(ground, job))
    await zombie.say(say.Started(attempt=1))
    await zombie.say(say.Delta(text="one"))
    await asyncio.sleep(0.1)
    await client.post(job["urls"]["cancel"])
    await age(ground)
    assert (await tend.reconcile(ground, {})).ended == 1
    await zombie.say(say.Delta(text="two"))
    await asyncio.sleep(0.2)
    with pytest.raises(LostLease):
        await zombie.say(say.Delta(text="three"))
    told = events((await client.get(job["urls"]["events"])).text)
    assert [event["type"] for _, event in told] == ["queued", "started", "delta", "canceled"]
    await ground.redis.flushall()  # pyright: ignore[reportUnknownMemberType]
    assert events((await client.get(job["urls"]["events"])).text) == told[1:], "what it had said is kept"


@pytest.mark.parametrize("given_back", ["retry", "hand_back"])
async def test_a_job_cancelled_while_it_is_given_back_ends(client: Client, ground: Ground, given_back: str) -> None:
    job = await submit(client)
    running = await take(ground, job)
    await client.post(job["urls"]["cancel"])
    if given_back == "retry":
        await give_back(ground, running, failed=True, wait_s=60)
    else:
        await give_back(ground, running)
    async with ground.database.begin() as session:
        await session.execute(text("UPDATE jobs SET created_at = created_at - interval '1 hour'"))
    assert (await tend.reconcile(ground, {})).ended == 1
    assert (await until(client, job))["state"] == "canceled"
    await assert_even(ground)


async def test_a_cancelled_job_whose_dead_worker_had_made_nothing_yet_has_no_result(
    client: Client, ground: Ground
) -> None:
    job = await submit(client)
    assert await keep(ground, await take(ground, job), used={}, result={}) == "runs"
    await client.post(job["urls"]["cancel"])
    await age(ground)
    assert (await tend.reconcile(ground, {})).ended == 1
    done = await until(client, job)
    assert (done["state"], done["result"], done["charged"]) == ("canceled", None, {"chat_tokens": 0})


async def test_a_cancel_that_meets_a_retry_is_not_lost(client: Client, ground: Ground, account: Account) -> None:
    running = await take(ground, await submit(client))
    async with ground.database.begin() as session:
        await session.execute(update(Job).where(Job.id == running.id).values(state="queued", tries=1))
        cancelling = asyncio.create_task(lifecycle.cancel(ground, account.id, running.id))
        await asyncio.sleep(0.2)
    assert (await cancelling).state == "canceled"
    await assert_even(ground)


async def test_two_ends_at_once_are_one(client: Client, ground: Ground) -> None:
    for _ in range(5):
        running = await take(ground, await submit(client))
        ends = await asyncio.gather(
            end(ground, running, used={"chat_tokens": 1}, result={}),
            end(ground, running, "canceled", used={"chat_tokens": 2}),
        )
        assert sum(end is not None for end in ends) == 1
    await assert_even(ground)


async def test_what_is_over_stays_over(client: Client, ground: Ground) -> None:
    running = await take(ground, await submit(client))
    assert await end(ground, running, result={}) is not None
    assert not await give_back(ground, running)
    assert not await give_back(ground, running, failed=True)
    assert await keep(ground, running, used={"chat_tokens": 1}, result={}) == "lost"
    assert await lifecycle.claim(ground, [running.id]) == [None]
    async with ground.database.begin() as session:
        assert (await session.get_one(Job, running.id)).state == "succeeded"


async def test_two_claims_at_once_are_two_attempts(client: Client, ground: Ground) -> None:
    job = await submit(client)
    both = await asyncio.gather(*(take(ground, job) for _ in range(2)))
    assert sorted(taken.attempt for taken in both) == [1, 2]


async def test_being_handed_back_any_number_of_times_is_no_reason_to_give_up(client: Client, ground: Ground) -> None:
    job = await submit(client)
    for _ in range(queue.MOST_LOSSES + 5):
        await give_back(ground, await take(ground, job))
    await take(ground, job)
    async with ground.database.begin() as session:
        assert (await session.get_one(Job, UUID(job["id"]))).losses == 0


async def test_an_event_is_told_at_once_and_not_at_the_next_heartbeat(
    client: Client, settings: Settings, ground: Ground, vendor: Vendor
) -> None:
    hold = asyncio.Event()
    vendor.script = [Answer(hold=hold)]  # the API's heartbeat is 15 s, this test's patience 10
    async with working(settings):
        job = await submit(client)
        async with asyncio.timeout(10), client.stream("GET", job["urls"]["events"]) as answer:
            told = ""
            async for piece in answer.aiter_text():
                told += piece
                if "Hello" in told:
                    hold.set()
    assert "succeeded" in told


async def test_an_end_that_redis_never_heard_of_reaches_a_waiting_viewer(
    settings: Settings, ground: Ground, client: Client
) -> None:
    job = await submit(client)
    running = await take(ground, job)
    assert await jobs.told(ground, [running.id]) == {}
    await end(ground, running, "failed", error=lifecycle.failure(lifecycle.JobAbandoned()))
    answer = await client.get(job["urls"]["events"], headers={"Last-Event-ID": "1-3"})
    assert "id: 1-4\nevent: failed\n" in answer.text
    assert answer.text.count("id: ") == 1


async def test_a_database_that_is_away_does_not_end_a_viewers_stream(settings: Settings, ground: Ground) -> None:
    away = Database(msgspec.structs.replace(settings, database_url="postgresql://nobody@127.0.0.1:1/none"))
    assert await jobs.told(msgspec.structs.replace(ground, database=away), [ids.new()]) == {}
    await away.close()


async def test_an_exhausted_pool_is_a_database_that_is_away(settings: Settings) -> None:
    small = Database(msgspec.structs.replace(settings, database_pool=1))
    small.engine.pool._timeout = 0.1  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue]
    async with small.begin() as session:
        await session.execute(text("SELECT 1"))
        with pytest.raises(DatabaseUnavailable):
            await small.ping()
    await small.close()


async def test_an_error_of_the_database_does_not_carry_what_was_written(ground: Ground, account: Account) -> None:
    with pytest.raises(Exception, match="jobs") as refused:
        async with ground.database.begin() as session:
            session.add(
                Job(id=ids.new(), account_id=account.id, kind="chat", spec={}, state="x", result={"t": "secret"})
            )
    assert "secret" not in str(refused.value).split("DETAIL")[0]


async def test_a_key_replays_after_the_models_changed_and_is_free_again_after_a_day(
    client: Client, ground: Ground, settings: Settings, account: Account
) -> None:
    named = chat("hi", model="wire-1")
    first = await submit(client, named, **{"Idempotency-Key": "k"})
    request = msgspec.convert(named, kinds.SPECS["chat"])
    other = msgspec.structs.replace(ground, settings=msgspec.structs.replace(settings, compatible_models="wire-2"))
    again = await Desk(other).submit(Submission(account=account, request=request, idempotency_key="k"))
    assert (str(again.job.id), again.known) == (first["id"], "replayed")
    async with ground.database.begin() as session:
        await session.execute(update(IdempotencyKey).values(expires_at=datetime.now(UTC) - timedelta(seconds=1)))
    assert (await submit(client, named, **{"Idempotency-Key": "k"}))["id"] != first["id"]


async def test_two_accounts_may_use_the_same_idempotency_key(
    client: Client, ground: Ground, settings: Settings
) -> None:
    first = await submit(client, None, **{"Idempotency-Key": "same"})
    async with ground.database.begin() as session:
        other = Account(id=ids.new(), email="omar@example.com", plan="free", created_at=datetime.now(UTC))
        session.add(other)
        await session.flush()
        client.headers["Authorization"] = f"Bearer {await keys.issue(session, settings, other.id, name='x')}"
    assert (await submit(client, None, **{"Idempotency-Key": "same"}))["id"] != first["id"]


async def test_an_expired_key_is_refused(client: Client, ground: Ground) -> None:
    async with ground.database.begin() as session:
        await session.execute(update(ApiKey).values(expires_at=datetime.now(UTC)))
    answer = await client.get("/v1/jobs")
    assert (answer.status_code, answer.json()["code"]) == (401, "revoked_api_key")


async def test_nonsense_on_the_cancel_channel_does_not_deafen_a_worker(
    client: Client, settings: Settings, ground: Ground, vendor: Vendor
) -> None:
    vendor.script = [Answer(hold=asyncio.Event())]
    line: Redis = ground.redis
    async with working(settings):
        job = await submit(client)
        await vendor.speaking.wait()
        await until(client, job, "running")
        await line.publish("pulse:cancels", "nonsense")  # pyright: ignore[reportUnknownMemberType]
        async with asyncio.timeout(4):  # the checkpoint, which would see it too, comes after 5 s
            await client.post(job["urls"]["cancel"])
            await until(client, job, "canceled")


@pytest.mark.parametrize(
    "body", [b"[" * 400_000, b'{"kind":"chat","input":' + b"[" * 200_000, b'{"a":"\\ud800","b":' + b"[" * 5000]
)
async def test_a_body_nested_without_end_is_refused(client: Client, body: bytes) -> None:
    answer = await client.post("/v1/jobs", content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code == 400
    assert answer.json()["code"] in {"malformed_json", "wrong_type"}


@pytest.mark.parametrize(
    ("path", "status"),
    [("/v1/jobs?limit=" + "9" * 5000, 400), ("/docs/assets/%00", 404), ("/docs/assets/" + "a" * 300, 404)],
)
async def test_an_odd_address_is_no_bug(client: Client, path: str, status: int) -> None:
    assert (await client.get(path)).status_code == status


async def test_a_viewer_past_the_end_gets_ids_that_go_on(client: Client, ground: Ground) -> None:
    job = await submit(client)
    await end(ground, await take(ground, job), result={})
    answer = await client.get(job["urls"]["events"], headers={"Last-Event-ID": "9-9"})
    assert "id: 9-10\nevent: succeeded\n" in answer.text
    assert answer.text.count("id: ") == 1
