"""Whoever delivers may be told to stop, be killed, or lose the database: every message arrives at least once."""

import asyncio
import json
import random
import signal
import subprocess
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import asyncpg
import pytest
from sqlalchemy import select

from infra.ground import Ground
from infra.models import Account, WebhookMessage
from infra.seal import Seal
from tests.support import process
from tests.support.hooks import (
    deliveries,
    delivering,
    hook,
    loopback,
    spread_all,
    tell,
    tries,
    until_over,
)
from tests.support.receivers import FINE, Receiver, slowly
from workers.webhooks import claiming, pool


async def test_who_is_told_to_stop_claims_nothing_more_and_ends_what_is_under_way(
    hooked: Ground, account: Account
) -> None:
    async with Receiver.serving(slowly(after_s=0.4)) as receiver:
        await hook(hooked, account.id, receiver.url)
        async with delivering(hooked):
            await tell(hooked, account.id, times=claiming.MOST_OF_ONE + 3)
            await receiver.got(claiming.MOST_OF_ONE)
        assert len(receiver.received) == claiming.MOST_OF_ONE
    states = sorted(each.state for each in await deliveries(hooked))
    assert states == ["delivered"] * claiming.MOST_OF_ONE + ["pending"] * 3


async def test_what_does_not_end_in_the_grace_is_given_back_and_another_has_it_at_once(
    hooked: Ground, account: Account
) -> None:
    hasty = loopback(hooked, grace_s=0.05, webhook_timeout_s=30.0)
    async with Receiver.serving(slowly(), FINE) as receiver:
        await hook(hooked, account.id, receiver.url)
        async with delivering(hasty):
            await tell(hooked, account.id)
            await receiver.got(1)
        (delivery,) = await deliveries(hooked)
        assert (delivery.state, tries(delivery)) == ("pending", [])
        (again,) = (await claiming.claim(hasty, Seal(hooked.settings.secret), [], 8)).deliveries
        assert (again.id, again.failures) == (delivery.id, 0), "its lease would have been 45 s; it counts as no failure"


@asynccontextmanager
async def away(ground: Ground) -> AsyncGenerator[None]:
    """Let the database be away for the length of a block: its connections end, and there is none of that name."""
    url = ground.settings.database_url.replace("+asyncpg", "")
    name = url.partition("?")[0].rpartition("/")[2]
    admin = await asyncpg.connect(url.replace(f"/{name}", "/postgres", 1))
    try:
        ending = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1"
        await _renamed(admin, name, f"{name}_away", ending)
        yield
        await _renamed(admin, f"{name}_away", name, ending)
    finally:
        await admin.close()


async def _renamed(admin: "asyncpg.Connection[asyncpg.Record]", old: str, new: str, ending: str) -> None:
    while True:
        await admin.execute(ending, old)
        try:
            await admin.execute(f"ALTER DATABASE {old} RENAME TO {new}")
        except asyncpg.ObjectInUseError:
            await asyncio.sleep(0.01)
        else:
            return


async def test_while_the_database_is_away_what_was_delivered_is_remembered_and_all_goes_on_after(
    hooked: Ground, account: Account
) -> None:
    hooked = loopback(hooked, webhook_timeout_s=20.0)
    async with Receiver.serving(slowly(after_s=0.2)) as receiver:
        await hook(hooked, account.id, receiver.url)
        async with delivering(hooked):
            await tell(hooked, account.id)
            await receiver.got(1)
            async with away(hooked):
                await asyncio.sleep(0.4)  # the answer comes meanwhile
            await until_over(hooked, 1)
            await tell(hooked, account.id)
            first, second = await until_over(hooked, 2)
        assert len(receiver.received) == 2, "what was delivered is not delivered again"
    assert (first.tries, second.tries) == (1, 1)
    assert {first.state, second.state} == {"delivered"}


@pytest.mark.slow
async def test_the_process_delivers_says_that_it_lives_and_ends_when_it_is_told_to(
    hooked: Ground, account: Account, tmp_path: Path
) -> None:
    log = tmp_path / "log"
    async with Receiver.serving() as receiver:
        await hook(hooked, account.id, receiver.url)
        await tell(hooked, account.id)
        with process.started("workers", "webhooks", env=process.environ(hooked.settings), log=log) as running:
            await receiver.got(1, within_s=30)
            await until_over(hooked, 1)
            assert await hooked.redis.ttl(pool.ALIVE) > 0
            running.send_signal(signal.SIGTERM)
            assert await asyncio.to_thread(running.wait, 10) == 0
    assert "Traceback" not in log.read_text()


def _said(log: Path) -> list[str]:
    return log.read_text().splitlines()


async def _until_lives(doomed: "subprocess.Popen[bytes]", log: Path) -> None:
    while "lives" not in _said(log):
        assert doomed.poll() is None, _said(log)
        await asyncio.sleep(0.02)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("deaths", "seed"), [(4, 1), *(pytest.param(80, seed, marks=pytest.mark.chaos) for seed in range(2))]
)
async def test_whoever_delivers_is_killed_again_and_again_and_every_message_arrives_at_least_once(
    hooked: Ground, account: Account, tmp_path: Path, deaths: int, seed: int
) -> None:
    dice, log, told = random.Random(seed), tmp_path / "log", 0
    ground = loopback(hooked, webhook_timeout_s=0.5)
    moods = [*[FINE] * 8, slowly(after_s=0.05), slowly(after_s=0.2)]
    async with (
        Receiver.serving(*dice.choices(moods, k=400), FINE) as receiver,
        Receiver.serving(*dice.choices([FINE, slowly(after_s=0.1)], k=400), FINE) as own,
    ):
        await hook(ground, account.id, receiver.url)
        with process.started(
            "tests.support.postmen", str(deaths), str(seed), env=process.environ(ground.settings), log=log
        ) as doomed:
            living = asyncio.create_task(_until_lives(doomed, log))
            while not living.done():
                await tell(ground, account.id, times=dice.randint(1, 3), url=own.url)
                told += 1
                await asyncio.sleep(dice.uniform(0.02, 0.1))
            await living
            await spread_all(ground)
            made = await until_over(ground, len(await deliveries(ground)), within_s=60)
        got = [{(each.id, each.body) for each in server.received} for server in (receiver, own)]
    async with ground.database.begin() as session:
        messages = {f"msg_{each.hex}" for each in await session.scalars(select(WebhookMessage.id))}
    assert len(messages) >= told > deaths
    assert {each.state for each in made} == {"delivered"}
    for received in got:
        assert {message for message, _ in received} == messages
        assert len(received) == len(messages), "always the same body"
    assert deaths < 50 or any(each.tries > 1 for each in made), "some were under way when their process died"
    assert got[0] == got[1]
    assert all(json.loads(body)["type"] == "file.ready" for _, body in got[0])
