"""The life of many jobs at once, in one statement, each for itself; how jobs wait, expire, resume and return."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import msgspec
import pytest
from sqlalchemy import select, text

from infra import ids, queue
from infra.ground import Ground
from infra.models import Account, UniqueJob
from infra.settings import Settings
from quotas import ledger
from tests.support.books import assert_even, balance_of, grant
from tests.support.chats import Client, chat, events, submit, until
from tests.support.lives import age, asked, asking, end, give_back, job_of, keep, run_of, submit_all, take
from tests.support.statements import overheard
from tests.support.vendor import Answer, Vendor
from tests.support.work import work_off, working
from workers import lifecycle, tend
from workers.context import LostLease
from workers.desk import Desk
from workers.lifecycle import End, Submitted


async def test_many_jobs_are_claimed_and_finished_in_one_statement_each(ground: Ground, account: Account) -> None:
    desk = Desk(ground)
    submitted = await asyncio.gather(*(desk.submit(asked(account)) for _ in range(60)))
    said = overheard(ground.database)
    attempts = await asyncio.gather(*(desk.claim(each.job.id) for each in submitted))
    assert len(said) == 1
    said.clear()
    ends = [
        End(job_id=attempt.id, attempt=attempt.attempt, state="succeeded", used={"chat_tokens": n}, result={"n": n})
        for n, attempt in enumerate(attempts)
        if attempt is not None
    ]
    ended = await asyncio.gather(*(desk.finish(each) for each in ends))
    assert len(said) == 1
    assert [each.charged["chat_tokens"] for each in ended if each is not None] == list(range(60))
    assert (await balance_of(ground, account)).used == sum(range(60))
    assert (await job_of(ground, ends[7].job_id)).result == {"n": 7}
    await assert_even(ground)


async def test_submissions_at_once_are_admitted_in_their_order_and_one_that_does_not_fit_blocks_nobody(
    ground: Ground, account: Account
) -> None:
    cheap = asked(account)
    most = cheap.request.resolved(asking(ground.settings)).most(asking(ground.settings))["chat_tokens"]
    await grant(ground, 3 * most)
    dear = asked(account, "x" * 5000)
    answers = await submit_all(ground, [cheap, dear, *(asked(account) for _ in range(3))])
    told = ["in" if isinstance(answer, Submitted) else answer.code for answer in answers]
    assert told == ["in", "quota_exceeded", "in", "in", "quota_exceeded"]
    last = answers[3]
    assert isinstance(last, Submitted)
    assert [crossing.percent for crossing in last.crossings] == [80, 100]
    assert (await balance_of(ground, account)).held == 3 * most


async def test_the_same_key_many_times_at_once_is_one_job(ground: Ground, account: Account) -> None:
    desks = [Desk(ground) for _ in range(3)]
    answers = await asyncio.gather(
        *(desk.submit(asked(account, idempotency_key=f"k{n % 10}")) for desk in desks for n in range(30))
    )
    assert len({answer.job.id for answer in answers}) == 10
    assert sum(answer.known is None for answer in answers) == 10
    other = asked(account, "something else", idempotency_key="k1")
    assert (await submit_all(ground, [other]))[0].code == "idempotency_key_reused"  # type: ignore[union-attr]


async def test_a_caller_who_leaves_has_a_job_all_the_same(ground: Ground, account: Account) -> None:
    asking = asyncio.create_task(Desk(ground).submit(asked(account)))
    async with asyncio.timeout(10):
        while not (await balance_of(ground, account)).held:  # noqa: ASYNC110
            await asyncio.sleep(0)
        asking.cancel()
        made = asyncio.Event()
        while not made.is_set():
            await asyncio.sleep(0.01)
            if await ground.redis.exists(queue.name("chat")):
                made.set()


async def test_a_unit_is_never_sold_twice_by_two_processes_at_once(ground: Ground, account: Account) -> None:
    most = asked(account).request.resolved(asking(ground.settings)).most(asking(ground.settings))["chat_tokens"]
    await grant(ground, 50 * most)
    desks = [Desk(ground) for _ in range(4)]
    answers = await asyncio.gather(
        *(desk.submit(asked(account)) for _ in range(50) for desk in desks), return_exceptions=True
    )
    admitted = [answer for answer in answers if isinstance(answer, Submitted)]
    assert len(admitted) == 50
    assert all(isinstance(answer, Submitted | ledger.QuotaExceeded) for answer in answers)
    attempts = await lifecycle.claim(ground, [answer.job.id for answer in admitted])
    done = [End(job_id=a.id, attempt=1, state="failed", error={}) for a in attempts if a is not None]
    holding = [desk.submit(asked(account)) for desk in desks for _ in range(10)]
    await asyncio.gather(
        lifecycle.finish(ground, done[:25]), lifecycle.finish(ground, done[25:]), *holding, return_exceptions=True
    )
    await assert_even(ground)


async def test_an_end_that_cannot_be_written_does_not_keep_its_neighbours(ground: Ground, account: Account) -> None:
    desk = Desk(ground)
    submitted = await asyncio.gather(*(desk.submit(asked(account)) for _ in range(9)))
    attempts = await lifecycle.claim(ground, [each.job.id for each in submitted])
    ends = [End(job_id=a.id, attempt=1, state="succeeded", result={}) for a in attempts if a is not None]
    ends[4] = msgspec.structs.replace(ends[4], result={"text": "\x00"})  # PostgreSQL cannot keep it
    ended = await asyncio.gather(*(desk.finish(each) for each in ends), return_exceptions=True)
    assert [isinstance(each, BaseException) for each in ended] == [n == 4 for n in range(9)]
    assert (await job_of(ground, ends[4].job_id)).state == "running"
    assert (await job_of(ground, ends[5].job_id)).state == "succeeded"


async def test_a_claim_that_is_older_than_its_lease_is_none(ground: Ground, account: Account) -> None:
    made = await Desk(ground).submit(asked(account))
    frozen = Desk(msgspec.structs.replace(ground, settings=msgspec.structs.replace(ground.settings, lease_s=-1)))
    with pytest.raises(LostLease):
        await frozen.claim(made.job.id)
    assert (await job_of(ground, made.job.id)).attempt == 0


async def test_a_job_asked_for_twice_at_once_is_two_attempts(ground: Ground, account: Account) -> None:
    made = await Desk(ground).submit(asked(account))
    desk = Desk(ground)
    both = await asyncio.gather(*(desk.claim(made.job.id) for _ in range(3)))
    assert sorted(attempt.attempt for attempt in both if attempt is not None) == [1, 2, 3]


async def test_a_job_for_later_waits_for_its_moment(client: Client, settings: Settings, ground: Ground) -> None:
    at = datetime.now(UTC) + timedelta(seconds=1.5)
    job = await submit(client, chat("hi") | {"run_at": at.isoformat()})
    assert (job["state"], job["waiting"]) == ("queued", None), "it does not wait for its turn yet"
    async with working(settings):
        done = await until(client, job)
    assert done["state"] == "succeeded"
    assert datetime.fromisoformat(done["started_at"]) >= at


async def test_what_redis_forgot_of_a_job_for_later_is_told_when_it_is_due(client: Client, ground: Ground) -> None:
    at = datetime.now(UTC) + timedelta(hours=1)
    job = await submit(client, chat("hi") | {"run_at": at.isoformat(), "priority": "batch"})
    await ground.redis.flushall()  # pyright: ignore[reportUnknownMemberType]
    async with ground.database.begin() as session:
        await session.execute(text("UPDATE jobs SET created_at = created_at - interval '1 hour'"))
    assert (await tend.reconcile(ground, {})).queued == 0
    await age(ground)
    await age(ground)
    assert (await tend.reconcile(ground, {})).queued == 1
    place = await ground.overseer.place("chat", UUID(job["id"]))
    assert place is not None
    assert place.lane == "batch"


@pytest.mark.parametrize("by", ["worker", "tender"])
async def test_a_job_not_started_in_time_expires_and_costs_nothing(
    client: Client, settings: Settings, ground: Ground, account: Account, vendor: Vendor, by: str
) -> None:
    at = datetime.now(UTC) + timedelta(seconds=0.3)
    job = await submit(client, chat("hi") | {"start_deadline": at.isoformat()})
    assert (await balance_of(ground, account)).held > 0
    await asyncio.sleep(0.5)
    if by == "worker":
        await work_off(settings)
    else:
        assert (await tend.reconcile(ground, {})).ended == 1
    done = await until(client, job)
    assert (done["state"], done["charged"], vendor.requests) == ("expired", {"chat_tokens": 0}, [])
    assert [told["type"] for _, told in events((await client.get(job["urls"]["events"])).text)] == ["queued", "expired"]
    assert await ground.queue.lost("chat", [UUID(job["id"])]) != [], "it is off the queue"
    await assert_even(ground)


async def test_a_deadline_is_for_the_first_start_only(client: Client, settings: Settings, ground: Ground) -> None:
    at = datetime.now(UTC) + timedelta(seconds=0.4)
    job = await submit(client, chat("hi") | {"start_deadline": at.isoformat()})
    await give_back(ground, await take(ground, job), failed=True)
    await asyncio.sleep(0.5)
    assert (await tend.reconcile(ground, {})).ended == 0
    await work_off(settings)
    assert (await until(client, job))["state"] == "succeeded"


async def test_a_unique_key_names_one_live_job_and_is_free_when_it_is_over(
    client: Client, settings: Settings, ground: Ground, account: Account
) -> None:
    first = await client.post("/v1/jobs", json=chat("one") | {"unique_key": "تقرير"})
    second = await client.post("/v1/jobs", json=chat("another") | {"unique_key": "تقرير"})
    assert second.json()["job"]["id"] == first.json()["job"]["id"]
    assert (first.headers.get("existing-job"), second.headers["existing-job"]) == (None, "true")
    held = (await balance_of(ground, account)).held
    assert held == first.json()["quota"]["chat_tokens"]["held"], "held once"
    await work_off(settings)
    assert (await until(client, first.json()["job"]))["state"] == "succeeded"
    async with ground.database.begin() as session:
        assert list(await session.scalars(select(UniqueJob))) == []
    third = await client.post("/v1/jobs", json=chat("one") | {"unique_key": "تقرير"})
    assert third.json()["job"]["id"] != first.json()["job"]["id"]
    await client.post(third.json()["job"]["urls"]["cancel"])
    async with ground.database.begin() as session:
        assert list(await session.scalars(select(UniqueJob))) == []


async def test_a_batch_job_waits_in_its_lane_and_is_told_its_turn(client: Client, settings: Settings) -> None:
    batch = await submit(client, chat("later") | {"priority": "batch"})
    now = [await submit(client) for _ in range(3)]
    assert [job["waiting"]["position"] for job in [batch, *now]] == [1, 1, 2, 3]
    assert batch["waiting"]["starts_in_s"] is None, "no worker lives"
    async with working(settings, slots=1):
        for job in now:
            await until(client, job)
        for _ in range(2):
            await until(client, await submit(client))
    waiting = await submit(client)
    async with working(settings, slots=1):
        await until(client, waiting)
        await until(client, batch)


async def test_a_waiting_job_is_told_when_it_will_start_and_finish(
    client: Client, settings: Settings, vendor: Vendor
) -> None:
    hold = asyncio.Event()
    vendor.script = [Answer(), Answer(), Answer(hold=hold)]
    async with working(settings, slots=1):
        for _ in range(2):
            await until(client, await submit(client))
        await submit(client)
        await vendor.speaking.wait()
        shown: dict[str, Any] = {}
        async with asyncio.timeout(10):
            while not shown or shown["waiting"]["finishes_in_s"] is None:
                await asyncio.sleep(0.1)
                shown = await submit(client)
        waiting = shown["waiting"]
        assert waiting["position"] >= 1
        assert 0 <= waiting["starts_in_s"]["p50"] <= waiting["starts_in_s"]["p90"]
        assert waiting["starts_in_s"]["p50"] <= waiting["finishes_in_s"]["p50"] <= waiting["finishes_in_s"]["p90"]
        hold.set()
        await until(client, shown)


async def test_the_next_attempt_gets_what_the_last_one_left(client: Client, ground: Ground) -> None:
    job = await submit(client)
    run = run_of(ground, await take(ground, job))
    assert run.resume == {}
    await run.checkpoint({"operation": "op-1"})
    assert await keep(ground, run.job, used={"chat_tokens": 3}) == "runs", "which leaves it alone"
    again = run_of(ground, await take(ground, job))
    assert again.resume == {"operation": "op-1"}
    with pytest.raises(LostLease):
        await run.checkpoint({"operation": "op-2"})
    assert await give_back(ground, again.job, failed=True)
    third = run_of(ground, await take(ground, job))
    assert third.resume == {"operation": "op-1"}
    await third.checkpoint({})
    assert (await take(ground, job)).resume == {}


async def test_a_checkpoint_of_a_job_that_is_to_stop_stops_it(client: Client, ground: Ground) -> None:
    job = await submit(client)
    run = run_of(ground, await take(ground, job))
    await client.post(job["urls"]["cancel"])
    await run.checkpoint({"operation": "op-1"})
    assert run.cancel_requested


async def test_a_failed_job_can_be_given_another_go_once(
    client: Client, settings: Settings, ground: Ground, vendor: Vendor
) -> None:
    vendor.script = [Answer(status=400)]
    labelled = chat("hi") | {"metadata": {"order": "7"}}
    job = await submit(client, labelled)
    early = await client.post(job["urls"]["retry"])
    assert (early.status_code, early.json()["code"], early.json()["state"]) == (409, "job_not_failed", "queued")
    await work_off(settings)
    assert (await until(client, job))["state"] == "failed"
    assert [each["id"] for each in (await client.get("/v1/jobs?state=failed")).json()["jobs"]] == [job["id"]]
    first, second = await asyncio.gather(client.post(job["urls"]["retry"]), client.post(job["urls"]["retry"]))
    assert first.status_code == second.status_code == 202
    again = first.json()["job"]
    assert again["id"] == second.json()["job"]["id"] != job["id"]
    assert (again["retry_of"], again["metadata"]) == (job["id"], {"order": "7"})
    assert (await until(client, job))["retried_as"] == again["id"]
    await work_off(settings)
    assert (await until(client, again))["state"] == "succeeded"
    await assert_even(ground)


async def test_a_retry_that_the_quota_refuses_leaves_the_letter_where_it_was(
    client: Client, settings: Settings, ground: Ground, vendor: Vendor
) -> None:
    vendor.script = [Answer(status=400)]
    job = await submit(client)
    await work_off(settings)
    async with ground.database.begin() as session:
        await session.execute(text("UPDATE balances SET granted = used WHERE meter = 'chat_tokens'"))
    refused = await client.post(job["urls"]["retry"])
    assert (refused.status_code, refused.json()["code"]) == (402, "quota_exceeded")
    assert (await until(client, job))["retried_as"] is None


async def test_a_draining_pool_takes_no_submission_and_works_off_what_it_has(
    client: Client, settings: Settings, ground: Ground
) -> None:
    from workers import control  # noqa: PLC0415

    job = await submit(client)
    await control.change(ground, "chat", control.Change(mode="draining"))
    refused = await client.post("/v1/jobs", json=chat("hi"), headers={"Accept-Language": "ar"})
    assert (refused.status_code, refused.json()["code"]) == (503, "pool_draining")
    assert refused.headers["retry-after"]
    assert "الاستوديو" in refused.json()["detail"]
    await work_off(settings)
    assert (await until(client, job))["state"] == "succeeded"


async def test_an_attempt_ends_its_own_job_only(ground: Ground, client: Client) -> None:
    one, two = await submit(client), await submit(client)
    first, second = await take(ground, one), await take(ground, two)
    stale = msgspec.structs.replace(second, attempt=second.attempt + 1)
    ended = await lifecycle.finish(
        ground,
        [
            End(job_id=each.id, attempt=each.attempt, state="succeeded", result={}, used={"chat_tokens": 1})
            for each in (first, stale)
        ],
    )
    assert [each is not None for each in ended] == [True, False]
    assert await end(ground, second, "canceled") is not None
    unknown = End(job_id=ids.new(), attempt=1, state="succeeded")
    assert await lifecycle.finish(ground, [unknown]) == [None]
    await assert_even(ground)
