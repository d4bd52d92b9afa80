"""How long messages, their deliveries and secrets that have expired are kept."""

from sqlalchemy import TextClause, text

from infra.ground import Ground

_AT_ONCE = 2_000

# By id, which begins with the time: then only the partitions of those months are looked at.
_MESSAGES = text("""
    DELETE FROM webhook_messages WHERE id IN (
        SELECT id FROM webhook_messages WHERE id < first_uuid(now() - make_interval(days => :days))
        ORDER BY id LIMIT :most FOR UPDATE SKIP LOCKED)
    RETURNING id
""")
_DELIVERIES = text("""
    DELETE FROM webhook_deliveries WHERE id IN (
        SELECT id FROM webhook_deliveries
        WHERE id < first_uuid(now() - make_interval(days => :days)) AND state <> 'pending'
        ORDER BY id LIMIT :most FOR UPDATE SKIP LOCKED)
    RETURNING id
""")
_SECRETS = text("""
    DELETE FROM webhook_secrets WHERE id IN (
        SELECT id FROM webhook_secrets WHERE expires_at < now() - make_interval(days => :days)
        LIMIT :most FOR UPDATE SKIP LOCKED)
    RETURNING id
""")


async def forget(ground: Ground) -> int:
    """Delete what is older than `webhook_keep_days`, apart from what is still to be delivered; returns how many."""
    return sum([await _delete(ground, each) for each in (_MESSAGES, _DELIVERIES, _SECRETS)])


async def _delete(ground: Ground, statement: TextClause) -> int:
    deleted = 0
    while True:
        async with ground.database.begin() as session:
            given = {"days": ground.settings.webhook_keep_days, "most": _AT_ONCE}
            some = len((await session.scalars(statement, given)).all())
        deleted += some
        if some < _AT_ONCE:
            return deleted
