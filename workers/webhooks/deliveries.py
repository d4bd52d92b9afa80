"""Deliveries as their account sees them: listed, shown with every try, and sent again, one or all that failed."""

from collections.abc import Sequence
from datetime import UTC, datetime
from uuid import UUID

from msgspec import Struct
from sqlalchemy import func, insert, select, text
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import defer

from infra import ids
from infra.errors import PulseError
from infra.ground import Ground
from infra.models import WebhookDelivery, WebhookEndpoint, WebhookMessage
from workers import idempotency, lifecycle
from workers.idempotency import Call
from workers.webhooks import endpoints, selection

TEST = "webhook.test"
#: Deliveries that one call sends again at most.
MOST_RECOVERED = 1000
# No id speaks of an earlier moment.
_EARLIEST = datetime(1970, 1, 2, tzinfo=UTC)


class DeliveryNotFound(PulseError):
    """There is no such delivery."""

    ar = "لا يوجد تسليم بهذا المعرّف."
    status = 404


class WebhookDeleted(PulseError):
    """The webhook endpoint that this delivery was for was deleted: there is nobody to send it to again."""

    ar = "حُذف عنوان الخطاف (webhook) الذي كان هذا التسليم له، فلا أحد يُرسل إليه من جديد."
    status = 409


class Wanted(Struct, frozen=True, kw_only=True):
    """Which of an account's deliveries to list; what is None does not choose. `type` may be a group such as `job.*`."""

    endpoint_id: UUID | None = None
    state: str | None = None
    type: str | None = None
    message_id: UUID | None = None


class Tested(Struct, frozen=True, kw_only=True):
    """The message by which an endpoint is tried out; `replayed`: it was written before, under the same key."""

    message_id: UUID
    replayed: bool = False


class Replayed(Struct, frozen=True, kw_only=True):
    """The new delivery of a message; `replayed`: it was made before, under the same Idempotency-Key."""

    delivery: WebhookDelivery
    replayed: bool = False


class Recovered(Struct, frozen=True, kw_only=True):
    """How many messages are sent again, and whether there are more than one call takes."""

    recovered: int
    more: bool


async def get(session: AsyncSession, account_id: UUID, delivery_id: UUID, *, lock: bool = False) -> WebhookDelivery:
    """Return the account's delivery. Raises `DeliveryNotFound`, also for somebody else's."""
    query = select(WebhookDelivery).where(WebhookDelivery.id == delivery_id, WebhookDelivery.account_id == account_id)
    if lock:  # it may have been looked at before, and be another by now
        query = query.with_for_update().execution_options(populate_existing=True)
    delivery = await session.scalar(query)
    if delivery is None:
        raise DeliveryNotFound
    return delivery


async def page(
    session: AsyncSession, account_id: UUID, wanted: Wanted, *, before: UUID | None, limit: int
) -> Sequence[WebhookDelivery]:
    """Return at most `limit` of the account's deliveries, newest first, older than `before`; bodies and logs aside."""
    query = select(WebhookDelivery).where(WebhookDelivery.account_id == account_id)
    if before is not None:
        query = query.where(WebhookDelivery.id < before)
    if wanted.endpoint_id is not None:
        query = query.where(WebhookDelivery.endpoint_id == wanted.endpoint_id)
    if wanted.state is not None:
        query = query.where(WebhookDelivery.state == wanted.state)
    if wanted.type is not None:
        query = query.where(WebhookDelivery.type.in_(selection.types_of(wanted.type)))
    if wanted.message_id is not None:
        query = query.where(WebhookDelivery.message_id == wanted.message_id)
    light = query.options(*(defer(each, raiseload=True) for each in (WebhookDelivery.body, WebhookDelivery.log)))
    return (await session.scalars(light.order_by(WebhookDelivery.id.desc()).limit(limit))).all()


async def try_out(ground: Ground, account_id: UUID, endpoint_id: UUID, *, key: str | None = None) -> Tested:
    """Write a message for an endpoint alone, whatever events it asks for; once under a caller's Idempotency-Key.

    Raises `WebhookNotFound`, `WebhookDisabled` or `IdempotencyKeyReused`.
    """
    call = Call.of(account_id, key, lifecycle.fingerprint(f"POST /v1/webhooks/{endpoint_id}/test", None))
    async with ground.database.begin() as session:
        if call is not None and (kept := await idempotency.find(session, call)) is not None:
            kept.check(call)
            return Tested(message_id=kept.subject_id, replayed=True)
        await endpoints.get_enabled(session, account_id, endpoint_id)
        message_id = ids.new()
        await session.execute(
            insert(WebhookMessage).values(
                id=message_id,
                account_id=account_id,
                type=TEST,
                subject_id=endpoint_id,
                data={"id": str(endpoint_id), "url": f"/v1/webhooks/{endpoint_id}"},
                endpoint_id=endpoint_id,
            )
        )
        if call is not None:
            await idempotency.keep(session, call, message_id)
    return Tested(message_id=message_id)


async def replay(ground: Ground, account_id: UUID, delivery_id: UUID, *, key: str | None = None) -> Replayed:
    """Send a delivery's message again, at once, whatever became of it; once under a caller's Idempotency-Key.

    An endpoint gets it where it is now. One that still waits is given up for the new one. Raises `DeliveryNotFound`,
    `WebhookDeleted`, `WebhookDisabled` or `IdempotencyKeyReused`.
    """
    route = f"POST /v1/webhooks/deliveries/{delivery_id}/replay"
    call = Call.of(account_id, key, lifecycle.fingerprint(route, None))
    async with ground.database.begin() as session:
        if call is not None and (kept := await idempotency.find(session, call)) is not None:
            kept.check(call)
            return Replayed(delivery=await get(session, account_id, kept.subject_id), replayed=True)
        endpoint = await _addressee(session, await get(session, account_id, delivery_id))
        old = await get(session, account_id, delivery_id, lock=True)
        new = WebhookDelivery(
            id=ids.new(),
            message_id=old.message_id,
            account_id=account_id,
            endpoint_id=old.endpoint_id,
            type=old.type,
            url=old.url if endpoint is None else endpoint.url,
            body=old.body,
            next_at=func.now(),
            replay_of=old.id,
        )
        if old.state == "pending":
            old.state, old.finished_at = "canceled", func.now()
        session.add(new)
        await session.flush()
        await session.refresh(new)  # its moments are the database's
        if call is not None:
            await idempotency.keep(session, call, new.id)
    return Replayed(delivery=new)


async def _addressee(session: AsyncSession, delivery: WebhookDelivery) -> WebhookEndpoint | None:
    """Return the endpoint that a delivery is for, locked; None for an address that was given with a job or a batch."""
    if delivery.endpoint_id is None:
        return None
    try:
        return await endpoints.get_enabled(session, delivery.account_id, delivery.endpoint_id)
    except endpoints.WebhookNotFound:
        raise WebhookDeleted from None


async def recover(ground: Ground, account_id: UUID, endpoint_id: UUID, since: datetime) -> Recovered:
    """Send an endpoint again, at once, what was to be delivered since then and was not: the oldest of it first.

    That is every message of which a delivery failed, or was canceled when the endpoint was switched off, and none was
    made, or still waits. So asking again sends nothing twice. Raises `WebhookNotFound` or `WebhookDisabled`.
    """
    async with ground.database.begin() as session:
        await endpoints.get_enabled(session, account_id, endpoint_id)
        asked = {
            "endpoint": endpoint_id,
            "since": min(max(since, _EARLIEST), datetime.now(UTC)),
            "most": MOST_RECOVERED,
        }
        missed, recovered = (await session.execute(_RECOVER, asked)).one()
    return Recovered(recovered=recovered, more=missed > recovered)


_RECOVER = text("""
    WITH failed AS MATERIALIZED (
        SELECT DISTINCT ON (message_id) id, message_id FROM webhook_deliveries
        WHERE endpoint_id = :endpoint AND state IN ('failed', 'canceled') AND created_at >= :since
              AND id >= first_uuid(CAST(:since AS timestamptz) - interval '1 minute')
        ORDER BY message_id, id DESC
    ), missed AS (
        SELECT id FROM failed f WHERE NOT EXISTS (
            SELECT FROM webhook_deliveries o
            WHERE o.endpoint_id = :endpoint AND o.message_id = f.message_id AND o.state IN ('pending', 'delivered'))
        ORDER BY message_id LIMIT :most + 1
    ), made AS (
        INSERT INTO webhook_deliveries (id, message_id, account_id, endpoint_id, type, url, body, next_at, replay_of)
        SELECT uuidv7(), d.message_id, d.account_id, d.endpoint_id, d.type, e.url, d.body, now(), d.id
        FROM (SELECT id FROM missed ORDER BY id LIMIT :most) m
        JOIN webhook_deliveries d USING (id) JOIN webhook_endpoints e ON e.id = d.endpoint_id
        RETURNING id
    )
    SELECT (SELECT count(*) FROM missed), (SELECT count(*) FROM made)
""")
