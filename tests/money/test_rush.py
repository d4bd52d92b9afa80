"""Very many at the same time, from several processes: nothing is oversold, doubled or wrongly denied."""

import asyncio
import itertools
import random
from collections.abc import AsyncGenerator, Sequence

import httpx2
import pytest
from sqlalchemy import func, select

from infra import ground as grounds
from infra.errors import PulseError
from infra.ground import Ground
from infra.models import Account, Job
from infra.settings import Settings
from quotas import accounts, ledger
from tests.money.checks import slow_down, warm_up
from tests.money.work import asked
from tests.support import process
from tests.support.books import assert_charged_once, assert_even, balance_of, grant
from tests.support.chats import chat
from tests.support.rush import rush
from tests.support.work import work_off
from workers import lifecycle
from workers.desk import Desk
from workers.lifecycle import End, Submission, Submitted


@pytest.fixture
async def both(settings: Settings, ground: Ground) -> AsyncGenerator[list[Ground]]:
    """Two grounds, as two processes have them; everybody takes his time, so that they get in each other's way."""
    async with grounds.opened(settings) as other:
        await slow_down(ground)
        await warm_up(other)
        yield [ground, other]


async def _submit(both: Sequence[Ground], submissions: Sequence[Submission]) -> list[Submitted | PulseError]:
    """Submit everything at the same time, at two desks in turn."""
    desks = itertools.cycle([Desk(ground) for ground in both])
    asking = [desk.submit(each) for desk, each in zip(desks, submissions, strict=False)]
    answers = await asyncio.gather(*asking, return_exceptions=True)
    told = [answer for answer in answers if isinstance(answer, Submitted | PulseError)]
    assert len(told) == len(submissions), next(it for it in answers if not isinstance(it, Submitted | PulseError))
    return told


async def test_of_four_hundred_at_once_on_a_limit_of_fifty_fifty_are_admitted(
    both: list[Ground], account: Account
) -> None:
    await grant(both[0], 50, "documents")
    submissions = [asked(account, {"images": n % 2, "documents": 1}) for n in range(400)]
    await grant(both[0], 1000, "images")
    answers = await _submit(both, submissions)
    assert sum(isinstance(answer, Submitted) for answer in answers) == 50
    assert sum(isinstance(answer, ledger.QuotaExceeded) for answer in answers) == 350
    crossed = sorted(
        it.percent
        for answer in answers
        if isinstance(answer, Submitted)
        for it in answer.crossings
        if it.meter != "images"
    )
    assert crossed == [80, 100]
    balance = await balance_of(both[0], account, "documents")
    assert (balance.held, balance.used) == (50, 0)
    await assert_even(both[0])


async def test_the_same_keys_three_times_at_once_are_the_same_jobs_and_nobody_is_denied(
    both: list[Ground], account: Account
) -> None:
    await grant(both[0], 150, "documents")
    once = [asked(account, {"documents": 1}, key=f"k{n}") for n in range(150)]
    again = [[asked(account, {"documents": 1}, key=f"k{n}") for n in range(150)] for _ in range(2)]
    answers = await _submit(both, [*once, *again[0], *again[1]])
    told = [answer.job.id for answer in answers if isinstance(answer, Submitted)]
    assert len(told) == 450, "there is room for every job once"
    assert told[:150] == told[150:300] == told[300:]
    assert len(set(told)) == 150
    assert sum(isinstance(answer, Submitted) and answer.known is None for answer in answers) == 150
    assert (await balance_of(both[0], account, "documents")).held == 150
    await assert_even(both[0])


async def _round(both: Sequence[Ground], owners: Sequence[Account], dice: random.Random, running: list[End]) -> None:
    """Admit, end and cancel at the same time, in whole flushes: an error of any is an error here."""
    room = [asked(dice.choice(owners), {"documents": 1, "images": dice.randint(0, 2)}) for _ in range(40)]
    named = [asked(dice.choice(owners), {"images": 1}, key=f"{dice.random()}") for _ in range(10)]
    flushes = [room[:20] + named, named + room[20:]]
    ends = [running[n::2] for n in range(2)]
    admitting = [lifecycle.admit(ground, flush) for ground, flush in zip(both, flushes, strict=True)]
    ending = [lifecycle.finish(ground, part) for ground, part in zip(both, ends, strict=True)]
    first, second, *ended = await asyncio.gather(*admitting, *ending)
    assert all(each is not None for part in ended for each in part)
    answers = [*first, *second]
    assert all(isinstance(answer, Submitted | ledger.QuotaExceeded) for answer in answers), answers
    new = {it.job.id: it.job.account_id for it in answers if isinstance(it, Submitted)}
    cancelled = set(dice.sample(sorted(new), len(new) // 4))
    claiming = asyncio.create_task(lifecycle.claim(both[0], sorted(new.keys() - cancelled)))
    await asyncio.gather(*(lifecycle.cancel(both[1], new[job_id], job_id) for job_id in cancelled))
    running[:] = [
        End(
            job_id=attempt.id,
            attempt=attempt.attempt,
            state="succeeded",
            used={"documents": dice.randint(0, 1), "images": dice.randint(0, 3)} if dice.random() < 0.1 else {},
        )
        for attempt in await claiming
        if attempt is not None
    ]


async def test_admissions_ends_and_cancels_at_once_meet_no_error_and_lose_no_unit(both: list[Ground]) -> None:
    dice = random.Random(5)
    async with both[0].database.begin() as session:
        owners = [await accounts.create(session, f"a{n}@example.com") for n in range(3)]
    running: list[End] = []
    for _ in range(8):
        await _round(both, owners, dice, running)
    await assert_even(both[0])
    await lifecycle.finish(both[0], running)
    for owner in owners:
        assert (await balance_of(both[0], owner, "documents")).held == 0
        assert (await balance_of(both[0], owner, "images")).held == 0
    await assert_even(both[0])


async def _up(settings: Settings) -> None:
    async with asyncio.timeout(30), httpx2.AsyncClient(base_url=f"http://127.0.0.1:{settings.port}") as client:
        while True:
            try:
                if (await client.get("/readyz")).status_code == 200:
                    return
            except httpx2.TransportError:
                pass
            await asyncio.sleep(0.05)


@pytest.mark.slow
@pytest.mark.trial
async def test_of_two_thousand_requests_at_once_on_a_limit_of_fifty_fifty_run(
    settings: Settings, ground: Ground, account: Account, key: str
) -> None:
    request = chat("hi", max_output_tokens=16)
    await grant(ground, 50 * (2 + 80 + 16 * 5))
    with process.started("api", env=process.environ(settings)):
        await _up(settings)
        async with asyncio.timeout(300):
            answers = await rush(settings.port, key, request, [f"k{n}" for n in range(2000)])
    assert sorted({status for status, _ in answers}) == [202, 402]
    assert sum(status == 202 for status, _ in answers) == 50
    await work_off(settings)
    async with ground.database.begin() as session:
        states = await session.execute(select(Job.state, func.count()).group_by(Job.state))
        assert [tuple(row) for row in states] == [("succeeded", 50)]
    await assert_charged_once(ground)
    await assert_even(ground)


@pytest.mark.slow
@pytest.mark.trial
async def test_a_thousand_keys_three_times_at_once_are_a_thousand_jobs(
    settings: Settings, ground: Ground, account: Account, key: str
) -> None:
    request = chat("hi", max_output_tokens=16)
    await grant(ground, 1000 * (2 + 80 + 16 * 5))
    with process.started("api", env=process.environ(settings)):
        await _up(settings)
        async with asyncio.timeout(300):
            answers = await rush(settings.port, key, request, [f"k{n % 1000}" for n in range(3000)])
    assert {status for status, _ in answers} == {202}, "there is room for every job once"
    told = [body["job"]["id"] for _, body in answers]
    assert told[:1000] == told[1000:2000] == told[2000:]
    assert len(set(told)) == 1000
    async with ground.database.begin() as session:
        assert await session.scalar(select(func.count()).select_from(Job)) == 1000
    await assert_even(ground)
