"""Batches are fed: a window of their lines are jobs at a time, and each line has one result in the end."""

import asyncio
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
from typing import Any
from uuid import UUID

import msgspec
import pytest
from sqlalchemy import select, text

from infra import ground as grounds
from infra import ids, queue, streams
from infra.database import DatabaseUnavailable
from infra.ground import Ground
from infra.models import Account, Batch, Job
from infra.settings import Settings
from quotas import accounts
from tests.support.batches import (
    METER,
    MOST,
    USED,
    assert_exact,
    batch_of,
    cancel,
    close_window,
    feed_all,
    flights,
    land,
    look,
    put,
    told,
)
from tests.support.books import balance_of
from tests.support.pairs import pairs
from workers import lifecycle, pools, tend
from workers.batches import feeding
from workers.batches.feeding import Feeder


@pytest.fixture(autouse=True)
def kind() -> Generator[None]:
    """Let the kind that is asked for have a pool."""
    with pairs():
        yield


@pytest.fixture
async def few(settings: Settings) -> AsyncGenerator[Ground]:
    """A ground on which four lines of an account are jobs at a time."""
    async with grounds.opened(msgspec.structs.replace(settings, batch_window=4)) as opened:
        yield opened


@pytest.fixture
async def other(ground: Ground) -> Account:
    """Another account."""
    async with ground.database.begin() as session:
        return await accounts.create(session, "other@example.com")


async def jobs_of(ground: Ground, batch: Batch) -> list[Job]:
    """Return the jobs that lines of a batch have become, oldest first."""
    async with ground.database.begin() as session:
        return list(await session.scalars(select(Job).where(Job.batch_id == batch.id).order_by(Job.id)))


async def test_every_line_is_a_job_once_and_has_one_result(few: Ground, account: Account) -> None:
    batch = await put(few, account, 11)
    over = await feed_all(few, batch.id)
    assert (over.state, over.succeeded, over.lines) == ("completed", 11, 11)
    results = await told(few, batch.id)
    assert sorted(line["line"] for line in results) == list(range(1, 12))
    jobs = {str(job.id): job for job in await jobs_of(few, batch)}
    assert len(jobs) == 11
    for line in results:
        job = jobs[line["job_id"]]
        assert line["result"] == job.result == {"text": "تم", "of": str(job.id)}
        assert line["custom_id"] == f"سطر-{line['line']}"
        assert (line["state"], line["kind"], line["error"], line["charged"]) == (
            "succeeded",
            "pair",
            None,
            {METER: USED},
        )
    assert over.charged == {METER: 11 * USED}
    balance = await balance_of(few, account)
    assert (balance.used, balance.held) == (11 * USED, 0)
    await assert_exact(few)


async def test_a_job_of_a_batch_is_as_its_line_says_and_is_over_by_the_end_of_the_window(
    few: Ground, account: Account
) -> None:
    batch = await put(few, account, 1)
    await look(few)
    (job,) = await jobs_of(few, batch)
    assert job.spec == {"kind": "pair", "input": {"most": {METER: MOST}, "text": ""}}
    assert (job.account_id, job.kind, job.state, job.lane) == (account.id, "pair", "queued", "batch")
    assert (job.labels, job.timeout_s, job.webhook) == ({"of": "a batch"}, 60, None)
    assert job.start_by == job.cancel_by == batch.expires_at
    # To the millisecond, which is as far as ids tell the time everywhere else.
    assert abs(job.created_at - ids.created(job.id)) < timedelta(milliseconds=1)
    assert job.run_at == job.created_at
    assert job.id.version == 7
    assert await few.queue.lost("pair", [job.id]) == [], "it waits on the queue"


async def test_no_more_lines_than_the_window_are_jobs_at_a_time(few: Ground, account: Account) -> None:
    batch = await put(few, account, 9)
    for _ in range(3):
        await look(few)
    first = await flights(few, batch.id)
    assert len(first) == 4
    await land(few, first[1:2])
    await look(few)
    second = await flights(few, batch.id)
    assert second[:3] == [first[0], *first[2:]], "what has not ended still flies"
    assert len(second) == 4
    await assert_exact(few)


async def test_the_batches_of_an_account_share_its_window_and_no_other_account_waits_for_them(
    few: Ground, account: Account, other: Account
) -> None:
    big, second = await put(few, account, 100), await put(few, account, 100)
    others = await put(few, other, 3)
    await asyncio.gather(look(few), look(few))
    await look(few)
    assert [len(await flights(few, batch.id)) for batch in (big, second, others)] == [2, 2, 3]
    await land(few, await flights(few, big.id))
    third = await put(few, account, 100)
    await look(few)
    await look(few)
    assert sum([len(await flights(few, batch.id)) for batch in (big, second, third)]) == 4, "together they keep to it"
    assert len(await flights(few, third.id)) == 1, "a new one has its share as soon as there is room"


async def test_a_window_smaller_than_the_batches_of_an_account_moves_each_in_its_turn(
    settings: Settings, ground: Ground, account: Account
) -> None:
    async with grounds.opened(msgspec.structs.replace(settings, batch_window=1)) as narrow:
        batches = [await put(narrow, account, 2) for _ in range(3)]
        feeder = Feeder(narrow)
        for _ in range(40):
            await feeder.round()
            flying = [job_id for batch in batches for job_id in await flights(narrow, batch.id)]
            assert len(flying) <= 1
            await land(narrow, flying)
            feeder.rests.clear()
        assert [(await batch_of(narrow, batch.id)).state for batch in batches] == ["completed"] * 3
    await assert_exact(ground)


async def test_what_did_not_fit_the_quota_is_no_job_and_is_told_once(few: Ground, account: Account) -> None:
    batch = await put(few, account, 6, refused=[2, 6])
    over = await feed_all(few, batch.id)
    assert (over.state, over.succeeded, over.rejected, over.drawn) == ("completed", 4, 2, 4)
    results = await told(few, batch.id)
    assert sorted(line["line"] for line in results) == [1, 2, 3, 4, 5, 6]
    assert {line["line"] for line in results if line["state"] == "rejected"} == {2, 6}
    await assert_exact(few)


async def test_a_failed_line_is_told_with_its_reason_and_costs_nothing(few: Ground, account: Account) -> None:
    batch = await put(few, account, 3)
    await look(few)
    jobs = await flights(few, batch.id)
    await land(few, jobs[:1], "failed")
    await land(few, jobs[1:])
    over = await feed_all(few, batch.id)
    assert (over.state, over.failed, over.succeeded, over.charged) == ("completed", 1, 2, {METER: 2 * USED})
    (line,) = await told(few, batch.id, errors=True)
    assert (line["state"], line["line"], line["result"]) == ("failed", 1, None)
    assert line["error"] == {"code": "noise", "en": "It failed.", "ar": "فشلت."}
    await assert_exact(few)


async def test_a_batch_without_a_line_that_could_be_a_job_is_over_at_once(few: Ground, account: Account) -> None:
    batch = await put(few, account, 2, refused=[1, 2])
    await look(few)
    assert (await batch_of(few, batch.id)).state == "completed"
    await assert_exact(few)


async def test_a_cancelled_batch_ends_what_waits_stops_what_runs_and_gives_the_rest_up(
    few: Ground, account: Account
) -> None:
    batch = await put(few, account, 9)
    await look(few)
    waiting = await flights(few, batch.id)
    (running,) = await lifecycle.claim(few, waiting[:1])
    assert running is not None
    await cancel(few, batch.id)
    heard: Any = few.redis.pubsub()  # pyright: ignore[reportUnknownMemberType]
    await heard.subscribe(queue.CANCELS)
    await look(few)
    said = [message["data"] for _ in range(2) if (message := await heard.get_message(timeout=1))]
    await heard.aclose()
    assert said == [1, str(running.id).encode()]
    jobs = await jobs_of(few, batch)
    assert [job.state for job in jobs] == ["running", "canceled", "canceled", "canceled"]
    assert jobs[0].cancel_requested_at is not None
    assert await few.queue.lost("pair", waiting[1:]) == waiting[1:], "they are off the queue"
    await look(few)
    assert (await batch_of(few, batch.id)).state == "canceling", "one still runs"
    await lifecycle.finish(
        few, [lifecycle.End(job_id=running.id, attempt=running.attempt, state="canceled", used={METER: 3})]
    )
    await look(few)
    over = await batch_of(few, batch.id)
    assert (over.state, over.canceled, over.charged, over.drawn) == ("canceled", 9, {METER: 3}, 9)
    lines = await told(few, batch.id)
    assert {line["state"] for line in lines} == {"canceled"}
    assert sorted(line["line"] for line in lines) == list(range(1, 10))
    assert (await balance_of(few, account)).held == 0
    await assert_exact(few)


async def test_a_success_before_a_cancel_stays_one(few: Ground, account: Account) -> None:
    batch = await put(few, account, 5)
    await look(few)
    await land(few, (await flights(few, batch.id))[:2])
    await cancel(few, batch.id)
    over = await feed_all(few, batch.id)
    assert (over.state, over.succeeded, over.canceled) == ("canceled", 2, 3)
    await assert_exact(few)


async def test_a_batch_that_is_cancelled_while_it_is_read_tells_what_was_read(few: Ground, account: Account) -> None:
    batch = await put(few, account, 3, state="validating", accepted_at=None)
    await cancel(few, batch.id)
    await look(few)
    over = await batch_of(few, batch.id)
    assert (over.state, over.canceled) == ("canceled", 3)
    await assert_exact(few)


@pytest.mark.parametrize("order", ["started late first", "cancelled in time first"])
async def test_when_the_window_closes_all_that_is_not_over_has_expired(
    few: Ground, account: Account, order: str
) -> None:
    batch = await put(few, account, 9)
    await look(few)
    jobs = await flights(few, batch.id)
    await land(few, jobs[:1])
    (running,) = await lifecycle.claim(few, jobs[1:2])
    assert running is not None
    await lifecycle.cancel(few, account.id, jobs[2])
    await close_window(few, batch.id)
    if order == "cancelled in time first":
        await lifecycle.cancel_late(few)
    await tend.reconcile(few, {})
    await lifecycle.finish(
        few, [lifecycle.End(job_id=running.id, attempt=running.attempt, state="canceled", used={METER: 3})]
    )
    over = await feed_all(few, batch.id)
    assert (over.state, over.succeeded, over.canceled, over.expired) == ("expired", 1, 1, 7)
    assert over.charged == {METER: USED + 3}
    by_line = {line["line"]: line["state"] for line in await told(few, batch.id)}
    assert by_line == {1: "succeeded", 3: "canceled"} | dict.fromkeys([2, 4, 5, 6, 7, 8, 9], "expired")
    await assert_exact(few)


async def test_a_batch_that_was_not_read_in_its_time_has_expired(few: Ground, account: Account) -> None:
    batch = await put(few, account, 3, state="validating", accepted_at=None, hours=-1)
    await look(few)
    over = await batch_of(few, batch.id)
    assert (over.state, over.expired) == ("expired", 3)
    await assert_exact(few)


@pytest.mark.parametrize("why", ["failed", "cancelled"])
async def test_a_batch_whose_reading_broke_off_has_failed(few: Ground, account: Account, why: str) -> None:
    read = await put(few, account, 1)
    await look(few)
    (job_id,) = await flights(few, read.id)  # any job will do for one that reads
    batch = await put(few, account, 2, state="validating", accepted_at=None, job_id=job_id)
    await look(few)
    assert (await batch_of(few, batch.id)).state == "validating", "it may still be read"
    if why == "failed":
        await land(few, [job_id], "failed")
    else:
        await lifecycle.cancel(few, account.id, job_id)
    await look(few)
    over = await batch_of(few, batch.id)
    assert over.error is not None
    assert (over.state, over.error["code"]) == ("failed", "noise" if why == "failed" else "reading_broken_off")
    await feed_all(few, read.id)
    await assert_exact(few)


async def test_what_was_drawn_and_never_queued_the_tender_queues(
    few: Ground, account: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch = await put(few, account, 2)

    async def nothing(*_: Any) -> None:
        pass

    monkeypatch.setattr(lifecycle, "enqueue_drawn", nothing)
    await look(few)
    jobs = await flights(few, batch.id)
    assert sorted(await few.queue.lost("pair", jobs)) == jobs
    async with few.database.begin() as session:
        await session.execute(
            text("UPDATE jobs SET created_at = created_at - interval '1 minute', run_at = created_at")
        )
        await session.execute(text("UPDATE jobs SET run_at = created_at"))
    await tend.reconcile(few, {})
    assert await few.queue.lost("pair", jobs) == []


async def test_a_commit_of_which_nobody_knows_is_made_once(
    few: Ground, account: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch = await put(few, account, 6)
    begin, turn = few.database.begin, 0

    @asynccontextmanager
    async def unsure() -> AsyncGenerator[Any]:
        nonlocal turn
        turn += 1
        is_lost = turn % 3 == 0
        async with begin() as session:
            yield session
        if is_lost:
            raise DatabaseUnavailable

    feeder = Feeder(few)
    for _ in range(60):
        monkeypatch.setattr(few.database, "begin", unsure)
        with suppress(DatabaseUnavailable):
            await feeder.round()
        monkeypatch.setattr(few.database, "begin", begin)
        feeder.rests.clear()
        await land(few, await flights(few, batch.id))
        if (await batch_of(few, batch.id)).finished_at is not None:
            break
    over = await batch_of(few, batch.id)
    assert (over.state, over.succeeded) == ("completed", 6)
    assert turn > 6
    await assert_exact(few)


async def test_two_who_feed_at_once_do_everything_once(
    settings: Settings, ground: Ground, account: Account, other: Account, caplog: pytest.LogCaptureFixture
) -> None:
    batches = [await put(ground, account, 40), await put(ground, account, 30), await put(ground, other, 25)]
    left = {batch.id for batch in batches}

    async def feed_on(narrow: Ground) -> None:
        feeder = Feeder(narrow)
        while left:
            await feeder.round()
            feeder.rests.clear()
            await asyncio.sleep(0)

    async def run(narrow: Ground) -> None:
        while left:
            for batch_id in list(left):
                flying = await flights(narrow, batch_id)
                await land(narrow, flying[::2], "succeeded")
                await land(narrow, flying[1::2], "failed")
                if (await batch_of(narrow, batch_id)).finished_at is not None:
                    left.discard(batch_id)

    async def watch(narrow: Ground) -> None:
        while left:
            async with narrow.database.begin() as session:
                flying = await session.scalar(
                    text(
                        "SELECT max(n) FROM (SELECT count(*) n FROM batch_flights JOIN batches b ON b.id = batch_id "
                        "GROUP BY b.account_id) f"
                    )
                )
            assert (flying or 0) <= 7
            await asyncio.sleep(0.01)

    narrow = msgspec.structs.replace(settings, batch_window=7)
    async with grounds.opened(narrow) as one, grounds.opened(narrow) as two, asyncio.timeout(60):
        await asyncio.gather(feed_on(one), feed_on(two), run(ground), watch(ground))
    assert [(await batch_of(ground, batch.id)).state for batch in batches] == ["completed"] * 3
    await assert_exact(ground)
    assert [each.msg for each in caplog.records if each.levelname == "ERROR"] == [], "nobody came in anybody's way"


async def test_what_cannot_be_fed_keeps_nobody_else_from_it(few: Ground, account: Account, other: Account) -> None:
    wrong, right = await put(few, account, 3), await put(few, other, 3)
    async with few.database.begin() as session:
        await session.execute(
            text("UPDATE batch_lines SET units = '{\"images\": 1}' WHERE batch_id = :id"), {"id": wrong.id}
        )
    assert (await feed_all(few, right.id)).state == "completed"
    assert await jobs_of(few, wrong) == [], "there is no job without its hold"


async def test_a_hold_that_is_too_small_makes_no_job(few: Ground, account: Account) -> None:
    batch = await put(few, account, 3)
    async with few.database.begin() as session:
        await session.execute(text("UPDATE batch_lines SET units = '{\"chat_tokens\": 11}'"))
    await look(few)
    assert await jobs_of(few, batch) == []
    assert (await batch_of(few, batch.id)).drawn == 0
    await assert_exact(few)


async def test_a_batch_is_looked_after_often_while_it_moves_and_seldom_while_it_does_not(
    few: Ground, account: Account
) -> None:
    feeder = Feeder(few)
    assert await feeder.round() == feeding.NONE_S
    batch = await put(few, account, 9)
    assert await feeder.round() <= feeding.BUSY_S
    assert await feeder.round() == feeding.BUSY_S, "what has just moved may move again at once"
    for _ in range(20):
        feeder.rests = {key: (wait_s, 0.0) for key, (wait_s, _) in feeder.rests.items()}
        assert feeding.BUSY_S <= await feeder.round() <= feeding.QUIET_S
    assert feeder.rests[batch.id][0] == feeding.LONGEST_S
    await land(few, await flights(few, batch.id))
    assert await feeder.round() == feeding.QUIET_S
    assert await told(few, batch.id) == [], "it rests"
    await cancel(few, batch.id)
    assert await feeder.round() <= feeding.BUSY_S, "a cancel is no time to rest"
    assert len(await told(few, batch.id)) == 9


def stream_of(account: Account) -> streams.Subject:
    """Return what the account is told."""
    return streams.account(account.id)


async def heard(ground: Ground, account: Account) -> list[dict[str, Any]]:
    """Return what the account's stream has."""
    ((page, _),) = await ground.streams.pages([(stream_of(account), streams.START)], entries=1000)
    return [msgspec.json.decode(event.data) | {"kind": event.kind, "batch": event.batch} for event in page]


async def test_the_account_is_told_of_the_batch_and_not_of_each_of_its_jobs(few: Ground, account: Account) -> None:
    batch = await put(few, account, 11)
    await feed_all(few, batch.id)
    said = await heard(few, account)
    assert {(event["type"], event["kind"], UUID(event["batch"])) for event in said} == {("batch", "batch", batch.id)}
    assert len(said) < 8, "not of every change"
    assert (said[0]["state"], said[0]["lines"], said[0]["done"]) == ("running", 11, 0)
    counts = {"rejected": 0, "succeeded": 11, "failed": 0, "canceled": 0, "expired": 0}
    assert said[-1] == {"type": "batch", "state": "completed", "lines": 11, "done": 11, **counts} | {
        "kind": "batch",
        "batch": str(batch.id),
    }


async def test_what_moved_last_is_told_however_soon_it_came(few: Ground, account: Account) -> None:
    batch = await put(few, account, 9)
    feeder = Feeder(few)
    await feeder.round()
    await land(few, await flights(few, batch.id))
    await feeder.round()
    assert [event["done"] for event in await heard(few, account)] == [0], "it was told just before"
    async with asyncio.timeout(10):
        while len(await heard(few, account)) == 1:
            await asyncio.sleep(0.05)
            await feeder.round()
    assert [event["done"] for event in await heard(few, account)] == [0, 4]


async def test_a_listener_is_told_by_a_message_when_a_batch_is_accepted_and_over(few: Ground, account: Account) -> None:
    batch = await put(few, account, 2, webhook="https://example.com/told", labels={"run": "7"})
    await feed_all(few, batch.id)
    async with few.database.begin() as session:
        rows = (
            await session.execute(text("SELECT type, account_id, subject_id, data, url FROM webhook_messages"))
        ).all()
    assert len(rows) == 1
    type_, account_id, subject_id, data, url = rows[0]
    assert (type_, account_id, subject_id, url) == ("batch.completed", account.id, batch.id, batch.webhook)
    assert data == {
        "id": str(batch.id),
        "state": "completed",
        "counts": {
            "lines": 2,
            "rejected": 0,
            "waiting": 0,
            "running": 0,
            "succeeded": 2,
            "failed": 0,
            "canceled": 0,
            "expired": 0,
        },
        "charged": {METER: 2 * USED},
        "metadata": {"run": "7"},
        "results": f"/v1/batches/{batch.id}/results",
    }


async def test_of_what_shrinks_well_in_the_database_no_more_is_gathered_at_a_time(
    ground: Ground, account: Account
) -> None:
    batch = await put(ground, account, 5)
    await look(ground)
    await land(ground, await flights(ground, batch.id))
    async with ground.database.begin() as session:
        await session.execute(text("UPDATE jobs SET result = jsonb_build_object('text', repeat('س', 500000))"))
    for gathered in (2, 4, 5):
        await look(ground)
        assert (await batch_of(ground, batch.id)).succeeded == gathered
    await assert_exact(ground)


async def test_the_end_of_a_batch_is_told_when_redis_is_there_again(
    few: Ground, account: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch = await put(few, account, 3)
    feeder = Feeder(few)
    await feeder.round()
    await land(few, await flights(few, batch.id))
    with monkeypatch.context() as patched:
        patched.setattr(few.streams, "tell", _nobody_hears)
        await feeder.round()
    assert (await batch_of(few, batch.id)).state == "completed"
    await feeder.round()
    assert (await heard(few, account))[-1]["state"] == "completed"


async def _nobody_hears(*_: object, **__: object) -> bool:
    raise ConnectionError


async def test_two_who_draw_at_once_for_an_account_keep_to_its_window_together(
    settings: Settings, ground: Ground, account: Account
) -> None:
    batches = [await put(ground, account, 3), await put(ground, account, 3)]
    lock = "SELECT pg_advisory_xact_lock(hashtextextended('draw ' || CAST(:account AS text), 0))"
    async with grounds.opened(msgspec.structs.replace(settings, batch_window=1)) as narrow:
        async with ground.database.begin() as session:
            await session.execute(text(lock), {"account": str(account.id)})
            feeding_both = [asyncio.create_task(feeding.feed(narrow, batch.id)) for batch in batches]
            async with asyncio.timeout(10):
                while True:
                    if await session.scalar(text("SELECT count(*) FROM pg_locks WHERE NOT granted")) == 2:
                        break
                    await asyncio.sleep(0.01)
        moved = await asyncio.gather(*feeding_both)
    assert sorted(each.drawn for each in moved) == [0, 1]
    await assert_exact(ground)


async def test_a_batch_ends_whose_kind_no_pool_knows_any_more_and_whose_worker_is_gone(
    few: Ground, account: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch = await put(few, account, 3)
    await look(few)
    await lifecycle.claim(few, (await flights(few, batch.id))[:1])
    monkeypatch.delitem(pools.POOLS, "pair")
    await close_window(few, batch.id)
    async with few.database.begin() as session:  # long enough ago for nothing to be on its way
        await session.execute(text("UPDATE jobs SET created_at = created_at - interval '1 minute'"))
    await tend.reconcile(few, {})
    await look(few)
    over = await batch_of(few, batch.id)
    assert (over.state, over.expired) == ("expired", 3)
    await assert_exact(few)


async def test_a_line_is_looked_up_by_its_number_whatever_the_statistics_know(ground: Ground, account: Account) -> None:
    await put(ground, account, 2_000)
    async with ground.database.begin() as session:
        await session.execute(text("ANALYZE batch_lines"))
    new = await put(ground, account, 20)
    look = text("EXPLAIN SELECT custom_id FROM batch_lines WHERE batch_id = CAST(:batch AS uuid) AND line = 7 LIMIT 1")
    async with ground.database.begin() as session:
        plan = "\n".join(await session.scalars(look, {"batch": new.id}))
    assert "_pkey" in plan, plan
