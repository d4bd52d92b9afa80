"""What the tests of the pool may ask for."""

import asyncio
import tempfile
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from arq.connections import ArqRedis

from infra.embedded import addresses, valkey
from infra.embedded.server import Server
from infra.settings import Settings
from tests.support.line import QUEUE, client, start
from workers.pool import Pool


@asynccontextmanager
async def _pools(settings: Settings, **usual: Any) -> AsyncGenerator[Callable[..., Pool]]:
    """Give what makes pools with the `usual` options, and close them at the end."""
    built: list[Pool] = []

    def make(*functions: Any, **options: Any) -> Pool:
        worker = Pool(functions, redis_pool=client(settings), **{"handle_signals": False, **usual, **options})
        built.append(worker)
        return worker

    yield make
    for worker in built:
        if worker.main_task is not None:
            worker.main_task.cancel()
            await asyncio.gather(worker.main_task, return_exceptions=True)
        await asyncio.wait_for(worker.close(), 30)


@pytest.fixture
async def build(settings: Settings) -> AsyncGenerator[Callable[..., Pool]]:
    """Make pools that stop when the queue is empty."""
    async with _pools(settings, burst=True) as make:
        yield make


@pytest.fixture
def home() -> Generator[Settings]:
    """Settings of a Valkey that is this test's own."""
    with tempfile.TemporaryDirectory(prefix="pulse-") as folder:
        local = Settings(env="test", home=folder)
        addresses.make_socket_folder(local)
        yield local


@pytest.fixture
def own(home: Settings) -> Generator[Server]:
    """That Valkey, running."""
    server = valkey.server(home)
    start(server)
    yield server
    server.stop()


@pytest.fixture
async def line(home: Settings, own: Server) -> AsyncGenerator[ArqRedis]:
    """A client of that Valkey."""
    redis = client(home)
    yield redis
    await redis.aclose(close_connection_pool=True)


@pytest.fixture
async def make(home: Settings, own: Server) -> AsyncGenerator[Callable[..., Pool]]:
    """Make pools on that Valkey."""
    async with _pools(home, queue_name=QUEUE) as make:
        yield make
