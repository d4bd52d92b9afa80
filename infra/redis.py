"""The one way to Redis: a client per process, and a listener to its channels that outlives every disconnect."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, cast

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import ExponentialWithJitterBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError
from redis.exceptions import TimeoutError as RedisTimeoutError

from infra import backoff, embedded
from infra.errors import PulseError
from infra.settings import Settings

#: What a caller sees while Redis is away. Every write of ours can be sent twice, so the client retries by itself first.
AWAY = (RedisConnectionError, RedisTimeoutError, OSError)
_LONGEST_WAIT_S = 2.0


class RedisUnavailable(PulseError):
    """The queue cannot be reached right now. Please try again."""

    ar = "لا يمكن الوصول إلى طابور المهام الآن. حاول مرة أخرى."
    status = 503


def connect(settings: Settings) -> Redis:
    """Return a client (bytes in, bytes out); it connects when it is first used."""
    return Redis.from_url(  # pyright: ignore[reportUnknownMemberType]: redis-py leaves **kwargs untyped
        embedded.redis_url(settings),
        socket_connect_timeout=2,
        socket_timeout=5,
        health_check_interval=15,
        retry=Retry(ExponentialWithJitterBackoff(cap=0.5, base=0.05), 3),
        retry_on_error=[RedisConnectionError, RedisTimeoutError],
    )


async def listen(
    redis: Redis,
    channels: Sequence[str],
    on_message: Callable[[bytes], None],
    on_subscribed: Callable[[], None],
) -> None:
    """Hand every message of `channels` to `on_message`, for ever.

    Messages said while the connection was away are lost by their nature: `on_subscribed` is called after every
    (re)connect, so that the caller can look at the truth once.
    """
    failures = 0
    while True:
        try:
            async with redis.pubsub(ignore_subscribe_messages=True) as pubsub:  # pyright: ignore[reportUnknownMemberType]
                await pubsub.subscribe(*channels)  # pyright: ignore[reportUnknownMemberType]
                failures = 0
                on_subscribed()
                while True:
                    message = cast("dict[str, Any] | None", await pubsub.get_message(True, timeout=5.0))  # noqa: FBT003
                    if message is not None:
                        on_message(message["data"])
        except (RedisError, OSError):
            failures += 1
            await asyncio.sleep(backoff.wait_s(failures, base_s=0.05, most_s=_LONGEST_WAIT_S))
