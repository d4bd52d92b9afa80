"""What a job says: an ordered, fenced Redis Stream per job, and a hub that wakes its followers.

An event's id is `<attempt>-<n>`, n counted by the worker. Redis refuses a smaller id than the last, so order and
fencing come from one rule: an old attempt cannot speak after a newer one. The published message is only a poke;
followers read the stream itself, so that nothing depends on a message that may be lost.
"""

import asyncio
import itertools
import re
import zlib
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import UUID

import msgspec
from msgspec import Struct
from redis.asyncio import Redis
from redis.exceptions import ResponseError

from infra import redis as road
from infra.coalesce import Coalescer
from infra.errors import PulseError

_PREFIX = "pulse:events:"
_SHARDS = 16
_CHANNELS = [f"pulse:live:{shard}" for shard in range(_SHARDS)]
_APPEND = (Path(__file__).parent / "lua" / "append.lua").read_text(encoding="utf-8")
_PAGE = 500
_MOST_AT_ONCE = 200
# An unfinished job's stream outlives every queue and every retry; a finished one gets `stream_keep_s`.
_KEEP_LIVE_S = 14 * 86_400
_ID = re.compile(r"([0-9]{1,10})-([0-9]{1,10})")


class InvalidEventId(PulseError):
    """{field}: an event id looks like 1-42 (attempt, number)."""

    ar = "{field}: معرّف الحدث يكون بهذا الشكل: ‎1-42 (رقم المحاولة ثم رقم الحدث)."
    status = 400


class Fenced(Exception):
    """A later attempt has spoken: this one may not say anything any more."""


class EventId(Struct, frozen=True, order=True):
    """`<attempt>-<n>`; ids of one job sort in the order in which the events were said."""

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


#: Before the first event of any job.
START = EventId(0, 0)


#: Job, attempt, number of the first event, the events, and whether these are the last.
type _Append = tuple[UUID, int, int, tuple[bytes, ...], bool]


class Source(Struct, frozen=True):
    """The job that speaks, whose it is, and the batch that it belongs to."""

    job_id: UUID
    account_id: UUID
    kind: str
    batch_id: UUID | None = None


class Line(Struct, frozen=True):
    """An event's JSON; a `shared` one is also told in the account's own stream."""

    data: bytes
    shared: bool


class Append(Struct, frozen=True, kw_only=True):
    """What a source says in an attempt: `lines`, numbered from `first`; `over` where these are its last."""

    source: Source
    attempt: int
    first: int
    lines: Sequence[Line]
    over: bool = False


class Event(Struct, frozen=True):
    """One thing a job said: its id and its JSON."""

    id: EventId
    data: bytes


def _key(job_id: UUID) -> str:
    return f"{_PREFIX}{job_id}"


def _channel(job_id: UUID) -> str:
    return _CHANNELS[zlib.crc32(job_id.bytes) % _SHARDS]


def _events(entry: bytes, said: bytes) -> Iterator[Event]:
    """Take an entry apart: events that left together, under the last one's id."""
    attempt, last = map(int, entry.split(b"-"))
    lines = said.split(b"\n")
    for n, data in enumerate(lines, last - len(lines) + 1):
        yield Event(EventId(attempt, n), data)


class Streams:
    """The streams of all jobs."""

    def __init__(self, redis: Redis, keep_s: int) -> None:
        """Use `redis`; keep a finished job's events for `keep_s` seconds."""
        self._redis = redis
        self._keep_s = keep_s
        script: Any = redis.register_script(_APPEND)  # redis-py types it as both its clients at once
        self._call: Callable[[list[str], list[Any]], Awaitable[list[Any]]] = script
        self._script = script
        #: What is said while one append is under way goes out in the next, of however many jobs.
        self._appends = Coalescer(self._append_all, most=_MOST_AT_ONCE, passing=road.AWAY)

    async def append(self, job_id: UUID, attempt: int, said: Sequence[bytes], sent: int, *, over: bool = False) -> int:
        """Append what an attempt has `said` (all of it) beyond the `sent` events that the stream had when last seen.

        `over` starts the stream's last `keep_s` seconds. Returns the number of events that the stream has now; what
        Redis forgot (it may have come back with an old snapshot) is appended again. Raises `Fenced`.
        """
        while True:
            told, sent = await self._appends.ask((job_id, attempt, sent + 1, tuple(said[sent:]), over))
            if told == b"fenced":
                raise Fenced
            if told == b"ok":
                return sent

    def put(self, pipe: Any, appends: Sequence[Append]) -> None:
        """Add one call to a pipeline that appends what many jobs say; those that are fenced say nothing."""
        rows = self._rows(
            [(it.source.job_id, it.attempt, it.first, tuple(line.data for line in it.lines), it.over) for it in appends]
        )
        pipe.scripts.add(self._script)
        pipe.evalsha(self._script.sha, 0, _PREFIX, msgspec.msgpack.encode(rows))

    async def _append_all(self, appends: Sequence[_Append]) -> list[tuple[bytes, int]]:
        rows = self._rows(appends)
        return list(itertools.batched(await self._call([], [_PREFIX, msgspec.msgpack.encode(rows)]), 2))

    def _rows(self, appends: Sequence[_Append]) -> list[tuple[Any, ...]]:
        return [
            (
                str(job_id),
                _channel(job_id),
                self._keep_s if over else _KEEP_LIVE_S,
                attempt,
                first,
                len(news),
                road.text(b"\n".join(news)),  # JSON on one line has no line feed of its own
                over,
            )
            for job_id, attempt, first, news, over in appends
        ]

    async def end(self, job_id: UUID, attempt: int, data: bytes) -> None:
        """Append a terminal event after whatever `attempt` has said, and start the stream's last `keep_s` seconds."""
        async with self._redis.pipeline(transaction=True) as pipe:
            pipe.xadd(_key(job_id), {"e": data}, id=f"{attempt}-*")
            pipe.expire(_key(job_id), self._keep_s)
            pipe.publish(_channel(job_id), str(job_id))  # pyright: ignore[reportUnknownMemberType]
            try:
                await pipe.execute()
            except ResponseError as error:
                if "equal or smaller" in str(error):
                    raise Fenced from error
                raise

    async def read(self, job_id: UUID, after: EventId = START, count: int | None = _PAGE) -> list[Event]:
        """Return the events of at most `count` entries after an id (None: of all), in order; none without a stream."""
        entries = await self._redis.xrange(_key(job_id), min=f"({after}", max="+", count=count)
        return [event for entry, fields in entries for event in _events(entry, fields[b"e"]) if event.id > after]


class Hub:
    """Wakes the followers of this process: one subscriber connection, however many follow."""

    def __init__(self, redis: Redis) -> None:
        """Use a connection of `redis` once `run` is running."""
        self._redis = redis
        self._followers: defaultdict[bytes, set[asyncio.Event]] = defaultdict(set)
        self._closed = False

    async def run(self) -> None:
        """Listen, for ever."""
        await road.listen(self._redis, _CHANNELS, self._poke, self._poke_all)

    def _poke(self, job_ids: bytes) -> None:
        for job_id in job_ids.split():
            for follower in self._followers.get(job_id, ()):
                follower.set()

    def _poke_all(self) -> None:
        for followers in self._followers.values():
            for follower in followers:
                follower.set()

    @property
    def closed(self) -> bool:
        """Whether this process is going down, so that every follower should end its stream cleanly."""
        return self._closed

    def close(self) -> None:
        """Let every follower end."""
        self._closed = True
        self._poke_all()

    @contextmanager
    def watch(self, job_id: UUID) -> Generator[asyncio.Event]:
        """Give an event that is set whenever the job has said something."""
        key, follower = str(job_id).encode(), asyncio.Event()
        self._followers[key].add(follower)
        try:
            yield follower
        finally:
            self._followers[key].discard(follower)
            if not self._followers[key]:
                del self._followers[key]


async def follow(
    streams: Streams,
    hub: Hub,
    job_id: UUID,
    after: EventId,
    *,
    heartbeat_s: float,
    is_last: Callable[[Event], bool],
    rest: Callable[[EventId], Awaitable[list[Event] | None]],
) -> AsyncIterator[Event | None]:
    """Yield a job's events after an id, each once and in order, until the terminal one; None for every silence.

    `rest` is asked at the start, after every silence of `heartbeat_s` seconds and while Redis is away: it returns what
    a finished job still has to say after an id (from PostgreSQL), or None while the job is not over.
    """
    ask = True
    with hub.watch(job_id) as poke:
        while not hub.closed:
            poke.clear()
            try:
                events = await streams.read(job_id, after)
            except road.AWAY:
                events, ask = [], True
                await asyncio.sleep(min(1.0, heartbeat_s))
            for event in events:
                after = event.id
                yield event
                if is_last(event):
                    return
            if events:
                continue
            if ask and (remaining := await rest(after)) is not None:
                for event in remaining:
                    yield event
                return
            try:
                ask = False
                await asyncio.wait_for(poke.wait(), heartbeat_s)
            except TimeoutError:
                ask = True
                yield None
