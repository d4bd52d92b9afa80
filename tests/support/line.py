"""A queue of arq's functions, as tests of the pool fill it, and a Valkey that can be stopped and started again."""

import asyncio
from collections.abc import Callable
from typing import Any

from arq.connections import ArqRedis

from infra import ids, queue
from infra import redis as road
from infra.embedded.server import Server
from infra.queue import Queue, Waiting
from infra.settings import Settings

QUEUE = queue.name("chat")


def client(settings: Settings) -> ArqRedis:
    """Return a client such as workers have."""
    return ArqRedis(road.pool(settings), job_serializer=queue.serialize, job_deserializer=queue.deserialize)


def start(server: Server) -> None:
    """Start a server, on the data it has."""
    server.launch(lambda _step: None)
    server.wait()


async def put(redis: ArqRedis, function: str, *arguments: Any, account: str = "one") -> list[str]:
    """Enqueue a job for each argument, all of one account, and return their ids."""
    jobs = [Waiting(str(ids.new()), function, (argument,), account) for argument in arguments]
    await Queue(redis).put(QUEUE, jobs)
    return [job.id for job in jobs]


async def until(true: Callable[[], Any], within_s: float = 20) -> None:
    """Wait for something to become true."""
    async with asyncio.timeout(within_s):
        while not true():  # noqa: ASYNC110
            await asyncio.sleep(0.01)
