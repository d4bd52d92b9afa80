"""What calls under a caller's Idempotency-Key have made before, where they make one thing at a time.

    async with ground.database.begin() as session:
        if (kept := await idempotency.find(session, call)) is not None: ...   # it is there, or is being made
        ...                                                                   # balances are locked, the thing is made
        await idempotency.keep(session, call, subject_id)

All in one transaction, so that a call whose answer was lost finds what it made, and one that was refused can be
repeated. Jobs are asked for many at once and do the same in `lifecycle/`, under the same lock.
"""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from uuid import UUID

import structlog
from msgspec import Struct
from sqlalchemy import ColumnElement, delete, func, insert, select, text, update
from sqlalchemy.ext.asyncio import AsyncSession

from infra.database import DatabaseUnavailable
from infra.errors import PulseError
from infra.ground import Ground
from infra.models import IdempotencyKey
from workers.lifecycle import KEEP_KEYS, IdempotencyKeyReused

log = structlog.stdlib.get_logger()

#: For so long a call that is under way is believed to be, if nothing is heard of it.
IN_FLIGHT = timedelta(seconds=60)
# How often a call that is under way says so: often enough that one of them may be lost.
_RENEW_S = IN_FLIGHT.total_seconds() / 3


class RequestInFlight(PulseError):
    """The first request with this Idempotency-Key is still under way. Please try again in a moment."""

    ar = "الطلب الأول بمفتاح Idempotency-Key هذا ما زال قيد التنفيذ. حاول مرة أخرى بعد قليل."
    status = 409


class Call(Struct, frozen=True, kw_only=True):
    """A call under a key: whose, and the fingerprint of what it asks for (`lifecycle.fingerprint`)."""

    account_id: UUID
    key: str
    fingerprint: bytes

    @classmethod
    def of(cls, account_id: UUID, key: str | None, fingerprint: bytes) -> "Call | None":
        """Return the call of somebody who may have given a key."""
        return None if key is None else cls(account_id=account_id, key=key, fingerprint=fingerprint)


class Kept(Struct, frozen=True, kw_only=True):
    """What is kept under a key: what was asked for, what was made of it, and when (the transaction's moment)."""

    fingerprint: bytes
    subject_id: UUID
    created_at: datetime

    def check(self, call: Call | None) -> None:
        """Raise `IdempotencyKeyReused` where another thing is asked for now."""
        if call is None or self.fingerprint != call.fingerprint:
            raise IdempotencyKeyReused(field="Idempotency-Key")


async def find(session: AsyncSession, call: Call) -> Kept | None:
    """Return what is kept under the key of `call`; nobody else can add to it before this transaction ends."""
    await session.execute(_LOCK, {"name": f"key {call.account_id} {call.key}"})
    await session.execute(delete(IdempotencyKey).where(*_is(call), IdempotencyKey.expires_at <= func.now()))
    columns = select(IdempotencyKey.fingerprint, IdempotencyKey.subject_id, IdempotencyKey.created_at)
    row = (await session.execute(columns.where(*_is(call)))).one_or_none()
    return None if row is None else Kept(fingerprint=row[0], subject_id=row[1], created_at=row[2])


async def keep(session: AsyncSession, call: Call, subject_id: UUID, *, keep: timedelta = KEEP_KEYS) -> None:
    """Keep what a call has made for so long, after `find` has found nothing in the same transaction."""
    await session.execute(
        insert(IdempotencyKey).values(
            account_id=call.account_id,
            key=call.key,
            fingerprint=call.fingerprint,
            subject_id=subject_id,
            expires_at=func.now() + keep,
        )
    )


async def renew(session: AsyncSession, call: Call, subject_id: UUID) -> None:
    """Say that a call is still under way."""
    mine = update(IdempotencyKey).where(*_is(call), IdempotencyKey.subject_id == subject_id)
    await session.execute(mine.values(expires_at=func.now() + IN_FLIGHT))


@asynccontextmanager
async def in_flight(ground: Ground, call: Call | None, subject_id: UUID) -> AsyncGenerator[None]:
    """Say for the length of a block that a call is under way; a process that dies says no more."""
    if call is None:
        yield
        return
    renewing = asyncio.create_task(_renew(ground, call, subject_id))
    try:
        yield
    finally:
        renewing.cancel()
        await asyncio.wait([renewing])


async def _renew(ground: Ground, call: Call, subject_id: UUID) -> None:
    while True:
        await asyncio.sleep(_RENEW_S)
        try:
            async with ground.database.begin() as session:
                await renew(session, call, subject_id)
        except DatabaseUnavailable:
            log.warning("a call under way could not say so", subject=str(subject_id))


async def complete(session: AsyncSession, call: Call, subject_id: UUID) -> None:
    """Keep the whole of what a call that was under way has asked for; raises `RequestInFlight` where another has come.

    That is so where nothing was heard of it for too long: only one of the two may have made something.
    """
    mine = update(IdempotencyKey).where(*_is(call), IdempotencyKey.subject_id == subject_id)
    whole = mine.values(fingerprint=call.fingerprint, expires_at=func.now() + KEEP_KEYS)
    if await session.scalar(whole.returning(IdempotencyKey.key)) is None:
        raise RequestInFlight


async def forget(session: AsyncSession, call: Call, subject_id: UUID) -> None:
    """Keep nothing of a call that came to nothing."""
    await session.execute(delete(IdempotencyKey).where(*_is(call), IdempotencyKey.subject_id == subject_id))


def _is(call: Call) -> tuple[ColumnElement[bool], ...]:
    return IdempotencyKey.account_id == call.account_id, IdempotencyKey.key == call.key


_LOCK = text("SELECT pg_advisory_xact_lock(hashtextextended(CAST(:name AS text), 0))")
