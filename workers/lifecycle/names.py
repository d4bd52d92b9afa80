"""Under which names calls are known: an Idempotency-Key stands for whatever its call made, for a day.

Jobs are looked up and kept under their names (these, unique keys, failed jobs that were given another go) by the
database's own `admit_jobs`; what else is made under a key, such as a file, asks here, under the same locks.
"""

import hashlib
from datetime import timedelta
from uuid import UUID

import msgspec
from msgspec import Struct
from sqlalchemy import delete, func, text
from sqlalchemy.ext.asyncio import AsyncSession

from infra.errors import PulseError
from infra.models import IdempotencyKey

#: A caller's key is remembered this long.
KEEP_KEYS = timedelta(hours=24)
#: The route that makes jobs, as `fingerprint` knows it.
JOBS_ROUTE = "POST /v1/jobs"


class IdempotencyKeyReused(PulseError):
    """This Idempotency-Key was used for another request within the last 24 hours."""

    ar = "استُخدم مفتاح Idempotency-Key هذا لطلب آخر خلال الأربع والعشرين ساعة الماضية."
    status = 422


def fingerprint(route: str, request: Struct) -> bytes:
    """Return what tells requests apart, however they were written; the same one on another route is another."""
    return hashlib.sha256(route.encode() + b"\n" + msgspec.json.encode(request, order="sorted")).digest()


async def find(session: AsyncSession, account_id: UUID, key: str, print_: bytes) -> UUID | None:
    """Return the id of what was made under a key before, or None; nobody else can use the key before the caller ends.

    Raises `IdempotencyKeyReused` when that was asked for by another request. Names are locked after jobs and before
    balances.
    """
    await session.execute(_LOCK, {"name": f"key {account_id} {key}"})
    this = (IdempotencyKey.account_id == account_id, IdempotencyKey.key == key)
    await session.execute(delete(IdempotencyKey).where(*this, IdempotencyKey.expires_at <= func.now()))
    kept = await session.get(IdempotencyKey, (account_id, key))
    if kept is None:
        return None
    if kept.fingerprint != print_:
        raise IdempotencyKeyReused(field="Idempotency-Key")
    return kept.subject_id


def keep(session: AsyncSession, account_id: UUID, key: str, print_: bytes, subject_id: UUID) -> None:
    """Remember what was made under a key, in the transaction that found nothing under it."""
    expires_at = func.now() + KEEP_KEYS
    session.add(
        IdempotencyKey(account_id=account_id, key=key, fingerprint=print_, subject_id=subject_id, expires_at=expires_at)
    )


# As `admit_jobs` locks it.
_LOCK = text("SELECT pg_advisory_xact_lock(hashtextextended(:name, 0))")


async def forget_keys(session: AsyncSession) -> None:
    """Delete the idempotency keys that are past their time."""
    await session.execute(delete(IdempotencyKey).where(IdempotencyKey.expires_at <= func.now()))
