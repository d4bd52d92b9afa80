"""`python -m bench.stage.viewers`: thousands of viewers of jobs in one process, that come back when they are cut off.

Takes orders from standard input, a line of JSON each, and answers each with one. A viewer that is cut off resumes after
the last event that it has seen, as a browser's EventSource does.
"""

import asyncio
import random
import sys
import time
from collections.abc import Coroutine
from contextlib import suppress
from typing import cast

import msgspec
import uvloop
from msgspec import Struct

from bench.queue.figures import percentile
from bench.stage.frames import BrokenStream, Stream, Tally, read

#: How many try to connect at a time, and how long nobody may have got in before it is said that nobody does.
_AT_ONCE = 100
_SILENCE_S = 5.0
_COME_BACK_S = (0.2, 1.2)
_LOOK_S = 0.01


class Order(Struct, frozen=True, tag=True):
    """What can be ordered."""


class Open(Order, frozen=True, kw_only=True):
    """Open a stream for each of `paths`, with the key of the same place.

    With `numbered`, event n of a job must have the id `1-n`.
    """

    port: int
    paths: list[str]
    keys: list[str]
    numbered: bool


class Until(Order, frozen=True):
    """Answer when all together have seen `seen` new events, or after `within_s` seconds."""

    seen: int
    within_s: float


class Drop(Order, frozen=True):
    """Cut `count` viewers off, one after the other within `within_s` seconds; answered at once."""

    count: int
    within_s: float


class Recount(Order, frozen=True):
    """Tell how each job's `said` events were seen, and the latencies since the last recount."""

    said: int


class Opened(Struct, frozen=True):
    """How many are open, and why no more of them."""

    viewers: int
    why: str


class Seen(Struct, frozen=True):
    """New events that all together have seen, and the moment at which it was (`time.monotonic`)."""

    seen: int
    at_s: float


class Recounted(Struct, frozen=True, kw_only=True):
    """How it stands: events that never came or came twice or under a wrong id; viewers cut off and back; latencies."""

    lost: int
    repeated: int
    misnumbered: int
    dropped: int
    resumed: int
    samples: int
    p50_ms: float
    p99_ms: float
    cpu_s: float


class _Viewer(asyncio.Protocol):
    """One viewer, on one connection after the other."""

    __slots__ = ("_crowd", "_key", "_path", "_stream", "_transport", "last_id", "tally")

    def __init__(self, crowd: "_Crowd", path: str, key: str) -> None:
        self._crowd = crowd
        self._path = path
        self._key = key
        self._stream = Stream()
        self._transport: asyncio.Transport | None = None
        self.last_id = b""
        self.tally = Tally()

    @property
    def is_open(self) -> bool:
        return self._stream.is_open and self._transport is not None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Ask for the stream."""
        self._transport = cast("asyncio.Transport", transport)
        self._stream = Stream()
        head = f"GET {self._path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {self._key}\r\n"
        resume = b"Last-Event-ID: " + self.last_id + b"\r\n" if self.last_id else b""
        self._transport.write(head.encode() + b"Accept: text/event-stream\r\n" + resume + b"\r\n")

    def data_received(self, data: bytes) -> None:
        """See what comes."""
        now_ns, was_open = time.monotonic_ns(), self._stream.is_open
        try:
            for frame in self._stream.take(data):
                heard = read(frame)
                if heard is not None:
                    self.last_id = heard.id
                    self._crowd.saw(self, heard.number, heard.id, now_ns - heard.said_ns)
        except BrokenStream as error:
            self._crowd.why = str(error)
            self.leave()
        if self._stream.is_open and not was_open:
            self._crowd.opened += 1
        if self._stream.is_over:
            self.leave()

    def leave(self) -> None:
        """Close the connection."""
        if self._transport is not None:
            self._transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        """Come back."""
        self._transport = None
        if self._stream.is_open:
            self._crowd.opened -= 1
        self._crowd.cut_off(self)


class _Crowd:
    """All viewers."""

    def __init__(self) -> None:
        self._viewers: list[_Viewer] = []
        self._port = 0
        self._numbered = False
        self._is_stable = False
        self._tasks = set[asyncio.Task[None]]()
        self._enough = asyncio.Event()
        self._wanted = 0
        self.why = ""
        self.opened = self._seen = self._resumed = self._dropped = self._misnumbered = 0
        self._delays_ns: list[int] = []

    def saw(self, viewer: _Viewer, number: int, identifier: bytes, delay_ns: int) -> None:
        """Count an event."""
        if viewer.tally.see(number):
            self._seen += 1
            self._delays_ns.append(delay_ns)
            if self._seen >= self._wanted:
                self._enough.set()
        if self._numbered and identifier != b"1-%d" % number:
            self._misnumbered += 1

    def cut_off(self, viewer: _Viewer) -> None:
        """Have a viewer come back, unless it has not got in for the first time."""
        if self._is_stable:
            self._go_on(self._come_back(viewer))

    def _go_on(self, deed: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(deed)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _come_back(self, viewer: _Viewer) -> None:
        while True:
            await asyncio.sleep(random.uniform(*_COME_BACK_S))  # noqa: S311 (nobody guesses it)
            try:
                await self._connect(viewer)
            except OSError:
                continue
            self._resumed += 1
            return

    async def _connect(self, viewer: _Viewer) -> None:
        await asyncio.get_running_loop().create_connection(lambda: viewer, "127.0.0.1", self._port)

    async def open(self, order: Open) -> Opened:
        """Let viewers in, a hundred at a time, until all are or nobody gets in any more."""
        self._port, self._numbered = order.port, order.numbered
        self._viewers = [_Viewer(self, path, key) for path, key in zip(order.paths, order.keys, strict=True)]
        asked, moved_s, before = 0, time.monotonic(), 0
        while self.opened < len(self._viewers) and time.monotonic() - moved_s < _SILENCE_S:
            batch = self._viewers[asked : max(asked, self.opened + _AT_ONCE)]
            asked += len(batch)
            for found in await asyncio.gather(*map(self._connect, batch), return_exceptions=True):
                self.why = str(found) if found is not None else self.why
            await asyncio.sleep(_LOOK_S)
            if self.opened > before:
                before, moved_s = self.opened, time.monotonic()
        self._viewers, others = [each for each in self._viewers if each.is_open], self._viewers
        for viewer in others:
            if not viewer.is_open:
                viewer.leave()
        self._is_stable = True
        return Opened(len(self._viewers), self.why)

    async def until(self, order: Until) -> Seen:
        """Wait for what is to be seen."""
        self._wanted = order.seen
        self._enough.clear()
        if self._seen < order.seen:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._enough.wait(), order.within_s)
        return Seen(self._seen, time.monotonic())

    async def drop(self, order: Drop) -> Seen:
        """Begin to cut viewers off."""
        self._go_on(self._drop(order))
        return Seen(self._seen, time.monotonic())

    async def _drop(self, order: Drop) -> None:
        while self._dropped < order.count:
            viewer = random.choice(self._viewers)  # noqa: S311 (nobody guesses it)
            if viewer.is_open:
                viewer.leave()
                self._dropped += 1
            await asyncio.sleep(order.within_s / order.count)

    async def recount(self, order: Recount) -> Recounted:
        """Say how it stands."""
        delays_ms = [delay_ns / 1e6 for delay_ns in self._delays_ns] or [0.0]
        samples, self._delays_ns = len(self._delays_ns), []
        return Recounted(
            lost=sum(viewer.tally.missing(order.said) for viewer in self._viewers),
            repeated=sum(viewer.tally.repeated for viewer in self._viewers),
            misnumbered=self._misnumbered,
            dropped=self._dropped,
            resumed=self._resumed,
            samples=samples,
            p50_ms=percentile(delays_ms, 0.5),
            p99_ms=percentile(delays_ms, 0.99),
            cpu_s=time.process_time(),
        )


async def obey() -> None:
    """Do what is ordered, until nothing more can be."""
    crowd, lines = _Crowd(), asyncio.StreamReader(limit=2**26)
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    while line := await lines.readline():
        order: Open | Until | Drop | Recount = msgspec.json.decode(line, type=Open | Until | Drop | Recount)
        match order:
            case Open():
                answer = await crowd.open(order)
            case Until():
                answer = await crowd.until(order)
            case Drop():
                answer = await crowd.drop(order)
            case Recount():
                answer = await crowd.recount(order)
        print(msgspec.json.encode(answer).decode(), flush=True)


if __name__ == "__main__":
    uvloop.run(obey())
