"""Operators change pools while they run; the truth is in PostgreSQL, and the workers hear of it."""

import asyncio

import pytest

from infra.errors import PulseError
from infra.ground import Ground
from infra.overview import Control
from infra.settings import Settings
from tests.support.chats import Client, submit, until
from tests.support.work import Pool, working
from workers import control, tend
from workers.control import Change

PATIENCE_S = 10


async def test_a_change_is_kept_and_told(ground: Ground) -> None:
    await control.change(ground, "chat", Change(mode="paused", slots=3, account_cap=2, kind_caps={"chat": 5}))
    await control.change(ground, "chat", Change(slots=None))
    async with ground.database.begin() as session:
        kept = (await control.find(session))["chat"]
    assert (kept.paused, kept.slots, kept.account_cap, kept.kind_caps) == (True, None, 2, {"chat": 5})
    assert await ground.overseer.controlled("chat") == Control(paused=True, account_cap=2, kind_caps={"chat": 5})
    await control.change(ground, "chat", Change(mode="running", account_cap=None, kind_caps={"chat": None}))
    assert await ground.overseer.controlled("chat") == Control()


async def test_what_redis_forgot_or_remembers_wrongly_is_told_again(ground: Ground) -> None:
    await control.change(ground, "chat", Change(mode="paused"))
    await ground.redis.flushall()  # pyright: ignore[reportUnknownMemberType]
    await control.reconcile(ground)
    assert await ground.overseer.controlled("chat") == Control(paused=True)
    await ground.overseer.control("chat", Control(slots=1))
    await control.reconcile(ground)
    assert await ground.overseer.controlled("chat") == Control(paused=True)


@pytest.mark.parametrize(
    ("pool", "change", "error", "field"),
    [
        ("slides", Change(mode="paused"), control.UnknownPool, "pool"),
        ("chat", Change(slots=-1), control.InvalidNumber, "slots"),
        ("chat", Change(slots=10_001), control.InvalidNumber, "slots"),
        ("chat", Change(account_cap=-1), control.InvalidNumber, "account_cap"),
        ("chat", Change(kind_caps={"chat": -1}), control.InvalidNumber, "kind_caps.chat"),
        ("chat", Change(kind_caps={"video": 1}), control.KindNotInPool, "kind"),
    ],
)
async def test_what_makes_no_sense_is_refused(
    ground: Ground, pool: str, change: Change, error: type[PulseError], field: str
) -> None:
    with pytest.raises(error) as refused:
        await control.change(ground, pool, change)
    assert refused.value.facts["field"] == field
    assert await ground.overseer.controlled("chat") == Control()


async def test_a_paused_pool_starts_nothing_and_goes_on_when_resumed(
    client: Client, ground: Ground, settings: Settings
) -> None:
    await control.change(ground, "chat", Change(mode="paused"))
    async with working(settings):
        job = await submit(client)
        await asyncio.sleep(1.5)  # longer than a worker sleeps between two looks
        assert (await client.get(job["urls"]["self"])).json()["state"] == "queued"
        await control.change(ground, "chat", Change(mode="running"))
        assert (await until(client, job))["state"] == "succeeded"


async def test_a_workers_slots_change_while_it_runs(ground: Ground, settings: Settings) -> None:
    async with working(settings, slots=8) as worker:
        await control.change(ground, "chat", Change(slots=2))
        await _becomes(worker, 2)
        await control.change(ground, "chat", Change(slots=None))
        await _becomes(worker, 8)


async def _becomes(worker: Pool, slots: int) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while True:
            await asyncio.sleep(0.02)
            if worker.slots == slots:
                return


async def test_the_tender_says_that_it_lives(ground: Ground) -> None:
    tending = asyncio.create_task(tend.tend(ground))
    async with asyncio.timeout(PATIENCE_S):
        while True:
            await asyncio.sleep(0.02)
            if await ground.redis.exists(tend.ALIVE):
                break
    tending.cancel()
