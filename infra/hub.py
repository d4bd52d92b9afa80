"""What this process follows: one subscriber connection, whatever is followed, and however many follow it.

A subject is subscribed to while it has followers. What is heard is kept in its `Topic`, from which every follower takes
what it has not got; what was missed is read from the stream, once for all of them, and many streams in one round trip.
One timer does the rest: heartbeats, whether silent jobs are over, forgetting what nobody follows.
"""

import asyncio
from collections.abc import Awaitable, Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from uuid import UUID

import structlog
from redis.asyncio import Redis

from infra import redis as road
from infra import streams as speech
from infra.coalesce import Coalescer
from infra.frames import Frame
from infra.streams import Event, EventId, Streams, Subject
from infra.subscriber import Subscriber
from infra.topic import Follower, Topic

log = structlog.stdlib.get_logger()

_PAGE = 100
_MOST_READ = 100
_MOST_ASKED = 500
# A job that has spoken, but not to its end, is asked for a little later: most end by themselves until then.
_ASK_AFTER_S = 1.0
# So many followers are sent their heartbeat in one turn of the loop.
_BEATS = 100


async def _never(_job_ids: Sequence[UUID]) -> Mapping[UUID, Sequence[Event]]:
    return {}


class Hub:
    """Everything that is followed in this process.

    `over` is asked of jobs that are silent, or were so when they were first followed, and of all while Redis is away,
    many at once: it returns what those that are over have said at last, the terminal event last. `terminal` are the
    types of such events.
    """

    def __init__(
        self,
        redis: Redis,
        streams: Streams,
        *,
        heartbeat_s: float = 15.0,
        terminal: frozenset[str] = frozenset(),
        over: Callable[[Sequence[UUID]], Awaitable[Mapping[UUID, Sequence[Event]]]] = _never,
        linger_s: float = 5.0,
        age_every_s: float = 2.0,
    ) -> None:
        """Use a connection of `redis` of its own once `run` is running.

        A subject stays subscribed to for `linger_s` seconds after its last follower has left, who may come back. Events
        stay in memory for `age_every_s` to twice as many seconds.
        """
        self._streams = streams
        self._heartbeat_s = heartbeat_s
        self._terminal = frozenset(name.encode() for name in terminal)
        self._over = over
        self._linger_s = linger_s
        self._age_every_s = age_every_s
        self._subscriber = Subscriber(redis, self)
        self._topics: dict[str, Topic] = {}
        self._unread: dict[str, Topic] = {}
        self._unsure: dict[UUID, Topic] = {}
        self._work: dict[str, asyncio.Task[None]] = {}
        self._pages = Coalescer(self._read_pages, most=_MOST_READ, passing=road.AWAY)
        self._closed = False

    async def run(self) -> None:
        """Listen and keep time, for ever."""
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._subscriber.run())
                group.create_task(self._keep_time())
        finally:
            for task in self._work.values():
                task.cancel()
            await asyncio.gather(*self._work.values(), return_exceptions=True)

    @property
    def closed(self) -> bool:
        """Whether this process is going down, so that everybody who waits should end."""
        return self._closed

    @property
    def topics(self) -> Mapping[str, Topic]:
        """What is known now, by name."""
        return self._topics

    def close(self) -> None:
        """Let every follower end."""
        self._closed = True
        for topic in self._topics.values():
            for follower in tuple(topic.followers):
                follower.end()

    def join(self, subject: Subject, follower: Follower) -> Topic:
        """Add a follower; it is poked when there is something to take."""
        topic = self._topics.get(subject.name)
        if topic is None:
            topic = self._topics[subject.name] = Topic(subject)
            topic.ask_at = asyncio.get_running_loop().time() + _ASK_AFTER_S
            self._subscriber.want(subject.name)
        topic.followers.add(follower)
        topic.left_at = None
        if topic.subscribed and not topic.fresh:
            self._catch_up(topic)
        return topic

    def leave(self, topic: Topic, follower: Follower) -> None:
        """Remove a follower."""
        topic.followers.discard(follower)
        if not topic.followers:
            topic.left_at = asyncio.get_running_loop().time()
            if topic.tale is not None:  # whoever comes back to a job that is over is rare
                self._forget(topic)

    def _forget(self, topic: Topic) -> None:
        # Not while a subscription is on its way: its answer would be taken for a later one's.
        if topic.subscribed or not self._subscriber.connected:
            self._subscriber.drop(topic.subject.name)
            self._topics.pop(topic.subject.name, None)

    @contextmanager
    def watch(self, job_id: UUID) -> Generator[asyncio.Event]:
        """Give an event that is set whenever the job has said something, or may have."""
        watcher = _Watcher()
        topic = self.join(speech.job(job_id), watcher)
        try:
            yield watcher.said
        finally:
            self.leave(topic, watcher)

    async def take(self, topic: Topic, after: EventId) -> Sequence[Frame]:
        """Return what a subject has said after an id, as far as it is there: a part of it, in order, or nothing yet."""
        frames = topic.take(after)
        if frames is not None:
            return frames
        try:
            page = await self._pages.ask((topic.subject, after))
        except road.AWAY:
            topic.retry = True
            page = []
        if len(page) == 1 and topic.subject.whole and page[0].event.whose == b"":  # nothing is kept but here
            return [page[0].renumbered(max(page[0].id, topic.floor))]
        if not page and topic.whole:
            return topic.told(after)
        if not page and topic.tale is not None:  # the job is over, and what it said before is not in the stream
            self._ask(topic)
        return page

    # What the subscriber hears.

    def on_subscribed(self, channel: str) -> None:
        """Read what was said before."""
        topic = self._topics.get(channel)
        if topic is not None:
            topic.subscribed = True
            self._catch_up(topic)

    def on_message(self, channel: str, data: bytes) -> None:
        """Keep what was said, and tell the followers."""
        topic = self._topics.get(channel)
        if topic is None:
            return
        events = topic.subject.heard(data)
        if topic.reading:
            topic.heard += events
        elif topic.fresh:
            self._hear(topic, events)
        else:
            self._catch_up(topic)
        if not topic.fresh:
            for follower in tuple(topic.followers):
                if follower.after is None:
                    follower.poke()

    def on_deaf(self) -> None:
        """Know nothing for sure until every channel is heard again."""
        now = asyncio.get_running_loop().time()
        for topic in self._topics.values():
            topic.subscribed = topic.fresh = False
            topic.ask_at = min(topic.ask_at, now + _ASK_AFTER_S)

    def _hear(self, topic: Topic, events: Sequence[Event]) -> None:
        new = next((event for event in events if topic.last is None or event.id > topic.last), None)
        if new is not None and not topic.follows(new):
            topic.fresh = False
            self._catch_up(topic)
            return
        self._tell(topic, topic.add(events))

    def _tell(self, topic: Topic, new: Sequence[Frame]) -> None:
        if new:
            topic.ask_at = asyncio.get_running_loop().time() + self._heartbeat_s
            if new[-1].type in self._terminal and not topic.subject.whole:
                topic.tale, topic.ask_at = new[-1:], float("inf")
        for follower in tuple(topic.followers):
            follower.poke()

    # Reading what was missed.

    def _catch_up(self, topic: Topic) -> None:
        wanted = [follower.after for follower in topic.followers if follower.after is not None]
        if not wanted:  # nobody wants events, but whoever waits is to look at the truth
            for follower in tuple(topic.followers):
                follower.poke()
            return
        if topic.last is None and not topic.reading:
            topic.floor = min(wanted)
        topic.reading = True
        self._unread[topic.subject.name] = topic
        self._start("read", self._read_all)

    def _start(self, name: str, work: Callable[[], Awaitable[None]]) -> None:
        task = self._work.get(name)
        if task is None or task.done():
            self._work[name] = asyncio.ensure_future(work())

    async def _read_all(self) -> None:
        while self._unread:
            names = list(self._unread)[:_MOST_READ]
            topics = [self._unread.pop(name) for name in names]
            try:
                wanted = [(topic.subject, topic.last or topic.floor) for topic in topics]
                pages = await self._streams.pages(wanted, entries=_PAGE)
            except Exception as error:
                if not isinstance(error, road.AWAY):
                    log.exception("streams could not be read")
                for topic in topics:
                    topic.reading, topic.heard, topic.retry = False, [], True
                continue
            for topic, (events, is_full) in zip(topics, pages, strict=True):
                try:
                    self._fill(topic, events, is_full=is_full)
                except Exception:
                    log.exception("a stream could not be understood", stream=topic.subject.name)
                    topic.reading, topic.heard, topic.retry = False, [], True

    def _fill(self, topic: Topic, events: Sequence[Event], *, is_full: bool) -> None:
        name, is_first = topic.subject.name, topic.last is None
        if self._topics.get(name) is not topic:  # forgotten meanwhile, and another may be read under its name
            return
        heard, topic.heard = topic.heard, []
        new = topic.add(events)
        # Where it is to be read again already, what was heard may come after a gap that only that reading fills.
        if is_full or name in self._unread:
            topic.heard = heard
            self._unread[name] = topic
        else:
            topic.reading, topic.fresh = False, topic.subscribed
            new += topic.add(heard)
        self._tell(topic, new)
        if is_first and topic.tale is None and not topic.subject.whole:
            now = asyncio.get_running_loop().time()
            topic.ask_at = now + _ASK_AFTER_S if new else now
            if not new:
                self._ask(topic)

    async def _read_pages(self, wanted: Sequence[tuple[Subject, EventId]]) -> list[list[Frame]]:
        pages = await self._streams.pages(wanted, entries=_PAGE)
        return [[Frame(event) for event in events] for events, _ in pages]

    # Asking whether silent jobs are over.

    def _ask(self, topic: Topic) -> None:
        topic.ask_at = asyncio.get_running_loop().time() + self._heartbeat_s
        self._unsure[topic.subject.id] = topic
        self._start("ask", self._ask_all)

    async def _ask_all(self) -> None:
        while self._unsure:
            asked = [self._unsure.pop(job_id) for job_id in list(self._unsure)[:_MOST_ASKED]]
            try:
                over = await self._over([topic.subject.id for topic in asked])
            except Exception:
                log.exception("silent jobs could not be looked at")  # nor do their streams end for it
                return
            for topic in asked:
                told = over.get(topic.subject.id)
                if told is not None:
                    topic.tale, topic.whole, topic.ask_at = [Frame(event) for event in told], True, float("inf")
                    for follower in tuple(topic.followers):
                        follower.poke()

    # The timer.

    async def _keep_time(self) -> None:
        clock, aged_at = asyncio.get_running_loop().time, 0.0
        while True:
            await asyncio.sleep(min(1.0, self._heartbeat_s / 4))
            now = clock()
            old = now - aged_at >= self._age_every_s
            if old:
                aged_at = now
            try:
                await self._turn(now, old=old)
            except Exception:
                log.exception("the timer of the streams missed a turn")

    async def _turn(self, now: float, *, old: bool) -> None:
        due: list[Follower] = []
        for topic in list(self._topics.values()):
            self._tend(topic, now)
            if old:
                topic.age()
            due += [each for each in topic.followers if now - each.quiet_since >= self._heartbeat_s]
        for start in range(0, len(due), _BEATS):
            for follower in due[start : start + _BEATS]:
                follower.beat()
            await asyncio.sleep(0)

    def _tend(self, topic: Topic, now: float) -> None:
        if not topic.followers:
            if topic.left_at is not None and now - topic.left_at >= self._linger_s:
                self._forget(topic)
            return
        if topic.retry:
            topic.retry = False
            if topic.subscribed and not topic.fresh:
                self._catch_up(topic)
            for follower in tuple(topic.followers):
                follower.poke()
        if now >= topic.ask_at and not topic.subject.whole:
            self._ask(topic)
            if not topic.subscribed:
                topic.ask_at = now + _ASK_AFTER_S


class _Watcher:
    """Waits for a job to say something, whatever it is."""

    def __init__(self) -> None:
        self.after: EventId | None = None
        self.quiet_since = float("inf")
        self.said = asyncio.Event()

    def poke(self) -> None:
        self.said.set()

    def beat(self) -> None:
        """Be never silent."""

    def end(self) -> None:
        self.said.set()
