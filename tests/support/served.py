"""The API as a test looks into it: who waits there, and a client of one with other settings."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import httpx2

from api.app import create_app
from api.jobs.waiting import WAITING
from infra.settings import Settings
from tests.support.serving import serving


@asynccontextmanager
async def speaking(settings: Settings, key: str) -> AsyncGenerator[httpx2.AsyncClient]:
    """Serve an API on `settings` for the length of a block; gives a client of it."""
    headers = {"Authorization": f"Bearer {key}"}
    async with (
        serving(create_app(settings)) as url,
        httpx2.AsyncClient(base_url=url, headers=headers, timeout=30) as client,
    ):
        yield client


def waiting() -> int:
    """Return how many calls are held in this process, where the API is served as well."""
    return sum(task.get_name().startswith(WAITING) for task in asyncio.all_tasks())


async def until_waiting(calls: int = 1) -> None:
    """Wait until so many calls are held."""
    async with asyncio.timeout(10):
        while True:
            if waiting() == calls:
                return
            await asyncio.sleep(0.01)
