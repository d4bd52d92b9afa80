"""The one way to Redis: a client per process."""

from collections.abc import Callable
from contextlib import suppress
from typing import Any, cast

import msgspec
import structlog
from redis import Redis as BlockingRedis
from redis.asyncio import ConnectionPool, Redis, SSLConnection
from redis.asyncio.connection import AbstractConnection
from redis.asyncio.retry import Retry
from redis.backoff import ExponentialWithJitterBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import NoScriptError, ReadOnlyError, RedisError

from infra import embedded
from infra.errors import PulseError
from infra.settings import Settings

#: What a caller sees while Redis is away, or is there but answers with an error (out of memory, read-only after a
#: failover). Every write of ours can be sent twice, so the client retries by itself first.
AWAY = (RedisError, OSError)
_PASSING = (RedisConnectionError, ReadOnlyError)
log = structlog.stdlib.get_logger()


class RedisUnavailable(PulseError):
    """The queue cannot be reached right now. Please try again."""

    ar = "لا يمكن الوصول إلى طابور المهام الآن. حاول مرة أخرى."
    status = 503


def text(data: bytes) -> msgspec.Raw:
    """Return bytes as MessagePack's text, which the scripts' reader takes; it does not know MessagePack's bytes."""
    return msgspec.Raw(b"\xdb" + len(data).to_bytes(4, "big") + data)


class Connections(ConnectionPool):
    """Connections that are used without being looked at first, which would cost a turn of the loop for every command.

    redis-py closes one whose answer was not read to its end; one that the server has closed is seen by the command,
    which the client then sends again.
    """

    async def ensure_connection(self, connection: AbstractConnection) -> None:
        """Connect if that is still to be done."""
        await connection.connect()


def pool(settings: Settings) -> ConnectionPool:
    """Return a pool of connections; each connects when it is first used."""
    return Connections.from_url(  # pyright: ignore[reportUnknownMemberType]
        embedded.redis_url(settings),
        socket_connect_timeout=2,
        socket_timeout=5,
        health_check_interval=15,
        # A server that hangs is not asked again: four times the timeout is longer than any caller wants to wait.
        # One that can only be read is no primary any more: a new connection finds the one that is.
        retry=Retry(ExponentialWithJitterBackoff(cap=0.5, base=0.05), 3, supported_errors=_PASSING),
        retry_on_error=list(_PASSING),
    )


def connect(settings: Settings) -> Redis:
    """Return a client (bytes in, bytes out)."""
    return Redis.from_pool(pool(settings))


async def execute(redis: Redis, fill: Callable[[Any], None]) -> list[Any]:
    """Return the answers to what `fill` puts into a pipeline, in one round trip.

    Its scripts are taken to be known. Where they are not, the server learns them and all of it is asked again, so that
    it must be such as may be asked twice.
    """
    async with redis.pipeline(transaction=False) as pipe:
        fill(pipe)
        pipe.scripts.clear()  # it would ask for them every time
        with suppress(NoScriptError):
            return await pipe.execute()
        fill(pipe)
        return await pipe.execute()


def blocking_twin(redis: Redis) -> BlockingRedis:
    """Return a client of the same server for a thread of its own."""
    options = cast("dict[str, Any]", redis.connection_pool.connection_kwargs)  # pyright: ignore[reportUnknownMemberType]
    kept = {key: options[key] for key in ("host", "port", "db", "username", "password") if key in options}
    if "path" in options:
        kept["unix_socket_path"] = options["path"]
    if not kept.keys() & {"host", "unix_socket_path"}:
        raise ValueError("leases need a server with an address of its own; through a Sentinel there is none")
    if issubclass(redis.connection_pool.connection_class, SSLConnection):
        kept |= {"ssl": True} | {key: value for key, value in options.items() if key.startswith("ssl_")}
    return BlockingRedis(**kept, socket_connect_timeout=2, socket_timeout=5)
