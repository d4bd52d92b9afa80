"""Through which door a call goes: health, allowances and slots of every deployment, one for all processes by Redis.

A call costs one word before it and one after it, and what is said at the same time is one round trip. A process that
dies leaves its slots taken for ten seconds at most. While Redis is away, nobody waits for it: each process goes by what
it knows itself.
"""

import asyncio
import math
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec
import structlog
from msgspec import Struct

from infra import ids
from infra import redis as road
from infra.breaker import Breaker
from infra.coalesce import Coalescer
from infra.settings import Settings
from providers import health, types
from providers.deployments import Deployment
from providers.health import Answer, Ask, Health, Told

log = structlog.stdlib.get_logger()

_PREFIX = "pulse:vendors:"
_SCRIPT = (Path(__file__).parents[1] / "infra" / "lua" / "doors.lua").read_text(encoding="utf-8")
_KEEP_S = 10.0
_MOST_AT_ONCE = 500
# The first call waits no longer for a Redis that hangs; after that it is tried once a second, and no call waits.
_PATIENCE_S, _REST_S = 0.25, 1.0
_CLOSING_S = 1.0
_FACTS: dict[int, type[types.ProviderError]] = {
    health.LIMITED: types.ProviderRateLimited,
    health.OUT_OF_ORDER: types.ProviderUnavailable,
    health.SET_UP_WRONGLY: types.ProviderMisconfigured,
    health.CROWDED: types.ProviderRateLimited,
    health.SHUT: types.ProviderUnavailable,
}

#: What a call asks or tells; None only says how many calls there are.
type _Word = Ask | Told | None


class Door(Struct, frozen=True):
    """A model (as its vendor calls it) behind a deployment."""

    deployment: Deployment
    model: str

    @property
    def name(self) -> str:
        """What it is known by to all processes."""
        return f"{self.deployment.name}/{self.model}"


class Closed(Struct, frozen=True):
    """No door lets the call in now; it is worth asking again after `wait_s`."""

    wait_s: float
    why: int

    @property
    def fact(self) -> types.ProviderError:
        """What to say to whoever does not want to wait."""
        return _FACTS[self.why](retry_after_s=self.wait_s)


class Doors:
    """The doors of all deployments, as one process sees them."""

    def __init__(self, settings: Settings, redis: road.Redis | None, *, keep_s: float = _KEEP_S) -> None:
        """Share what is known by `redis`, where there is one; this process's slots outlive it by `keep_s`."""
        self._policy = health.policy(settings)
        self._health = Health(self._policy)
        self._process = str(ids.new())
        self._keep_s = keep_s
        self._calls: Counter[str] = Counter()
        self._learned: dict[str, tuple[int, Told]] = {}
        script: Any = None if redis is None else redis.register_script(_SCRIPT)  # it is typed as both clients at once
        self._script = script
        self._breaker = Breaker("doors of vendors", patience_s=_PATIENCE_S, rest_s=_REST_S, passing=road.AWAY)
        #: One trip after the other, so that what is said last is what holds.
        self._words: Coalescer[_Word, Answer] = Coalescer(self._say, most=_MOST_AT_ONCE)
        self._last: asyncio.Future[Answer] | None = None
        self._renewing: asyncio.Task[None] | None = None
        #: Whether Redis did not answer when it was asked last: then nobody waits for it until it does.
        self._away = False
        self._trying: asyncio.Task[object] | None = None

    async def admit(self, doors: Sequence[Door], tokens: int) -> "Lease | Closed":
        """Take a slot at the first of `doors` that lets in a call with so many tokens."""
        flat = [name for door in doors for name in (door.deployment.name, door.name)]
        asked = self._words.put(Ask(tokens, tuple(flat)))
        try:
            place, wait_ms, why = await asyncio.shield(asked)
        except asyncio.CancelledError:
            # Whoever asked has left; what may still be granted is given back.
            asked.add_done_callback(lambda told: self._give_back(doors, told))
            raise
        if not place:
            return Closed(wait_ms / 1000, why)
        return Lease(self, doors[place - 1], tries=why == health.SHUT)

    def enter(self, door: Door) -> "Lease":
        """Take a slot at `door` whatever stands against it: to go on with an answer that is being paid for already."""
        self._calls[door.deployment.name] += 1
        self._put(None)
        return Lease(self, door)

    def leave(self, door: Door, told: Told) -> None:
        """Give a slot back, and say how the call went."""
        self._calls[door.deployment.name] -= 1
        self._put(told)

    def tell(self, told: Told) -> None:
        """Say how a call goes that keeps its slot."""
        self._put(told)

    def learn(self, door: Door, limits: types.Limits) -> None:
        """Keep what a vendor says is left for the next word that is said; where nothing is, it is said at once."""
        requests, requests_ms = _left(limits.requests_left, limits.requests_reset_s)
        tokens, tokens_ms = _left(limits.tokens_left, limits.tokens_reset_s)
        if max(requests, tokens) >= 0:
            told = Told(door.name, health.GOES_ON, 0, 0, requests, requests_ms, tokens, tokens_ms)
            self._learned[door.name] = (_now(), told)
        if 0 in {requests, tokens}:
            self._put(None)

    async def close(self) -> None:
        """Return when all that was said has been heard, which is given a moment."""
        for going_on in (self._renewing, self._trying):
            if going_on is not None:
                going_on.cancel()
                await asyncio.gather(going_on, return_exceptions=True)
        if self._last is not None:
            await asyncio.wait([self._last], timeout=_CLOSING_S)

    def _give_back(self, doors: Sequence[Door], told: "asyncio.Future[Answer]") -> None:
        if not told.cancelled() and told.exception() is None and (place := told.result()[0]):
            Lease(self, doors[place - 1]).end(health.NEITHER)

    def _put(self, word: _Word) -> None:
        self._last = self._words.put(word)

    async def _say(self, words: Sequence[_Word]) -> list[Answer]:
        now = _now()
        learned, self._learned = self._learned, {}
        told = [_aged(word, now - at) for at, word in learned.values()]
        told += [word for word in words if isinstance(word, Told)]
        asked = [word for word in words if isinstance(word, Ask)]
        for word in told:
            self._health.hear(now, word)
        shared = await self._shared(told, asked)
        answers: dict[int, Answer] = {}
        for place, ask in ((place, word) for place, word in enumerate(words) if isinstance(word, Ask)):
            answers[place] = self._grant(now, ask, shared[len(answers)] if shared else None)
        if +self._calls and self._script is not None and (self._renewing is None or self._renewing.done()):
            self._renewing = asyncio.create_task(self._renew())
        return [answers.get(place, (0, 0, 0)) for place in range(len(words))]

    def _grant(self, now: int, ask: Ask, answer: Answer | None) -> Answer:
        """Count the call that the others, or where they cannot be asked this process itself, let in."""
        if answer is None:
            answer = self._health.admit(now, ask, self._calls)
        if place := answer[0]:
            self._calls[ask.doors[place * 2 - 2]] += 1
        return answer

    async def _shared(self, told: list[Told], asked: list[Ask]) -> list[list[int]] | None:
        """Return what Redis answers; None where it cannot be asked, or did not answer and is tried beside the calls."""
        if self._script is None:
            return None
        if not self._away:
            return await self._asked(told, asked)
        if self._trying is None or self._trying.done():
            self._trying = asyncio.create_task(self._asked(told, []))
        return None

    async def _asked(self, told: list[Told], asked: list[Ask]) -> list[list[int]] | None:
        said = list(self._calls.items())
        packed = msgspec.msgpack.encode((0, self._process, int(self._keep_s * 1000), self._policy, said, told, asked))
        answer = await self._breaker.ask(lambda: self._script([], [_PREFIX, packed]))
        self._away = answer is None
        return answer

    async def _renew(self) -> None:
        """Say again and again how many calls there are while there are some: what is not said counts no longer."""
        while +self._calls:
            await asyncio.sleep(self._keep_s / 3)
            with suppress(Exception):  # the next word says it as well
                await self._words.ask(None)


class Lease:
    """A slot that a call has at a door until it says how it went."""

    def __init__(self, doors: Doors, door: Door, *, tries: bool = False) -> None:
        """Hold a slot that `doors` has counted; the call may be the one that `tries` a door that was shut."""
        self._doors: Doors | None = doors
        self._tries = tries
        self.door = door

    def learn(self, limits: types.Limits) -> None:
        """Note what the vendor says is left."""
        if self._doors is not None:
            self._doors.learn(self.door, limits)

    def speak(self) -> None:
        """Say that the vendor answers, where all wait to hear that: the answer's end may be minutes away."""
        if self._doors is not None and self._tries:
            self._tries = False
            self._doors.tell(Told(self.door.name, health.ANSWERED))

    def end(self, how: int, *, rest_s: float = 0.0, why: int = 0) -> None:
        """Give the slot back; the first end is the one that counts. The door is to rest for `rest_s` seconds."""
        doors, self._doors = self._doors, None
        if doors is not None:
            doors.leave(self.door, Told(self.door.name, how, _ms(rest_s), why))


def _left(count: int | None, reset_s: float | None) -> tuple[int, int]:
    """Return what is left and for how many milliseconds that holds; what is whole again at once says nothing."""
    if count is None or reset_s is None or not reset_s > 0:
        return -1, 0
    return count, _ms(reset_s)


def _aged(told: Told, ms: int) -> Told:
    """Return what was learned so long ago as it is to be told now."""
    requests_ms, tokens_ms = max(0, told.requests_ms - ms), max(0, told.tokens_ms - ms)
    return told._replace(requests_ms=requests_ms, tokens_ms=tokens_ms)


def _ms(seconds: float) -> int:
    return math.ceil(min(seconds * 1000, health.LONGEST_REST_MS))


def _now() -> int:
    return int(asyncio.get_running_loop().time() * 1000)
