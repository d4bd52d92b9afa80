"""What jobs say: an ordered, fenced Redis Stream per job, and one per account of what concerns all of its jobs.

An event's id is `<attempt>-<n>`, n counted by the worker. Redis refuses a smaller id than the last, so order and
fencing come from one rule: an old attempt cannot speak after a newer one. An account's stream has Redis' own ids. What
is appended is published as well, to a channel of the stream's name; a message that is lost is read from the stream.
"""

import itertools
import re
from collections.abc import Awaitable, Callable, Iterable, Sequence
from pathlib import Path
from typing import Any
from uuid import UUID

import msgspec
from msgspec import Struct
from redis.asyncio import Redis

from infra import redis as road
from infra.coalesce import Coalescer
from infra.errors import PulseError

_JOBS = "pulse:events:"
_ACCOUNTS = "pulse:account:"
_SPOKEN = "pulse:spoken:"
_LUA = Path(__file__).parent / "lua"
_APPEND, _TELL = ((_LUA / name).read_text(encoding="utf-8") for name in ("append.lua", "tell.lua"))
_PAGE = 500
_MOST_AT_ONCE = 200
# An unfinished job's stream outlives every queue and every retry; a finished one gets `stream_keep_s`.
_KEEP_LIVE_S = 14 * 86_400
_KEEP_ACCOUNT_S = 7 * 86_400
#: A quiet job's stream is kept for its followers alone, until one who has missed its end has looked again: a stream
#: takes some 6 KB, thousands of such jobs end in a second, and PostgreSQL tells of them as well. Where nobody follows,
#: it goes with its end.
QUIET_KEEP_S = 5
_ID = re.compile(r"([0-9]{1,15})-([0-9]{1,10})")


class InvalidEventId(PulseError):
    """{field}: an event id looks like 1-42, as it came with the event."""

    ar = "{field}: معرّف الحدث يكون بهذا الشكل: ‎1-42 كما ورد مع الحدث."
    status = 400


class Fenced(Exception):
    """A later attempt has spoken: this one may not say anything any more."""


class EventId(Struct, frozen=True, order=True):
    """`<attempt>-<n>`; ids of one job sort in the order in which the events were said.

    An account's are `<milliseconds>-<n>` and sort in the same way.
    """

    attempt: int
    n: int

    def __str__(self) -> str:
        """Return the form that Redis and `Last-Event-ID` use."""
        return f"{self.attempt}-{self.n}"

    @classmethod
    def parse(cls, text: str, *, field: str) -> "EventId":
        """Read an id that a client sent in `field`; raises `InvalidEventId`."""
        match = _ID.fullmatch(text.strip())
        if match is None:
            raise InvalidEventId(field=field)
        return cls(int(match[1]), int(match[2]))


#: Before the first event of any job, and before the oldest one of an account.
START = EventId(0, 0)
_MISSED = b'{"type":"missed"}'


class Event(Struct, frozen=True):
    """One thing a job said: its id and its JSON. In an account's stream also whose it is, as JSON members."""

    id: EventId
    data: bytes
    kind: str = ""
    batch: str = ""
    whose: bytes = b""


class Line(Struct, frozen=True):
    """An event's JSON, on one line; a `shared` one concerns the whole account and goes to its stream too."""

    data: bytes
    shared: bool


class Source(Struct, frozen=True):
    """Who speaks: a job, with what its account's viewers tell jobs apart by.

    What a `quiet` one says concerns nobody but its own followers, and stays for them for `QUIET_KEEP_S` after its end.
    """

    job_id: UUID
    account_id: UUID
    kind: str
    batch_id: UUID | None = None
    quiet: bool = False


class Append(Struct, frozen=True):
    """What an attempt says next: `lines`, the first of them its `first`th event (0: the next, whatever it is).

    `over` says that they are its last.
    """

    source: Source
    attempt: int
    first: int
    lines: Sequence[Line]
    over: bool = False


class Subject(Struct, frozen=True):
    """What can be followed: a job, or an account (`whole`). `name` is its stream's, and its channel's."""

    id: UUID
    name: str
    whole: bool

    def entry(self, id: bytes, said: bytes) -> list[Event]:  # noqa: A002 (what it is)
        """Take an entry of the stream apart: of a job's, events that left together, under the last one's id."""
        first, second = id.split(b"-")
        attempt, last = int(first), int(second)
        if self.whole:
            return [_shared(EventId(attempt, last), said)]
        lines = said.split(b"\n")
        start = last - len(lines) + 1
        return [Event(EventId(attempt, n), data) for n, data in enumerate(lines, start)]

    def heard(self, message: bytes) -> list[Event]:
        """Take a message of the channel apart."""
        if not self.whole:
            return self.entry(*message.split(b"\n", 1))
        return [event for line in message.split(b"\n") for event in self.entry(*line.split(b" ", 1))]


def job(job_id: UUID) -> Subject:
    """Return what a job says, as something to follow."""
    return Subject(job_id, f"{_JOBS}{job_id}", whole=False)


def account(account_id: UUID) -> Subject:
    """Return what all jobs of an account say that concerns it as a whole, as something to follow."""
    return Subject(account_id, f"{_ACCOUNTS}{account_id}", whole=True)


def _head(source: Source) -> str:
    return f"{source.job_id} {source.kind} {source.batch_id or '-'} "


def _shared(id: EventId, told: bytes) -> Event:  # noqa: A002
    job_id, kind, batch, data = told.split(b" ", 3)
    batch = b"" if batch == b"-" else batch
    quoted = b'"%s"' % batch if batch else b"null"
    whose = b'"job":"%s","kind":"%s","batch":%s' % (job_id, kind, quoted)
    return Event(id, data, kind.decode(), batch.decode(), whose)


class Streams:
    """The streams of all jobs and accounts."""

    def __init__(self, redis: Redis, keep_s: int, account_events: int = 2_000) -> None:
        """Use `redis`; keep a finished job's events for `keep_s` seconds, and `account_events` of an account."""
        self._redis = redis
        self._keep_s = keep_s
        self._account_events = account_events
        script: Any = redis.register_script(_APPEND)  # redis-py types it as both its clients at once
        self._call: Callable[[list[str], list[Any]], Awaitable[list[Any]]] = script
        self._script = script
        tell: Any = redis.register_script(_TELL)
        self._tell: Callable[[list[str], list[Any]], Awaitable[int]] = tell
        #: What is said while one append is under way goes out in the next, of however many jobs.
        self._appends = Coalescer(self._append_all, most=_MOST_AT_ONCE, passing=road.AWAY)

    async def append(self, source: Source, attempt: int, said: Sequence[Line], sent: int, *, over: bool = False) -> int:
        """Append what an attempt has `said` (all of it) beyond the `sent` events that the stream had when last seen.

        `over` starts the stream's last `keep_s` seconds. Returns the number of events that the stream has now; what
        Redis forgot (it may have come back with an old snapshot) is appended again. Raises `Fenced`.
        """
        while True:
            told, sent = await self._appends.ask(Append(source, attempt, sent + 1, tuple(said[sent:]), over))
            if told == b"fenced":
                raise Fenced
            if told == b"ok":
                return sent

    async def end(self, source: Source, attempt: int, line: Line) -> None:
        """Append a terminal event after whatever `attempt` has said, and start the stream's last `keep_s` seconds."""
        told, _ = await self._appends.ask(Append(source, attempt, 0, (line,), over=True))
        if told == b"fenced":
            raise Fenced

    async def tell(self, source: Source, line: Line, *, silent_s: float = 0.0) -> bool:
        """Say something on the account's stream alone, and no more of this source for `silent_s` seconds.

        Returns whether it was said: what comes within that time is not, unless its own `silent_s` is 0.
        """
        keys = [f"{_ACCOUNTS}{source.account_id}", f"{_SPOKEN}{source.job_id}"]
        told = _head(source).encode() + line.data
        return bool(await self._tell(keys, [self._account_events, _KEEP_ACCOUNT_S, told, int(1000 * silent_s)]))

    def put(self, pipe: Any, appends: Sequence[Append]) -> None:
        """Add appends to a pipeline, as one command; one that is fenced, or stands elsewhere, changes nothing."""
        pipe.scripts.add(self._script)
        pipe.evalsha(self._script.sha, 0, *self._arguments(appends))

    async def _append_all(self, appends: Sequence[Append]) -> list[tuple[bytes, int]]:
        return list(itertools.batched(await self._call([], self._arguments(appends)), 2))

    def _arguments(self, appends: Iterable[Append]) -> list[Any]:
        rows = [
            (
                str(each.source.job_id),
                str(each.source.account_id),
                _head(each.source),
                self._left_s(each.source) if each.over else _KEEP_LIVE_S,
                each.attempt,
                each.first,
                len(each.lines),
                road.text(b"\n".join([line.data for line in each.lines])),  # JSON on one line has no line feed
                [road.text(line.data) for line in each.lines if line.shared and not each.source.quiet],
                each.over,
                each.source.quiet,
            )
            for each in appends
        ]
        return [_JOBS, _ACCOUNTS, self._account_events, _KEEP_ACCOUNT_S, msgspec.msgpack.encode(rows)]

    def _left_s(self, source: Source) -> int:
        return min(QUIET_KEEP_S, self._keep_s) if source.quiet else self._keep_s

    async def read(self, job_id: UUID, after: EventId = START, count: int | None = _PAGE) -> list[Event]:
        """Return the events of at most `count` entries after an id (None: of all), in order; none without a stream."""
        subject = job(job_id)
        entries = await self._redis.xrange(subject.name, min=f"({after}", max="+", count=count)
        return _after(subject, after, entries)

    async def pages(self, wanted: Sequence[tuple[Subject, EventId]], *, entries: int) -> list[tuple[list[Event], bool]]:
        """Return of each subject the events of at most so many entries after an id, and whether that was a full page.

        All are asked for in one round trip. Where an account's stream does not keep all that came after the id, the
        first event says so: it is `missed`, and nobody's.
        """
        # An account's oldest entry has to be of the moment at which the page is read: meanwhile it could go.
        async with self._redis.pipeline(transaction=any(subject.whole for subject, _ in wanted)) as pipe:
            for subject, after in wanted:
                pipe.xrange(subject.name, min=f"({after}", max="+", count=entries)
                if subject.whole:
                    pipe.xrange(subject.name, count=1)
            found = iter(await pipe.execute())
        pages: list[tuple[list[Event], bool]] = []
        for subject, after in wanted:
            page = next(found)
            events = _after(subject, after, page)
            if subject.whole:
                events = _lost(after, next(found)) + events
            pages.append((events, len(page) == entries))
        return pages

    async def newest(self, subject: Subject) -> EventId:
        """Return the id of the newest entry; `START` without a stream."""
        return _id_of(await self._redis.xrevrange(subject.name, count=1))


def _id_of(page: Sequence[tuple[bytes, Any]]) -> EventId:
    return EventId(*map(int, page[0][0].split(b"-"))) if page else START


def _lost(after: EventId, oldest: Sequence[tuple[bytes, Any]]) -> list[Event]:
    """Return what tells that events after an id are not kept, under the id that the next one would have at least."""
    following = EventId(after.attempt, after.n + 1)
    if after == START or (oldest and _id_of(oldest) <= following):
        return []
    return [Event(following, _MISSED)]


def _after(subject: Subject, after: EventId, entries: Iterable[tuple[bytes, dict[bytes, bytes]]]) -> list[Event]:
    return [event for id_, fields in entries for event in subject.entry(id_, fields[b"e"]) if event.id > after]
