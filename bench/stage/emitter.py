"""`python -m bench.stage.emitter`: says events of many jobs, as a worker does; for the textbook as its own would.

Takes orders from standard input, a line of JSON each, and answers each with one.
"""

import asyncio
import sys
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any
from uuid import UUID

import msgspec
import uvloop
from msgspec import Struct
from redis.asyncio import Redis

from bench.stage import frames
from infra import ground, settings, telemetry
from infra.streams import Line, Source, Streams
from workers import events

_TICK_S = 0.001


class Speaker(Struct, frozen=True):
    """A job that speaks, and whose it is."""

    job_id: UUID
    account_id: UUID


class Order(Struct, frozen=True, tag=True):
    """What can be ordered."""


class Begin(Order, frozen=True):
    """Speak for these jobs; the textbook's where its Redis is named, ours else."""

    speakers: list[Speaker]
    textbook_redis: str = ""


class Say(Order, frozen=True):
    """Say one event of every job, all at once."""


class Pace(Order, frozen=True):
    """Say events of one job after the other, evenly, so many a second."""

    per_s: float
    seconds: float


class Said(Struct, frozen=True):
    """How many events have been said since the beginning, and when the first of this order was (`time.monotonic`)."""

    events: int
    begun_s: float


class _Voice:
    """A job's events: how many there are, and the last one's way out."""

    def __init__(self, speaker: Speaker, send: Callable[[Speaker, list[Line], bytes], Awaitable[object]]) -> None:
        self._speaker = speaker
        self._send = send
        self._said: list[Line] = []
        self._number = 0

    async def say(self) -> None:
        """Say the next event."""
        self._number += 1
        said = events.Delta(text=frames.text(time.monotonic_ns(), self._number))
        await self._send(self._speaker, self._said, events.encode(said))


def _ours(to: Streams) -> Callable[[Speaker, list[Line], bytes], Awaitable[object]]:
    async def send(speaker: Speaker, said: list[Line], data: bytes) -> None:
        said.append(Line(data, shared=False))
        await to.append(Source(speaker.job_id, speaker.account_id, "chat"), 1, said, len(said) - 1)

    return send


def _textbooks(redis: Any) -> Callable[[Speaker, list[Line], bytes], Awaitable[object]]:
    async def send(speaker: Speaker, _said: list[Line], data: bytes) -> None:
        await redis.xadd(f"events:{speaker.job_id}", {"type": "delta", "data": data})

    return send


class _Emitter:
    """All voices."""

    def __init__(self, stack: AsyncExitStack) -> None:
        self._stack = stack
        self._voices: list[_Voice] = []
        self._events = 0

    async def begin(self, order: Begin) -> None:
        """Connect."""
        if order.textbook_redis:
            redis: Any = Redis.from_url(order.textbook_redis)  # pyright: ignore[reportUnknownMemberType]
            self._stack.push_async_callback(redis.aclose)
            send = _textbooks(redis)
        else:
            opened = await self._stack.enter_async_context(ground.opened(settings.load()))
            send = _ours(opened.streams)
        self._voices = [_Voice(speaker, send) for speaker in order.speakers]

    async def say(self) -> None:
        """Say one event of each."""
        await asyncio.gather(*(voice.say() for voice in self._voices))
        self._events += len(self._voices)

    async def pace(self, order: Pace) -> None:
        """Say them evenly, each job's next when its last one is out."""
        begun_s, done, under_way = time.monotonic(), 0, set[asyncio.Task[None]]()
        wanted = round(order.per_s * order.seconds)
        while done < wanted:
            due = min(wanted, int((time.monotonic() - begun_s) * order.per_s))
            for turn in range(done, due):
                task = asyncio.create_task(self._voices[turn % len(self._voices)].say())
                under_way.add(task)
                task.add_done_callback(under_way.discard)
            done = max(done, due)
            await asyncio.sleep(_TICK_S)
        await asyncio.gather(*under_way)
        self._events += wanted

    async def obey(self) -> None:
        """Do what is ordered, until nothing more can be."""
        lines = asyncio.StreamReader(limit=2**26)
        await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
        while text := await lines.readline():
            begun_s = time.monotonic()
            order: Begin | Say | Pace = msgspec.json.decode(text, type=Begin | Say | Pace)
            match order:
                case Begin():
                    await self.begin(order)
                case Say():
                    await self.say()
                case Pace():
                    await self.pace(order)
            print(msgspec.json.encode(Said(self._events, begun_s)).decode(), flush=True)


async def main() -> None:
    """Speak."""
    async with AsyncExitStack() as stack:
        await _Emitter(stack).obey()


if __name__ == "__main__":
    telemetry.configure(settings.load(), "bench")
    uvloop.run(main())
