"""The secrets that sign webhooks: made, changed, shown, and opened for a delivery. In the database they are sealed.

An endpoint has its own. An account has one for the addresses that it gives with jobs and batches, made when it is first
needed. One that was rotated away signs on beside its successor until it expires.
"""

from collections.abc import Collection, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from uuid import UUID

import structlog
from msgspec import Struct
from sqlalchemy import ColumnElement, and_, func, or_, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from infra import ids
from infra.models import WebhookSecret
from infra.seal import Seal, SealBroken
from workers.webhooks import signing
from workers.webhooks.signing import Key

log = structlog.stdlib.get_logger()

#: So many sign at a time: every one adds a signature to every message, and no server takes a header of any length.
MOST_LIVING = 5


class Shown(Struct, frozen=True, kw_only=True):
    """A secret as its account may see it: `secret` signs (`whsec_...`, `whsk_...`); `public_key` (`whpk_...`) verifies,
    and is there for ed25519 alone.
    """

    id: UUID
    signature: str
    secret: str
    public_key: str | None
    created_at: datetime
    expires_at: datetime | None

    def __repr__(self) -> str:
        return f"Shown({self.id})"


async def make(session: AsyncSession, seal: Seal, account_id: UUID, endpoint_id: UUID | None, signature: str) -> Shown:
    """Make another secret of an endpoint, or where `endpoint_id` is None of the account itself."""
    key = signing.new_key(signature)
    row = WebhookSecret(
        id=ids.new(), account_id=account_id, endpoint_id=endpoint_id, signature=signature, created_at=datetime.now(UTC)
    )
    row.sealed = seal.seal(key.raw, about=row.id.bytes)
    session.add(row)
    await session.flush()
    return _shown(row, key)


async def shown(session: AsyncSession, seal: Seal, account_id: UUID, endpoint_id: UUID | None) -> list[Shown]:
    """Return all that sign now as text, newest first. Raises `SealBroken`."""
    return [_shown(row, _opened(seal, row)) for row in await _rows(session, account_id, endpoint_id)]


async def readable(session: AsyncSession, seal: Seal, account_id: UUID, endpoint_id: UUID | None) -> list[Shown]:
    """Return those of `shown` that can be opened: the others sign nothing, and are no reason to have no new one."""
    found: list[Shown] = []
    for row in await _rows(session, account_id, endpoint_id):
        with suppress(SealBroken):
            found.append(_shown(row, _opened(seal, row)))
    return found


async def _rows(session: AsyncSession, account_id: UUID, endpoint_id: UUID | None) -> Sequence[WebhookSecret]:
    whose = and_(WebhookSecret.account_id == account_id, WebhookSecret.endpoint_id.is_not_distinct_from(endpoint_id))
    query = select(WebhookSecret).where(whose, _living()).order_by(*_NEWEST)
    return (await session.scalars(query.execution_options(populate_existing=True))).all()


async def rotate(
    session: AsyncSession,
    seal: Seal,
    account_id: UUID,
    endpoint_id: UUID | None,
    signature: str,
    *,
    overlap: timedelta,
) -> Shown:
    """Make a new secret; what has signed until now goes on for `overlap`, or for as long as it had still to."""
    until = func.now() + overlap
    await session.execute(
        update(WebhookSecret)
        .where(WebhookSecret.account_id == account_id, WebhookSecret.endpoint_id.is_not_distinct_from(endpoint_id))
        .where(or_(WebhookSecret.expires_at.is_(None), WebhookSecret.expires_at > until))
        .values(expires_at=until)
        .execution_options(synchronize_session=False)
    )
    return await make(session, seal, account_id, endpoint_id, signature)


async def lock(session: AsyncSession, account_id: UUID) -> None:
    """Let nobody else make an endpoint, or the account's own secret, before this transaction ends."""
    name = func.hashtextextended(f"webhooks {account_id}", 0)
    await session.execute(select(func.pg_advisory_xact_lock(name)))


async def ensure(session: AsyncSession, seal: Seal, account_id: UUID) -> None:
    """Have an account's own secret, made by whoever needs it first."""
    mine = select(WebhookSecret.id).where(
        WebhookSecret.account_id == account_id, WebhookSecret.endpoint_id.is_(None), _living()
    )
    if await session.scalar(mine.limit(1)) is None:
        await lock(session, account_id)
        if await session.scalar(mine.limit(1)) is None:
            await make(session, seal, account_id, None, "hmac")


async def living(session: AsyncSession, seal: Seal, owners: Collection[UUID]) -> dict[UUID, Sequence[Key]]:
    """Return the keys that sign now, newest first, of `owners`: endpoints, and accounts for their own ones.

    Who has none that can be opened is missing: nobody else is to wait for that.
    """
    owner = func.coalesce(WebhookSecret.endpoint_id, WebhookSecret.account_id)
    mine = or_(
        WebhookSecret.endpoint_id.in_(owners),
        and_(WebhookSecret.endpoint_id.is_(None), WebhookSecret.account_id.in_(owners)),
    )
    keys: dict[UUID, list[Key]] = {}
    for whose, row in await session.execute(select(owner, WebhookSecret).where(mine, _living()).order_by(*_NEWEST)):
        try:
            keys.setdefault(whose, []).append(_opened(seal, row))
        except SealBroken as error:
            log.error("a webhook secret cannot be opened", secret=str(row.id), reason=str(error))  # noqa: TRY400
    return {whose: found[:MOST_LIVING] for whose, found in keys.items()}


_NEWEST = (WebhookSecret.expires_at.desc().nulls_first(), WebhookSecret.id.desc())


def _living() -> ColumnElement[bool]:
    return or_(WebhookSecret.expires_at.is_(None), WebhookSecret.expires_at > func.now())


def _opened(seal: Seal, row: WebhookSecret) -> Key:
    return Key(row.signature, seal.open(row.sealed, about=row.id.bytes))


def _shown(row: WebhookSecret, key: Key) -> Shown:
    return Shown(
        id=row.id,
        signature=row.signature,
        secret=key.text,
        public_key=key.public,
        created_at=row.created_at,
        expires_at=row.expires_at,
    )
