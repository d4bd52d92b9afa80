"""Another go at the lines of a batch that came to nothing: a new batch, which reads them from the old one."""

from uuid import UUID

from sqlalchemy import exists, or_, select
from sqlalchemy.ext.asyncio import AsyncSession

from infra import ids
from infra.errors import PulseError
from infra.ground import Ground
from infra.models import BATCH_LIVE, Account, Batch, BatchResult
from workers import idempotency, lifecycle
from workers.batches import downloads, rows, shelf
from workers.batches.rows import ROUTE, Made, NewBatch
from workers.idempotency import Call


class BatchNotOver(PulseError):
    """The batch is {state}: what failed of it can be given another go when it is over."""

    ar = "حالة الدفعة {state}: تُعاد الأسطر التي فشلت منها بعد انتهائها."
    status = 409


class NothingToRetry(PulseError):
    """No line of this batch can be given another go: they succeeded, or are no requests that could be asked again."""

    ar = "لا يوجد في هذه الدفعة سطر يمكن إعادته: إما أنها نجحت، وإما أنها ليست طلبات يمكن تكرارها."
    status = 409


async def retry(ground: Ground, account: Account, batch_id: UUID, *, key: str | None = None) -> Made:
    """Make a batch of the lines that came to nothing, with the options of theirs; asked again, it is the answer.

    A go that ended before it was accepted was none: then it is another one. Raises `BatchNotFound`, `BatchNotOver`,
    `ResultsGone`, `NothingToRetry`, `TooManyBatches`, `IdempotencyKeyReused`.
    """
    call = Call.of(account.id, key, lifecycle.fingerprint(f"{ROUTE}/{batch_id}/retry", None))
    async with ground.database.begin() as session:
        old = await shelf.get(session, account.id, batch_id, lock=True)
        if call is not None and (kept := await idempotency.find(session, call)) is not None:
            kept.check(call)
            return Made(batch=await shelf.get(session, account.id, kept.subject_id), replayed=True)
        made = await _before(session, old)
        batch = made or await _make(session, ground, account, old)
        if call is not None:
            await idempotency.keep(session, call, batch.id)
        return Made(batch=batch, replayed=made is not None)


async def _before(session: AsyncSession, old: Batch) -> Batch | None:
    """Return the go that a batch was given before; one that ended before it was accepted was none."""
    query = select(Batch).where(Batch.source == "retry", Batch.source_id == old.id)
    return await session.scalar(query.where(or_(Batch.finished_at.is_(None), Batch.accepted_at.is_not(None))))


async def _make(session: AsyncSession, ground: Ground, account: Account, old: Batch) -> Batch:
    if old.state in BATCH_LIVE:
        raise BatchNotOver(state=old.state)
    downloads.check_kept(old, ground.settings)
    again = exists().where(BatchResult.batch_id == old.id, BatchResult.is_error, BatchResult.is_kept)
    if not await session.scalar(select(again)):
        raise NothingToRetry
    asked = NewBatch(
        mode="all" if old.mode == "all" else "each",
        window_s=round((old.expires_at - old.created_at).total_seconds()),
        metadata=old.labels,
        webhook=old.webhook,
        economy=old.economy,
    )
    return await rows.add(
        session, ground, account, asked, batch_id=ids.new(), source="retry", source_id=old.id, size_bytes=0
    )
