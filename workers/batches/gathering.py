"""Gathers the lines whose jobs are over: their results, counts and charges, in one transaction for many."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

from msgspec import Raw
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from infra.models import Batch
from workers.batches import results, telling
from workers.batches.results import Told

#: Of so many jobs the ends are gathered at a time.
MOST_AT_ONCE = 1000
# And of so many bytes of what they made: the first one whatever it has. The database may keep it in much fewer; how
# long it is costs something to find out, and is asked only of those that are few enough as they are kept.
_MOST_BYTES = 2 * 1024**2

# One whose moment has come was cancelled by nobody else, or was asked to stop by that moment. Jobs and lines are looked
# up one by one (LIMIT): whatever a plan takes a window or a batch to be, it never compares all with all, nor reads a
# large batch to the end for a few ends.
_OVER = text("""
    WITH ended AS MATERIALIZED (
        SELECT f.line, j.*,
               row_number() OVER finishing AS place, sum(coalesce(pg_column_size(j.result), 0)) OVER finishing AS size
        FROM batch_flights f, LATERAL (
            SELECT id, kind, state, result, error, charged, finished_at,
                   coalesce(state = 'canceled' AND coalesce(cancel_requested_at >= cancel_by, cancel_by IS NOT NULL),
                            false) AS is_late
            FROM jobs WHERE id = f.job_id AND finished_at IS NOT NULL LIMIT 1
        ) j
        WHERE f.batch_id = CAST(:batch AS uuid)
        WINDOW finishing AS (ORDER BY j.finished_at, j.id)
    ), few AS (
        SELECT *, sum(coalesce(octet_length(result::text), 0)) OVER (ORDER BY place) AS length
        FROM ended WHERE place <= :most AND (size <= :most_bytes OR place = 1)
    )
    SELECT e.line, l.custom_id, l.form, e.kind, e.id, CASE WHEN e.is_late THEN 'expired' ELSE e.state END,
           e.result::text, e.error, e.charged
    FROM few e, LATERAL (
        SELECT custom_id, form FROM batch_lines WHERE batch_id = CAST(:batch AS uuid) AND line = e.line LIMIT 1
    ) l
    WHERE e.length <= :most_bytes OR e.place = 1
    ORDER BY e.place
""")
_LAND = text("DELETE FROM batch_flights WHERE batch_id = :batch AND line = ANY(CAST(:lines AS integer[]))")


async def gather(session: AsyncSession, batch: Batch) -> int:
    """Put the lines whose jobs are over to the results, in the order in which they ended; returns how many.

    The caller holds the lock on the batch's row, which is written with the transaction. A job that was given another go
    is over all the same.
    """
    given = {"batch": batch.id, "most": MOST_AT_ONCE, "most_bytes": _MOST_BYTES}
    over = (await session.execute(_OVER, given)).all()
    if not over:
        return 0
    await results.append(session, batch, [_told(row) for row in over])
    batch.charged = _sum(batch.charged, [row[-1] for row in over])
    await session.execute(_LAND, {"batch": batch.id, "lines": [row[0] for row in over]})
    return len(over)


def _told(row: Sequence[Any]) -> Told:
    line, custom_id, form, kind, job_id, outcome, result, error, charged = row
    return telling.tell(
        line,
        custom_id,
        form,
        outcome,
        kind=kind,
        job_id=job_id,
        result=None if result is None else Raw(result.encode()),
        error=error,
        charged=charged,
    )


def _sum(before: dict[str, int], charges: Sequence[dict[str, int] | None]) -> dict[str, int]:
    total = Counter(before)
    for charged in charges:
        total.update(charged or {})
    return dict(total)


# Those that are for vendors' own batches have a mark of their own. Both stand in the order of the lines, so that what
# lies before the lower one need not be looked at.
_LEFT = text("""
    SELECT line, custom_id, form, kind FROM batch_lines
    WHERE batch_id = :batch AND line > least(CAST(:drawn AS integer), CAST(:parceled AS integer))
          AND line > CASE WHEN model IS NULL THEN CAST(:drawn AS integer) ELSE CAST(:parceled AS integer) END
          AND NOT refused
    ORDER BY line LIMIT :most
""")


async def give_up(session: AsyncSession, batch: Batch, outcome: results.Outcome) -> int:
    """Tell of the next lines, which will be no jobs, that they ended so; returns how many. Locked as for `gather`."""
    parceled = batch.parceled_line if batch.economy else batch.read_lines
    columns = {"batch": batch.id, "drawn": batch.drawn_line, "parceled": parceled, "most": MOST_AT_ONCE}
    left = (await session.execute(_LEFT, columns)).all()
    told = [telling.tell(line, custom_id, form, outcome, kind=kind) for line, custom_id, form, kind in left]
    await results.append(session, batch, told)
    batch.drawn += len(left)
    last = left[-1][0] if len(left) == MOST_AT_ONCE else batch.read_lines
    batch.drawn_line, batch.parceled_line = max(batch.drawn_line, last), max(batch.parceled_line, last)
    return len(left)


async def give_up_named(session: AsyncSession, batch: Batch, lines: Sequence[int], outcome: results.Outcome) -> None:
    """Tell of those lines, which are no jobs and will be none, that they ended so. Locked as for `gather`."""
    rows = (await session.execute(_NAMED, {"batch": batch.id, "lines": list(lines)})).all()
    told = [telling.tell(line, custom_id, form, outcome, kind=kind) for line, custom_id, form, kind in rows]
    await results.append(session, batch, told)
    batch.drawn += len(rows)


_NAMED = text("""
    SELECT line, custom_id, form, kind FROM batch_lines
    WHERE batch_id = :batch AND line = ANY(CAST(:lines AS integer[])) ORDER BY line
""")
