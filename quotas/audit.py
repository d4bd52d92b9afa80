"""Whether the books agree: every balance with its entries and holds, every open hold with a holder that lives."""

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession


async def disagreements(session: AsyncSession) -> list[str]:
    """Return one line for everything in the books that does not agree; none when they balance to the unit."""
    lines = await session.scalars(
        text("""
        SELECT format('balance %s (%s): %s %s, its %s say %s', b.id, b.meter, column_name, kept, source, told)
        FROM balances b
        LEFT JOIN (SELECT balance_id, sum(granted) g, sum(held) h, sum(used) u, sum(overage) o
                   FROM ledger_entries GROUP BY 1) e ON e.balance_id = b.id
        LEFT JOIN (SELECT balance_id, sum(units - drawn) FILTER (WHERE state = 'held') h,
                          sum(settled) FILTER (WHERE state = 'settled') u
                   FROM holds GROUP BY 1) s ON s.balance_id = b.id,
        LATERAL (VALUES ('granted', b.granted, 'entries', coalesce(e.g, 0)),
                        ('held', b.held, 'entries', coalesce(e.h, 0)),
                        ('used', b.used, 'entries', coalesce(e.u, 0)),
                        ('overage', b.overage, 'entries', coalesce(e.o, 0)),
                        ('held', b.held, 'holds', coalesce(s.h, 0)),
                        ('used', b.used, 'holds', coalesce(s.u, 0))) AS told(column_name, kept, source, told)
        WHERE kept <> told
        UNION ALL
        SELECT format('job %s (%s): its hold on %s is still open', j.id, j.state, h.meter)
        FROM holds h JOIN jobs j ON j.id = h.holder_id
        WHERE h.state = 'held' AND j.state NOT IN ('queued', 'running')
        UNION ALL
        SELECT format('file %s (%s): its hold on %s is %s', f.id, f.state, h.meter, h.state)
        FROM holds h JOIN files f ON f.id = h.holder_id
        WHERE h.state <> CASE WHEN f.state IN ('uploading', 'scanning') THEN 'held'
                              WHEN f.state = 'ready' THEN 'settled' ELSE 'voided' END
        UNION ALL
        SELECT format('batch %s (%s): its hold on %s is still open', b.id, b.state, h.meter)
        FROM holds h JOIN batches b ON b.id = h.holder_id
        WHERE h.state = 'held' AND b.finished_at IS NOT NULL
        UNION ALL
        SELECT format('batch %s (%s): %s %s were drawn, its jobs were given %s', b.id, b.state, coalesce(e.units, 0),
                      meter, coalesce(g.units, 0))
        FROM (SELECT holder_id, meter, -sum(held) AS units FROM ledger_entries WHERE kind = 'draw' GROUP BY 1, 2) e
        FULL JOIN (SELECT j.batch_id AS holder_id, h.meter, sum(h.units) AS units
                   FROM holds h JOIN jobs j ON j.id = h.holder_id WHERE j.batch_id IS NOT NULL GROUP BY 1, 2) g
             USING (holder_id, meter)
        JOIN batches b ON b.id = holder_id
        WHERE e.units IS DISTINCT FROM g.units
        UNION ALL
        SELECT format('hold of %s on %s is %s: there is no such job, file or batch', h.holder_id, h.meter, h.state)
        FROM holds h
        WHERE NOT EXISTS (SELECT FROM jobs j WHERE j.id = h.holder_id)
          AND NOT EXISTS (SELECT FROM files f WHERE f.id = h.holder_id)
          AND NOT EXISTS (SELECT FROM batches b WHERE b.id = h.holder_id)
          AND NOT (h.meter = 'storage_bytes' AND h.state IN ('voided', 'released'))  -- of a file that was deleted
        """)
    )
    return list(lines)
