"""One try of a call at one door: its chunks under three deadlines, and its end, whatever ends it."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import suppress
from typing import cast

from msgspec import Struct

from providers import health, patience, types
from providers.alarm import Alarm
from providers.doors import Door, Lease
from providers.types import Alive, Chunk, Finish, Opened, Resumable

_BEFORE = (Opened, Resumable)


class Deadlines(Struct, frozen=True, kw_only=True):
    """Seconds until an answer begins, between two of its chunks, and for all of it."""

    first_token_s: float
    idle_s: float
    whole_s: float


class Attempt:
    """Chunks of a vendor, one at a time; `leave` has to be awaited whatever happens."""

    def __init__(self, lease: Lease, chunks: AsyncIterator[Chunk], deadlines: Deadlines) -> None:
        """Ask nothing yet."""
        self.door: Door = lease.door
        self._lease = lease
        self._chunks = chunks
        self._deadlines = deadlines
        self._clock = asyncio.get_running_loop()
        self._ends = self._clock.time() + deadlines.whole_s
        self._patience_s = deadlines.first_token_s
        #: Whether the vendor gave a sign of life, and whether its answer has begun.
        self._lives = False
        self._came = False
        self._alarm = Alarm()

    @property
    def is_over_time(self) -> bool:
        """Whether all of its time is used up."""
        return self._clock.time() >= self._ends

    async def next(self) -> Chunk:
        """Return the next chunk; raises `ProviderError`, also where the vendor is too slow or ends without its end."""
        asked = self._clock.time()
        try:
            chunk = await self._alarm.wait(anext(self._chunks), min(self._ends, asked + self._patience_s))
        except TimeoutError:
            raise types.ProviderTimedOut from None
        except StopAsyncIteration:
            raise types.AnswerTruncated from None
        if isinstance(chunk, _BEFORE):
            # Only what the vendor took counts: whoever asks may have something to write down in between.
            self._patience_s -= self._clock.time() - asked
            if isinstance(chunk, Opened):
                self._lease.learn(chunk.limits)
            return chunk
        if not self._lives:
            self._lives = True
            self._lease.speak()
        if isinstance(chunk, Alive) and not self._came:
            # A sign of life takes nothing from the time that a model has to begin, which it may think away in silence.
            self._patience_s = max(self._patience_s - (self._clock.time() - asked), self._deadlines.idle_s)
            return chunk
        self._came = True
        self._patience_s = self._deadlines.idle_s
        if isinstance(chunk, Finish):
            self._lease.end(health.ANSWERED)
        return chunk

    def fail(self, error: types.ProviderError, *, rest_s: float) -> None:
        """Say what a fault means for the door; one that is set up wrongly rests for `rest_s` seconds."""
        wish_s = max(0.0, error.retry_after_s or 0.0)
        match error:
            case types.ProviderRateLimited():
                self._lease.end(health.NEITHER, rest_s=wish_s or patience.UNTOLD_S, why=health.LIMITED)
            case types.ProviderMisconfigured():
                self._lease.end(health.NEITHER, rest_s=rest_s, why=health.SET_UP_WRONGLY)
            case types.ProviderRefused() | types.AnswerLost():
                self._lease.end(health.ANSWERED)
            case _:
                self._lease.end(health.FAILED, rest_s=wish_s, why=health.OUT_OF_ORDER)

    async def leave(self) -> None:
        """Stop the vendor, if it still speaks, and give the slot back."""
        self._alarm.stop()
        self._lease.end(health.ANSWERED if self._lives else health.NEITHER)
        # What adapters write are generators, though all that is asked of them is to be iterated over.
        speaking = cast("AsyncGenerator[Chunk]", self._chunks)
        with suppress(Exception):  # there is nothing more to be had of it
            await speaking.aclose()
