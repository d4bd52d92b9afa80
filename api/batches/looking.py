"""Looking at a batch: as it is now, if it is another, or as soon as it is."""

import asyncio
from contextlib import suppress
from typing import Any
from uuid import UUID

from litestar import Request
from litestar.types import ASGIApp

from api import answers, departure
from api.batches.answers import answer, polite
from api.jobs import waiting
from infra.database import DatabaseUnavailable
from infra.ground import Ground
from infra.hub import Hub
from infra.models import BATCH_LIVE, Account, Batch
from workers.batches import shelf
from workers.batches.watch import Watch


async def show(
    request: Request[Any, Any, Any],
    account: Account,
    batch_id: UUID,
    ground: Ground,
    hub: Hub,
    watch: Watch,
    wait: str | None,
) -> ASGIApp:
    """Return the batch, or 304 where the caller has it as it stands; after `wait` seconds at most."""
    wait_s = waiting.wait_s(wait, ground.settings.wait_s)
    async with ground.database.begin() as session:
        batch = await shelf.get(session, account.id, batch_id)
    if wait_s and not _is_enough(request, batch):
        waiting_for = asyncio.create_task(_wait(request, batch, hub, watch, wait_s))
        gone = asyncio.create_task(departure.left(request.receive))
        try:
            await asyncio.wait({waiting_for, gone}, return_when=asyncio.FIRST_COMPLETED)
            if not waiting_for.done():
                return answers.to_nobody()
            batch = waiting_for.result()
        finally:
            for task in (waiting_for, gone):
                task.cancel()
            await asyncio.gather(waiting_for, gone, return_exceptions=True)
    return answers.send_new(request, answers.encode(answer(request, batch)), headers=polite(batch))


async def _wait(request: Request[Any, Any, Any], batch: Batch, hub: Hub, watch: Watch, wait_s: int) -> Batch:
    with suppress(TimeoutError):
        async with asyncio.timeout(wait_s):
            while not (_is_enough(request, batch) or hub.closed):
                with suppress(DatabaseUnavailable):
                    batch = await watch.next(batch.id)
    return batch


def _is_enough(request: Request[Any, Any, Any], batch: Batch) -> bool:
    if batch.state not in BATCH_LIVE:
        return True
    has_tag = "if-none-match" in request.headers
    return has_tag and not answers.is_known(request, answers.tag_of(answers.encode(answer(request, batch))))
