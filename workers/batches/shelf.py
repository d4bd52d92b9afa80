"""Batches as their account sees them: found by id, listed newest first, cancelled."""

from datetime import UTC, datetime
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from infra.errors import PulseError
from infra.ground import Ground
from infra.models import BATCH_LIVE, Batch


class BatchNotFound(PulseError):
    """There is no such batch."""

    ar = "لا توجد دفعة بهذا المعرّف."
    status = 404


async def get(session: AsyncSession, account_id: UUID, batch_id: UUID, *, lock: bool = False) -> Batch:
    """Return the account's batch. Raises `BatchNotFound`, also for somebody else's."""
    query = select(Batch).where(Batch.id == batch_id, Batch.account_id == account_id)
    batch = await session.scalar(query.with_for_update() if lock else query)
    if batch is None:
        raise BatchNotFound
    return batch


async def page(
    session: AsyncSession, account_id: UUID, *, before: UUID | None, limit: int, state: str | None = None
) -> list[Batch]:
    """Return at most `limit` of the account's batches (in `state`), newest first, older than `before`."""
    query = select(Batch).where(Batch.account_id == account_id)
    if before is not None:
        query = query.where(Batch.id < before)
    if state is not None:
        query = query.where(Batch.state == state)
    return list(await session.scalars(query.order_by(Batch.id.desc()).limit(limit)))


async def cancel(ground: Ground, account_id: UUID, batch_id: UUID) -> Batch:
    """Have a batch stopped: nothing is read of it any more, and the tender ends what it has begun.

    One that is over, or is being stopped, stays as it is. Raises `BatchNotFound`.
    """
    async with ground.database.begin() as session:
        batch = await get(session, account_id, batch_id, lock=True)
        if batch.state in BATCH_LIVE and batch.cancel_requested_at is None:
            batch.cancel_requested_at = datetime.now(UTC)
            batch.state = "canceling"
        return batch
