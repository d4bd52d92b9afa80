"""How many streams an account has open, over all processes: what one process holds open it says to Redis and renews.

A process that dies leaves its streams counted for ten seconds at most. While Redis is away, each process still holds
the limit for itself.
"""

import asyncio
import itertools
from collections import Counter
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any
from uuid import UUID

import msgspec
import structlog
from redis.asyncio import Redis

from infra import ids
from infra import redis as road
from infra.breaker import Breaker
from infra.coalesce import Coalescer
from infra.errors import PulseError
from infra.settings import Settings

log = structlog.stdlib.get_logger()

_PREFIX = "pulse:open:"
_SCRIPT = (Path(__file__).parents[2] / "infra" / "lua" / "open.lua").read_text(encoding="utf-8")
# Whoever followed through a process that died comes back at once, and is not to be counted twice for long.
_RENEW_S, _KEEP_S = 3.0, 10.0
# How long a process that goes down waits for streams that are ending.
_CLOSING_S = 2.0
_MOST_AT_ONCE = 500
_PATIENCE_S, _REST_S = 0.25, 1.0

#: An account, and whether one more stream of it is asked for (else only how many there are is to be said).
type _Word = tuple[str, bool]


class TooManyStreams(PulseError):
    """This account has {limit} event streams open, which is the most. Close one, or wait until one ends."""

    ar = "لهذا الحساب {limit} من تدفقات الأحداث المفتوحة، وهو الحد الأقصى. أغلق أحدها أو انتظر حتى ينتهي."
    status = 429


class OpenStreams:
    """The open streams of all accounts, as one process holds them open."""

    def __init__(self, redis: Redis, settings: Settings) -> None:
        """Start with none."""
        self._most = settings.account_streams
        self._process = str(ids.new())
        self._open: Counter[str] = Counter()
        script: Any = redis.register_script(_SCRIPT)  # redis-py types it as both its clients at once
        self._script = script
        self._breaker = Breaker("open streams", patience_s=_PATIENCE_S, rest_s=_REST_S, passing=road.AWAY)
        #: One call after the other, so that what is said last is what holds.
        self._words = Coalescer(self._say_all, most=_MOST_AT_ONCE)
        self._last: asyncio.Future[bool] | None = None
        self._none = asyncio.Event()
        self._none.set()
        self._closed = False

    @asynccontextmanager
    async def open(self, account_id: UUID) -> AsyncGenerator[None]:
        """Hold a stream of the account open for the length of a block; raises `TooManyStreams`."""
        account = str(account_id)
        asked = self._say((account, True))
        try:
            granted = await asyncio.shield(asked)
        except asyncio.CancelledError:
            # Whoever asked has left; what may still be granted is given back.
            asked.add_done_callback(lambda told: self._end(account) if not told.cancelled() and told.result() else None)
            raise
        if not granted:
            raise TooManyStreams(limit=self._most)
        try:
            yield
        finally:
            self._end(account)

    @property
    def held(self) -> int:
        """How many streams this process has open."""
        return self._open.total()

    async def run(self) -> None:
        """Say again and again what is open, for ever: what is not said counts no longer."""
        while True:
            await asyncio.sleep(_RENEW_S)
            try:
                await self.renew()
            except Exception:
                log.exception("what is open could not be said")

    async def renew(self) -> None:
        """Say what is open."""
        for some in itertools.batched(list(self._open), _MOST_AT_ONCE):
            await asyncio.gather(*(self._say((account, False)) for account in some))

    async def close(self) -> None:
        """Return when all streams have ended, which are given a moment, and that has been heard; say nothing then."""
        with suppress(TimeoutError):
            async with asyncio.timeout(_CLOSING_S):
                await self._none.wait()
        self._closed = True
        if self._last is not None:
            await self._last

    def _end(self, account: str) -> None:
        self._open[account] -= 1
        if self._open[account] <= 0:
            del self._open[account]
        self._note()
        self._say((account, False))

    def _say(self, word: _Word) -> asyncio.Future[bool]:
        if self._closed:
            told = asyncio.get_running_loop().create_future()
            told.set_result(False)
            return told
        self._last = self._words.put(word)
        return self._last

    def _note(self) -> None:
        if self._open:
            self._none.clear()
        else:
            self._none.set()

    async def _say_all(self, words: Sequence[_Word]) -> list[bool]:
        """Say how many streams the accounts of `words` have open here, and open what is asked for as far as it may."""
        wanted = Counter({account: 0 for account, _ in words})
        for account, more in words:
            wanted[account] += more
        granted = await self._grant(wanted)
        for account, many in granted.items():
            if many:
                self._open[account] += many
        self._note()
        answers: list[bool] = []
        for account, more in words:
            answers.append(more and granted[account] > 0)
            granted[account] -= more
        return answers

    async def _grant(self, wanted: dict[str, int]) -> dict[str, int]:
        rows = [(account, self._open[account], many) for account, many in wanted.items()]
        packed = msgspec.msgpack.encode((0, self._process, int(_KEEP_S * 1000), self._most, rows))
        told: list[int] | None = await self._breaker.ask(lambda: self._script([], [_PREFIX, packed]))
        if told is None:
            told = [max(0, min(many, self._most - here)) for _, here, many in rows]
        return dict(zip(wanted, told, strict=True))
