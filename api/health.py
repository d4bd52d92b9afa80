"""`/healthz`: this process lives. `/readyz`: it can also reach what it needs."""

import asyncio

from litestar import Router, get
from litestar.di import NamedDependency

from infra.database import DatabaseUnavailable
from infra.ground import Ground
from infra.redis import AWAY, RedisUnavailable

# Whoever asks has a patience of its own, often of a few seconds: a server that hangs must not make this hang.
_PATIENCE_S = 2.0


@get("/healthz", summary="Is the process alive?")
async def alive() -> dict[str, str]:
    """Answer at once, whatever else is away."""
    return {"status": "ok"}


@get("/readyz", summary="Can it serve?")
async def ready(ground: NamedDependency[Ground]) -> dict[str, str]:
    """Answer 200 when PostgreSQL and Redis answer, else 503 naming which does not."""
    try:
        async with asyncio.timeout(_PATIENCE_S):
            await ground.database.ping()
    except TimeoutError as error:
        raise DatabaseUnavailable from error
    try:
        async with asyncio.timeout(_PATIENCE_S):
            await ground.redis.ping()  # pyright: ignore[reportUnknownMemberType, reportGeneralTypeIssues]
    except AWAY as error:
        raise RedisUnavailable from error
    return {"status": "ready"}


def router() -> Router:
    """Return the routes."""
    return Router("/", route_handlers=[alive, ready], tags=["operations"])
