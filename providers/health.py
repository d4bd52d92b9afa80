"""How every door stands and whether it lets a call in: the law of `infra/lua/doors.lua`, for a process that is alone.

A door is one model behind one deployment, so that a model that is overrun shuts no other one out. All times are
milliseconds of one clock.
"""

from collections import Counter
from collections.abc import Sequence
from typing import Final, NamedTuple

from msgspec import Struct

from infra.settings import Settings

#: How a call went, as far as its door goes.
GOES_ON, ANSWERED, FAILED, NEITHER = 0, 1, 2, 3
#: Why a door lets nobody in.
LIMITED, OUT_OF_ORDER, SET_UP_WRONGLY, CROWDED, SHUT = 1, 2, 3, 4, 5
LONGEST_REST_MS: Final = 3_600_000
_ASK_AGAIN_MS = 250


class Policy(NamedTuple):
    """Failures in a row that shut a door, for how long, how long one call may then try it, and calls at a time."""

    failures: int
    shut_ms: int
    try_ms: int
    slots: int


class Told(NamedTuple):
    """What a call says of its door; -1 where it does not know what is left."""

    door: str
    how: int
    rest_ms: int = 0
    why: int = 0
    requests: int = -1
    requests_ms: int = 0
    tokens: int = -1
    tokens_ms: int = 0


class Ask(NamedTuple):
    """What a call wants: to send so many tokens through one of `doors` (deployment, door, ...), the first one first."""

    tokens: int
    doors: tuple[str, ...]


#: Which door (from 1; 0: none), milliseconds after which it is worth asking again, and why; with a door, `SHUT` says
#: that the call tries one that was shut.
type Answer = Sequence[int]


def policy(settings: Settings) -> Policy:
    """Return what the settings say."""
    return Policy(
        failures=settings.breaker_failures,
        shut_ms=int(settings.breaker_rest_s * 1000),
        try_ms=int(settings.breaker_rest_s * 1000),
        slots=settings.vendor_slots,
    )


class _Door(Struct):
    failures: int = 0
    shut: int = 0
    tried: int = 0
    rests: int = 0
    why: int = 0
    requests: int = 0
    requests_at: int = 0
    tokens: int = 0
    tokens_at: int = 0


class Health:
    """What one process knows by itself."""

    def __init__(self, policy: Policy) -> None:
        """Know nothing yet."""
        self._policy = policy
        self._doors: dict[str, _Door] = {}

    def hear(self, now: int, told: Told) -> None:
        """Learn from a call."""
        door = self._doors.setdefault(told.door, _Door())
        if told.how != GOES_ON:
            door.tried = 0
        if told.how == ANSWERED:
            door.failures = door.shut = 0
        elif told.how == FAILED:
            door.failures += 1
            if door.failures >= self._policy.failures:
                door.shut = now + self._policy.shut_ms
        if told.rest_ms > 0 and now + told.rest_ms > door.rests:
            door.rests, door.why = now + told.rest_ms, told.why
        if told.requests >= 0:
            door.requests, door.requests_at = told.requests, now + told.requests_ms
        if told.tokens >= 0:
            door.tokens, door.tokens_at = told.tokens, now + told.tokens_ms

    def admit(self, now: int, ask: Ask, calls: Counter[str]) -> Answer:
        """Return which door a call may take, where `calls` are at each deployment already."""
        least: Answer = (0, -1, 0)
        for place in range(0, len(ask.doors), 2):
            deployment, name = ask.doors[place : place + 2]
            door = self._doors.setdefault(name, _Door())
            wait_ms, why = self._wait(now, door, ask.tokens)
            if wait_ms == 0 and calls[deployment] >= self._policy.slots:
                wait_ms, why = _ASK_AGAIN_MS, CROWDED
            if wait_ms == 0:
                tries = door.failures >= self._policy.failures
                self._take(now, door, ask.tokens)
                return place // 2 + 1, 0, SHUT if tries else 0
            if least[1] < 0 or wait_ms < least[1]:
                least = (0, wait_ms, why)
        return least

    def _wait(self, now: int, door: _Door, tokens: int) -> tuple[int, int]:
        if now < door.rests:
            return door.rests - now, door.why
        if door.failures >= self._policy.failures:
            if now < door.shut:
                return door.shut - now, SHUT
            if now < door.tried:
                return _ASK_AGAIN_MS, SHUT
        if door.requests <= 0 and now < door.requests_at:
            return door.requests_at - now, LIMITED
        if door.tokens < tokens and now < door.tokens_at:
            return door.tokens_at - now, LIMITED
        return 0, 0

    def _take(self, now: int, door: _Door, tokens: int) -> None:
        if door.failures >= self._policy.failures:
            door.tried = now + self._policy.try_ms
        if now < door.requests_at:
            door.requests -= 1
        if now < door.tokens_at:
            door.tokens -= tokens
