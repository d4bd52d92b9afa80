"""What a hostile reading of the lifecycle found, each as it would hurt, and mended."""

import asyncio
import contextlib
from collections.abc import Coroutine
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import event, text, update

from infra import ids
from infra.database import DatabaseUnavailable
from infra.ground import Ground
from infra.models import Account, Balance, Job
from infra.settings import Settings
from infra.streams import Source
from quotas import accounts, ledger
from tests.support.books import assert_even, balance_of
from tests.support.chats import Client, chat, submit, until
from tests.support.lives import age, asked, give_back, job_of, keep, run_of, submit_all, take, tools
from tests.support.vendor import Answer, Vendor
from tests.support.work import working
from workers import dead, kinds, lifecycle, tend
from workers import events as say
from workers.context import Made, Run
from workers.desk import Desk
from workers.lifecycle import End, Submitted
from workers.perform import perform
from workers.worker import StudioPool


async def other_account(ground: Ground) -> Account:
    """Return one more account."""
    async with ground.database.begin() as session:
        return await accounts.create(session, "omar@example.com")


async def break_books(ground: Ground, account: Account) -> None:
    """Make it that no job of the account can be ended: the balance says that nothing is held."""
    async with ground.database.begin() as session:
        await session.execute(text("UPDATE balances SET held = 0 WHERE account_id = :id"), {"id": account.id})


def a_room(make: Any) -> Any:
    """Return what gives this room for every kind."""

    def timeout_s(_settings: Settings) -> float:
        return 30.0

    def room(_kind: str) -> Any:
        return SimpleNamespace(timeout_s=timeout_s, make=make)

    return room


async def test_a_key_that_was_answered_with_a_unique_job_is_remembered(client: Client, settings: Settings) -> None:
    body = chat("hi") | {"unique_key": "report"}
    first = await submit(client, body)
    answered = await submit(client, body, **{"Idempotency-Key": "k"})
    assert answered["id"] == first["id"]
    async with working(settings):
        await until(client, first)
    assert (await submit(client, body, **{"Idempotency-Key": "k"}))["id"] == first["id"], "docs/api.md, Idempotency"


async def test_another_go_keeps_the_unique_name(client: Client, settings: Settings, vendor: Vendor) -> None:
    vendor.script = [Answer(status=400)]
    body = chat("hi") | {"unique_key": "report"}
    failed = await submit(client, body)
    async with working(settings):
        assert (await until(client, failed))["state"] == "failed"
    again = (await client.post(failed["urls"]["retry"])).json()["job"]
    live = (await client.post("/v1/jobs", json=body)).json()["job"]
    assert again["id"] == live["id"], "two live jobs of one name"


async def test_an_announcement_that_a_worker_was_quicker_than_is_no_error(ground: Ground, account: Account) -> None:
    (late, neighbour) = await lifecycle.admit(ground, [asked(account), asked(account)])
    assert isinstance(late, Submitted)
    assert isinstance(neighbour, Submitted)
    # The API process is frozen for some seconds here: the tender queues the job and a worker speaks.
    (running,) = await lifecycle.claim(ground, [late.job.id])
    assert running is not None
    speaker = Source(late.job.id, account.id, "chat")
    await ground.streams.append(speaker, running.attempt, [say.line(say.Started(attempt=1))], 0)
    await lifecycle.announce(ground, [late, neighbour])
    assert await ground.queue.lost("chat", [neighbour.job.id]) == []


async def test_progress_that_cannot_be_kept_does_not_keep_its_neighbours(
    settings: Settings, ground: Ground, client: Client
) -> None:
    worker: Any = StudioPool(settings, "chat", slots=2, handle_signals=False)
    worker.ground, worker.tools = ground, tools(ground)
    bad, good = [run_of(ground, await take(ground, await submit(client))) for _ in range(2)]
    bad.record(Made(result={"text": "\x00"}, used={"chat_tokens": 1}))
    good.record(Made(result={"text": "x"}, used={"chat_tokens": 1}))
    worker.runs = {bad.job.id: bad, good.job.id: good}
    await client.post(f"/v1/jobs/{good.job.id}/cancel")
    await worker._checkpoint(dict(worker.runs))
    assert good.cancel_requested
    assert (await job_of(ground, good.job.id)).checkpoint is not None
    await worker.pool.aclose()


async def test_a_job_that_cannot_be_closed_does_not_stop_the_tender(ground: Ground, client: Client) -> None:
    stuck = await submit(client)
    running = await take(ground, stuck)
    # What a newer build's worker said.
    await ground.redis.xadd(f"pulse:events:{running.id}", {"e": '{"type":"preview","url":"x"}'}, id="1-1")
    await client.post(stuck["urls"]["cancel"])
    lost = await submit(client)
    await ground.queue.forget("chat", [UUID(lost["id"])])
    await age(ground)
    assert (await tend.reconcile(ground, {})).queued == 1
    assert (await until(client, stuck))["state"] == "canceled"


async def test_a_job_that_cannot_expire_does_not_stop_the_tender(ground: Ground, account: Account) -> None:
    omar = await other_account(ground)
    soon = (datetime.now(UTC) + timedelta(seconds=0.3)).isoformat()
    bad, good, lost = await submit_all(
        ground, [asked(account, start_deadline=soon), asked(omar, start_deadline=soon), asked(omar)]
    )
    assert isinstance(bad, Submitted)
    assert isinstance(good, Submitted)
    assert isinstance(lost, Submitted)
    await break_books(ground, account)
    await ground.queue.forget("chat", [lost.job.id])
    await asyncio.sleep(0.4)
    await age(ground)
    assert (await tend.reconcile(ground, {})).queued >= 1
    assert (await job_of(ground, good.job.id)).state == "expired"


async def test_a_job_that_cannot_be_closed_costs_its_neighbours_no_attempt(ground: Ground, account: Account) -> None:
    omar = await other_account(ground)
    soon = (datetime.now(UTC) + timedelta(seconds=0.3)).isoformat()
    made = await submit_all(ground, [asked(account, start_deadline=soon), *[asked(omar) for _ in range(49)]])
    bad, *good = [each.job.id for each in made if isinstance(each, Submitted)]
    await break_books(ground, account)
    await asyncio.sleep(0.4)
    desk = Desk(ground)
    claimed = await asyncio.gather(*(desk.claim(job_id) for job_id in [bad, *good]), return_exceptions=True)
    assert all(not isinstance(each, BaseException) for each in claimed[1:])
    rows = [await job_of(ground, job_id) for job_id in good]
    assert max(row.losses for row in rows) == 0
    assert max(row.attempt for row in rows) == 1


async def test_a_deadline_beyond_the_end_of_time_is_refused(client: Client) -> None:
    answer = await client.post("/v1/jobs", json=chat("hi") | {"start_deadline": "9999-12-31T23:59:59-14:00"})
    assert (answer.status_code, answer.json()["code"]) == (400, "moment_too_late")


async def test_a_timeout_inside_a_room_is_not_the_jobs_own(
    client: Client, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def make(_request: Any, _run: Run) -> Made:
        async with asyncio.timeout(0.01):
            await asyncio.sleep(1)
        raise AssertionError

    monkeypatch.setattr(kinds, "room", a_room(make))
    async with working(settings):
        done = await until(client, await submit(client))
    assert (done["error"]["code"], done["tries"]) == ("internal_error", 3), done["error"]


async def test_a_room_that_cancels_itself_fails_after_its_tries(
    client: Client, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def make(_request: Any, _run: Run) -> Made:
        broken: asyncio.Future[Made] = asyncio.get_running_loop().create_future()
        broken.cancel()
        return await broken

    monkeypatch.setattr(kinds, "room", a_room(make))
    async with working(settings):
        done = await until(client, await submit(client))
    assert (done["state"], done["attempt"], done["error"]["code"]) == ("failed", 3, "internal_error")


async def test_an_end_on_its_way_is_waited_for(ground: Ground, client: Client, vendor: Vendor) -> None:
    hold = asyncio.Event()
    vendor.script = [Answer(hold=hold)]
    job = await submit(client)
    with_tools = tools(ground)
    task = asyncio.create_task(perform(with_tools, UUID(job["id"])))
    await vendor.speaking.wait()
    async with ground.database.begin() as session:
        await session.execute(text("SELECT 1 FROM jobs WHERE id = :id FOR UPDATE"), {"id": UUID(job["id"])})
        hold.set()
        await asyncio.sleep(0.5)  # the statement that ends the job waits for the lock
        task.cancel()
        await asyncio.wait([task], timeout=0.3)
        left = task.done()
    await asyncio.gather(task, return_exceptions=True)
    await asyncio.sleep(0.3)
    assert not left, "the worker would close its database now, with the result on its way"
    await with_tools.gateway.close()


async def test_of_two_checkpoints_at_once_the_later_one_counts(client: Client, ground: Ground) -> None:
    job = await submit(client)
    run = run_of(ground, await take(ground, job))
    await asyncio.gather(*(run.checkpoint({"operation": n}) for n in range(8)))
    assert (await take(ground, job)).resume == {"operation": 7}


async def test_a_failed_try_is_not_charged_by_a_later_cancel(client: Client, ground: Ground) -> None:
    job = await submit(client)
    first = await take(ground, job)
    await keep(ground, first, used={"chat_tokens": 100}, result={"text": "half"})
    await give_back(ground, first, failed=True)
    await take(ground, job)  # and its worker dies before it has used anything
    await client.post(job["urls"]["cancel"])
    await age(ground)
    await tend.reconcile(ground, {})
    done = await until(client, job)
    assert (done["state"], done["charged"], done["result"]) == ("canceled", {"chat_tokens": 0}, None)


async def test_a_primary_that_became_a_replica_is_a_database_that_is_away(ground: Ground, account: Account) -> None:
    with pytest.raises(DatabaseUnavailable):  # noqa: PT012 (a transaction is a block)
        async with ground.database.begin() as session:
            await session.execute(text("SET TRANSACTION READ ONLY"))
            await session.execute(update(Account).values(language="en"))


async def test_keys_that_cannot_be_forgotten_do_not_keep_partitions_from_being_made(
    client: Client, ground: Ground
) -> None:
    await submit(client, None, **{"Idempotency-Key": "old"})
    async with ground.database.begin() as session:
        await session.execute(text("UPDATE idempotency_keys SET expires_at = now() - interval '1 day'"))
        last = await session.scalar(text("SELECT max(relname) FROM pg_class WHERE relname ~ '^jobs_\\d{4}_\\d{2}$'"))
        await session.execute(text(f"DROP TABLE {last}"))
    async with ground.database.begin() as session:
        await session.execute(text("SELECT 1 FROM idempotency_keys FOR UPDATE"))
        with contextlib.suppress(DatabaseUnavailable):
            await tend.keep_house(ground)
    async with ground.database.begin() as session:
        assert await session.scalar(text("SELECT to_regclass(:name)"), {"name": last}) is not None


async def test_the_tender_reads_what_it_needs(client: Client, ground: Ground) -> None:
    await submit(client)
    await age(ground)
    said: list[str] = []

    def note(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        said.append(statement)

    event.listen(ground.database.engine.sync_engine, "before_cursor_execute", note)
    await tend.reconcile(ground, {})
    assert not [statement for statement in said if "jobs.spec" in statement], "a MiB each, a thousand at a time"


async def test_a_letter_that_this_build_cannot_read_is_refused_with_a_reason(ground: Ground, account: Account) -> None:
    async with ground.database.begin() as session:
        error, now = lifecycle.failure(lifecycle.JobAbandoned()), datetime.now(UTC)
        facts: dict[str, Any] = {"kind": "poem", "spec": {}, "state": "failed", "finished_at": now, "error": error}
        letter = Job(id=ids.new(), account_id=account.id, **facts)
        session.add(letter)
    with pytest.raises(dead.RequestOutdated):
        await dead.replay(ground, Desk(ground), account, letter.id)


async def test_a_waiting_job_of_a_kind_that_is_gone_can_be_looked_at_and_cancelled(
    client: Client, ground: Ground, account: Account
) -> None:
    async with ground.database.begin() as session:
        job = Job(id=ids.new(), account_id=account.id, kind="poem", spec={"kind": "poem", "input": {}})
        session.add(job)
    assert (await client.get(f"/v1/jobs/{job.id}")).status_code == 200
    assert (await client.post(f"/v1/jobs/{job.id}/cancel")).status_code == 202


@pytest.mark.parametrize("moment", ["tomorrow", "2026-12-01T06:00:00"])
async def test_a_moment_that_is_none_is_told_as_such(client: Client, moment: str) -> None:
    told = (await client.post("/v1/jobs", json=chat("hi") | {"run_at": moment})).json()
    assert "such as 2026-12-01T06:00:00+03:00" in told["detail"]


async def test_an_api_whose_clock_is_a_second_behind_still_finds_the_new_period(
    ground: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Behind(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> datetime:
            return datetime.now(tz) - timedelta(seconds=5)

    last = datetime.now(UTC) - timedelta(seconds=2)
    made_at = last.replace(year=last.year - 1, day=min(last.day, 28))
    async with ground.database.begin() as session:
        account = await accounts.create(session, "omar@example.com")
        await session.execute(update(Account).where(Account.id == account.id).values(created_at=made_at))
        account.created_at = made_at
        flows = update(Balance).where(Balance.account_id == account.id, Balance.period_end.is_not(None))
        await session.execute(flows.values(period_start=made_at, period_end=last))
    monkeypatch.setattr(ledger, "datetime", Behind)
    (made,) = await lifecycle.admit(ground, [asked(account)])
    assert isinstance(made, Submitted)


async def test_an_attempt_that_has_lost_its_job_keeps_nothing_beside_the_one_that_has_it(
    client: Client, ground: Ground
) -> None:
    job = await submit(client)
    zombie, winner = await take(ground, job), await take(ground, job)
    kept = [
        lifecycle.Kept(job_id=each.id, attempt=each.attempt, resume={"of": each.attempt}) for each in (zombie, winner)
    ]
    told = await lifecycle.keep(ground, kept)
    assert (await job_of(ground, winner.id)).checkpoint == {"resume": {"of": 2}}
    assert told == ["lost", "runs"]
    backs = [
        lifecycle.Return(job_id=each.id, attempt=each.attempt, failed=each is zombie, wait_s=60.0 * (each is zombie))
        for each in (zombie, winner)
    ]
    given = await lifecycle.give_back(ground, backs)
    assert (await job_of(ground, winner.id)).tries == 0, "what the zombie said of the job was done to the other's"
    assert given == [False, True]


async def test_an_attempt_that_has_lost_its_job_charges_nothing_beside_the_one_that_has_it(
    client: Client, ground: Ground, account: Account
) -> None:
    await submit(client)  # so that more is held than by the one job
    job = await submit(client)
    zombie, winner = await take(ground, job), await take(ground, job)
    ends = [
        End(job_id=a.id, attempt=a.attempt, state="succeeded", result={"of": a.attempt}, used={"chat_tokens": 5})
        for a in (zombie, winner)
    ]
    ended = await lifecycle.finish(ground, ends)
    row = await job_of(ground, winner.id)
    balance = await balance_of(ground, account)
    assert balance.used == 5
    assert row.result == {"of": 2}
    assert [each is not None for each in ended] == [False, True]
    await assert_even(ground)


async def test_one_statement_is_one_round_trip(ground: Ground) -> None:
    said: list[str] = []

    def hear(query: Any) -> None:
        said.append(query.query)

    def note(connection: Any, _record: Any) -> None:
        connection.driver_connection.add_query_logger(hear)

    event.listen(ground.database.engine.sync_engine, "connect", note)
    await ground.database.ask(text("SELECT 1"), {})
    said.clear()
    await ground.database.ask(text("SELECT 1"), {})
    assert said == ["SELECT 1"], "and nothing before or after it"


async def test_a_worker_that_wins_a_job_again_while_its_first_end_waits_charges_it_once(
    client: Client, ground: Ground, account: Account
) -> None:
    desk = Desk(ground)
    await submit(client)  # so that more is held than by the two jobs
    other, job = [await submit(client) for _ in range(2)]
    one = await take(ground, other)
    first = await desk.claim(UUID(job["id"]))
    assert first is not None

    def ending(of: Any) -> Coroutine[Any, Any, Any]:
        return desk.finish(
            End(job_id=of.id, attempt=of.attempt, state="succeeded", used={"chat_tokens": 5}, result={"of": of.attempt})
        )

    async with ground.database.begin() as session:  # an API process that is frozen in the middle of a cancel
        await session.execute(text("SELECT 1 FROM jobs WHERE id = :id FOR UPDATE"), {"id": one.id})
        tasks = [asyncio.create_task(ending(one))]
        await asyncio.sleep(0.2)
        lost = asyncio.create_task(ending(first))
        await asyncio.sleep(0.1)
        lost.cancel()  # the lease was lost: what `Pool.lose` does
        again = await desk.claim(UUID(job["id"]))  # and won again
        assert again is not None
        tasks.append(asyncio.create_task(ending(again)))
        await asyncio.sleep(0.1)
    await asyncio.gather(*tasks)
    await assert_even(ground)
    assert (await job_of(ground, again.id)).result == {"of": 2}
    assert (await balance_of(ground, account)).used == 10
