"""For how long the lines and results of batches are kept; that there was a batch, and how it ended, stays."""

from datetime import timedelta
from uuid import UUID

from sqlalchemy import text

from infra.ground import Ground

# So many rows leave in one transaction, and so many batches are looked for at a time.
_MOST_ROWS = 5000
_MOST_AT_ONCE = 100

_OLD = text("""
    SELECT b.id FROM batches b
    WHERE b.finished_at < now() - CAST(:kept AS interval) AND b.id > :after
          AND (EXISTS (SELECT FROM batch_lines l WHERE l.batch_id = b.id)
               OR EXISTS (SELECT FROM batch_results r WHERE r.batch_id = b.id))
          -- those of its lines that are given another go are still to be copied
          AND NOT EXISTS (SELECT FROM batches g
                          WHERE g.source = 'retry' AND g.source_id = b.id AND g.state = 'validating')
    ORDER BY b.id LIMIT :most
""")
_FORGET = [
    text(f"""
        WITH forgetting AS (
            DELETE FROM {table}
            WHERE batch_id = :batch
                  AND line = ANY(ARRAY(SELECT line FROM {table} WHERE batch_id = :batch ORDER BY line LIMIT :most))
            RETURNING 1
        )
        SELECT count(*) FROM forgetting
    """)  # noqa: S608 (names of ours)
    for table in ("batch_lines", "batch_results")
]


async def forget(ground: Ground) -> int:
    """Delete the lines and results of the batches that ended `batch_keep_days` ago; returns of how many."""
    forgotten, after = 0, UUID(int=0)
    given = {"kept": timedelta(days=ground.settings.batch_keep_days), "most": _MOST_AT_ONCE}
    while old := await ground.database.ask(_OLD, given | {"after": after}):
        for (batch_id,) in old:
            await _forget(ground, batch_id)
        forgotten, after = forgotten + len(old), old[-1][0]
    return forgotten


async def _forget(ground: Ground, batch_id: UUID) -> None:
    for statement in _FORGET:
        many = _MOST_ROWS
        while many == _MOST_ROWS:
            ((many,),) = await ground.database.ask(statement, {"batch": batch_id, "most": _MOST_ROWS})
