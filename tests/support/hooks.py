"""What tests of webhooks do: keep endpoints, tell of things, deliver, and look at what became of it."""

import asyncio
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from typing import Any, cast
from uuid import UUID

import msgspec
from msgspec import Struct
from sqlalchemy import select, text

from infra import ids
from infra.ground import Ground
from infra.models import WebhookDelivery, WebhookEndpoint
from infra.seal import Seal
from workers.webhooks import messages, pool, secrets, spreading
from workers.webhooks.secrets import Shown
from workers.webhooks.sending import Clock


class Hook(Struct, frozen=True):
    """An endpoint and its secret."""

    id: UUID
    secret: Shown


def loopback(ground: Ground, **settings: object) -> Ground:
    """Return the ground with loopback allowed for what others name, and other settings."""
    given = {"fetch_allow": "127.0.0.0/8", "webhook_timeout_s": 1.0, "grace_s": 5.0} | settings
    return msgspec.structs.replace(ground, settings=msgspec.structs.replace(ground.settings, **given))


async def hook(
    ground: Ground, account_id: UUID, url: str, *, events: Sequence[str] = ("*",), signature: str = "hmac"
) -> Hook:
    """Keep an endpoint."""
    async with ground.database.begin() as session:
        row = WebhookEndpoint(id=ids.new(), account_id=account_id, url=url, events=list(events), signature=signature)
        session.add(row)
        await session.flush()
        shown = await secrets.make(session, Seal(ground.settings.secret), account_id, row.id, signature)
    return Hook(row.id, shown)


async def tell(
    ground: Ground, account_id: UUID, *, times: int = 1, type_: str = "file.ready", url: str | None = None
) -> None:
    """Write down that something happened."""
    async with ground.database.begin() as session:
        for n in range(times):
            await messages.note(session, account_id, type_, ids.new(), {"n": n}, url=url)


async def spread_all(ground: Ground) -> None:
    """Hand over all that is new, or see it handed over by others."""
    new = text("SELECT count(*) FROM webhook_messages WHERE spread_at IS NULL")
    while True:
        while await spreading.spread(ground):
            pass
        async with ground.database.begin() as session:
            if not await session.scalar(new):
                return
        await asyncio.sleep(0.01)


async def deliveries(ground: Ground) -> list[WebhookDelivery]:
    """Return all deliveries, oldest first."""
    async with ground.database.begin() as session:
        return list(await session.scalars(select(WebhookDelivery).order_by(WebhookDelivery.id)))


def tries(delivery: WebhookDelivery) -> list[dict[str, Any]]:
    """Return the log of a delivery."""
    return cast("list[dict[str, Any]]", delivery.log)


async def endpoint(ground: Ground, kept: Hook) -> WebhookEndpoint:
    """Return an endpoint's row."""
    async with ground.database.begin() as session:
        return await session.get_one(WebhookEndpoint, kept.id)


async def do(ground: Ground, statement: str, **given: object) -> None:
    """Do something to the database."""
    async with ground.database.begin() as session:
        await session.execute(text(statement), given)


async def next_in_s(ground: Ground) -> float:
    """Return in how many seconds the only delivery is tried next."""
    async with ground.database.begin() as session:
        query = text("SELECT extract(epoch FROM next_at - now()) FROM webhook_deliveries")
        return float((await session.execute(query)).scalar_one())


async def hurry(ground: Ground) -> None:
    """Let no time be between two tries."""
    await do(ground, "UPDATE webhook_deliveries SET next_at = now() WHERE state = 'pending'")
    await do(ground, "UPDATE webhook_endpoints SET paused_until = NULL")


@asynccontextmanager
async def delivering(ground: Ground, *, clock: Clock = time.time) -> AsyncGenerator[None]:
    """Deliver for the length of a block, then stop as a SIGTERM would."""
    stopped = asyncio.Event()
    running = asyncio.create_task(pool.deliver(ground, stopped, clock=clock))
    try:
        yield
    finally:
        stopped.set()
        await running


async def until_tried(ground: Ground, count: int, within_s: float = 15) -> list[WebhookDelivery]:
    """Wait until so many tries are in the logs of all deliveries together, and return those."""
    async with asyncio.timeout(within_s):
        while True:
            found = await deliveries(ground)
            if sum(len(each.log) for each in found) >= count:
                return found
            await asyncio.sleep(0.02)


async def until_over(ground: Ground, count: int, within_s: float = 15) -> list[WebhookDelivery]:
    """Wait until so many deliveries are over, and return all."""
    async with asyncio.timeout(within_s):
        while True:
            found = await deliveries(ground)
            if sum(each.finished_at is not None for each in found) >= count:
                return found
            await asyncio.sleep(0.02)
