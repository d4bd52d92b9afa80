"""Jobs that say things without being any, and followers that hear them."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager
from uuid import UUID

from infra import ids, streams
from infra.frames import Frame
from infra.ground import Ground
from infra.hub import Hub
from infra.streams import START, Event, EventId, Line, Source


def source(account_id: UUID | None = None, *, kind: str = "chat", batch_id: UUID | None = None) -> Source:
    """Return a job that can speak."""
    return Source(ids.new(), account_id or ids.new(), kind, batch_id)


def said(*types: str, shared: bool = False) -> list[Line]:
    """Return events by their types."""
    return [Line(b'{"type":"%s"}' % name.encode(), shared) for name in types]


class Listener:
    """Follows a subject through a hub, as slowly as is wanted, and keeps the ids it was told."""

    def __init__(self, hub: Hub, after: EventId = START, pace_s: float = 0.0) -> None:
        """Begin after an id."""
        self.after: EventId | None = after
        self.quiet_since = float("inf")
        self.heard: list[Frame] = []
        self._hub = hub
        self._poked = asyncio.Event()
        self._pace_s = pace_s
        self._ended = False

    @property
    def ids(self) -> list[str]:
        """What was heard, by id."""
        return [str(frame.id) for frame in self.heard]

    async def listen(self, subject: streams.Subject, enough: Callable[[Frame], bool]) -> None:
        """Listen until something is enough, or the hub ends."""
        topic = self._hub.join(subject, self)
        try:
            while not self._ended:
                self._poked.clear()
                assert self.after is not None
                told = await self._hub.take(topic, self.after)
                self.heard += told
                if told:
                    self.after = told[-1].id
                    if enough(told[-1]):
                        return
                    await asyncio.sleep(self._pace_s)
                    continue
                await self._poked.wait()
        finally:
            self._hub.leave(topic, self)

    def poke(self) -> None:
        """Look again."""
        self._poked.set()

    def beat(self) -> None:
        """Need no heartbeat."""

    def end(self) -> None:
        """Stop listening."""
        self._ended = True
        self._poked.set()


async def nobody(_job_ids: Sequence[UUID]) -> dict[UUID, list[Event]]:
    """Say that no job is over."""
    return {}


@asynccontextmanager
async def listening(hub: Hub) -> AsyncGenerator[Hub]:
    """Run a hub for the length of a block."""
    running = asyncio.create_task(hub.run())
    try:
        yield hub
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


def hub_of(ground: Ground, heartbeat_s: float = 15.0) -> Hub:
    """Return a hub to which no job is over before it says so."""
    return Hub(ground.redis, ground.streams, heartbeat_s=heartbeat_s, terminal=frozenset({"end"}), over=nobody)
