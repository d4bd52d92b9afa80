"""What the tests of the pool may ask for."""

import asyncio
import tempfile
from collections.abc import AsyncGenerator, Callable, Generator
from typing import Any

import pytest
from arq.connections import ArqRedis

from infra.embedded import addresses, valkey
from infra.embedded.server import Server
from infra.settings import Settings
from tests.support.line import QUEUE, client, start
from workers.pool import Pool


@pytest.fixture
async def build(settings: Settings) -> AsyncGenerator[Callable[..., Pool]]:
    """Make pools, and close them at the end."""
    built: list[Pool] = []

    def make(*functions: Any, **options: Any) -> Pool:
        options = {"burst": True, "handle_signals": False} | options
        worker = Pool(functions, redis_pool=client(settings), **options)
        built.append(worker)
        return worker

    yield make
    for worker in built:
        await worker.close()


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
    """Make pools on that Valkey, and close them at the end."""
    built: list[Pool] = []

    def build(*functions: Any, **options: Any) -> Pool:
        options = {"handle_signals": False, "queue_name": QUEUE} | options
        worker = Pool(functions, redis_pool=client(home), **options)
        built.append(worker)
        return worker

    yield build
    for worker in built:
        if worker.main_task is not None:
            worker.main_task.cancel()
            await asyncio.gather(worker.main_task, return_exceptions=True)
        await asyncio.wait_for(worker.close(), 30)
