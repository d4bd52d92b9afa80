"""Credentials: believed for a moment, looked up together, and ended where they are held once they are over."""

import asyncio
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
from sqlalchemy import update

from infra.database import Database, DatabaseUnavailable
from infra.ground import Ground
from infra.models import Account, ApiKey
from infra.settings import Settings
from quotas import accounts, keys
from quotas import credentials as credentials_of_a_process
from quotas.credentials import Credentials
from quotas.keys import AccountClosed, InvalidApiKey, RevokedApiKey
from tests.support.statements import overheard

#: Ends a key: by revoking it, by its date, or with its account.
type End = Callable[[Ground, str], Coroutine[Any, Any, None]]


async def revoke(ground: Ground, key: str) -> None:
    """Revoke the key."""
    async with ground.database.begin() as session:
        await keys.revoke(session, ground.settings, key)


async def expire(ground: Ground, _key: str) -> None:
    """Let every key's time be over."""
    async with ground.database.begin() as session:
        await session.execute(update(ApiKey).values(expires_at=datetime.now(UTC) - timedelta(seconds=1)))


async def close(ground: Ground, _key: str) -> None:
    """Close every account."""
    async with ground.database.begin() as session:
        await session.execute(update(Account).values(closed_at=datetime.now(UTC)))


ENDS = [(revoke, RevokedApiKey), (expire, RevokedApiKey), (close, AccountClosed)]


@pytest.fixture
def credentials(ground: Ground) -> Credentials:
    """The credentials of a process."""
    return Credentials(ground.database, ground.settings)


@pytest.fixture
def nowhere(settings: Settings) -> Database:
    """A database that is away."""
    return Database(msgspec.structs.replace(settings, database_url="postgresql://nobody@127.0.0.1:1/none"))


@pytest.fixture
def statements(ground: Ground) -> list[str]:
    """What PostgreSQL is asked from now on."""
    return overheard(ground.database)


async def test_many_requests_with_many_keys_are_one_look_up_and_then_none(
    ground: Ground, account: Account, credentials: Credentials, statements: list[str]
) -> None:
    async with ground.database.begin() as session:
        issued = [await keys.issue(session, ground.settings, account.id, name=str(n)) for n in range(30)]
        other = await accounts.create(session, "omar@example.com")
        his = await keys.issue(session, ground.settings, other.id, name="his")
    statements.clear()
    answers = await asyncio.gather(*(credentials.identify(key) for key in [*issued, his] * 10))
    assert len(statements) <= 2
    assert [answer.account.id for answer in answers] == ([account.id] * 30 + [other.id]) * 10
    assert {(each.account.email, each.account.plan, each.account.language) for each in answers} == {
        (each.email, each.plan, each.language) for each in (account, other)
    }
    statements.clear()
    await asyncio.gather(*(credentials.identify(key) for key in [*issued, his]))
    assert statements == []


@pytest.mark.parametrize(("end", "error"), ENDS)
async def test_a_key_that_is_over_is_refused_when_its_moment_of_belief_has_passed(
    ground: Ground, credentials: Credentials, key: str, end: End, error: type[Exception]
) -> None:
    assert (await credentials.identify(key)).key_id
    await end(ground, key)
    await asyncio.sleep(0.5)
    assert credentials.believed(key) is None
    with pytest.raises(error):
        await credentials.identify(key)
    assert not credentials.knows(key)


@pytest.mark.parametrize(("end", "error"), ENDS)
async def test_whoever_holds_a_key_is_told_once_of_its_end(
    ground: Ground, credentials: Credentials, key: str, account: Account, end: End, error: type[Exception]
) -> None:
    async with ground.database.begin() as session:
        other = await accounts.create(session, "omar@example.com")
        kept = await keys.issue(session, ground.settings, other.id, name="kept")
    told: list[str] = []
    over = asyncio.Event()
    credentials.hold(key, lambda: told.append("one"))
    credentials.hold(key, over.set)
    let_go = credentials.hold(key, lambda: told.append("let go"))
    let_go()
    let_go()
    if end is revoke:
        credentials.hold(kept, lambda: told.append("kept"))
    running = asyncio.create_task(credentials.run())
    try:
        await asyncio.sleep(0.6)
        assert told == []
        await end(ground, key)
        await asyncio.wait_for(over.wait(), 5)
        await credentials.recheck()
    finally:
        running.cancel()
    assert told == ["one"]


async def test_one_that_fails_when_told_does_not_keep_the_others_from_it(
    ground: Ground, credentials: Credentials, key: str
) -> None:
    told: list[str] = []
    credentials.hold(key, lambda: told.remove("not there"))
    credentials.hold(key, lambda: told.append("two"))
    await revoke(ground, key)
    await credentials.recheck()
    assert told == ["two"]


async def test_what_is_held_is_kept_while_postgresql_is_away_and_ends_when_it_is_known(
    ground: Ground, credentials: Credentials, key: str, nowhere: Database
) -> None:
    over = asyncio.Event()
    credentials.hold(key, over.set)
    await revoke(ground, key)
    credentials._database = nowhere  # pyright: ignore[reportPrivateUsage]
    with pytest.raises(DatabaseUnavailable):
        await credentials.recheck()
    running = asyncio.create_task(credentials.run())
    try:
        await asyncio.sleep(1.2)  # it has looked twice
        assert not over.is_set()
        assert not running.done()
        credentials._database = ground.database  # pyright: ignore[reportPrivateUsage]
        await asyncio.wait_for(over.wait(), 5)
    finally:
        running.cancel()


async def test_a_mistyped_key_costs_no_look_up(settings: Settings, nowhere: Database, key: str) -> None:
    credentials = Credentials(nowhere, settings)
    for wrong in ("", "x", key[:-1], key + "0", key[:10] + ("a" if key[10] != "a" else "b") + key[11:], "é" * 48):
        with pytest.raises(InvalidApiKey):
            await credentials.identify(wrong)
    with pytest.raises(DatabaseUnavailable):
        await credentials.identify(key)


async def test_an_unknown_key_is_remembered(
    ground: Ground, credentials: Credentials, key: str, statements: list[str]
) -> None:
    elsewhere = Credentials(ground.database, msgspec.structs.replace(ground.settings, secret="s" * 32))
    for _ in range(5):
        with pytest.raises(InvalidApiKey):
            await elsewhere.identify(key)
    assert len(statements) == 1
    assert (await credentials.identify(key)).account_id


async def test_guessing_crowds_out_no_key_that_is_good_and_nothing_grows(
    ground: Ground, account: Account, credentials: Credentials, key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(credentials_of_a_process, "_MOST_UNKNOWN", 10)
    monkeypatch.setattr(credentials_of_a_process, "_MOST_KNOWN", 5)
    await credentials.identify(key)
    async with ground.database.begin() as session:
        guesses = [await keys.issue(session, ground.settings, account.id, name="x") for _ in range(50)]
        await session.rollback()
    for guess in guesses:
        with pytest.raises(InvalidApiKey):
            await credentials.identify(guess)
    assert len(credentials._unknown) == 10  # pyright: ignore[reportPrivateUsage]
    assert credentials.knows(key)
    async with ground.database.begin() as session:
        good = [await keys.issue(session, ground.settings, account.id, name="x") for _ in range(20)]
    await asyncio.gather(*(credentials.identify(each) for each in good))
    assert len(credentials._known) == 5  # pyright: ignore[reportPrivateUsage]
    assert (await credentials.identify(key)).account_id == str(account.id)


@pytest.mark.parametrize(("end", "error"), ENDS)
async def test_a_key_that_is_shown_is_looked_up_anew_before_anybody_waits_for_it(
    ground: Ground, credentials: Credentials, key: str, statements: list[str], end: End, error: type[Exception]
) -> None:
    caller = await credentials.identify(key)
    statements.clear()
    await credentials.renew()
    assert statements == [], "it is believed for long enough"
    await asyncio.sleep(0.3)
    await credentials.renew()
    await asyncio.sleep(0.3)
    assert credentials.believed(key) is caller, "longer than it was believed at first"
    await end(ground, key)
    await credentials.renew()
    assert credentials.believed(key) is None
    statements.clear()
    with pytest.raises(error):
        await credentials.identify(key)
    assert statements == []
