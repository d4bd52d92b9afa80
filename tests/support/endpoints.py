"""Webhooks over HTTP, and deliveries as the process that sends them would leave them."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from httpx2 import AsyncClient as Client

from infra import ids
from infra.ground import Ground
from infra.models import WebhookDelivery

URL = "https://hooks.example.com/pulse?from=studio"
BODY = '{"type":"job.succeeded","timestamp":"2026-11-26T09:00:00Z","data":{"id":"\\u0633"}}'


async def add(client: Client, **facts: Any) -> dict[str, Any]:
    """Add an endpoint and return what is told of it."""
    answer = await client.post("/v1/webhooks", json={"url": URL} | facts)
    assert answer.status_code == 201, answer.text
    return answer.json()


async def delivered(ground: Ground, account_id: UUID, endpoint: dict[str, Any] | None = None, **facts: Any) -> UUID:
    """Keep a delivery to an endpoint, or to an address that was given with a job: `delivered` unless told otherwise."""
    now = datetime.now(UTC)
    state = facts.get("state", "delivered")
    kept: dict[str, Any] = {
        "id": ids.new(),
        "message_id": ids.new(),
        "account_id": account_id,
        "endpoint_id": UUID(endpoint["id"]) if endpoint else None,
        "type": "job.succeeded",
        "url": endpoint["url"] if endpoint else "https://given.example.com/",
        "state": state,
        "body": BODY,
        "tries": 1,
        "next_at": now + timedelta(hours=5),
        "finished_at": None if state == "pending" else now,
        "log": [],
    }
    async with ground.database.begin() as session:
        delivery = WebhookDelivery(**(kept | facts))
        session.add(delivery)
    return delivery.id
