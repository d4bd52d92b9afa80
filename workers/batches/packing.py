"""Packs parcels: lines of a batch that are for one model go to its vendor's own batch together."""

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from infra.models import Batch

# What a parcel asks in all: its tender has it in memory, a few times over.
_MOST_BYTES = 8 * 1024**2

_PACK = text("""
    WITH nearest AS MATERIALIZED (
        SELECT line, model, row_number() OVER lines AS place, sum(octet_length(spec::text)) OVER lines AS size
        FROM (SELECT line, model, spec FROM batch_lines
              WHERE batch_id = CAST(:batch AS uuid) AND line > CAST(:after AS integer)
                    AND model IS NOT NULL AND NOT refused
              ORDER BY line LIMIT :most) l
        WINDOW lines AS (ORDER BY line)
    ), few AS MATERIALIZED (
        SELECT line, model FROM nearest WHERE size <= :most_bytes OR place = 1
    ), packing AS (
        INSERT INTO batch_parcels (id, batch_id, model, after_line, until_line, lines)
        SELECT uuidv7(), CAST(:batch AS uuid), model, CAST(:after AS integer), (SELECT max(line) FROM few), count(*)
        FROM few GROUP BY model
    )
    SELECT (SELECT count(*) FROM nearest) AS found, count(*) AS packed, max(line) AS last FROM few
""")


async def pack(session: AsyncSession, batch: Batch, most: int) -> int:
    """Pack at most `most` of the next lines that are for vendors' own batches; returns how many.

    The caller holds the lock on the batch's row, which is written with the transaction.
    """
    given = {"batch": batch.id, "after": batch.parceled_line, "most": most, "most_bytes": _MOST_BYTES}
    found, packed, last = (await session.execute(_PACK, given)).one()
    batch.parceled_line = last if packed < found or found == most else batch.read_lines
    return packed
