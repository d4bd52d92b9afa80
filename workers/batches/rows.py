"""What is asked of a batch, beside its lines, and the row that it becomes."""

from datetime import UTC, datetime, timedelta
from typing import Literal
from uuid import UUID

from msgspec import Struct
from sqlalchemy import func, select, text
from sqlalchemy.ext.asyncio import AsyncSession

from infra import ids
from infra.errors import PulseError
from infra.ground import Ground
from infra.models import Account, Batch
from infra.settings import Settings
from workers.request import check_webhook

#: Where batches are asked for, in the fingerprints of Idempotency-Keys.
ROUTE = "POST /v1/batches"

type Mode = Literal["each", "all"]
type Source = Literal["upload", "file", "retry"]


class TooManyBatches(PulseError):
    """You have {limit} batches that are not over, which is the most. Wait until one is, or cancel one."""

    ar = "لديك {limit} من الدفعات التي لم تنتهِ بعد، وهو الحد الأقصى. انتظر انتهاء إحداها أو ألغِ واحدة."
    status = 429


class NewBatch(Struct, frozen=True, kw_only=True):
    """How a batch is to be run; its lines are those of a file, or come with it.

    `window_s` is for how long it may run before what is left of it is given up. `economy` lets its lines go to their
    vendors' own batches.
    """

    mode: Mode
    window_s: int
    metadata: dict[str, str] = {}
    webhook: str | None = None
    economy: bool = False
    file_id: UUID | None = None

    def check(self, settings: Settings) -> None:
        """Raise what is wrong with it, as a job's request does."""
        if self.webhook is not None:
            check_webhook(self.webhook, settings)


class Made(Struct, frozen=True, kw_only=True):
    """A batch that was made; `replayed`: by a call before this one."""

    batch: Batch
    replayed: bool = False


async def add(
    session: AsyncSession,
    ground: Ground,
    account: Account,
    asked: NewBatch,
    *,
    batch_id: UUID,
    source: Source,
    size_bytes: int,
    source_id: UUID | None = None,
) -> Batch:
    """Make a batch, whose reading is still to be submitted, under the job's id that it has; raises `TooManyBatches`."""
    await check_room(session, ground, account.id)
    now = datetime.now(UTC)
    batch = Batch(
        id=batch_id,
        account_id=account.id,
        mode=asked.mode,
        source=source,
        source_id=source_id,
        size_bytes=size_bytes,
        labels=asked.metadata,
        webhook=asked.webhook,
        economy=asked.economy,
        job_id=ids.new(),
        created_at=now,
        expires_at=now + timedelta(seconds=asked.window_s),
    )
    session.add(batch)
    await session.flush()
    await session.refresh(batch)  # what the table itself fills in
    return batch


async def check_room(session: AsyncSession, ground: Ground, account_id: UUID) -> None:
    """Raise `TooManyBatches` where the account has no room for one more; until the transaction ends nobody adds one."""
    await session.execute(_LOCK, {"name": f"batches {account_id}"})
    unfinished = select(func.count()).where(Batch.account_id == account_id, Batch.finished_at.is_(None))
    if (await session.scalar(unfinished) or 0) >= ground.settings.account_batches:
        raise TooManyBatches(limit=ground.settings.account_batches)


_LOCK = text("SELECT pg_advisory_xact_lock(hashtextextended(CAST(:name AS text), 0))")
