"""What waits for endpoints: canceled where nobody is there for it any more, sent elsewhere where they have moved.

Deliveries are locked in the order of their ids, as everywhere: two that lock several in different orders would wait for
each other.
"""

from collections.abc import Sequence
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

_LOCKED = """
    WITH mine AS MATERIALIZED (
        SELECT id FROM webhook_deliveries
        WHERE endpoint_id = ANY(CAST(:endpoints AS uuid[])) AND state = 'pending' ORDER BY id FOR NO KEY UPDATE
    )
"""
_CANCEL = text(f"""{_LOCKED}
    UPDATE webhook_deliveries d SET state = 'canceled', finished_at = now() FROM mine WHERE d.id = mine.id
""")  # noqa: S608 (constants)
_MOVE = text(f"""{_LOCKED}
    UPDATE webhook_deliveries d SET url = :url FROM mine WHERE d.id = mine.id
""")  # noqa: S608


async def cancel(session: AsyncSession, endpoint_ids: Sequence[UUID]) -> None:
    """Send nothing of what waits for endpoints, which the transaction has locked."""
    await session.execute(_CANCEL, {"endpoints": endpoint_ids})


async def move(session: AsyncSession, endpoint_id: UUID, url: str) -> None:
    """Send what waits for an endpoint, which the transaction has locked, to its new address."""
    await session.execute(_MOVE, {"endpoints": [endpoint_id], "url": url})
