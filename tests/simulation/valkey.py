"""The real server under the simulation, and the only code here that knows the names of the queue's keys."""

import asyncio
from collections.abc import Awaitable, Coroutine
from typing import Any

from msgspec import Struct
from redis.asyncio import Redis

from infra import queue
from infra import redis as road
from infra.settings import Settings

POOL = "chat"
QUEUE = queue.name(POOL)
_BASE = queue.base(QUEUE)
# What may stay when all jobs are over.
_BOUNDED = ("wake", "turn", "settling", "stats:", "took:", "alive", "workers", "control")

# Every key that expires is brought nearer to it, as the server's own clock would.
_PASS = """
for _, key in ipairs(redis.call('KEYS', '*')) do
    local left = redis.call('PTTL', key)
    if left >= 0 then redis.call('PEXPIRE', key, left - ARGV[1]) end
end
"""
_DUMP = """
local kept = {}
for _, key in ipairs(redis.call('KEYS', '*')) do
    kept[#kept + 1] = { key, redis.call('PTTL', key), redis.call('DUMP', key) }
end
return kept
"""


class Snapshot(Struct, frozen=True):
    """All keys at a moment: name, ms until it expires (-1: never), value."""

    at_ms: int
    keys: list[tuple[bytes, int, bytes]]


class Valkey:
    """A server whose time is the simulation's, reached through a private event loop."""

    def __init__(self, settings: Settings) -> None:
        """Connect when first used."""
        self.now_ms = 0
        self._loop = asyncio.new_event_loop()
        self.client: Redis = road.connect(settings)
        self.twin = road.blocking_twin(self.client)
        self._pass: Any = self.client.register_script(_PASS)
        self._dump: Any = self.client.register_script(_DUMP)

    def run[T](self, deed: Coroutine[Any, Any, T]) -> T:
        """Do something to its end."""
        return self._loop.run_until_complete(deed)

    def _ask(self, asked: "Awaitable[Any] | Any") -> Any:
        async def ask() -> Any:
            return await asked

        return self.run(ask())

    def time(self) -> float:
        """Return the time in seconds, as the module `time` does."""
        return self.now_ms / 1000

    def pass_time(self, ms: int) -> None:
        """Let time pass."""
        self.now_ms += ms
        self._ask(self._pass([], [ms]))

    def lose_everything(self) -> None:
        """Be a server that came back empty."""
        self._ask(self.client.flushall())  # pyright: ignore[reportUnknownMemberType]

    def snapshot(self) -> Snapshot:
        """Return everything that is kept."""
        return Snapshot(self.now_ms, sorted((key, ttl, value) for key, ttl, value in self._ask(self._dump([], []))))

    def rewind(self, kept: Snapshot) -> None:
        """Be a server that came back with an older snapshot; what has expired since is not in it."""
        self.lose_everything()
        passed = self.now_ms - kept.at_ms
        with self.twin.pipeline(transaction=False) as pipe:  # pyright: ignore[reportUnknownMemberType]
            for key, ttl, value in kept.keys:
                if ttl < 0 or ttl > passed:
                    pipe.restore(key, 0 if ttl < 0 else ttl - passed, value)  # pyright: ignore[reportArgumentType]
            pipe.execute()

    def values(self) -> list[tuple[bytes, bytes]]:
        """Return all keys and their values, to see whether anything changed."""
        return [(key, value) for key, _, value in self.snapshot().keys]

    def tokens(self) -> int:
        """Return how many idle workers would be woken now."""
        return self._ask(self.client.llen(f"{_BASE}wake"))

    def counters(self) -> dict[bytes, bytes]:
        """Return how many jobs are counted as running, per account and kind."""
        return self._ask(self.client.hgetall(f"{_BASE}running"))  # pyright: ignore[reportUnknownMemberType, reportUnknownArgumentType]

    def unbounded(self) -> list[str]:
        """Return the keys that grow with the number of jobs."""
        names = sorted(key.decode() for key in self._ask(self.client.keys("*")))  # pyright: ignore[reportUnknownMemberType]
        bounded = tuple(_BASE + name for name in _BOUNDED)
        return [name for name in names if not name.startswith((*bounded, "arq:result:"))]

    def close(self) -> None:
        """Disconnect."""
        self.twin.close()
        self._ask(self.client.aclose())
        self._ask(self.client.connection_pool.disconnect())
        self._loop.close()
