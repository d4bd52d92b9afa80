"""What one process knows of a followed subject: its followers, its latest events, and whether any were missed.

Events are kept for a few seconds only, and only so many: enough for everybody who follows to take them, each at their
own pace. Whoever is slower than that reads the stream.
"""

from collections import deque
from collections.abc import Iterable, Sequence
from typing import Protocol

from infra.frames import Frame
from infra.streams import START, Event, EventId, Subject

_MOST_FRAMES = 512
_MOST_BYTES = 262_144


class Follower(Protocol):
    """Who follows a subject. `after` is the last event it has taken; None where it only wants to be woken."""

    after: EventId | None
    #: Loop time at which something was last sent.
    quiet_since: float

    def poke(self) -> None:
        """There may be something to take."""
        ...

    def beat(self) -> None:
        """Nothing has been sent for a heartbeat's time."""
        ...

    def end(self) -> None:
        """The process is going down."""
        ...


class Topic:
    """One followed subject."""

    __slots__ = (
        "_mark",
        "_size_bytes",
        "ask_at",
        "floor",
        "followers",
        "frames",
        "fresh",
        "heard",
        "last",
        "left_at",
        "reading",
        "retry",
        "subject",
        "subscribed",
        "tale",
        "whole",
    )

    def __init__(self, subject: Subject) -> None:
        """Know nothing yet."""
        self.subject = subject
        self.followers: set[Follower] = set()
        #: Whether the channel is heard, whether nothing was missed since, and whether the stream is being read.
        self.subscribed = self.fresh = self.reading = False
        #: `frames` are all events after `floor` up to `last`; None before the stream was read for the first time.
        self.frames: deque[Frame] = deque()
        self.floor = START
        self.last: EventId | None = None
        #: What was heard while the stream was being read.
        self.heard: list[Event] = []
        #: What a job that is over has said at last, the terminal event last; `whole` where PostgreSQL told it.
        self.tale: Sequence[Frame] | None = None
        self.whole = False
        #: When (loop time) to ask whether the job is over, although nothing says so.
        self.ask_at = float("inf")
        #: Since when nobody follows; whether somebody could not read and is to try again.
        self.left_at: float | None = None
        self.retry = False
        self._size_bytes = 0
        self._mark = START

    def follows(self, event: Event) -> bool:
        """Whether no event of a job is missing between the last one known and this one."""
        if self.subject.whole or self.last is None:
            return True
        before, now = self.last, event.id
        return now.n == before.n + 1 if now.attempt == before.attempt else now.n == 1

    def add(self, events: Iterable[Event]) -> list[Frame]:
        """Keep the events that are new, and return them."""
        last = self.last or self.floor
        new: list[Frame] = []
        for event in events:
            if event.id > last:
                frame = Frame(event)
                new.append(frame)
                last = event.id
                self._size_bytes += frame.size_bytes
        self.last = last
        self.frames.extend(new)
        while self.frames and (len(self.frames) > _MOST_FRAMES or self._size_bytes > _MOST_BYTES):
            self._forget_first()
        return new

    def age(self) -> None:
        """Forget the events that were there already at the last call."""
        while self.frames and self.frames[0].id <= self._mark:
            self._forget_first()
        self._mark = self.last or START

    def _forget_first(self) -> None:
        frame = self.frames.popleft()
        self._size_bytes -= frame.size_bytes
        self.floor = frame.id

    def take(self, after: EventId) -> Sequence[Frame] | None:
        """Return what there is after an id: nothing yet, some events, or None where the stream has to be read."""
        if self.last is None:
            return () if self.reading else self.told(after)
        if after >= self.last:
            return self.told(after)
        if after < self.floor:
            return None
        if after < self.frames[0].id:
            return tuple(self.frames)
        new: list[Frame] = []
        for frame in reversed(self.frames):
            if frame.id <= after:
                break
            new.append(frame)
        new.reverse()
        return new

    def told(self, after: EventId) -> Sequence[Frame]:
        """Return the rest of a job that is over. Who has seen the end is told it once more, under a new id."""
        if self.tale is None:
            return ()
        rest = [frame for frame in self.tale if frame.id > after]
        return rest or [self.tale[-1].renumbered(EventId(after.attempt, after.n + 1))]
