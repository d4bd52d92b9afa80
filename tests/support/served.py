"""The API as a test looks into it: who waits there, and a client of one with other settings."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import httpx2
from litestar import Litestar

from api.app import create_app
from infra.settings import Settings
from tests.support.serving import PLAIN, serving


@asynccontextmanager
async def speaking(settings: Settings, key: str) -> AsyncGenerator[httpx2.AsyncClient]:
    """Serve an API on `settings` for the length of a block; gives a client of it."""
    headers = {"Authorization": f"Bearer {key}"}
    async with (
        serving(create_app(settings)) as url,
        httpx2.AsyncClient(base_url=url, headers=headers, timeout=30, verify=PLAIN) as client,
    ):
        yield client


def waiting(app: Litestar) -> int:
    """Return how many jobs somebody waits for at `app`."""
    return sum(bool(topic.followers) for topic in app.state.hub.topics.values())


async def until_waiting(app: Litestar, jobs: int = 1) -> None:
    """Wait until so many jobs are waited for at `app`."""
    async with asyncio.timeout(10):
        while True:
            if waiting(app) == jobs:
                return
            await asyncio.sleep(0.01)
