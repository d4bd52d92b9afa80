"""One viewer of a stream: raw ASGI, because ten thousand of them stay for long and each must be small.

A viewer's own task only waits to hear that the client has left. Whatever is sent is sent by a task that begins and ends
with it. What the viewer keeps is its position; events and their bytes belong to the hub's topic.
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any

import structlog
from litestar.types import Receive, Send

from infra import frames
from infra.frames import Form, Frame
from infra.hub import Hub
from infra.streams import Event, EventId, Subject
from infra.topic import Topic
from workers import events

log = structlog.stdlib.get_logger()

# How long a viewer that is being sent something may take for it, once it is to end.
_GRACE_S = 0.2
# One that has taken nothing for so long is let go, and comes back after its last event if it is still there.
_STALLED_S = 60.0
_TERMINAL = frozenset(name.encode() for name in events.TERMINAL)

#: Calls back when the credentials that a viewer came with are not valid any more; what it returns lets go of that.
type Hold = Callable[[Callable[[], None]], Callable[[], None]]


class Viewer:
    """Follows one subject for one client."""

    __slots__ = (
        "_again",
        "_delivery",
        "_ending",
        "_finished",
        "_form",
        "_hub",
        "_passed",
        "_send",
        "_sending",
        "_task",
        "_topic",
        "_wants",
        "after",
        "quiet_since",
    )

    def __init__(self, hub: Hub, after: EventId, form: Form, wants: Callable[[Event], bool] | None = None) -> None:
        """Follow from `after` on; `wants` chooses among the events."""
        self.after: EventId | None = after
        self.quiet_since = asyncio.get_running_loop().time()
        self._hub = hub
        self._form: Form = form
        self._wants = wants
        self._again = self._ending = self._finished = self._passed = self._sending = False
        self._delivery: asyncio.Task[None] | None = None

    async def run(self, subject: Subject, first: bytes, hold: Hold, receive: Receive, send: Send) -> None:
        """Send `first`, then what the subject says, until its end, the client's, the credentials' or the process's."""
        self._send: Callable[[Any], Awaitable[None]] = send
        self._task = asyncio.current_task()
        await self._body(first)
        self._topic: Topic = self._hub.join(subject, self)
        release = hold(self.end)
        try:
            self.end() if self._hub.closed else self.poke()
            while (await receive())["type"] != "http.disconnect":
                pass
        except asyncio.CancelledError:
            if not self._ending or self._task is None:
                raise
            self._task.uncancel()  # cut off: it took too long to end
        finally:
            release()
            self._hub.leave(self._topic, self)
            self._ending, self._task = True, None
            if self._delivery is not None:
                self._delivery.cancel()

    def poke(self) -> None:
        """Send what is there to be sent."""
        if self._delivery is not None:
            self._again = True
        elif not self._finished:
            self._start(self._deliver())

    def beat(self) -> None:
        """Break the silence, or let a client go that takes nothing."""
        if self._sending:
            if asyncio.get_running_loop().time() - self.quiet_since > _STALLED_S:
                self._ending = True
                self._cut()
        elif self._delivery is None and not self._finished:
            self._start(self._break_silence())

    def end(self) -> None:
        """End the response properly, or cut it off where the client does not take what it is sent."""
        if self._ending:
            return
        self._ending = True
        if self._delivery is None:
            self._start(self._deliver())
        else:
            asyncio.get_running_loop().call_later(_GRACE_S, self._cut)

    def _cut(self) -> None:
        if self._task is not None:
            self._task.cancel()

    def _start(self, deed: Coroutine[Any, Any, None]) -> None:
        # Begun at once: mostly it ends at once, and nothing had to be scheduled for it.
        delivery = asyncio.Task(deed, loop=asyncio.get_running_loop(), eager_start=True)
        if delivery.done():
            self._done(delivery)
        else:
            self._delivery = delivery
            delivery.add_done_callback(self._done)

    def _done(self, delivery: "asyncio.Task[None]") -> None:
        self._delivery = None
        if delivery.cancelled():
            return
        error = delivery.exception()
        if error is not None:
            log.error("a viewer could not be served", exc_info=error)
            self._ending = True
            self._cut()
        elif self._task is not None and (self._again or self._ending):
            self.poke()

    async def _deliver(self) -> None:
        after = self.after
        assert after is not None, "a viewer has a position"
        while not self._ending:
            self._again = False
            told = await self._hub.take(self._topic, after)
            if not told:
                if self._again:
                    continue
                return
            self.after = after = told[-1].id
            if not self._topic.subject.whole and told[-1].type in _TERMINAL:
                self._ending = True
                await self._body(self._joined(told), more=False)
                return
            body = self._joined(told)
            if body:
                await self._body(body)
        await self._body(b"", more=False)

    def _joined(self, told: Sequence[Frame]) -> bytes:
        """Return the frames that this viewer wants, in one piece."""
        form = self._form
        if self._wants is not None:
            wanted = [frame for frame in told if self._wants(frame.event)]
            self._passed = not wanted or wanted[-1] is not told[-1]
            told = wanted
        if len(told) == 1:
            return told[0].bytes_of(form)
        return b"".join([frame.bytes_of(form) for frame in told])

    async def _break_silence(self) -> None:
        # What this viewer does not want moves its position too: coming back, it need not be looked through again.
        said = frames.SILENCE[self._form]
        if self._passed and self.after is not None:
            said, self._passed = frames.passed(self._form, self.after), False
        await self._body(said)

    async def _body(self, body: bytes, *, more: bool = True) -> None:
        self.quiet_since = asyncio.get_running_loop().time()
        self._finished, self._sending = not more, True
        await self._send({"type": "http.response.body", "body": body, "more_body": more})
        self._sending = False
