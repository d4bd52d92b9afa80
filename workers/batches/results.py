"""The results of a batch as they grow: each line once, at the end of what is there, and never changed after that."""

from collections.abc import Sequence
from typing import Literal
from uuid import UUID

from msgspec import Struct
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from infra.models import Batch

#: How a line can end; a rejected one never was a job.
type Outcome = Literal["succeeded", "failed", "canceled", "expired", "rejected"]


class Told(Struct, frozen=True, kw_only=True):
    """What became of a line: its number, how it ended, and what is told of it, as JSON on one line.

    `is_kept` says that its request stands in `batch_lines`, so that it can be asked again.
    """

    line: int
    outcome: Outcome
    is_kept: bool
    told: bytes


async def append(session: AsyncSession, batch: Batch, told: Sequence[Told]) -> None:
    """Add what became of lines, in this order, and count it.

    The caller holds the lock on the batch's row, which is written with the transaction.
    """
    if not told:
        return
    results_end, errors_end = batch.results_bytes, batch.errors_bytes
    ends: list[tuple[int, int]] = []
    for each in told:
        length = len(each.told) + 1
        results_end += length
        errors_end += 0 if each.outcome == "succeeded" else length
        ends.append((results_end, errors_end))
        setattr(batch, each.outcome, getattr(batch, each.outcome) + 1)
    batch.results_bytes, batch.errors_bytes = results_end, errors_end
    await session.execute(_APPEND, _columns(batch.id, told, ends))


def _columns(batch_id: UUID, told: Sequence[Told], ends: Sequence[tuple[int, int]]) -> dict[str, object]:
    return {
        "batch": batch_id,
        "results_ends": [results_end for results_end, _ in ends],
        "errors_ends": [errors_end for _, errors_end in ends],
        "lines": [each.line for each in told],
        "errors": [each.outcome != "succeeded" for each in told],
        "kept": [each.is_kept for each in told],
        "told": [each.told.decode() + "\n" for each in told],
    }


_APPEND = text("""
    INSERT INTO batch_results (batch_id, results_end, errors_end, line, is_error, is_kept, told)
    SELECT :batch, r.* FROM unnest(CAST(:results_ends AS bigint[]), CAST(:errors_ends AS bigint[]),
                                   CAST(:lines AS integer[]), CAST(:errors AS boolean[]), CAST(:kept AS boolean[]),
                                   CAST(:told AS text[])) AS r
""")
