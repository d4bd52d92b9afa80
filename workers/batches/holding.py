"""Holds what all lines of a batch may cost, once and together; of a batch that goes as far as it goes, what fits.

When that is decided the batch is accepted, in the same transaction.
"""

from collections.abc import Mapping, Sequence
from typing import Final
from uuid import UUID

from msgspec import Struct
from sqlalchemy import select, text, update
from sqlalchemy.ext.asyncio import AsyncSession

from infra.ground import Ground
from infra.models import Account, Batch, BatchLine, Hold
from quotas import ledger, spend
from quotas.ledger import Crossing
from workers import lifecycle
from workers.batches import reading, results, verdicts
from workers.batches.lines import Refusal
from workers.batches.refusals import BatchHasErrors, NoValidLines

_AT_ONCE: Final = 1000

#: A line's number, custom_id, form and units per meter.
type _Row = tuple[int, str, str, dict[str, int]]


class Taken(Struct, frozen=True, kw_only=True):
    """What became of a hold: whether all that was needed is held, and which thresholds that crossed."""

    is_all: bool
    crossings: Sequence[Crossing] = ()


class Place(Struct, frozen=True):
    """Until which line it was decided, what is left of the hold then (units per meter), and whether it was the last."""

    line: int
    left: dict[str, int]
    is_last: bool = False


async def hold(ground: Ground, batch_id: UUID) -> Taken:
    """Hold what a batch needs, which is read to its end; where that is all of it, it is accepted with that.

    If not, it is still to be decided which lines fit (`fit`). Asked again, it holds nothing more. Raises the fact for
    which the batch fails (`NoValidLines`, `BatchHasErrors`, `QuotaExceeded`), and `NotValidating`.
    """
    async with ground.database.begin() as session:
        batch = await verdicts.locked(session, batch_id)
        if batch.lines == batch.rejected and not batch.fitted_line:
            raise NoValidLines if batch.mode == "each" or not batch.lines else _errors(batch)
        if batch.mode == "all" and batch.rejected:
            raise _errors(batch)
        if batch.fitted_line or await _is_held(session, batch_id):
            return Taken(is_all=False)
        taken = await _hold(ground, session, batch)
        if taken.is_all:
            batch.fitted_line = batch.read_lines
            await verdicts.accept(session, batch)
        return taken


def _errors(batch: Batch) -> BatchHasErrors:
    return BatchHasErrors(errors=batch.rejected, lines=batch.lines)


async def _is_held(session: AsyncSession, batch_id: UUID) -> bool:
    return await session.scalar(select(Hold.meter).where(Hold.holder_id == batch_id).limit(1)) is not None


async def _hold(ground: Ground, session: AsyncSession, batch: Batch) -> Taken:
    """Hold what a batch needs, or as much of it as there is."""
    account = await session.get_one(Account, batch.account_id)
    drawing = await ledger.lock(session, [(account, meter) for meter in batch.needs], spend.caps(ground.settings))
    wanted = dict(batch.needs)
    if batch.mode == "each":
        wanted = {
            meter: min(units, max(0, drawing.standing(account.id, meter).remaining)) for meter, units in wanted.items()
        }
    crossings = drawing.hold(account.id, batch.id, wanted)
    await drawing.write(session)
    return Taken(is_all=wanted == batch.needs, crossings=crossings)


async def fit(ground: Ground, batch_id: UUID, place: Place | None) -> Place:
    """Decide which of the next lines fit into what is left of the hold, in their order; returns where that ended.

    One that does not fit does not stand in the way of a smaller one behind it. With the last one what is left is given
    back, and the batch accepted. `place` is where the last call ended, if that is known. Raises `NotValidating`.
    """
    async with ground.database.begin() as session:
        batch = await verdicts.locked(session, batch_id)
        if place is None or place.line != batch.fitted_line:
            place = Place(batch.fitted_line, await _left(session, batch_id))
        query = select(BatchLine.line, BatchLine.custom_id, BatchLine.form, BatchLine.units)
        query = query.where(BatchLine.batch_id == batch_id, BatchLine.line > place.line).order_by(BatchLine.line)
        lines = (await session.execute(query.limit(_AT_ONCE))).all()
        refused, left = _fitted(lines, place.left)
        await _refuse(session, batch, refused)
        if len(lines) == _AT_ONCE:
            batch.fitted_line = lines[-1][0]
            return Place(batch.fitted_line, left)
        batch.fitted_line = batch.read_lines
        if rest := {meter: units for meter, units in left.items() if units}:
            await ledger.give_back(session, batch_id, rest)
        await verdicts.accept(session, batch)
        return Place(batch.fitted_line, {}, is_last=True)


async def _left(session: AsyncSession, batch_id: UUID) -> dict[str, int]:
    """Return what is left of the hold after the lines of which it was decided that they fit."""
    rows = await session.execute(_LEFT, {"batch": batch_id})
    return {row.meter: row.units for row in rows}


async def _refuse(session: AsyncSession, batch: Batch, refused: Sequence[Refusal]) -> None:
    if not refused:
        return
    numbers = [refusal.line for refusal in refused]
    lines = update(BatchLine).where(BatchLine.batch_id == batch.id, BatchLine.line.in_(numbers))
    await session.execute(lines.values(refused=True).execution_options(synchronize_session=False))
    await results.append(session, batch, [reading.told(refusal) for refusal in refused])


def _fitted(lines: Sequence[_Row], before: Mapping[str, int]) -> tuple[list[Refusal], dict[str, int]]:
    """Return the lines that do not fit, and what the others leave."""
    refused, left = list[Refusal](), dict(before)
    for line, custom_id, form, needs in lines:
        lacking = next((meter for meter, amount in needs.items() if amount > left.get(meter, 0)), None)
        if lacking is None:
            for meter, amount in needs.items():
                left[meter] -= amount
            continue
        error = ledger.refusal(lacking, needed=needs[lacking], remaining=left.get(lacking, 0), resets_at=None)
        refused.append(Refusal(line=line, custom_id=custom_id, form=form, error=lifecycle.failure(error), is_kept=True))
    return refused, left


_LEFT = text("""
    WITH fitted AS (
        SELECT u.key AS meter, sum(u.value::bigint) AS units
        FROM batches b JOIN batch_lines l ON l.batch_id = b.id AND l.line <= b.fitted_line AND NOT l.refused,
             jsonb_each_text(l.units) u
        WHERE b.id = :batch GROUP BY 1
    )
    SELECT h.meter, CAST(h.units - coalesce(f.units, 0) AS bigint) AS units
    FROM holds h LEFT JOIN fitted f USING (meter) WHERE h.holder_id = :batch
""")
