"""Draws: lines of a batch become jobs, each with a hold of its own out of the batch's."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from msgspec import Struct
from sqlalchemy import TextClause, text
from sqlalchemy.ext.asyncio import AsyncSession

from infra.models import Batch
from infra.queue import Lane
from quotas import ledger


class Drawn(Struct, frozen=True, kw_only=True):
    """A job that a line of a batch has become: as much of it as its queue has to know."""

    id: UUID
    account_id: UUID
    kind: str
    batch_id: UUID
    line: int
    run_at: datetime
    lane: Lane = "batch"


# Made here, the ids are in the lines' order, and nothing of what is asked has to leave the database.
def _draw(which: str) -> TextClause:
    return text(f"""
    WITH lines AS MATERIALIZED (
        SELECT uuidv7() AS id, line, kind, spec, labels, timeout_s, units FROM batch_lines
        WHERE batch_id = CAST(:source AS uuid) AND {which} AND NOT refused ORDER BY line LIMIT :most
    ), making AS (
        INSERT INTO jobs (id, account_id, kind, spec, labels, created_at, run_at, lane, start_by, timeout_s, cancel_by,
                          batch_id)
        SELECT id, CAST(:account AS uuid), kind, spec, coalesce(labels, '{{}}'), uuid_extract_timestamp(id),
               uuid_extract_timestamp(id), 'batch', CAST(:until AS timestamptz), timeout_s, CAST(:until AS timestamptz),
               CAST(:source AS uuid)
        FROM lines
    ), flying AS (
        INSERT INTO batch_flights (batch_id, line, job_id) SELECT CAST(:source AS uuid), line, id FROM lines
    ), drawers AS (
        SELECT id AS holder_id, units FROM lines
    ), {ledger.DRAWING}
    SELECT id, line, kind, uuid_extract_timestamp(id), (SELECT min(meter) FROM undrawn) FROM lines ORDER BY line
""")  # noqa: S608 (constants)


# What is for vendors' own batches is drawn by its number, when it has come from there.
_NEXT = _draw("line > :after AND model IS NULL")
_NAMED = _draw("line = ANY(CAST(:lines AS integer[]))")


async def draw(session: AsyncSession, batch: Batch, most: int) -> list[Drawn]:
    """Make jobs of at most `most` of a batch's next lines, and say in its row how far it is drawn.

    They are over by the end of the batch's window, begun or not. The caller holds the lock on the batch's row, and has
    them queued when they are committed.
    """
    drawn = await _drawn(session, batch, _NEXT, {"after": batch.drawn_line, "most": most})
    batch.drawn_line = drawn[-1].line if len(drawn) == most else batch.read_lines
    return drawn


async def draw_named(session: AsyncSession, batch: Batch, lines: Sequence[int]) -> list[Drawn]:
    """Make jobs of those lines of a batch, which are none yet. Locked as for `draw`."""
    return await _drawn(session, batch, _NAMED, {"lines": list(lines), "most": len(lines)})


async def _drawn(session: AsyncSession, batch: Batch, statement: TextClause, which: dict[str, Any]) -> list[Drawn]:
    given = {"source": batch.id, "account": batch.account_id, "until": batch.expires_at}
    rows = (await session.execute(statement, given | which)).all()
    if rows and rows[0][4] is not None:
        raise RuntimeError(f"batch {batch.id} holds no {rows[0][4]} for its lines")
    batch.drawn += len(rows)
    return [
        Drawn(id=job_id, account_id=batch.account_id, kind=kind, batch_id=batch.id, line=line, run_at=made_at)
        for job_id, line, kind, made_at, _ in rows
    ]
