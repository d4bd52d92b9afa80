"""One connection that hears channels, which come and go, and outlives every disconnect."""

import asyncio
from collections.abc import Callable, Iterable
from typing import Any, Protocol, cast

import structlog
from redis.asyncio import Redis
from redis.asyncio.connection import AbstractConnection

from infra import backoff
from infra import redis as road

log = structlog.stdlib.get_logger()

_LONGEST_WAIT_S = 2.0
# A connection on which nothing was heard for so long is asked whether it lives, and given up after as long again.
_PING_EVERY_S = 5.0
_MOST_AT_ONCE = 1000
# A connection that broke sooner is no success: to subscribe to everything again and again costs both ends a lot.
_STEADY_S = 5.0


class Listener(Protocol):
    """Who is told what is heard."""

    def on_subscribed(self, channel: str, /) -> None:
        """From now on the channel is heard; what was said before has to be read."""
        ...

    def on_message(self, channel: str, data: bytes, /) -> None:
        """A message was heard."""
        ...

    def on_deaf(self) -> None:
        """The connection is gone: nothing is heard until each channel is subscribed to again."""
        ...


class Subscriber:
    """Keeps one connection subscribed to the channels that are wanted.

    redis-py's own pubsub makes a timeout and a dictionary for every message; here the connection is read directly.
    """

    def __init__(self, redis: Redis, listener: Listener) -> None:
        """Use a connection of `redis` once `run` is running."""
        self._redis = redis
        self._listener = listener
        self._wanted: set[str] = set()
        self._changes: list[tuple[str, str]] = []
        self._changed = asyncio.Event()
        self._heard_at = 0.0
        #: Whether what is wanted and dropped is being said to the server.
        self.connected = False

    def want(self, channel: str) -> None:
        """Subscribe to a channel, as soon as there is a connection."""
        self._wanted.add(channel)
        self._change("SUBSCRIBE", channel)

    def drop(self, channel: str) -> None:
        """Unsubscribe from a channel."""
        self._wanted.discard(channel)
        self._change("UNSUBSCRIBE", channel)

    def _change(self, command: str, channel: str) -> None:
        if self.connected:  # otherwise all of them are said at once when there is a connection
            self._changes.append((command, channel))
            self._changed.set()

    async def run(self) -> None:
        """Listen, for ever."""
        failures, clock = 0, asyncio.get_running_loop().time
        while True:
            began = clock()
            connection = cast("AbstractConnection", self._redis.connection_pool.make_connection())
            connection.socket_timeout = None  # silence is no failure here; whether it lives is asked by `_speak`
            try:
                await connection.connect()
                await self._serve(connection)
            except* road.AWAY:
                pass
            except* Exception:
                log.exception("the subscriber's connection failed")
            finally:
                self.connected = False
                await connection.disconnect(nowait=True)
                self._listener.on_deaf()
            failures = 1 if clock() - began > _STEADY_S else failures + 1
            await asyncio.sleep(backoff.wait_s(failures, base_s=0.05, most_s=_LONGEST_WAIT_S))

    async def _serve(self, connection: AbstractConnection) -> None:
        self._changes = [("SUBSCRIBE", channel) for channel in self._wanted]
        self._changed.set()
        self.connected = True
        self._heard_at = asyncio.get_running_loop().time()
        async with asyncio.TaskGroup() as group:
            group.create_task(self._hear(connection))
            group.create_task(self._speak(connection))

    async def _hear(self, connection: AbstractConnection) -> None:
        clock = asyncio.get_running_loop().time
        read = connection.read_response
        while True:
            reply = cast("list[Any] | bytes", await read(disable_decoding=True))
            self._heard_at = clock()
            if not isinstance(reply, list):
                continue
            try:
                if reply[0] == b"message":
                    self._listener.on_message(reply[1].decode(), reply[2])
                elif reply[0] == b"subscribe":
                    self._listener.on_subscribed(reply[1].decode())
            except Exception:
                log.exception("a message could not be understood")  # and the next ones still are

    async def _speak(self, connection: AbstractConnection) -> None:
        clock = asyncio.get_running_loop().time
        while True:
            try:
                async with asyncio.timeout(_PING_EVERY_S):
                    await self._changed.wait()
            except TimeoutError:
                silent_s = clock() - self._heard_at
                if silent_s > 2 * _PING_EVERY_S:
                    raise ConnectionError("the server does not answer") from None
                if silent_s > _PING_EVERY_S / 2:
                    await _send(connection, "PING", ())
                continue
            self._changed.clear()
            changes, self._changes = self._changes, []
            for command, channels in _runs(changes):
                await _send(connection, command, channels)


def _runs(changes: Iterable[tuple[str, str]]) -> list[tuple[str, list[str]]]:
    """Gather what follows one another into one command, of a bounded size."""
    runs: list[tuple[str, list[str]]] = []
    for command, channel in changes:
        if runs and runs[-1][0] == command and len(runs[-1][1]) < _MOST_AT_ONCE:
            runs[-1][1].append(channel)
        else:
            runs.append((command, [channel]))
    return runs


async def _send(connection: AbstractConnection, command: str, arguments: Iterable[str]) -> None:
    packed: Callable[..., list[bytes]] = connection.pack_command
    await connection.send_packed_command(packed(command, *arguments), check_health=False)  # pyright: ignore[reportUnknownMemberType]
