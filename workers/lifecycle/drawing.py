"""Draws: the next lines of a batch become jobs, each with a hold of its own out of the batch's."""

from datetime import datetime
from uuid import UUID

from msgspec import Struct
from sqlalchemy import text
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
    run_at: datetime
    lane: Lane = "batch"


# Made here, the ids are in the lines' order, and nothing of what is asked has to leave the database.
_DRAW = text(f"""
    WITH lines AS MATERIALIZED (
        SELECT uuidv7() AS id, line, kind, spec, labels, timeout_s, units FROM batch_lines
        WHERE batch_id = CAST(:source AS uuid) AND line > :after AND NOT refused ORDER BY line LIMIT :most
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
""")  # noqa: S608 (a constant of the ledger)


async def draw(session: AsyncSession, batch: Batch, most: int) -> list[Drawn]:
    """Make jobs of at most `most` of a batch's next lines, and say in its row how far it is drawn.

    They are over by the end of the batch's window, begun or not. The caller holds the lock on the batch's row, and has
    them queued when they are committed.
    """
    given = {"source": batch.id, "account": batch.account_id, "until": batch.expires_at}
    rows = (await session.execute(_DRAW, given | {"after": batch.drawn_line, "most": most})).all()
    if rows and rows[0][4] is not None:
        raise RuntimeError(f"batch {batch.id} holds no {rows[0][4]} for its lines")
    batch.drawn += len(rows)
    batch.drawn_line = rows[-1][1] if len(rows) == most else batch.read_lines
    return [
        Drawn(id=job_id, account_id=batch.account_id, kind=kind, batch_id=batch.id, run_at=made_at)
        for job_id, _, kind, made_at, _ in rows
    ]
