"""Verdicts: a batch that is validated is accepted or fails, once; one that is not wanted any more is neither."""

from datetime import UTC, datetime
from uuid import UUID

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from infra.errors import PulseError
from infra.ground import Ground
from infra.models import Batch, Document
from quotas import ledger
from workers import lifecycle
from workers.batches import inputs, telling


class NotValidating(Exception):
    """The batch is not to be validated any more: it was cancelled, its time is over, or it was decided on."""


class ReadElsewhere(Exception):
    """Somebody else has read on in the batch since it was last looked at."""


async def locked(session: AsyncSession, batch_id: UUID) -> Batch:
    """Return a batch that is being validated, its row locked until the transaction ends; raises `NotValidating`."""
    late = Batch.expires_at <= func.now()  # by the database's clock, as whoever ends it then looks at it
    found = (await session.execute(select(Batch, late).where(Batch.id == batch_id).with_for_update())).one_or_none()
    if found is None or found[0].state != "validating" or found[1]:
        raise NotValidating
    return found[0]


async def accept(session: AsyncSession, batch: Batch) -> None:
    """Accept a batch whose lines are kept and whose units are held, all in this transaction or in earlier ones."""
    batch.state, batch.accepted_at = "running", datetime.now(UTC)
    await inputs.forget(session, batch)
    await telling.note_batch(session, batch)


async def fail(ground: Ground, batch_id: UUID, error: PulseError) -> None:
    """Have a batch fail as a whole, unless it is not validated any more. What its lines were refused for stays told."""
    reason = lifecycle.failure(error) | {name: it for name, it in error.facts.items() if name not in error.hidden}
    async with ground.database.begin() as session:
        await _fail(session, batch_id, reason)


async def _fail(session: AsyncSession, batch_id: UUID, reason: Document) -> None:
    try:
        batch = await locked(session, batch_id)
    except NotValidating:
        return
    batch.state, batch.error, batch.finished_at = "failed", reason, datetime.now(UTC)
    await inputs.forget(session, batch)
    await telling.note_batch(session, batch)
    await session.flush()
    await ledger.settle(session, {batch_id: {}})


async def leave(ground: Ground, batch_id: UUID) -> None:
    """Have the input removed of a batch that nobody is to read any more."""
    async with ground.database.begin() as session:
        batch = await session.get(Batch, batch_id)
        if batch is not None:
            await inputs.forget(session, batch)


async def outcome(ground: Ground, batch_id: UUID) -> Document:
    """Return what the job that read a batch has come to."""
    async with ground.database.begin() as session:
        batch = await session.get(Batch, batch_id)
    if batch is None:
        return {"batch": str(batch_id), "state": "deleted"}
    return {"batch": str(batch_id), "state": batch.state, "lines": batch.lines, "rejected": batch.rejected}
