"""The ground under one process: settings, database, Redis, queues, streams and store, opened and closed together."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from msgspec import Struct
from redis.asyncio import Redis

from infra import redis as road
from infra import storage
from infra.database import Database
from infra.overview import Overseer
from infra.queue import Queue
from infra.settings import Settings
from infra.storage import Storage
from infra.streams import Streams


class Ground(Struct, frozen=True, kw_only=True):
    """What every floor above stands on."""

    settings: Settings
    database: Database
    redis: Redis
    queue: Queue
    overseer: Overseer
    streams: Streams
    storage: Storage


def lay(settings: Settings) -> Ground:
    """Build the ground; nothing is connected until it is used."""
    redis = road.connect(settings)
    return Ground(
        settings=settings,
        database=Database(settings),
        redis=redis,
        queue=Queue(redis),
        overseer=Overseer(redis),
        streams=Streams(redis, settings.stream_keep_s, settings.account_events),
        storage=storage.connect(settings),
    )


async def leave(ground: Ground) -> None:
    """Close every connection of the ground."""
    await ground.storage.close()
    await ground.redis.aclose()
    await ground.database.close()


@asynccontextmanager
async def opened(settings: Settings) -> AsyncGenerator[Ground]:
    """Build a ground for the length of a block."""
    ground = lay(settings)
    try:
        yield ground
    finally:
        await leave(ground)
