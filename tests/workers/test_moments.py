"""When a job is over by itself: a try that takes too long, and the moment by which everything is to be over."""

import asyncio
import gc
import weakref
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
from sqlalchemy import select, text

from infra import ids
from infra.ground import Ground
from infra.models import Account, Job, UniqueJob
from infra.settings import Settings
from tests.support import line
from tests.support.books import assert_even
from tests.support.chats import Client, chat, events, submit, until
from tests.support.lives import age, asked, end, give_back, job_of, keep
from tests.support.vendor import Answer, Vendor
from tests.support.work import work_off, working
from workers import alarm, lifecycle, tend
from workers.desk import Desk
from workers.lifecycle import Admitted, Attempt, moments


async def admitted(ground: Ground, account: Account, after_s: float = 3600, **facts: Any) -> Admitted:
    """Submit a job that is to be over after so many seconds."""
    submission = msgspec.structs.replace(asked(account, **facts), cancel_after_s=after_s)
    job = (await Desk(ground).submit(submission)).job
    assert isinstance(job, Admitted)
    return job


async def claimed(ground: Ground, job: Admitted) -> Attempt:
    """Take a job."""
    (taken,) = await lifecycle.claim(ground, [job.id])
    assert taken is not None
    return taken


async def let_pass(ground: Ground) -> None:
    """Let the moment of every job go by."""
    async with ground.database.begin() as session:
        for moment in ("cancel_by", "start_by"):
            past = f"UPDATE jobs SET {moment} = now() - interval '1 second' WHERE {moment} > now()"
            await session.execute(text(past))


def shown(job: Admitted) -> dict[str, Any]:
    """Return as much of a job as a client needs to look at it."""
    return {"id": str(job.id), "urls": {"self": f"/v1/jobs/{job.id}", "events": f"/v1/jobs/{job.id}/events"}}


@pytest.mark.parametrize(("of_the_kind", "asked_for", "told"), [(300.0, 1, "1"), (0.3, 60, "0.3")])
async def test_a_try_runs_no_longer_than_its_kind_and_its_request_allow(
    client: Client, settings: Settings, vendor: Vendor, of_the_kind: float, asked_for: int, told: str
) -> None:
    vendor.script = [Answer(hold=asyncio.Event())]
    async with working(msgspec.structs.replace(settings, chat_timeout_s=of_the_kind)):
        done = await until(client, await submit(client, chat("hi") | {"timeout": asked_for}))
    assert (done["state"], done["error"]["code"], done["attempt"]) == ("failed", "job_timed_out", 1)
    assert f"longer than {told} seconds" in done["error"]["detail"]


async def test_a_job_that_runs_is_stopped_by_its_worker_at_its_moment_and_what_it_made_is_kept(
    client: Client, settings: Settings, ground: Ground, account: Account, vendor: Vendor
) -> None:
    vendor.script = [Answer(hold=asyncio.Event())]
    async with working(msgspec.structs.replace(settings, lease_s=600.0)):  # so that no checkpoint tells the worker
        job = await admitted(ground, account, 0.7)
        done = await until(client, shown(job))
    assert (done["state"], done["attempt"], done["error"]) == ("canceled", 1, None)
    assert done["result"]["text"] == "Hello"
    assert done["charged"]["chat_tokens"] > 0
    assert job.cancel_by is not None
    assert datetime.fromisoformat(done["finished_at"]) >= job.cancel_by
    told = events((await client.get(shown(job)["urls"]["events"])).text)
    assert told[-1][1] == {"type": "canceled", "charged": done["charged"]}
    await assert_even(ground)


async def test_nothing_waits_for_the_moment_of_a_job_that_is_over(
    client: Client, settings: Settings, ground: Ground, account: Account, vendor: Vendor
) -> None:
    hold = asyncio.Event()
    vendor.script = [Answer(hold=hold)]
    async with working(settings) as worker:
        job = await admitted(ground, account)
        await vendor.speaking.wait()
        run = weakref.ref(worker.runs[job.id])
        hold.set()
        assert (await until(client, shown(job)))["state"] == "succeeded"
        await line.until(lambda: not worker.runs)
        gc.collect()
        assert run() is None


@pytest.mark.parametrize("waits", ["for its turn", "for its run_at", "for a retry", "handed back"])
async def test_a_job_that_waits_is_over_in_one_round_and_costs_nothing(
    client: Client, ground: Ground, account: Account, waits: str
) -> None:
    later = datetime.now(UTC) + timedelta(hours=1)
    run_at = later if waits == "for its run_at" else None
    job = await admitted(ground, account, unique_key="تقرير", run_at=run_at)
    if waits in {"for a retry", "handed back"}:
        taken = await claimed(ground, job)
        await keep(ground, taken, used={"chat_tokens": 5}, result={"text": "five"})
        await give_back(ground, taken, failed=waits == "for a retry", wait_s=600)
    other = await Desk(ground).submit(asked(account))
    assert (await tend.reconcile(ground, {})).ended == 0
    await let_pass(ground)
    assert (await tend.reconcile(ground, {})).ended == 1
    done = await until(client, shown(job))
    assert (done["state"], done["charged"], done["result"]) == ("canceled", {"chat_tokens": 0}, None)
    told = events((await client.get(shown(job)["urls"]["events"])).text)
    assert [event["type"] for _, event in told] == ["queued", "canceled"]
    assert await ground.queue.lost("chat", [job.id, other.job.id]) == [job.id], "it is off the queue"
    async with ground.database.begin() as session:
        assert list(await session.scalars(select(UniqueJob))) == []
    await assert_even(ground)


async def test_a_tender_does_not_sleep_past_a_moment(client: Client, ground: Ground, account: Account) -> None:
    jobs = [await admitted(ground, account, after_s) for after_s in (0.5, 1.0)]
    rarely = msgspec.structs.replace(ground.settings, tend_every_s=3600)
    tending = asyncio.create_task(tend.tend(msgspec.structs.replace(ground, settings=rarely)))
    done = [await until(client, shown(job)) for job in jobs]
    assert [job["state"] for job in done] == ["canceled", "canceled"]
    tending.cancel()
    await asyncio.gather(tending, return_exceptions=True)


async def test_a_tender_that_cannot_look_for_moments_looks_again(
    client: Client, ground: Ground, account: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked = asyncio.Event()

    async def broken(_ground: Ground) -> float | None:
        looked.set()
        raise RuntimeError("a bug")

    monkeypatch.setattr(lifecycle, "next_cancel_s", broken)
    job = await admitted(ground, account, 0.5)
    tending = asyncio.create_task(tend.tend(ground))
    await looked.wait()
    assert (await until(client, shown(job)))["state"] == "canceled"
    assert not tending.done()
    tending.cancel()
    await asyncio.gather(tending, return_exceptions=True)


async def test_a_job_past_its_moment_is_not_begun(
    client: Client, settings: Settings, ground: Ground, account: Account, vendor: Vendor
) -> None:
    job = await admitted(ground, account)
    await let_pass(ground)
    await work_off(settings)
    done = await until(client, shown(job))
    assert (done["state"], done["charged"], vendor.requests) == ("canceled", {"chat_tokens": 0}, [])
    await assert_even(ground)


@pytest.mark.parametrize("by", ["tender", "next worker"])
async def test_of_a_worker_that_died_meanwhile_what_was_kept_is_charged(
    ground: Ground, account: Account, by: str
) -> None:
    job = await admitted(ground, account)
    taken = await claimed(ground, job)
    await keep(ground, taken, used={"chat_tokens": 5}, result={"text": "five"})
    await let_pass(ground)
    await age(ground)
    if by == "tender":
        assert (await tend.reconcile(ground, {})).ended == 1
    else:
        assert await lifecycle.claim(ground, [job.id]) == [None]
    done = await job_of(ground, job.id)
    assert (done.state, done.charged, done.result) == ("canceled", {"chat_tokens": 5}, {"text": "five"})
    assert done.attempt == 2, "under a new token: the worker may come back from the dead"
    assert await end(ground, taken) is None
    await assert_even(ground)


@pytest.mark.parametrize(
    ("clock_is_off_s", "left_s"),
    [(0.0, 8.0), (-3600.0, 10.0), (3600.0, 6.0)],
    ids=["right", "an hour behind", "an hour ahead"],
)
def test_a_clock_that_is_wrong_is_believed_only_as_far_as_it_can_be_right(clock_is_off_s: float, left_s: float) -> None:
    # It was asked for 4 s ago, and the database said "in 10 s" 2 s ago.
    by = datetime.now(UTC) + timedelta(seconds=8 - clock_is_off_s)
    job = Attempt(id=ids.new(), account_id=ids.new(), kind="chat", spec={}, attempt=1, cancel_by=by, cancel_in_s=10.0)
    assert alarm.wait_s(job, 4.0) == pytest.approx(left_s, abs=1.0)  # pyright: ignore[reportUnknownMemberType]
    assert alarm.wait_s(msgspec.structs.replace(job, cancel_by=None, cancel_in_s=None), 4.0) is None


async def test_a_worker_that_heard_no_alarm_learns_it_from_its_checkpoint(ground: Ground, account: Account) -> None:
    taken = await claimed(ground, await admitted(ground, account))
    assert taken.cancel_in_s is not None
    assert 3590 < taken.cancel_in_s < 3600
    assert await keep(ground, taken, used={}) == "runs"
    await let_pass(ground)
    assert await keep(ground, taken, used={}) == "canceled"


async def test_a_success_that_commits_first_wins(ground: Ground, account: Account) -> None:
    jobs = [await admitted(ground, account) for _ in range(2)]
    first, second = [await claimed(ground, job) for job in jobs]
    await end(ground, first, result={"text": "one"})
    await let_pass(ground)
    assert await lifecycle.cancel_late(ground) == 0
    running = await job_of(ground, second.id)
    assert (running.state, running.cancel_requested_at) == ("running", running.cancel_by), "it is told to stop"
    await end(ground, second, result={"text": "two"})
    assert await lifecycle.cancel_late(ground) == 0
    assert [(await job_of(ground, job.id)).state for job in jobs] == ["succeeded", "succeeded"]
    await assert_even(ground)


async def test_any_number_that_is_late_at_once_is_over_in_one_round(
    ground: Ground, account: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(moments, "_MOST_AT_ONCE", 2)
    jobs = [await admitted(ground, account) for _ in range(8)]
    await lifecycle.claim(ground, [job.id for job in jobs[:3]])
    await let_pass(ground)
    assert await lifecycle.cancel_late(ground) == 5
    for _ in range(5):
        await Desk(ground).submit(asked(account, start_deadline=datetime.now(UTC) + timedelta(hours=1)))
    await let_pass(ground)
    assert await lifecycle.expire(ground) == 5
    async with ground.database.begin() as session:
        states = sorted(await session.scalars(select(Job.state)))
    assert states == ["canceled"] * 5 + ["expired"] * 5 + ["running"] * 3
    await assert_even(ground)


async def test_the_next_moment_is_the_soonest_of_what_is_not_over(ground: Ground, account: Account) -> None:
    assert await lifecycle.next_cancel_s(ground) is None
    for after_s in (900, 300, 600):
        await admitted(ground, account, after_s)
    seconds = await lifecycle.next_cancel_s(ground)
    assert seconds is not None
    assert 290 < seconds < 300
    await let_pass(ground)
    assert await lifecycle.next_cancel_s(ground) is None, "what is late is no moment to wait for"
