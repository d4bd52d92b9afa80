"""What accounts cost a day is capped to the microdollar, however many ask at once, whoever they are, at any price.

Shaped after what other gateways' budgets let through: requests at once that all read the same sum (LiteLLM #34732),
the first requests of somebody new (#40095), sums that grow past the limit (#26672), and reservations at the price of
another tier than the request's (their PR #40002).
"""

import asyncio
import random
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import msgspec
import pytest
from sqlalchemy import select, text

from infra import ground as grounds
from infra import ids
from infra.ground import Ground
from infra.models import Account, Balance, Batch, Hold, Job
from infra.settings import Settings
from providers import catalog
from providers.types import Counted
from quotas import accounts, audit, ledger, spend
from quotas.ledger import SpendCapReached
from tests.support import readings
from tests.support.books import assert_even, balance_of
from tests.support.lives import asked, job_of, tools
from tests.support.statements import overheard
from tests.support.vendor import Answer, Vendor
from workers import lifecycle, tend
from workers.batches.feeding import Feeder
from workers.chat import costs
from workers.desk import Desk
from workers.lifecycle import End, Submitted
from workers.perform import perform
from workers.request import Asking

FITTING = 10
MOMENT = datetime(2026, 1, 1, tzinfo=UTC)


class Tiered(catalog.Model, frozen=True, kw_only=True):
    """A model whose tokens cost twice as much where the input is above 200,000 of them."""

    def cost(self, counted: Counted, **_: Any) -> int:
        """Return picodollars."""
        return (counted.input_tokens + counted.output_tokens) * (2 if counted.input_tokens > 200_000 else 1) * 1_000_000


def most(settings: Settings, account: Account) -> int:
    """Return the most that one of the tests' requests can cost, in microdollars."""
    asking = Asking(settings=settings, plan=account.plan)
    return asked(account).request.resolved(asking).most(asking)[spend.METER]


def capped(settings: Settings, microdollars: int) -> Settings:
    """Return settings with that cap."""
    return msgspec.structs.replace(settings, account_day_usd=microdollars / 1_000_000)


@pytest.fixture
def settings(settings: Settings, servers: Settings) -> Settings:
    """Settings with a vendor that charges, and a cap into which `FITTING` requests go."""
    charging = msgspec.structs.replace(settings, compatible_url="", openai_api_key="k", account_day_usd=1.0)
    one = most(charging, Account(plan="free"))
    return capped(charging, FITTING * one + one // 2)


async def outcomes(desk: Desk, account: Account, times: int) -> list[object]:
    """Return what the requests of an account are answered that are asked at once."""
    return await asyncio.gather(*(desk.submit(asked(account)) for _ in range(times)), return_exceptions=True)


def admitted(answers: list[object]) -> list[Submitted]:
    """Return those that were admitted; the others were refused for the cap."""
    assert all(isinstance(answer, Submitted | SpendCapReached) for answer in answers), answers
    return [answer for answer in answers if isinstance(answer, Submitted)]


async def drawn_of(ground: Ground, batch: Batch) -> list[UUID]:
    """Make the lines of a batch jobs, and return these."""
    await Feeder(ground).round()
    async with ground.database.begin() as session:
        return list(await session.scalars(select(Job.id).where(Job.batch_id == batch.id).order_by(Job.id)))


async def test_two_hundred_at_once_on_a_cap_for_ten_are_ten(ground: Ground, account: Account) -> None:
    desks = [Desk(ground), Desk(ground)]
    told = await asyncio.gather(*(outcomes(desk, account, 100) for desk in desks))
    assert len(admitted([*told[0], *told[1]])) == FITTING
    balance = await balance_of(ground, account, spend.METER)
    assert balance.held == FITTING * most(ground.settings, account)
    assert (balance.period_end, balance.granted) == (
        balance.period_start + timedelta(days=1),
        spend.caps(ground.settings)[spend.METER],
    )
    assert balance.period_start.astimezone(UTC).time() == datetime.min.time()
    await assert_even(ground)


async def test_the_first_requests_of_new_accounts_at_once_are_capped_like_any(ground: Ground) -> None:
    async with ground.database.begin() as session:
        new = [await accounts.create(session, f"new{n}@example.com") for n in range(8)]
        opened = set(await session.scalars(select(Balance.meter)))
    assert spend.METER not in opened, "the day is opened by whoever comes first"
    desks = [Desk(ground) for _ in range(4)]
    told = await asyncio.gather(*(outcomes(desk, account, 10) for account in new for desk in desks))
    for n in range(len(new)):
        answers = [answer for answers in told[n * len(desks) : (n + 1) * len(desks)] for answer in answers]
        assert len(admitted(answers)) == FITTING
    await assert_even(ground)


async def test_what_is_spent_never_passes_the_cap_while_jobs_end_and_others_begin(
    ground: Ground, account: Account
) -> None:
    one, chance, spent = most(ground.settings, account), random.Random(7), 0

    async def live(desk: Desk) -> int:
        try:
            job = (await desk.submit(asked(account))).job
        except SpendCapReached:
            return 0
        used = {"chat_tokens": 1, spend.METER: chance.randint(1, 2 * one)}  # a vendor may count more than was held
        state = chance.choice(["succeeded", "succeeded", "canceled", "failed"])
        end = End(job_id=job.id, attempt=0, was="queued", state=state, used=used if state != "failed" else {})  # type: ignore[arg-type]
        (ended,) = await lifecycle.finish(ground, [end])
        assert ended is not None
        return ended.charged.get(spend.METER, 0)

    desks = [Desk(ground), Desk(ground)]
    for _ in range(4):
        spent += sum(await asyncio.gather(*(live(desk) for desk in desks for _ in range(15))))
        balance = await balance_of(ground, account, spend.METER)
        assert spent == balance.used <= balance.granted
    balance = await balance_of(ground, account, spend.METER)
    assert balance.overage > 0, "what was counted beyond a hold is told"
    await assert_even(ground)


async def test_a_long_request_is_held_at_the_price_of_its_own_tier(ground: Ground, account: Account) -> None:
    model = Tiered(vendor="openai", en="", ar="", tier="medium", context_tokens=400_000, output_tokens=1000)
    settings = ground.settings
    units = costs.most(settings, model, input_tokens=300_000, output_tokens=1000)
    assert units[spend.METER] == 602_000
    assert costs.used(settings, model, Counted(input_tokens=200_000, output_tokens=0))[spend.METER] == 200_000
    caps = {spend.METER: 3 * 602_000 - 1}

    async def hold() -> None:
        async with ground.database.begin() as session:
            drawing = await ledger.lock(session, [(account, spend.METER)], caps)
            drawing.hold(account.id, UUID(int=random.getrandbits(120)), {spend.METER: units[spend.METER]})
            await drawing.write(session)

    told = await asyncio.gather(*(hold() for _ in range(5)), return_exceptions=True)
    assert [type(answer) for answer in told].count(SpendCapReached) == 3, told


async def test_the_dearest_model_of_a_chain_bounds_each_meter(settings: Settings) -> None:
    cheap = Tiered(vendor="openai", en="", ar="", tier="simple", context_tokens=1000, output_tokens=1000)
    heavy = catalog.Model(
        vendor="compatible",
        en="",
        ar="",
        tier="simple",
        context_tokens=1000,
        output_tokens=1000,
        weights=catalog.Weights(input=9, cached=9, output=9),
    )
    told = costs.dearest(costs.most(settings, model, input_tokens=10, output_tokens=1) for model in (heavy, cheap))
    assert told == {"chat_tokens": 99, spend.METER: 11}


async def test_a_day_ends_at_midnight_and_its_holds_are_settled_in_it(ground: Ground, account: Account) -> None:
    desk = Desk(ground)
    first = admitted(await outcomes(desk, account, FITTING + 5))
    assert len(first) == FITTING
    async with ground.database.begin() as session:  # that was yesterday
        await session.execute(
            text(
                "UPDATE balances SET period_start = period_start - interval '1 day', "
                "period_end = period_end - interval '1 day' WHERE meter = :meter"
            ),
            {"meter": spend.METER},
        )
    assert len(admitted(await outcomes(desk, account, FITTING + 5))) == FITTING
    used = {spend.METER: 3, "chat_tokens": 3}
    await lifecycle.finish(ground, [End(job_id=first[0].job.id, attempt=0, was="queued", state="succeeded", used=used)])
    async with ground.database.begin() as session:
        days = (
            await session.scalars(select(Balance).where(Balance.meter == spend.METER).order_by("period_start"))
        ).all()
    assert [day.used for day in days] == [3, 0]
    await assert_even(ground)


async def test_without_a_cap_nothing_is_held_and_nothing_more_is_asked(settings: Settings) -> None:
    said: dict[bool, list[str]] = {}
    for is_capped in (False, True):
        ours = settings if is_capped else capped(settings, 0)
        async with grounds.opened(ours) as ground:
            async with ground.database.begin() as session:
                account = await accounts.create(session, f"{is_capped}@example.com".lower())
            desk = Desk(ground)
            await desk.submit(asked(account))
            heard = overheard(ground.database)
            answer = await desk.submit(asked(account))
            said[is_capped] = list(heard)
            assert (spend.METER in answer.quota) is is_capped
            async with ground.database.begin() as session:
                held = await session.scalars(select(Hold.meter).where(Hold.account_id == account.id))
                assert (spend.METER in set(held)) is is_capped
            await assert_even(ground)
    assert said[False] == said[True]
    assert len(said[True]) == 1


async def test_the_operators_own_models_cost_nothing_of_it(ground: Ground, account: Account) -> None:
    own = msgspec.structs.replace(ground.settings, compatible_url="http://127.0.0.1:9/v1", openai_api_key="")
    answer = await Desk(msgspec.structs.replace(ground, settings=own)).submit(asked(account))
    assert set(answer.quota) == {"chat_tokens"}


@pytest.mark.parametrize(("status", "state", "spent"), [(200, "succeeded", 18), (400, "failed", 0)])
async def test_what_the_vendor_counted_is_what_is_spent(
    ground: Ground,
    account: Account,
    vendor: Vendor,
    monkeypatch: pytest.MonkeyPatch,
    status: int,
    state: str,
    spent: int,
) -> None:
    monkeypatch.setattr(catalog.Model, "cost", cost_of)  # the vendor charges as well
    vendor.otherwise = lambda _: Answer(status=status, input_tokens=11, output_tokens=7)
    ours = msgspec.structs.replace(ground.settings, openai_api_key="", compatible_url=vendor.url, account_day_usd=1.0)
    charging = msgspec.structs.replace(ground, settings=ours)
    answer = await Desk(charging).submit(asked(account))
    assert answer.quota[spend.METER].limit == 1_000_000
    await perform(tools(charging), answer.job.id)
    row = await job_of(ground, answer.job.id)
    assert (row.state, (row.charged or {}).get(spend.METER, 0)) == (state, spent)
    balance = await balance_of(ground, account, spend.METER)
    assert (balance.held, balance.used) == (0, spent)
    await assert_even(ground)


def cost_of(_model: catalog.Model, counted: Counted, **_: Any) -> int:
    """Return what tokens cost at a microdollar each, in picodollars; the last one less than a whole one."""
    return (counted.input_tokens + counted.output_tokens) * 1_000_000 - 1


async def test_a_cap_that_is_changed_is_followed_the_same_day(ground: Ground, account: Account) -> None:
    one = most(ground.settings, account)
    assert len(admitted(await outcomes(Desk(ground), account, 30))) == FITTING

    async def change(times: int) -> Desk:
        changed = msgspec.structs.replace(ground, settings=capped(ground.settings, times * one))
        await tend.keep_house(changed)
        await assert_even(ground)
        return Desk(changed)

    higher = await change(FITTING + 3)
    assert len(admitted(await outcomes(higher, account, 10))) == 3
    lower = await change(2)
    assert (await balance_of(ground, account, spend.METER)).granted == (FITTING + 3) * one, "what is held stays"
    assert admitted(await outcomes(lower, account, 5)) == []
    async with ground.database.begin() as session:
        assert await ledger.follow(session, {spend.METER: 2 * one}) == 0
        assert await audit.disagreements(session) == []


async def test_a_cap_is_followed_behind_an_admission_or_an_end_that_is_under_way(
    ground: Ground, account: Account
) -> None:
    one, job_id = most(ground.settings, account), ids.new()

    async def follow() -> int:
        async with ground.database.begin() as session:
            return await ledger.follow(session, {spend.METER: 2 * one})

    async with ground.database.begin() as session:
        drawing = await ledger.lock(session, [(account, spend.METER)], spend.caps(ground.settings))
        drawing.hold(account.id, job_id, {spend.METER: 5 * one})
        await drawing.write(session)
        session.add(Job(id=job_id, account_id=account.id, kind="chat", spec={}, state="canceled", finished_at=MOMENT))
    async with ground.database.begin() as session:  # an end that is under way: what is seen before it holds too much
        await ledger.settle(session, {job_id: {}})
        following = asyncio.create_task(follow())
        await somebody_waits(ground)
    assert await following == 1
    assert (await balance_of(ground, account, spend.METER)).granted == 2 * one
    async with ground.database.begin() as session:
        await ledger.follow(session, {spend.METER: 9 * one})
    async with ground.database.begin() as session:  # an admission: what is seen before it holds too little
        drawing = await ledger.lock(session, [(account, spend.METER)])
        drawing.hold(account.id, other := ids.new(), {spend.METER: 5 * one})
        await drawing.write(session)
        session.add(Job(id=other, account_id=account.id, kind="chat", spec={}))
        await session.flush()
        following = asyncio.create_task(follow())
        await somebody_waits(ground)
    assert await following == 1
    balance = await balance_of(ground, account, spend.METER)
    assert (balance.granted, balance.held) == (5 * one, 5 * one)
    await assert_even(ground)


async def somebody_waits(ground: Ground) -> None:
    """Return when a statement waits for a lock."""
    waiting = text(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    )
    async with asyncio.timeout(20):
        while True:
            async with ground.database.begin() as session:
                if await session.scalar(waiting):
                    return
            await asyncio.sleep(0.01)


async def test_a_batch_goes_as_far_as_the_cap_and_each_line_is_charged_to_it(ground: Ground, account: Account) -> None:
    lines = [readings.line(f"n{n}", "hi") for n in range(FITTING + 3)]
    batch = await readings.read_all(ground, account, readings.jsonl(*lines))
    one = most(ground.settings, account)
    assert (batch.needs[spend.METER], batch.rejected) == ((FITTING + 3) * one, 3)
    told = await readings.told_of(ground, batch.id)
    assert [code for _, _, code in readings.reasons(told)] == ["spend_cap_reached"] * 3
    assert (await balance_of(ground, account, spend.METER)).held == FITTING * one
    assert admitted(await outcomes(Desk(ground), account, 2)) == [], "the batch has all of it"
    drawn = await drawn_of(ground, batch)
    used = {"chat_tokens": 1, spend.METER: one - 1}
    await lifecycle.finish(ground, [End(job_id=drawn[0], attempt=0, was="queued", state="succeeded", used=used)])
    balance = await balance_of(ground, account, spend.METER)
    assert (balance.held, balance.used) == ((FITTING - 1) * one, one - 1)
    await assert_even(ground)
