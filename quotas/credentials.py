"""Who is calling: the keys that one process is shown, looked up many at once and believed for half a second."""

import asyncio
import hashlib
import itertools
from collections import defaultdict
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import structlog
from msgspec import Struct
from sqlalchemy import text

from infra.coalesce import Coalescer
from infra.database import Database, DatabaseUnavailable
from infra.errors import PulseError
from infra.models import Account
from infra.settings import Settings
from quotas.keys import AccountClosed, InvalidApiKey, RevokedApiKey, hashed, is_mistyped

log = structlog.stdlib.get_logger()


class Caller(Struct, frozen=True):
    """Whom a key speaks for, and by which key; the ids also as text."""

    account: Account
    account_id: str
    key_id: str


class _Found(Struct, frozen=True):
    """What the last look-up of a key said and by which row, and until when it is believed (by the loop's clock)."""

    told: Caller | type[PulseError]
    row: tuple[Any, ...]
    until: float


#: Every statement that a revoked key could still make is within this long of its revocation.
_BELIEVED_S = 0.5
#: A key that is unknown does not become known: this long nobody asks again.
_UNKNOWN_S = 10.0
#: Of the keys that were shown lately, those are looked up anew this often that would not be believed much longer, so
#: that nobody waits for it.
_RENEW_S, _LATELY_S = 0.2, 1.0
# Some 1 KiB each. A flood of wrong keys crowds out only other wrong ones.
_MOST_KNOWN, _MOST_UNKNOWN = 20_000, 20_000
_MOST_AT_ONCE = 1000
# Guesses that come in floods are looked up beside all others, and so many at a time, on one connection.
_MOST_DOUBTED = 100
# So few that what is asked meanwhile does not wait for them.
_MOST_RENEWED = 200

_LOOK_UP = text("""
SELECT api_keys.hash, api_keys.id,
       api_keys.revoked_at IS NOT NULL OR coalesce(api_keys.expires_at <= now(), false), accounts.closed_at IS NOT NULL,
       accounts.id, accounts.email, accounts.plan, accounts.language, accounts.created_at, accounts.closed_at
FROM api_keys JOIN accounts ON accounts.id = api_keys.account_id
WHERE api_keys.hash = ANY(CAST(:hashes AS bytea[]))
""")
_OVER = text("""
SELECT asked.hash FROM unnest(CAST(:hashes AS bytea[])) AS asked (hash)
WHERE NOT EXISTS (
    SELECT FROM api_keys JOIN accounts ON accounts.id = api_keys.account_id
    WHERE api_keys.hash = asked.hash AND api_keys.revoked_at IS NULL AND accounts.closed_at IS NULL
    AND coalesce(api_keys.expires_at > now(), true)
)
""")


class Credentials:
    """The keys that one process is shown: looked up many at once, and believed for half a second."""

    def __init__(self, database: Database, settings: Settings) -> None:
        """Start with nothing known."""
        self._database = database
        self._settings = settings
        # Keys are known here by a keyed hash, too, and by one that costs a tenth of an HMAC.
        self._marker = hashlib.blake2b(key=hashlib.sha256(settings.secret.encode()).digest())
        self._known: dict[bytes, _Found] = {}
        self._unknown: dict[bytes, float] = {}
        self._shown: dict[bytes, float] = {}
        self._held: defaultdict[bytes, dict[object, Callable[[], None]]] = defaultdict(dict)
        self._held_marks: dict[bytes, bytes] = {}
        self._looking = Coalescer(self._look_up, most=_MOST_AT_ONCE, passing=(DatabaseUnavailable,))
        self._doubting = Coalescer(self._look_up, most=_MOST_DOUBTED, passing=(DatabaseUnavailable,))

    async def identify(self, key: str, *, doubted: bool = False) -> Caller:
        """Return whom `key` speaks for; `doubted` ones are looked up apart, so that a flood of them delays no other.

        Raises `InvalidApiKey`, `RevokedApiKey`, `AccountClosed` or `DatabaseUnavailable`.
        """
        mark = self._mark(key)
        now = asyncio.get_running_loop().time()
        found = self._known.get(mark)
        if found is not None and found.until > now:
            told = found.told
        elif self._unknown.get(mark, 0.0) > now or (found is None and is_mistyped(key)):
            raise InvalidApiKey
        else:
            told = await (self._doubting if doubted else self._looking).ask((mark, hashed(self._settings, key)))
        if isinstance(told, Caller):
            self._shown[mark] = now
            return told
        raise told

    def believed(self, key: str) -> Caller | None:
        """Return whom `key` speaks for, where that was looked up within the last half second."""
        mark = self._mark(key)
        found = self._known.get(mark)
        now = asyncio.get_running_loop().time()
        if found is not None and found.until > now and isinstance(found.told, Caller):
            self._shown[mark] = now
            return found.told
        return None

    def knows(self, key: str) -> bool:
        """Tell whether `key` was good when this process last looked."""
        found = self._known.get(self._mark(key))
        return found is not None and isinstance(found.told, Caller)

    def hold(self, key: str, on_end: Callable[[], None]) -> Callable[[], None]:
        """Have `on_end` called once, within a second of when `key` stops being valid; returns how to let go of it.

        That is while `run` runs and PostgreSQL answers: what it does not say yet is not known to have ended.
        """
        digest, token = hashed(self._settings, key), object()
        self._held[digest][token] = on_end
        self._held_marks.setdefault(digest, self._mark(key))

        def release() -> None:
            holders = self._held.get(digest)
            if holders is not None:
                holders.pop(token, None)
                if not holders:
                    del self._held[digest], self._held_marks[digest]

        return release

    async def run(self) -> None:
        """Look at the held keys, and at those that are shown, again and again, for ever."""
        await asyncio.gather(_often(self.recheck, _BELIEVED_S), _often(self.renew, _RENEW_S))

    async def recheck(self) -> None:
        """Look at the held keys now, and end those that are not valid any more."""
        for hashes in itertools.batched(list(self._held), _MOST_AT_ONCE):
            for (digest,) in await self._database.ask(_OVER, {"hashes": list(hashes)}):
                # Whose stream ended for it is not to find it still believed.
                self._known.pop(self._held_marks.pop(digest, b""), None)
                for on_end in self._held.pop(digest, {}).values():
                    _end(on_end)

    async def renew(self) -> None:
        """Look up the keys that were shown lately and are not believed for much longer."""
        now = asyncio.get_running_loop().time()
        self._shown = {mark: at for mark, at in self._shown.items() if at > now - _LATELY_S}
        known = [(mark, found) for mark in self._shown if (found := self._known.get(mark)) is not None]
        ending = [(mark, found.row[0]) for mark, found in known if found.until < now + 1.5 * _RENEW_S]
        for some in itertools.batched(ending, _MOST_RENEWED):
            await self._look_up(some)

    def _mark(self, key: str) -> bytes:
        marking = self._marker.copy()
        marking.update(key.encode())
        return marking.digest()

    async def _look_up(self, keys: Sequence[tuple[bytes, bytes]]) -> list[Caller | type[PulseError]]:
        now = asyncio.get_running_loop().time()  # what is true when it is asked may be over when it is heard
        rows = await self._database.ask(_LOOK_UP, {"hashes": list({digest for _, digest in keys})})
        found = {row[0]: row for row in rows}
        return [self._learn(mark, found.get(digest), now) for mark, digest in keys]

    def _learn(self, mark: bytes, row: tuple[Any, ...] | None, asked_at: float) -> Caller | type[PulseError]:
        """Keep what was found of a key."""
        if row is None:
            self._known.pop(mark, None)
            _keep(self._unknown, mark, asked_at + _UNKNOWN_S, _MOST_UNKNOWN)
            return InvalidApiKey
        known = self._known.get(mark)
        told = known.told if known is not None and known.row == row else _told(row)
        _keep(self._known, mark, _Found(told, row, asked_at + _BELIEVED_S), _MOST_KNOWN)
        return told


async def _often(look: Callable[[], Awaitable[None]], every_s: float) -> None:
    while True:
        await asyncio.sleep(every_s)
        try:
            await look()
        except DatabaseUnavailable:
            continue
        except Exception:
            log.exception("keys could not be looked at")


def _end(on_end: Callable[[], None]) -> None:
    try:
        on_end()
    except Exception:
        log.exception("whoever held a key could not be told of its end")  # and the next ones still are


def _told(row: tuple[Any, ...]) -> Caller | type[PulseError]:
    _, key_id, is_revoked, is_closed, account_id, email, plan, language, created_at, closed_at = row
    if is_revoked:
        return RevokedApiKey
    if is_closed:
        return AccountClosed
    account = Account(
        id=account_id, email=email, plan=plan, language=language, created_at=created_at, closed_at=closed_at
    )
    return Caller(account, str(account_id), str(key_id))


def _keep[Value](cache: dict[bytes, Value], mark: bytes, value: Value, most: int) -> None:
    """Keep a value as the newest, and let the oldest go."""
    cache.pop(mark, None)
    cache[mark] = value
    if len(cache) > most:
        del cache[next(iter(cache))]
