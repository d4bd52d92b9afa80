"""Many submissions in one round trip: each for itself, in order, all or nothing, and once however often it is asked."""

import asyncio
import random
from collections.abc import Callable, Generator
from datetime import UTC, datetime, timedelta
from itertools import chain
from typing import Any

import msgspec
import pytest
from sqlalchemy import func, select, text, update

from infra import ground as grounds
from infra import ids, queue
from infra.database import DatabaseUnavailable
from infra.errors import PulseError
from infra.ground import Ground
from infra.models import Account, Balance, Hold, IdempotencyKey, Job, LedgerEntry
from infra.settings import Settings
from quotas import accounts
from quotas.ledger import QuotaExceeded
from tests.support.books import assert_even, balance_of, grant
from tests.support.lives import asked, job_of, take
from tests.support.pairs import FIRST, SECOND, Pair, PairInput, pair, pairs
from tests.support.statements import overheard
from workers import control, desk, lifecycle
from workers.chat.spec import Chat, ChatInput, Message
from workers.desk import Desk
from workers.forecast import Forecasts
from workers.lifecycle import Backlog, End, Submission, Submitted


@pytest.fixture(autouse=True)
def kind() -> Generator[None]:
    """Every test knows the kind that draws on two meters."""
    with pairs():
        yield


async def outcomes(asking: Desk | Ground, submissions: list[Submission]) -> list[str]:
    """Return how submissions are answered that are asked at once: admitted, how known, or the code of the refusal."""
    if isinstance(asking, Desk):
        told = await asyncio.gather(*(asking.submit(each) for each in submissions), return_exceptions=True)
    else:
        told = await lifecycle.admit(asking, submissions)
    return [outcome(each) for each in told]


def outcome(answer: object) -> str:
    """Return an answer in a word."""
    if isinstance(answer, Submitted):
        return answer.known or "admitted"
    return answer.code if isinstance(answer, PulseError) else type(answer).__name__


async def count(ground: Ground, table: type[Job | Hold | LedgerEntry | IdempotencyKey], *which: Any) -> int:
    """Return how many rows there are."""
    async with ground.database.begin() as session:
        return await session.scalar(select(func.count()).select_from(table).where(*which)) or 0


class Losing:
    """A database that does what it is asked, and then loses the answer, as often as it is told to."""

    def __init__(self, ground: Ground, losses: int) -> None:
        self._real = ground.database
        self.losses = losses

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)

    async def ask(self, statement: Any, parameters: Any) -> list[tuple[Any, ...]]:
        """Ask, and say nothing of the answer while there are losses left."""
        told = await self._real.ask(statement, parameters)
        if "admit_jobs" in str(statement) and self.losses > 0:
            self.losses -= 1
            raise DatabaseUnavailable
        return told


def losing(ground: Ground, losses: int) -> Ground:
    """Return a ground whose database loses answers."""
    lossy: Any = Losing(ground, losses)
    return msgspec.structs.replace(ground, database=lossy)


async def test_a_flush_is_one_round_trip(ground: Ground, account: Account) -> None:
    at_desk = Desk(ground)
    await at_desk.submit(asked(account))  # from here on it is known how many jobs the account has
    said = overheard(ground.database)
    told = await outcomes(at_desk, [asked(account, idempotency_key=f"k{n}", unique_key=f"u{n}") for n in range(150)])
    assert (told, len(said)) == (["admitted"] * 150, 1)
    assert await ground.redis.zcard(queue.name("chat")) == 151
    await assert_even(ground)


async def test_what_is_asked_is_kept(ground: Ground, account: Account) -> None:
    at, batch = datetime.now(UTC) + timedelta(hours=1), ids.new()
    facts: dict[str, Any] = {"timeout": 60, "webhook": "https://example.com/told", "metadata": {"a": "ب"}}
    late = asked(account, run_at=at.isoformat(), start_deadline=(at + timedelta(hours=1)).isoformat(), **facts)
    late = msgspec.structs.replace(late, batch_id=batch, cancel_after_s=90.5)
    plain = asked(account, priority="batch")
    for told in await lifecycle.admit(ground, [late, plain]):
        assert isinstance(told, Submitted)
        row = await job_of(ground, told.job.id)
        shown = {name: getattr(row, name) for name in told.job.__struct_fields__}  # type: ignore[union-attr]
        assert shown == msgspec.structs.asdict(told.job)  # type: ignore[arg-type]
    kept, other = await job_of(ground, late.id), await job_of(ground, plain.id)
    assert (kept.timeout_s, kept.webhook, kept.batch_id) == (60, "https://example.com/told", batch)
    assert (kept.run_at, kept.start_by, kept.labels) == (at, at + timedelta(hours=1), {"a": "ب"})
    assert kept.cancel_by == kept.created_at + timedelta(seconds=90.5)
    assert kept.created_at == ids.created(late.id)
    assert set(kept.spec) == {"kind", "input"}
    assert (other.lane, other.labels, other.run_at, other.cancel_by) == ("batch", {}, other.created_at, None)


async def test_a_job_holds_all_of_its_meters_or_none(ground: Ground, account: Account) -> None:
    await grant(ground, 10, FIRST)
    await grant(ground, 3, SECOND)
    told = await lifecycle.admit(
        ground, [pair(account, 4, 2), pair(account, 4, 2), pair(account, 7), pair(account, 4, 1), pair(account, 2, 0)]
    )
    assert list(map(outcome, told)) == ["admitted", "quota_exceeded", "quota_exceeded", "admitted", "admitted"]
    second, third = told[1], told[2]
    assert isinstance(second, QuotaExceeded)
    assert isinstance(third, QuotaExceeded)
    assert [(it.facts["meter"], it.facts["needed"], it.facts["remaining"]) for it in (second, third)] == [
        (SECOND, 2, 1),
        (FIRST, 7, 6),
    ]
    assert ((await balance_of(ground, account, FIRST)).held, (await balance_of(ground, account, SECOND)).held) == (
        10,
        3,
    )
    last = told[4]
    assert isinstance(last, Submitted)
    assert {meter: standing.remaining for meter, standing in last.quota.items()} == {FIRST: 0, SECOND: 0}
    assert await count(ground, Hold) == 5, "none of nothing"
    await assert_even(ground)


async def test_a_threshold_is_crossed_once_by_the_job_that_crosses_it(ground: Ground, account: Account) -> None:
    await grant(ground, 100, FIRST)
    told = await lifecycle.admit(ground, [pair(account, units) for units in (79, 1, 5, 15, 1)])
    crossed = [[it.percent for it in each.crossings] if isinstance(each, Submitted) else None for each in told]
    assert crossed == [[], [80], [], [100], None]
    again = await lifecycle.admit(ground, [pair(account, 1)])
    assert outcome(again[0]) == "quota_exceeded"
    assert (await balance_of(ground, account, FIRST)).warned_at is not None


async def test_names_are_answered_in_order_within_one_flush_as_in_several(ground: Ground, account: Account) -> None:
    await grant(ground, 100, FIRST)
    flush = [
        pair(account, 200, idempotency_key="k"),  # denied, which is not remembered
        pair(account, 5, idempotency_key="k"),
        pair(account, 5, idempotency_key="k"),
        pair(account, 6, idempotency_key="k"),
        pair(account, 7, unique_key="u"),
        pair(account, 8, unique_key="u", idempotency_key="l"),
        pair(account, 8, unique_key="u", idempotency_key="l"),
        pair(account, 9),
    ]
    told = ["quota_exceeded", "admitted", "replayed", "idempotency_key_reused", "admitted", "unique", "replayed"]
    answers = await lifecycle.admit(ground, flush)
    assert list(map(outcome, answers)) == [*told, "admitted"]
    of = [answer.job.id if isinstance(answer, Submitted) else None for answer in answers]
    assert (of[2], of[5], of[6]) == (of[1], of[4], of[4])
    again = [msgspec.structs.replace(each, id=ids.new()) for each in flush]
    assert await outcomes(ground, again) == [
        *("idempotency_key_reused", "replayed", "replayed", "idempotency_key_reused"),
        *("unique", "replayed", "replayed", "admitted"),
    ]
    assert (await balance_of(ground, account, FIRST)).held == 5 + 7 + 9 + 9
    await assert_even(ground)


async def test_a_wrong_request_is_still_answered_by_what_was_asked_before(ground: Ground, account: Account) -> None:
    soon = datetime.now(UTC) + timedelta(seconds=0.2)
    body = asked(account, start_deadline=soon.isoformat(), idempotency_key="k")
    await asyncio.sleep(0.3)
    late = msgspec.structs.replace(body, id=ids.new())
    assert await outcomes(Desk(ground), [late]) == ["start_deadline_too_early"]
    request = msgspec.structs.replace(body.request, start_deadline=soon + timedelta(hours=1))
    good = msgspec.structs.replace(body, request=request)
    assert await outcomes(Desk(ground), [good]) == ["admitted"]
    said = ChatInput(messages=[Message(role="user", content="hi")], model="no-such-model")
    unknown = Chat(input=said, unique_key="u")
    wrong = Submission(account=account, request=unknown)
    assert await outcomes(Desk(ground), [wrong, msgspec.structs.replace(wrong, id=ids.new())]) == ["unknown_model"] * 2
    await lifecycle.admit(ground, [asked(account, unique_key="u")])
    assert await outcomes(Desk(ground), [msgspec.structs.replace(wrong, id=ids.new())]) == ["unique"]


async def test_a_failed_job_is_given_another_go_once_also_within_a_flush(ground: Ground, account: Account) -> None:
    first = await Desk(ground).submit(asked(account))
    await lifecycle.finish(ground, [End(job_id=first.job.id, attempt=0, was="queued", state="failed", error={})])
    desks = [Desk(ground), Desk(ground)]
    told = await asyncio.gather(
        *(at_desk.submit(asked(account, replay_of=first.job.id)) for at_desk in desks for _ in range(3))
    )
    assert sorted(map(outcome, told)) == ["admitted", *["replay"] * 5]
    assert {each.job.id for each in told} == {(await job_of(ground, first.job.id)).replayed_as}
    await assert_even(ground)


async def test_a_draining_pool_answers_what_was_asked_before_and_nothing_else(ground: Ground, account: Account) -> None:
    before = asked(account, idempotency_key="k")
    assert await outcomes(ground, [before]) == ["admitted"]
    await control.change(ground, "chat", control.Change(mode="draining"))
    again = msgspec.structs.replace(before, id=ids.new())
    assert await outcomes(Desk(ground), [again, asked(account), pair(account, 1)]) == [
        *("replayed", "pool_draining", "admitted")
    ]


async def test_a_period_that_is_not_open_is_opened_for_the_flush(ground: Ground, account: Account) -> None:
    async with ground.database.begin() as session:
        other = await accounts.create(session, "omar@example.com")
        month = timedelta(days=31)
        flows = update(Balance).where(Balance.account_id == account.id, Balance.meter.in_([FIRST, SECOND]))
        await session.execute(flows.values(period_start=Balance.period_start - month, period_end=func.now()))
    flush = [pair(account, 5, 1), pair(other, 5, 1), pair(account, 5, 1, idempotency_key="k"), pair(account, 10**9)]
    both = await asyncio.gather(*(outcomes(Desk(ground), flush) for _ in range(2)))
    assert both == [["admitted", "admitted", "admitted", "quota_exceeded"]] * 2
    assert await count(ground, LedgerEntry, LedgerEntry.kind == "grant", LedgerEntry.meter == FIRST) == 3
    assert await count(ground, Hold) == 6, "asked by two desks, admitted once"
    await assert_even(ground)


async def test_an_answer_that_was_lost_is_asked_for_again_and_nothing_is_held_twice(
    ground: Ground, account: Account
) -> None:
    at_desk = Desk(losing(ground, 2))
    flush = [pair(account, 5, 1, idempotency_key=f"k{n % 3}") for n in range(4)] + [pair(account, 10**9)]
    told = await outcomes(at_desk, flush)
    assert told == ["admitted", "admitted", "admitted", "replayed", "quota_exceeded"]
    assert ((await balance_of(ground, account, FIRST)).held, await count(ground, Job)) == (15, 3)
    await assert_even(ground)


async def test_a_threshold_is_told_of_once_also_when_the_answer_that_told_of_it_was_lost(
    ground: Ground, account: Account
) -> None:
    await grant(ground, 100, FIRST)
    await Desk(ground).submit(pair(account, 70))
    told = await asyncio.gather(*(Desk(losing(ground, 1)).submit(pair(account, 10)) for _ in range(3)))
    crossed = [crossing.percent for each in told for crossing in each.crossings]
    assert sorted(crossed) == [80, 100]
    await grant(ground, 100, SECOND)
    early = await Desk(losing(ground, 1)).submit(pair(account, 0, 60))
    assert early.crossings == ()
    lost = await asyncio.gather(
        *map(Desk(losing(ground, 2)).submit, [pair(account, 0, units) for units in (15, 5, 20)])
    )
    assert [(it.meter, it.percent) for each in lost for it in each.crossings] == [(SECOND, 80), (SECOND, 100)]
    events = [await ground.streams.read(each.job.id) for each in lost]
    said = [msgspec.json.decode(line.data)["type"] for lines in events for line in lines]
    assert sorted(said) == ["queued"] * 3 + ["warning"] * 2


async def test_a_job_that_holds_nothing_and_has_no_name_is_admitted_once_by_those_who_ask_at_once(
    ground: Ground, account: Account
) -> None:
    for _ in range(5):
        free = Submission(account=account, request=Pair(input=PairInput(most={})))
        told = await asyncio.gather(*(lifecycle.admit(ground, [free]) for _ in range(10)))
        assert {outcome(answer) for (answer,) in told} == {"admitted"}
    assert await count(ground, Job) == 5


async def test_old_keys_are_forgotten_and_what_a_call_has_in_its_hands_keeps_nobody_waiting(
    ground: Ground, account: Account
) -> None:
    await lifecycle.admit(ground, [asked(account, idempotency_key=f"k{n}") for n in range(4)])
    old = update(IdempotencyKey).where(IdempotencyKey.key != "k3").values(expires_at=func.now())
    async with ground.database.begin() as session:
        await session.execute(old)
    held = select(IdempotencyKey).where(IdempotencyKey.key == "k0").with_for_update()
    async with ground.database.begin() as mine, asyncio.timeout(10):
        await mine.execute(held)
        async with ground.database.begin() as session:
            await lifecycle.forget_keys(session)
        assert await count(ground, IdempotencyKey) == 2


async def test_a_database_that_stays_away_is_told_after_a_while(
    ground: Ground, account: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(desk, "_PATIENCE_S", 0.3)
    lossy = losing(ground, 1000)
    submission = pair(account, 5)
    assert await outcomes(Desk(lossy), [submission]) == ["database_unavailable"]
    assert await outcomes(Desk(ground), [submission]) == ["admitted"]
    assert (await balance_of(ground, account, FIRST)).held == 5
    await assert_even(ground)


@pytest.mark.parametrize("bad", [0, 3, 7])
async def test_what_the_database_cannot_keep_fails_alone(ground: Ground, account: Account, bad: int) -> None:
    await grant(ground, 8, FIRST)
    flush = [pair(account, 1, text="\x00" if n == bad else "fine") for n in range(9)]
    told = await outcomes(Desk(ground), [*flush, pair(account, 1)])
    assert [each for n, each in enumerate(told) if n != bad] == ["admitted"] * 8 + ["quota_exceeded"]
    assert told[bad] not in {"admitted", "quota_exceeded"}
    await assert_even(ground)


async def test_hundreds_of_duplicates_at_once_are_all_replayed(ground: Ground, account: Account) -> None:
    desks = [Desk(ground) for _ in range(4)]
    told = await asyncio.gather(
        *(at_desk.submit(asked(account, idempotency_key=f"k{n}")) for n in range(75) for at_desk in desks)
    )
    assert sorted(map(outcome, told)) == ["admitted"] * 75 + ["replayed"] * 225
    assert await count(ground, Job) == 75
    await assert_even(ground)


async def waiting(ground: Ground, many: int) -> None:
    """Return when so many statements wait for locks."""
    query = text(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    )
    async with asyncio.timeout(10):
        while True:
            async with ground.database.begin() as session:
                if await session.scalar(query) == many:
                    return
            await asyncio.sleep(0.01)


async def test_a_name_that_is_being_admitted_is_waited_for(ground: Ground, account: Account) -> None:
    def free(**name: Any) -> list[Submission]:
        """Return a submission that draws on no meter, so that only its name keeps it from being admitted twice."""
        return [Submission(account=account, request=Pair(input=PairInput(most={}), **name), idempotency_key="k")]

    async with ground.database.begin() as session:
        await session.execute(text("LOCK TABLE jobs IN SHARE MODE"))  # nobody can insert
        asking = [asyncio.create_task(outcomes(ground, free())) for _ in range(4)]
        await waiting(ground, 4)
    assert sorted([*chain.from_iterable(await asyncio.gather(*asking))]) == ["admitted", *["replayed"] * 3]
    async with ground.database.begin() as session:
        await session.execute(text("LOCK TABLE jobs IN SHARE MODE"))
        flush = [[msgspec.structs.replace(each, idempotency_key=None) for each in free(unique_key="u")] for _ in "1234"]
        asking = [asyncio.create_task(outcomes(ground, each)) for each in flush]
        await waiting(ground, 4)
    assert sorted([*chain.from_iterable(await asyncio.gather(*asking))]) == ["admitted", *["unique"] * 3]


async def test_a_failed_job_that_is_being_given_another_go_is_waited_for(ground: Ground, account: Account) -> None:
    first = await Desk(ground).submit(pair(account, 1))
    await lifecycle.finish(ground, [End(job_id=first.job.id, attempt=0, was="queued", state="failed", error={})])
    async with ground.database.begin() as session:
        await session.execute(text("SELECT 1 FROM balances FOR UPDATE"))
        again = [[pair(account, 1, replay_of=first.job.id)] for _ in range(4)]
        asking = [asyncio.create_task(outcomes(ground, each)) for each in again]
        await waiting(ground, 4)
    assert sorted([*chain.from_iterable(await asyncio.gather(*asking))]) == ["admitted", *["replay"] * 3]
    await assert_even(ground)


async def test_ends_at_the_same_time_as_admissions_are_no_error(ground: Ground, account: Account) -> None:
    await grant(ground, 60, FIRST)
    await grant(ground, 60, SECOND)
    chance = random.Random(5)
    desks = [Desk(ground) for _ in range(3)]

    async def live(at_desk: Desk, way: float) -> str:
        """Submit, then end or cancel."""
        try:
            made = await at_desk.submit(pair(account, chance.randint(1, 3), chance.randint(0, 3)))
        except QuotaExceeded as error:
            return error.code
        if way < 0.3:
            return (await lifecycle.cancel(ground, account.id, made.job.id)).state
        end = End(job_id=made.job.id, attempt=0, was="queued", state="failed", error={})
        return "ended" if await at_desk.finish(end) else "lost"

    for _ in range(12):
        told = await asyncio.gather(*(live(at_desk, chance.random()) for at_desk in desks for _ in range(25)))
        assert set(told) <= {"quota_exceeded", "canceled", "ended"}
        assert (await balance_of(ground, account, FIRST)).held == 0
    await assert_even(ground)


async def test_an_account_has_so_many_unfinished_jobs_and_room_again_when_one_is_over(
    ground: Ground, account: Account
) -> None:
    small = msgspec.structs.replace(ground, settings=msgspec.structs.replace(ground.settings, account_queued=5))
    at_desk = Desk(small)
    first = asked(account, idempotency_key="k")
    assert await outcomes(at_desk, [first, *(asked(account) for _ in range(6))]) == [
        *["admitted"] * 5,
        *["too_many_queued"] * 2,
    ]
    again = msgspec.structs.replace(first, id=ids.new())
    assert await outcomes(at_desk, [again, pair(account, 1)]) == ["replayed", "too_many_queued"]
    assert await outcomes(Desk(small), [pair(account, 1)]) == ["too_many_queued"], "in every process"
    running = await take(ground, {"id": str(first.id)})
    assert await outcomes(at_desk, [pair(account, 1)]) == ["too_many_queued"], "a running one is not finished"
    await lifecycle.finish(ground, [End(job_id=running.id, attempt=running.attempt, state="failed", error={})])
    await asyncio.sleep(0.6)
    assert await outcomes(at_desk, [pair(account, 1), pair(account, 1)]) == ["admitted", "too_many_queued"]
    await assert_even(ground)


def ready(ground: Ground, account: Account, many: int) -> list[lifecycle.Ready]:
    """Return so many prepared submissions of an account."""
    return [lifecycle.prepare(ground, pair(account, 1)) for _ in range(many)]


async def test_an_account_far_below_its_limit_is_not_counted_again(ground: Ground, account: Account) -> None:
    now = [0.0]
    clock: Callable[[], float] = lambda: now[0]  # noqa: E731
    backlog, said = Backlog(ground.database, 1000, clock), overheard(ground.database)
    for _ in range(25):
        readies = await backlog.within(ready(ground, account, 10))
        assert all(each.refusal is None for each in readies)
    assert len(said) == 1, "counted once, for a quarter of its room"
    now[0] = 1.0
    await backlog.within(ready(ground, account, 1))
    assert len(said) == 2
    now[0] = 20.0
    await backlog.within(ready(ground, account, 1))
    assert len(said) == 3, "what other processes did is not forgotten for long"


async def test_a_job_that_was_refused_takes_no_place(ground: Ground, account: Account) -> None:
    backlog = Backlog(ground.database, 3, lambda: 0.0)
    readies = await backlog.within(ready(ground, account, 5))
    assert [each.refusal is None for each in readies] == [True] * 3 + [False] * 2
    backlog.settle(readies, [QuotaExceeded] * 5)
    assert [each.refusal is None for each in await backlog.within(ready(ground, account, 4))] == [True] * 3 + [False]


async def test_repetitions_take_no_place_from_the_jobs_that_are_asked_for_beside_them(
    ground: Ground, account: Account
) -> None:
    limited = msgspec.structs.replace(ground, settings=msgspec.structs.replace(ground.settings, account_queued=3))
    at_desk = Desk(limited)
    assert await outcomes(at_desk, [asked(account, idempotency_key="k0")]) == ["admitted"]
    told = await outcomes(at_desk, [asked(account, idempotency_key=f"k{max(0, n - 4)}") for n in range(8)])
    assert told == ["replayed"] * 5 + ["admitted", "admitted", "too_many_queued"]
    assert await outcomes(at_desk, [asked(account)]) == ["too_many_queued"]
    assert await count(ground, Job) == 3


async def test_a_queue_that_hangs_is_waited_for_once_and_not_by_everybody_who_submits(
    settings: Settings, ground: Ground, account: Account
) -> None:
    asked_for: list[asyncio.StreamWriter] = []
    async with await asyncio.start_server(lambda _, writer: asked_for.append(writer), "127.0.0.1", 0) as hanging:
        url = "redis://{}:{}".format(*hanging.sockets[0].getsockname())
        try:
            async with asyncio.timeout(10), grounds.opened(msgspec.structs.replace(settings, redis_url=url)) as deaf:
                at_desk, forecasts = Desk(deaf), Forecasts(deaf)
                made = [(await at_desk.submit(asked(account))).job for _ in range(10)]
                assert {await forecasts.of(job) for job in made} == {None}
        finally:
            for writer in asked_for:
                writer.close()
    assert (len(asked_for), await count(ground, Job)) == (2, 10), "once for all submissions, once for all places"


async def test_first_words_and_places_are_there_when_a_submission_is_answered(ground: Ground, account: Account) -> None:
    await grant(ground, 10, FIRST)
    made = await Desk(ground).submit(pair(account, 10))
    told = await ground.streams.read(made.job.id)
    assert [msgspec.json.decode(each.data)["type"] for each in told] == ["queued", "warning", "warning"]
    assert await ground.queue.lost("pair", [made.job.id]) == []


async def test_the_books_of_a_flush_are_written_once(ground: Ground, account: Account) -> None:
    await lifecycle.admit(ground, [pair(account, 1, 1) for _ in range(20)])
    async with ground.database.begin() as session:
        kinds = dict((await session.execute(text("SELECT kind, count(*) FROM ledger_entries GROUP BY 1"))).all())  # type: ignore[arg-type]
    assert kinds["hold"] == 40
    assert (await balance_of(ground, account, SECOND)).held == 20
