"""What lies in parcels: the lines of each that nothing has become of yet, and how they come out of it.

All of it is done under the lock on the batch's row. So a line comes out once, whoever looks after its parcel, and
whatever is done twice.
"""

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

from msgspec import Struct
from sqlalchemy import exists, func, select, text
from sqlalchemy.ext.asyncio import AsyncSession

from infra.models import Batch, BatchParcel, Document
from workers import lifecycle
from workers.batches import gathering
from workers.batches.results import Outcome
from workers.lifecycle import Drawn, End

_MOST_AT_ONCE = 500

# One that is a job now flies until it is told; one that is neither has not come out.
_LINES = text("""
    SELECT l.line, l.kind, l.spec FROM batch_lines l
    WHERE l.batch_id = :batch AND l.line > :after AND l.line <= :until AND l.model = :model AND NOT l.refused
          AND (CAST(:named AS integer[]) IS NULL OR l.line = ANY(CAST(:named AS integer[])))
          AND NOT EXISTS (SELECT FROM batch_flights f WHERE f.batch_id = l.batch_id AND f.line = l.line)
          AND NOT EXISTS (SELECT FROM batch_results r WHERE r.batch_id = l.batch_id AND r.line = l.line)
    ORDER BY l.line LIMIT :most
""")


class Made(Struct, frozen=True, kw_only=True):
    """What a vendor made of a line: a result and what is charged for it, or the reason of a failure."""

    used: dict[str, int] = {}
    result: Document | None = None
    error: Document | None = None


async def lines(
    session: AsyncSession, parcel: BatchParcel, *, most: int, named: Sequence[int] | None = None
) -> list[tuple[int, str, Document]]:
    """Return the number, kind and spec of at most `most` lines that are still in a parcel, of those `named`."""
    given: dict[str, Any] = {"batch": parcel.batch_id, "after": parcel.after_line, "until": parcel.until_line}
    given |= {"model": parcel.model, "most": most, "named": None if named is None else list(named)}
    return [(line, kind, spec) for line, kind, spec in await session.execute(_LINES, given)]


async def any_left(session: AsyncSession, batch_id: UUID) -> bool:
    """Tell whether a batch has a parcel that is not over."""
    left = exists().where(BatchParcel.batch_id == batch_id, BatchParcel.finished_at.is_(None))
    return bool(await session.scalar(select(left)))


async def returning(session: AsyncSession, batch_id: UUID) -> list[BatchParcel]:
    """Return the parcels of a batch whose lines come back for our own pools."""
    query = select(BatchParcel).where(BatchParcel.batch_id == batch_id, BatchParcel.finished_at.is_(None))
    return list(await session.scalars(query.where(BatchParcel.state == "returning").order_by(BatchParcel.id)))


async def draw(session: AsyncSession, batch: Batch, parcels: Sequence[BatchParcel], most: int) -> list[Drawn]:
    """Make jobs of at most `most` lines that come back; the caller has them queued when that is committed."""
    drawn = list[Drawn]()
    for parcel in parcels:
        room = most - len(drawn)
        left = await lines(session, parcel, most=room + 1)
        if few := [line for line, _, _ in left[:room]]:
            drawn += await lifecycle.draw_named(session, batch, few)
        if len(left) > room:
            break
        await end(session, parcel)
    return drawn


async def land(session: AsyncSession, batch: Batch, parcel: BatchParcel, made: Mapping[int, Made]) -> int:
    """Make jobs of lines, which are over already: the vendor has made them. Returns of how many, each once."""
    left = [line for line, _, _ in await lines(session, parcel, most=len(made), named=list(made))]
    if not left:
        return 0
    drawn = await lifecycle.draw_named(session, batch, left)
    return await lifecycle.finish_in(session, [_end(job, made[job.line]) for job in drawn])


def _end(job: Drawn, made: Made) -> End:
    return End(
        job_id=job.id,
        attempt=0,
        was="queued",
        state="succeeded" if made.error is None else "failed",
        used=made.used,
        result=made.result,
        error=made.error,
    )


async def give_up(session: AsyncSession, batch: Batch, parcel: BatchParcel, outcome: Outcome) -> bool:
    """Tell of the next lines of a parcel that they ended so, and were no jobs; with the last of them it is over."""
    left = [line for line, _, _ in await lines(session, parcel, most=_MOST_AT_ONCE)]
    await gathering.give_up_named(session, batch, left, outcome)
    if len(left) == _MOST_AT_ONCE:
        return False
    await end(session, parcel)
    return True


async def end(session: AsyncSession, parcel: BatchParcel) -> None:
    """Have a parcel be over, out of which every line has come."""
    parcel.state, parcel.finished_at = "over", await session.scalar(select(func.now()))
