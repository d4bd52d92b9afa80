"""Copies the failed lines of a batch into one that asks for them again, with their numbers and custom_ids."""

from typing import Final
from uuid import UUID

from sqlalchemy import text

from infra.ground import Ground
from workers.batches import verdicts

_AT_ONCE: Final = 2000

_COPY = text("""
    WITH failed AS MATERIALIZED (
        SELECT l.line, l.custom_id, l.form, l.kind, l.spec, l.labels, l.timeout_s, l.units, l.model
        FROM batch_results r JOIN batch_lines l ON l.batch_id = r.batch_id AND l.line = r.line
        WHERE r.batch_id = :source AND r.line > :after AND r.is_error AND r.is_kept
        ORDER BY r.line LIMIT :most
    ), copying AS (
        INSERT INTO batch_lines (batch_id, line, custom_id, form, kind, spec, labels, timeout_s, units, model)
        SELECT :batch, line, custom_id, form, kind, spec, labels, timeout_s, units, model
        FROM failed
    ), counts AS (
        SELECT count(*) AS lines, max(line) AS last FROM failed
    ), sums AS (
        SELECT u.key AS meter, CAST(sum(u.value::bigint) AS bigint) AS units
        FROM failed, jsonb_each_text(failed.units) u GROUP BY 1
    )
    SELECT lines, last, coalesce((SELECT jsonb_object_agg(meter, units) FROM sums), '{}') FROM counts
""")


async def copy(ground: Ground, batch_id: UUID, start: int) -> tuple[int, bool]:
    """Copy the next failed lines behind line `start`; returns the last one's number, and whether there are no more.

    Copied again, as after `DatabaseUnavailable`, they change nothing. Raises `NotValidating`.
    """
    async with ground.database.begin() as session:
        batch = await verdicts.locked(session, batch_id)
        if batch.read_lines != start:
            return batch.read_lines, False
        given = {"batch": batch_id, "source": batch.source_id, "after": start, "most": _AT_ONCE}
        lines, last, needs = (await session.execute(_COPY, given)).one()
        batch.lines += lines
        batch.read_lines = last or start
        batch.needs = {meter: batch.needs.get(meter, 0) + needs.get(meter, 0) for meter in batch.needs | needs}
        return batch.read_lines, lines < _AT_ONCE
