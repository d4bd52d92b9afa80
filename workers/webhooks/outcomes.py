"""What becomes of a delivery after a try, and of its endpoint."""

from collections.abc import Sequence
from uuid import UUID

import msgspec
import structlog
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from infra.ground import Ground
from workers.webhooks import schedule, waiting
from workers.webhooks.claiming import Claimed
from workers.webhooks.sending import Tried

log = structlog.stdlib.get_logger()

# What somebody else has claimed since is not ours to write. Its place in the schedule is the length of its log: a try
# that died with its process was none of the receiver's failures. What was canceled under way may have been taken.
_WRITE = text("""
    WITH mine AS MATERIALIZED (
        SELECT g.*
        FROM webhook_deliveries d
        JOIN unnest(CAST(:ids AS uuid[]), CAST(:tries AS integer[]), CAST(:states AS text[]),
                    CAST(:waits AS double precision[]), CAST(:statuses AS integer[]), CAST(:entries AS text[]))
             AS g(id, tries, state, wait_s, status, entry) ON g.id = d.id AND g.tries = d.tries
        WHERE (d.state = 'pending' OR (d.state = 'canceled' AND g.state = 'delivered'))
              AND d.id = ANY(CAST(:ids AS uuid[])) ORDER BY d.id FOR NO KEY UPDATE OF d
    )
    UPDATE webhook_deliveries d
    SET state = m.state, status = m.status, log = d.log || CAST(m.entry AS jsonb),
        next_at = now() + make_interval(secs => m.wait_s),
        finished_at = CASE WHEN m.state <> 'pending' THEN now() END
    FROM mine m WHERE d.id = m.id AND d.id = ANY(CAST(:ids AS uuid[]))
    RETURNING d.id
""")
# The first success makes all good. Several that were under way together are one pause.
_TELL = text("""
    WITH told AS MATERIALIZED (
        SELECT id, bool_or(taken) AS taken, bool_or(gone) AS gone, bool_or(often) AS often, max(pause_s) AS pause_s,
               max(pauses) FILTER (WHERE pause_s IS NOT NULL) AS pauses
        FROM unnest(CAST(:endpoints AS uuid[]), CAST(:taken AS boolean[]), CAST(:gone AS boolean[]),
                    CAST(:often AS boolean[]), CAST(:pause_s AS double precision[]), CAST(:pauses AS integer[]))
             AS g(id, taken, gone, often, pause_s, pauses)
        GROUP BY id
    ), judged AS MATERIALIZED (
        SELECT t.*, CASE WHEN t.gone THEN 'gone'
                         WHEN NOT t.taken AND t.often AND e.failing_since < now() - CAST(:patience AS interval)
                             THEN 'failing' END AS reason
        FROM told t JOIN webhook_endpoints e ON e.id = t.id ORDER BY e.id FOR NO KEY UPDATE OF e
    )
    UPDATE webhook_endpoints e
    SET failing_since = CASE WHEN NOT j.taken THEN coalesce(e.failing_since, now()) END,
        paused_until = CASE WHEN NOT j.taken
                            THEN greatest(e.paused_until, now() + make_interval(secs => j.pause_s)) END,
        pauses = CASE WHEN j.taken THEN 0 WHEN e.pauses = j.pauses THEN e.pauses + 1 ELSE e.pauses END,
        disabled_at = CASE WHEN j.reason IS NULL THEN e.disabled_at ELSE coalesce(e.disabled_at, now()) END,
        disabled_reason = coalesce(e.disabled_reason, j.reason)
    FROM judged j WHERE e.id = j.id
    RETURNING e.id, CASE WHEN old.disabled_at IS NULL THEN new.disabled_reason END
""")
_GIVE_BACK = text("""
    UPDATE webhook_deliveries d SET next_at = now()
    FROM unnest(CAST(:ids AS uuid[]), CAST(:tries AS integer[])) AS g(id, tries)
    WHERE d.id = g.id AND d.tries = g.tries AND d.state = 'pending' AND d.id = ANY(CAST(:ids AS uuid[]))
""")


async def write(ground: Ground, tried: Sequence[Tried]) -> list[bool]:
    """Keep how tries ended, all at once; each answers whether its delivery was still this process's own.

    Raises `DatabaseUnavailable`; writing them once more does no harm.
    """
    telling = [each for each in tried if each.delivery.endpoint_id is not None and _matters(each)]
    async with ground.database.begin() as session:
        # Endpoints are locked first, as where their accounts change them.
        disabled = await _tell(session, telling) if telling else {}
        rows = await session.scalars(_WRITE, _columns(tried))
        written: set[UUID] = set(rows)
        if disabled:
            await waiting.cancel(session, list(disabled))
    for endpoint_id, reason in disabled.items():
        log.warning("a webhook endpoint is disabled", endpoint=str(endpoint_id), reason=reason)
    return [each.delivery.id in written for each in tried]


async def give_back(ground: Ground, deliveries: Sequence[Claimed]) -> None:
    """Let others have what was claimed, at once."""
    async with ground.database.begin() as session:
        given = {"ids": [each.id for each in deliveries], "tries": [each.tries for each in deliveries]}
        await session.execute(_GIVE_BACK, given)


def _matters(tried: Tried) -> bool:
    """Whether the endpoint's row changes: a success after successes leaves it alone."""
    return tried.delivery.troubled if tried.taken else not tried.ours


def _columns(tried: Sequence[Tried]) -> dict[str, list[object]]:
    nexts = [_next(each) for each in tried]
    return {
        "ids": [each.delivery.id for each in tried],
        "tries": [each.delivery.tries for each in tried],
        "states": [state for state, _ in nexts],
        "waits": [wait_s for _, wait_s in nexts],
        "statuses": [each.status for each in tried],
        "entries": [msgspec.json.encode([each.entry()]).decode() for each in tried],
    }


def _next(tried: Tried) -> tuple[str, float]:
    """Return the state that the delivery is in, and in how many seconds it is tried again where it is pending."""
    if tried.taken:
        return "delivered", 0.0
    wait_s = None if tried.gone else schedule.wait_s(tried.delivery.failures + 1)
    if wait_s is None:
        return "failed", 0.0
    return "pending", max(wait_s, tried.retry_after_s or 0.0)


async def _tell(session: AsyncSession, tried: Sequence[Tried]) -> dict[UUID, str]:
    """Tell endpoints how they did; returns those that are disabled now, and why."""
    given = {
        "endpoints": [each.delivery.endpoint_id for each in tried],
        "taken": [each.taken for each in tried],
        "gone": [each.gone for each in tried],
        "often": [each.delivery.old or each.delivery.failures + 1 >= schedule.LEAST_FAILURES for each in tried],
        "pause_s": [_pause_s(each) for each in tried],
        "pauses": [each.delivery.pauses for each in tried],
        "patience": schedule.PATIENCE,
    }
    rows: list[tuple[UUID, str | None]] = [tuple(row) for row in await session.execute(_TELL, given)]
    return {endpoint_id: reason for endpoint_id, reason in rows if reason is not None}


def _pause_s(tried: Tried) -> float | None:
    return schedule.pause_s(tried.delivery.pauses, tried.retry_after_s) if tried.throttled else None
