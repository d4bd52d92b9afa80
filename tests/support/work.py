"""A real worker of a pool, inside the test's own process."""

import asyncio
import signal
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from infra.settings import Settings
from workers.worker import StudioPool as Pool


@asynccontextmanager
async def working(settings: Settings, pool: str = "chat", *, slots: int = 8) -> AsyncGenerator[Pool]:
    """Run a worker for the length of a block; at its end it is stopped as a SIGTERM would stop it."""
    worker = Pool(settings, pool, slots=slots, handle_signals=False)
    running = asyncio.create_task(worker.async_run())
    try:
        yield worker
    finally:
        worker.handle_sig(signal.SIGTERM)
        await asyncio.gather(running, return_exceptions=True)
        await worker.close()


async def work_off(settings: Settings, pool: str = "chat") -> None:
    """Run a worker until the queue is empty."""
    worker = Pool(settings, pool, slots=8, burst=True, handle_signals=False)
    await worker.async_run()
    await worker.close()
