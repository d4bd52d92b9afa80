"""Rate limits: a request passes when every limit that it falls under lets it, and a refused one uses up nothing.

    address ── ip, auth (wrong keys), sign_in       key ── key       account ── account, submit, webhook, read, stream

Each limit is a GCRA in Redis (`infra/lua/limits.lua`), so that however many processes serve, together they let pass
what one would. What is asked at the same time is one call.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import msgspec
from msgspec import Struct
from redis.asyncio import Redis

from infra import redis as road
from infra.breaker import Breaker
from infra.coalesce import Coalescer
from infra.errors import PulseError
from infra.settings import Rate, Settings
from quotas.credentials import Caller

#: What a route asks of its caller: to make something, to have webhooks sent, to look, to open a stream, or to sign in.
Kind = Literal["submit", "webhook", "read", "stream", "sign_in"]
#: Without Redis these are refused; all others pass, because the ledger and the keys still hold.
CLOSED: frozenset[Kind] = frozenset({"sign_in"})
_SCOPES = ("ip", "key", "account", "submit", "webhook", "read", "stream", "sign_in", "auth")
_PREFIX = "pulse:rate:"
_SCRIPT = (Path(__file__).parents[2] / "infra" / "lua" / "limits.lua").read_text(encoding="utf-8")
_MOST_AT_ONCE = 500
# No request waits longer for a Redis that hangs, and only one a second waits at all.
_PATIENCE_S, _REST_S = 0.25, 1.0
_MICROSECOND = 1_000_000

#: What the script is told of a request: 1, or 0 to only look, then for each limit its rate's place and its name.
type _Row = list[int | str]


class RateLimited(PulseError):
    """Too many requests: the limit "{scope}" lets {limit} pass in {window_s} s. Come back in {retry_after_s} s."""

    ar = "طلبات كثيرة جدًا: الحد «{scope}» يسمح بـ {limit} خلال {window_s} ث. عُد بعد {retry_after_s} ث."
    status = 429


class LimitsUnavailable(PulseError):
    """The rate limits cannot be asked right now, and nobody signs in without them. Please try again."""

    ar = "لا يمكن التحقق من حدود الطلبات الآن، ولا يمكن تسجيل الدخول من دونها. حاول مرة أخرى."
    status = 503


class Verdict(Struct, frozen=True):
    """Whether a request passes (`refused` is why not), and the headers that tell its caller where it stands."""

    refused: RateLimited | None
    headers: tuple[tuple[bytes, bytes], ...]


class _Family:
    """The limits that requests of one kind fall under, in order, and how they are told.

    The fields are those of draft-ietf-httpapi-ratelimit-headers: `"account";q=100;w=60` is a policy of 100 requests in
    60 seconds; `"account";r=40;t=1` says that 40 are left of it, and that one more comes within a second.
    """

    def __init__(self, rates: dict[str, Rate], scopes: Sequence[str]) -> None:
        self._limits = [(scope, rates[scope]) for scope in scopes if scope in rates]
        policy = ", ".join(f'"{scope}";q={rate.count};w={rate.seconds}' for scope, rate in self._limits)
        self._policy = (b"ratelimit-policy", policy.encode())
        self._standing = ", ".join(f'"{scope}";r=%d;t=%d' for scope, _ in self._limits).encode()

    def __bool__(self) -> bool:
        return bool(self._limits)

    def unknown(self) -> Verdict:
        """Return what is told when Redis is away."""
        return Verdict(None, (self._policy,))

    def verdict(self, answer: list[int]) -> Verdict:
        """Return what the script answered, in seconds that are rounded up."""
        numbers = answer[2:]
        numbers[1::2] = [-(-number // _MICROSECOND) for number in numbers[1::2]]
        headers = ((b"ratelimit", self._standing % tuple(numbers)), self._policy)
        refusing, wait_us = answer[0], answer[1]
        return Verdict(self._refusal(refusing - 1, wait_us) if refusing else None, headers)

    def _refusal(self, place: int, wait_us: int) -> RateLimited:
        scope, rate = self._limits[place]
        retry_after_s = -(-wait_us // _MICROSECOND)
        return RateLimited(scope=scope, limit=rate.count, window_s=rate.seconds, retry_after_s=retry_after_s)


class Limits:
    """The rate limits of all requests, as one process asks them."""

    def __init__(self, redis: Redis, settings: Settings) -> None:
        """Use `redis`; a limit whose setting is `off` is none."""
        read = {scope: Rate.parse(getattr(settings, f"rate_{scope}")) for scope in _SCOPES}
        rates = {scope: rate for scope, rate in read.items() if rate is not None}
        self._places = {scope: place for place, scope in enumerate(rates, 1)}
        self._rates = [(rate.seconds * _MICROSECOND // rate.count, rate.count) for rate in rates.values()]
        own = ("ip", "key", "account")
        self._families: dict[Kind | None, _Family] = {
            None: _Family(rates, own),
            "submit": _Family(rates, (*own, "submit")),
            "webhook": _Family(rates, (*own, "webhook")),
            "read": _Family(rates, (*own, "read")),
            "stream": _Family(rates, (*own, "stream")),
            "sign_in": _Family(rates, ("ip", "sign_in")),
        }
        self._wrong = _Family(rates, ("auth",))
        self._bearer = _Family(rates, ("ip",))
        script: Any = redis.register_script(_SCRIPT)  # redis-py types it as both its clients at once
        self._script = script
        self._breaker = Breaker("rate limits", patience_s=_PATIENCE_S, rest_s=_REST_S, passing=road.AWAY)
        self._asking = Coalescer(self._ask_all, most=_MOST_AT_ONCE)

    async def admit(self, kind: Kind | None, address: str, caller: Caller) -> Verdict:
        """Count a request of `kind` (None: neither of them) by a caller with a key."""
        family = self._families[kind]
        if not family:
            return Verdict(None, ())
        row: _Row = [1]
        self._add(row, "ip", address)
        self._add(row, "key", caller.key_id)
        self._add(row, "account", caller.account_id)
        if kind is not None:
            self._add(row, kind, caller.account_id)
        answer = await self._asking.ask(row)
        return family.unknown() if answer is None else family.verdict(answer)

    async def admit_stranger(self, kind: Kind, address: str) -> Verdict:
        """Count a request of `kind` by somebody who has no key yet; raises `LimitsUnavailable`."""
        family = self._families[kind]
        if not family:
            return Verdict(None, ())
        row: _Row = [1]
        self._add(row, "ip", address)
        self._add(row, kind, address)
        answer = await self._asking.ask(row)
        if answer is None and kind in CLOSED:
            raise LimitsUnavailable
        return family.unknown() if answer is None else family.verdict(answer)

    async def admit_bearer(self, address: str) -> Verdict:
        """Count a request by somebody who needs no key: a link or a form that was signed is what lets them in."""
        return await self._ask_one(self._bearer, "ip", 1, address)

    async def suspect(self, address: str) -> Verdict:
        """Tell whether too many keys from an address were wrong."""
        return await self._ask_one(self._wrong, "auth", 0, address)

    async def blame(self, address: str) -> Verdict:
        """Count a wrong key."""
        return await self._ask_one(self._wrong, "auth", 1, address)

    async def _ask_one(self, family: _Family, scope: str, cost: int, address: str) -> Verdict:
        if not family:
            return Verdict(None, ())
        row: _Row = [cost]
        self._add(row, scope, address)
        answer = await self._asking.ask(row)
        return family.unknown() if answer is None else family.verdict(answer)

    def _add(self, row: _Row, scope: str, name: str) -> None:
        place = self._places.get(scope)
        if place is not None:
            row += (place, f"{scope}:{name}")

    async def _ask_all(self, rows: Sequence[_Row]) -> Sequence[list[int] | None]:
        packed = msgspec.msgpack.encode((0, self._rates, rows))
        answers: list[list[int]] | None = await self._breaker.ask(lambda: self._script([], [_PREFIX, packed]))
        return [None] * len(rows) if answers is None else answers
