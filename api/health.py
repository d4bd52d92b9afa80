"""`/healthz`: this process lives. `/readyz`: it can also reach what it needs."""

from litestar import Router, get
from litestar.di import NamedDependency
from redis.exceptions import RedisError

from infra.ground import Ground
from infra.redis import RedisUnavailable


@get("/healthz", summary="Is the process alive?")
async def alive() -> dict[str, str]:
    """Answer at once, whatever else is away."""
    return {"status": "ok"}


@get("/readyz", summary="Can it serve?")
async def ready(ground: NamedDependency[Ground]) -> dict[str, str]:
    """Answer 200 when PostgreSQL and Redis answer, else 503 naming which does not."""
    await ground.database.ping()
    try:
        await ground.redis.ping()  # pyright: ignore[reportUnknownMemberType, reportGeneralTypeIssues]
    except (RedisError, OSError) as error:
        raise RedisUnavailable from error
    return {"status": "ready"}


def router() -> Router:
    """Return the routes."""
    return Router("/", route_handlers=[alive, ready], tags=["operations"])
