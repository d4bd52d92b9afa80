"""What the tests of the pool may ask for."""

from collections.abc import AsyncGenerator, Callable
from typing import Any

import pytest
from arq.connections import ArqRedis

from infra import queue
from infra import redis as road
from infra.settings import Settings
from workers.pool import Pool


@pytest.fixture
async def build(settings: Settings) -> AsyncGenerator[Callable[..., Pool]]:
    """Make pools, and close them at the end."""
    built: list[Pool] = []

    def make(*functions: Any, **options: Any) -> Pool:
        options = {"burst": True, "handle_signals": False} | options
        redis = ArqRedis(road.pool(settings), job_serializer=queue.serialize, job_deserializer=queue.deserialize)
        worker = Pool(functions, redis_pool=redis, **options)
        built.append(worker)
        return worker

    yield make
    for worker in built:
        await worker.close()
