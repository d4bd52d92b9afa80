"""API keys and accounts."""

import pytest
from sqlalchemy import select, update

from infra.ground import Ground
from infra.models import Account, ApiKey
from quotas import accounts, keys


async def test_a_key_speaks_for_its_account_and_only_its_hmac_is_kept(
    ground: Ground, account: Account, key: str
) -> None:
    async with ground.database.begin() as session:
        assert (await keys.verify(session, ground.settings, key)).id == account.id
        kept = (await session.scalars(select(ApiKey))).one()
    assert key.startswith("pulse_")
    assert kept.last4 == key[-4:]
    assert key.encode() not in kept.hash
    assert len(kept.hash) == 32


async def test_a_mistyped_key_is_refused_without_a_look_up(ground: Ground, key: str) -> None:
    swapped = key[:10] + ("a" if key[10] != "a" else "b") + key[11:]
    with pytest.raises(keys.InvalidApiKey):
        await keys.verify(None, ground.settings, swapped)  # type: ignore[arg-type]


async def test_a_well_formed_key_that_was_never_issued_is_refused(ground: Ground, account: Account, key: str) -> None:
    async with ground.database.begin() as session:
        await session.execute(update(ApiKey).values(hash=b"\0" * 32))
    async with ground.database.begin() as session:
        with pytest.raises(keys.InvalidApiKey):
            await keys.verify(session, ground.settings, key)


async def test_a_revoked_key_is_refused_and_others_go_on(ground: Ground, account: Account, key: str) -> None:
    async with ground.database.begin() as session:
        other = await keys.issue(session, ground.settings, account.id, name="other")
        await keys.revoke(session, ground.settings, key)
    async with ground.database.begin() as session:
        with pytest.raises(keys.RevokedApiKey):
            await keys.verify(session, ground.settings, key)
        assert (await keys.verify(session, ground.settings, other)).id == account.id


async def test_a_closed_account_is_refused(ground: Ground, account: Account, key: str) -> None:
    async with ground.database.begin() as session:
        await session.execute(update(Account).values(closed_at=account.created_at))
    async with ground.database.begin() as session:
        with pytest.raises(keys.AccountClosed):
            await keys.verify(session, ground.settings, key)


@pytest.mark.parametrize(
    "email", ["", "x", "a@b", "a b@c.de", "a@b.c\x00d", "@b.cd", "a@@b.cd", "a@" + "b" * 260 + ".cd"]
)
async def test_what_is_no_address_is_refused(ground: Ground, email: str) -> None:
    async with ground.database.begin() as session:
        with pytest.raises(accounts.InvalidEmail):
            await accounts.create(session, email)


async def test_an_address_has_one_account_whatever_its_case(ground: Ground, account: Account) -> None:
    async with ground.database.begin() as session:
        with pytest.raises(accounts.AccountExists):
            await accounts.create(session, "  Layla@Example.COM ")
        found = await accounts.find(session, "LAYLA@example.com")
    assert found is not None
    assert found.id == account.id
