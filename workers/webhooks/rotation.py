"""Secrets as their account asks for them: those of an endpoint, and its own, made when it is first asked for.

The account's own signs for addresses that are given with jobs and batches.
"""

from datetime import timedelta
from uuid import UUID

from msgspec import Struct
from sqlalchemy.ext.asyncio import AsyncSession

from infra.errors import PulseError
from infra.ground import Ground
from infra.seal import Seal
from workers import idempotency, lifecycle
from workers.idempotency import Call
from workers.webhooks import endpoints, secrets
from workers.webhooks.secrets import Shown

_OWN = "hmac"


class TooManySecrets(PulseError):
    """{limit} secrets sign already, which is the most. Wait until one stops, or rotate with no overlap."""

    ar = "يوجد {limit} أسرار توقّع الآن وهو الحد الأقصى. انتظر توقف أحدها، أو بدّلها من دون فترة تداخل."
    status = 409


class Rotated(Struct, frozen=True, kw_only=True):
    """What signs now, newest first; `replayed`: it was made before, under the same Idempotency-Key."""

    secrets: list[Shown]
    replayed: bool = False


async def show(ground: Ground, account_id: UUID, endpoint_id: UUID | None) -> list[Shown]:
    """Return all that sign now, newest first; of the account's own there is one at least.

    Raises `WebhookNotFound`.
    """
    seal = Seal(ground.settings.secret)
    async with ground.database.begin() as session:
        if endpoint_id is None:
            await secrets.ensure(session, seal, account_id)
        else:
            await endpoints.get(session, account_id, endpoint_id)
        return await secrets.shown(session, seal, account_id, endpoint_id)


async def rotate(
    ground: Ground, account_id: UUID, endpoint_id: UUID | None, overlap: timedelta, *, key: str | None = None
) -> Rotated:
    """Make a new secret; those before it sign for `overlap` at most, if they can be opened to do so.

    Once under a caller's Idempotency-Key.
    Raises `WebhookNotFound`, `TooManySecrets` or `IdempotencyKeyReused`.
    """
    seal, of = Seal(ground.settings.secret), endpoint_id or "secret"
    call = Call.of(account_id, key, lifecycle.fingerprint(f"POST /v1/webhooks/{of}/rotate", overlap.total_seconds()))
    async with ground.database.begin() as session:
        if call is not None and (kept := await idempotency.find(session, call)) is not None:
            kept.check(call)
            await _lock(session, account_id, endpoint_id)
            return Rotated(secrets=await secrets.readable(session, seal, account_id, endpoint_id), replayed=True)
        signature = await _lock(session, account_id, endpoint_id)
        if overlap and len(await secrets.readable(session, seal, account_id, endpoint_id)) >= secrets.MOST_LIVING:
            raise TooManySecrets(limit=secrets.MOST_LIVING)
        await secrets.rotate(session, seal, account_id, endpoint_id, signature, overlap=overlap)
        if call is not None:
            await idempotency.keep(session, call, endpoint_id or account_id)
        return Rotated(secrets=await secrets.readable(session, seal, account_id, endpoint_id))


async def _lock(session: AsyncSession, account_id: UUID, endpoint_id: UUID | None) -> str:
    """Return how is signed; nobody else makes a secret of the same before this transaction ends."""
    if endpoint_id is not None:
        return (await endpoints.get(session, account_id, endpoint_id, lock=True)).signature
    await secrets.lock(session, account_id)
    return _OWN
