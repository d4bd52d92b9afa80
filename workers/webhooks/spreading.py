"""Messages become deliveries: one to each endpoint that wants to know, and one to the message's own address."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from msgspec import Struct
from sqlalchemy import select, text
from sqlalchemy.ext.asyncio import AsyncSession

from infra import ids
from infra.ground import Ground
from infra.models import Document, Job, WebhookEndpoint
from workers.webhooks import payload

#: Messages that are handed over in one transaction.
MOST_AT_ONCE = 200


class _Message(Struct, frozen=True, kw_only=True):
    id: UUID
    account_id: UUID
    type: str
    subject_id: UUID | None
    data: Document | None
    url: str | None
    endpoint_id: UUID | None
    created_at: datetime


# Of the oldest ones each account's first, then each one's second: who has a great many keeps nobody waiting. Several
# processes share them out, each what the others have not locked.
_TAKE = text("""
    WITH new AS MATERIALIZED (
        SELECT id, row_number() OVER (PARTITION BY account_id ORDER BY id) AS turn
        FROM (SELECT id, account_id FROM webhook_messages WHERE spread_at IS NULL ORDER BY id LIMIT 5000) oldest
    )
    SELECT m.id, m.account_id, m.type, m.subject_id, m.data, m.url, m.endpoint_id, m.created_at
    FROM new JOIN webhook_messages m ON m.id = new.id
    WHERE m.spread_at IS NULL ORDER BY new.turn, m.id LIMIT :most FOR NO KEY UPDATE OF m SKIP LOCKED
""")
_KEEP = text("""
    WITH told AS (
        SELECT * FROM unnest(CAST(:spread AS uuid[]), CAST(:accounts AS uuid[]), CAST(:types AS text[]),
                             CAST(:bodies AS text[])) AS t(message_id, account_id, type, body)
    ), given AS (
        SELECT * FROM unnest(CAST(:ids AS uuid[]), CAST(:messages AS uuid[]), CAST(:endpoints AS uuid[]),
                             CAST(:urls AS text[])) AS g(id, message_id, endpoint_id, url)
    ), keeping AS (
        INSERT INTO webhook_deliveries (id, message_id, account_id, endpoint_id, type, url, body, next_at)
        SELECT id, message_id, account_id, endpoint_id, type, url, body, now() FROM given JOIN told USING (message_id)
    )
    UPDATE webhook_messages SET spread_at = now() WHERE id = ANY(CAST(:spread AS uuid[]))
""")


async def spread(ground: Ground) -> int:
    """Hand new messages over, once each; returns how many. Any number of processes may do it at a time."""
    async with ground.database.begin() as session:
        rows = await session.execute(_TAKE, {"most": MOST_AT_ONCE})
        messages = [_Message(**row) for row in rows.mappings()]
        if messages:
            await _keep(session, messages, await _bodies(session, messages), await _listeners(session, messages))
    return len(messages)


async def _listeners(session: AsyncSession, messages: Iterable[_Message]) -> list[WebhookEndpoint]:
    accounts = {message.account_id for message in messages}
    query = select(WebhookEndpoint).where(WebhookEndpoint.account_id.in_(accounts))
    return list(await session.scalars(query.where(WebhookEndpoint.disabled_at.is_(None)).order_by(WebhookEndpoint.id)))


async def _bodies(session: AsyncSession, messages: Iterable[_Message]) -> dict[UUID, str]:
    """Return the body of each message; those that bring no data tell what their job's row says."""
    unsaid = {message.subject_id for message in messages if message.data is None}
    rows: dict[UUID, Mapping[str, Any]] = {}
    if unsaid:
        query = select(Job.id, Job.kind, Job.charged, Job.error, Job.labels).where(Job.id.in_(unsaid))
        rows = {row["id"]: dict(row) for row in (await session.execute(query)).mappings()}
    return {message.id: _body(message, rows) for message in messages}


def _body(message: _Message, jobs: Mapping[UUID, Mapping[str, Any]]) -> str:
    data = message.data
    if data is None:
        assert message.subject_id is not None
        data = payload.of_job(message.subject_id, message.type.partition(".")[2], jobs.get(message.subject_id))
    return payload.body(message.type, message.created_at, data)


async def _keep(
    session: AsyncSession,
    messages: Sequence[_Message],
    bodies: Mapping[UUID, str],
    endpoints: Sequence[WebhookEndpoint],
) -> None:
    addressed = [(message, *address) for message in messages for address in _addresses(message, endpoints)]
    await session.execute(
        _KEEP,
        {
            "ids": [ids.new() for _ in addressed],
            "messages": [message.id for message, _, _ in addressed],
            "endpoints": [endpoint_id for _, endpoint_id, _ in addressed],
            "urls": [url for _, _, url in addressed],
            # Once each: with twenty endpoints they would be twenty times as long.
            "spread": [message.id for message in messages],
            "accounts": [message.account_id for message in messages],
            "types": [message.type for message in messages],
            "bodies": [bodies[message.id] for message in messages],
        },
    )


def _addresses(message: _Message, endpoints: Iterable[WebhookEndpoint]) -> list[tuple[UUID | None, str]]:
    """Return who is told of a message: an endpoint and its address, or only an address."""
    own = [each for each in endpoints if each.account_id == message.account_id]
    if message.endpoint_id is not None:
        return [(each.id, each.url) for each in own if each.id == message.endpoint_id]
    told: list[tuple[UUID | None, str]] = [(each.id, each.url) for each in own if wants(each.events, message.type)]
    return told if message.url is None else [*told, (None, message.url)]


def wants(events: Iterable[str], type_: str) -> bool:
    """Whether an endpoint that is told of `events` is told of a type: by its name, by `job.*`, or by `*`."""
    return not {type_, type_.partition(".")[0] + ".*", "*"}.isdisjoint(events)
