"""Secrets are sealed, sign together while one follows another, and an account's own one is made once."""

import asyncio
from datetime import timedelta

import msgspec
import pytest
from sqlalchemy import func, select

from infra import ids
from infra.ground import Ground
from infra.models import Account, WebhookSecret
from infra.seal import Seal, SealBroken
from quotas import accounts
from tests.support.hooks import Hook, do, hook
from workers.webhooks import rotation, secrets
from workers.webhooks.secrets import Shown

pytestmark = pytest.mark.reused

HOUR = timedelta(hours=1)


async def rotated(ground: Ground, account: Account, kept: Hook, overlap: timedelta = HOUR) -> Shown:
    """Rotate an endpoint's secret."""
    seal = Seal(ground.settings.secret)
    async with ground.database.begin() as session:
        return await secrets.rotate(session, seal, account.id, kept.id, "hmac", overlap=overlap)


async def signing(ground: Ground, *owners: Hook | Account) -> list[list[str]]:
    """Return the texts of the keys that sign for each owner."""
    async with ground.database.begin() as session:
        found = await secrets.living(session, Seal(ground.settings.secret), [each.id for each in owners])
    return [[key.text for key in found.get(each.id, ())] for each in owners]


async def test_the_database_has_no_secret_in_clear_and_the_account_sees_it_again(
    ground: Ground, account: Account
) -> None:
    kept = await hook(ground, account.id, "https://hooks.example.com/")
    async with ground.database.begin() as session:
        (row,) = await session.scalars(select(WebhookSecret))
        shown = await secrets.shown(session, Seal(ground.settings.secret), account.id, kept.id)
        key = (await secrets.living(session, Seal(ground.settings.secret), [kept.id]))[kept.id][0]
    assert key.raw not in row.sealed
    assert [each.secret for each in shown] == [kept.secret.secret]
    assert kept.secret.secret not in f"{shown} {shown[0]!r}"


async def test_what_was_rotated_away_signs_on_after_the_new_one_until_it_expires(
    ground: Ground, account: Account
) -> None:
    kept = await hook(ground, account.id, "https://hooks.example.com/")
    first, second = kept.secret, await rotated(ground, account, kept)
    assert await signing(ground, kept) == [[second.secret, first.secret]]
    third = await rotated(ground, account, kept, timedelta(minutes=1))
    assert (await signing(ground, kept))[0][0] == third.secret
    await do(ground, "UPDATE webhook_secrets SET expires_at = expires_at - interval '2 minutes'")
    assert await signing(ground, kept) == [[third.secret]], "a longer time of before was cut short"
    last = await rotated(ground, account, kept, timedelta(0))
    assert await signing(ground, kept) == [[last.secret]]


async def test_five_sign_at_most_the_newest(ground: Ground, account: Account) -> None:
    kept = await hook(ground, account.id, "https://hooks.example.com/")
    made = [await rotated(ground, account, kept) for _ in range(7)]
    ((newest, *rest),) = await signing(ground, kept)
    assert newest == made[-1].secret
    assert len(rest) == 4


async def test_an_accounts_own_secret_is_made_once_however_many_need_it_at_once(
    ground: Ground, account: Account
) -> None:
    seal = Seal(ground.settings.secret)

    async def ensure() -> None:
        async with ground.database.begin() as session:
            await secrets.ensure(session, seal, account.id)

    await asyncio.gather(*(do(ground, "SELECT pg_sleep(0.05)") for _ in range(8)))  # each has a connection by now
    await asyncio.gather(*(ensure() for _ in range(8)))
    await hook(ground, account.id, "https://hooks.example.com/")
    async with ground.database.begin() as session:
        other = await accounts.create(session, "omar@example.com")
        own = select(func.count()).select_from(WebhookSecret).where(WebhookSecret.endpoint_id.is_(None))
        assert await session.scalar(own) == 1
    (mine,), nobodys = await signing(ground, account, other)
    assert mine.startswith("whsec_")
    assert nobodys == []


async def test_what_was_sealed_under_another_secret_is_rotated_away(ground: Ground, account: Account) -> None:
    kept = await hook(ground, account.id, "https://hooks.example.com/")
    async with ground.database.begin() as session:
        await secrets.ensure(session, Seal(ground.settings.secret), account.id)
    settings = msgspec.structs.replace(ground.settings, secret="another secret than until now was set")
    changed = msgspec.structs.replace(ground, settings=settings)
    for endpoint_id in (kept.id, None):
        with pytest.raises(SealBroken):
            await rotation.show(changed, account.id, endpoint_id)
        made = await rotation.rotate(changed, account.id, endpoint_id, HOUR)
        assert len(made.secrets) == 1
    (endpoints_own,), (accounts_own,) = await signing(changed, kept, account)
    assert len({kept.secret.secret, endpoints_own, accounts_own}) == 3


async def test_one_that_cannot_be_opened_keeps_nobody_else_from_signing(ground: Ground, account: Account) -> None:
    one, other = [await hook(ground, account.id, "https://hooks.example.com/") for _ in range(2)]
    moved = "UPDATE webhook_secrets SET id = :new WHERE endpoint_id = :id"
    await do(ground, moved, new=ids.new(), id=one.id)
    assert await signing(ground, one, other) == [[], [other.secret.secret]]
