"""The hub: every follower hears every event once and in order, whatever happens to the line, in bounded memory."""

import asyncio
import contextlib
import random
from collections.abc import Sequence
from uuid import UUID

from infra import ids, streams
from infra.frames import Frame
from infra.ground import Ground
from infra.hub import Hub
from infra.streams import START, Event, EventId, Line, Streams, Subject
from tests.support.line import until
from tests.support.speech import Listener, hub_of, listening, nobody, said, source


def is_end(frame: Frame) -> bool:
    """Whether this is what a job says last."""
    return frame.type == b"end"


async def cut(ground: Ground) -> None:
    """Kill the subscribers' connections, and with them what was under way on them."""
    await ground.redis.client_kill_filter(_type="pubsub")  # pyright: ignore[reportUnknownMemberType, reportGeneralTypeIssues]


async def readings(ground: Ground) -> int:
    """Return how often a stream was read until now."""
    stats: dict[str, dict[str, int]] = await ground.redis.info("commandstats")  # pyright: ignore[reportUnknownMemberType, reportGeneralTypeIssues]
    return stats.get("cmdstat_xrange", {}).get("calls", 0)


async def test_followers_hear_every_event_once_whenever_they_come_and_whatever_breaks(ground: Ground) -> None:
    job, total = source(), 300
    whole = [*said(*["word"] * (total - 1)), *said("end")]
    async with listening(hub_of(ground)) as hub:

        async def follow(pause_s: float) -> list[str]:
            await asyncio.sleep(pause_s)
            listener = Listener(hub, pace_s=random.choice((0, 0, 0.002, 0.03)))
            await listener.listen(streams.job(job.job_id), is_end)
            return listener.ids

        following = [asyncio.create_task(follow(0.005 * n)) for n in range(30)]
        sent = 0
        while sent < total:
            sent += random.randint(1, 7)
            sent = await ground.streams.append(job, 1, whole[:sent], max(0, sent - 7))
            if sent % 40 < 7:  # the subscriber loses its connection, and with it some messages
                await cut(ground)
            await asyncio.sleep(0.005)
        async with asyncio.timeout(20):
            for heard in await asyncio.gather(*following):
                assert heard == [f"1-{n}" for n in range(1, total + 1)]


async def test_an_attempt_that_follows_another_is_no_gap_and_a_lost_message_is(ground: Ground) -> None:
    job = source()
    async with listening(hub_of(ground)) as hub:
        listener = Listener(hub)
        following = asyncio.create_task(listener.listen(streams.job(job.job_id), is_end))
        await ground.streams.append(job, 0, said("queued"), 0)
        await until(lambda: listener.ids == ["0-1"])
        # Nobody published this one.
        await ground.redis.xadd(streams.job(job.job_id).name, {"e": b'{"type":"lost"}'}, id="1-1")
        await ground.streams.append(job, 1, said("lost", "end"), 1)
        await asyncio.wait_for(following, 10)
    assert listener.ids == ["0-1", "1-1", "1-2"]


class Late(Streams):
    """Streams of which what was read is handed over only when it may be."""

    def __init__(self, ground: Ground) -> None:
        """Hand over at once."""
        super().__init__(ground.redis, 60)
        self.readings = 0
        self.may = asyncio.Event()
        self.may.set()

    async def pages(self, wanted: Sequence[tuple[Subject, EventId]], *, entries: int) -> list[tuple[list[Event], bool]]:
        """Read, and wait."""
        found = await super().pages(wanted, entries=entries)
        self.readings += 1
        await self.may.wait()
        return found


async def test_what_was_lost_while_an_old_reading_was_still_on_its_way_is_read_again(ground: Ground) -> None:
    job, late = source(), Late(ground)
    name = streams.job(job.job_id).name
    await ground.streams.append(job, 1, said("a"), 0)
    async with listening(Hub(ground.redis, late, over=nobody)) as hub, asyncio.timeout(10):
        listener = Listener(hub)
        following = asyncio.create_task(listener.listen(streams.job(job.job_id), is_end))
        await until(lambda: listener.ids == ["1-1"])
        late.may.clear()
        before = late.readings
        await cut(ground)
        await until(lambda: late.readings > before)
        await ground.redis.xadd(name, {"e": b'{"type":"lost"}'}, id="1-2")  # said while nobody heard
        topic = hub.topics[name]
        topic.subscribed = False
        await cut(ground)
        await until(lambda: topic.subscribed)
        await ground.streams.append(job, 1, said("a", "lost", "end"), 2)
        await until(lambda: bool(topic.heard))
        late.may.set()
        await following
    assert listener.ids == ["1-1", "1-2", "1-3"]


async def test_an_account_that_outruns_a_follower_tells_what_is_missing(ground: Ground) -> None:
    account_id = ids.new()
    kept = Streams(ground.redis, 60, account_events=100)
    big = Line(b'{"type":"word","text":"%s"}' % (b"x" * 2000), shared=True)
    async with listening(hub_of(ground)) as hub, asyncio.timeout(20):
        slow = Listener(hub, pace_s=0.3)
        following = asyncio.create_task(slow.listen(streams.account(account_id), is_end))
        await kept.append(source(account_id), 1, [big], 0)
        await until(lambda: bool(slow.heard))
        for _ in range(20):
            await kept.append(source(account_id), 1, [big] * 50, 0)
        await kept.append(source(account_id), 1, said("end", shared=True), 0)
        await following
    assert [frame.type for frame in slow.heard].count(b"missed") == 1
    assert len(slow.heard) < 500
    assert slow.ids == [str(id_) for id_ in sorted(frame.id for frame in slow.heard)]
    assert len(set(slow.ids)) == len(slow.ids)


async def test_all_followers_of_a_topic_share_one_frame_and_one_reading(ground: Ground) -> None:
    job = source()
    await ground.streams.append(job, 1, said("a", "b"), 0)
    before = await readings(ground)
    async with listening(hub_of(ground)) as hub:
        listeners = [Listener(hub) for _ in range(20)]
        following = [asyncio.create_task(each.listen(streams.job(job.job_id), is_end)) for each in listeners]
        await until(lambda: all(len(each.heard) == 2 for each in listeners))
        await ground.streams.append(job, 1, said("a", "b", "end"), 2)
        await asyncio.gather(*following)
    for n in range(3):
        assert len({id(each.heard[n]) for each in listeners}) == 1
    assert await readings(ground) - before == 1


async def test_a_topic_is_bounded_and_a_slow_follower_still_hears_everything(ground: Ground) -> None:
    job, total = source(), 3000
    big = Line(b'{"type":"word","text":"%s"}' % (b"x" * 500), shared=False)
    whole = [*[big] * (total - 1), *said("end")]
    async with listening(hub_of(ground)) as hub:
        slow, quick = Listener(hub, pace_s=0.05), Listener(hub)
        following = [asyncio.create_task(each.listen(streams.job(job.job_id), is_end)) for each in (slow, quick)]
        sent = 0
        while sent < total:
            sent = await ground.streams.append(job, 1, whole[: sent + 20], sent)
            topic = hub.topics[streams.job(job.job_id).name]
            assert sum(frame.size_bytes for frame in topic.frames) <= 262_144
            await asyncio.sleep(0)
        async with asyncio.timeout(20):
            await asyncio.gather(*following)
    assert slow.ids == quick.ids == [f"1-{n}" for n in range(1, total + 1)]


async def test_what_everybody_has_taken_is_forgotten_and_so_is_what_nobody_follows(ground: Ground) -> None:
    job = source()
    hub = Hub(ground.redis, ground.streams, linger_s=0.3, age_every_s=0.2, heartbeat_s=0.4, over=nobody)
    async with listening(hub):
        listener = Listener(hub)
        following = asyncio.create_task(listener.listen(streams.job(job.job_id), is_end))
        await ground.streams.append(job, 1, said("a", "b"), 0)
        await until(lambda: len(listener.heard) == 2)
        topic = hub.topics[streams.job(job.job_id).name]
        await until(lambda: not topic.frames)
        late = Listener(hub)  # finds it all the same
        await ground.streams.append(job, 1, said("a", "b", "end"), 2)
        await late.listen(streams.job(job.job_id), is_end)
        await following
        assert late.ids == listener.ids == ["1-1", "1-2", "1-3"]
        await until(lambda: not hub.topics)
        async with asyncio.timeout(5):
            while await ground.redis.pubsub_channels("pulse:events:*"):  # pyright: ignore[reportUnknownMemberType, reportGeneralTypeIssues]  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        again = Listener(hub)
        await again.listen(streams.job(job.job_id), is_end)
        assert again.ids == late.ids


async def test_many_silent_jobs_are_looked_at_in_one_statement(ground: Ground) -> None:
    jobs, asked = [source() for _ in range(300)], list[int]()

    async def over(job_ids: Sequence[UUID]) -> dict[UUID, list[Event]]:
        asked.append(len(job_ids))
        await asyncio.sleep(0.05)
        return {job_id: [Event(EventId(1, n), b'{"type":"end"}') for n in (1, 2)] for job_id in job_ids}

    hub = Hub(ground.redis, ground.streams, terminal=frozenset({"end"}), over=over)
    async with listening(hub), asyncio.timeout(20):
        listeners = [Listener(hub, EventId(1, 1)) for _ in jobs]
        await asyncio.gather(
            *(each.listen(streams.job(job.job_id), is_end) for each, job in zip(listeners, jobs, strict=True))
        )
    assert all(each.ids == ["1-2"] for each in listeners)
    assert sum(asked) == 300
    assert len(asked) <= 20


async def test_whoever_has_seen_the_end_is_told_it_once_more(ground: Ground) -> None:
    job = source()
    await ground.streams.append(job, 1, said("a"), 0)
    async with listening(hub_of(ground)) as hub, asyncio.timeout(10):
        listeners = [Listener(hub), Listener(hub, EventId(1, 7))]
        following = [asyncio.create_task(each.listen(streams.job(job.job_id), is_end)) for each in listeners]
        await until(lambda: len(listeners[0].heard) == 1)
        await ground.streams.append(job, 1, said("a", "end"), 1)
        await asyncio.gather(*following)
    assert [each.ids for each in listeners] == [["1-1", "1-2"], ["1-8"]]


async def test_while_redis_is_away_a_job_that_is_over_ends_all_the_same(ground: Ground) -> None:
    job = source()
    tale = [Event(EventId(1, n), line.data) for n, line in enumerate(said("a", "b", "end"), start=1)]
    ended = asyncio.Event()

    async def over(job_ids: Sequence[UUID]) -> dict[UUID, list[Event]]:
        return dict.fromkeys(job_ids, tale) if ended.is_set() else {}

    hub = Hub(ground.redis, ground.streams, heartbeat_s=0.4, terminal=frozenset({"end"}), over=over)
    async with listening(hub), asyncio.timeout(20):
        listener = Listener(hub)
        following = asyncio.create_task(listener.listen(streams.job(job.job_id), is_end))
        await ground.streams.append(job, 1, said("a"), 0)
        await until(lambda: listener.ids == ["1-1"])
        await ground.redis.flushall()  # pyright: ignore[reportUnknownMemberType]
        ended.set()
        await following
    assert listener.ids == ["1-1", "1-2", "1-3"]


async def test_a_watcher_is_woken_by_what_is_said_and_by_what_may_have_been(ground: Ground) -> None:
    job = source()
    async with listening(hub_of(ground)) as hub, asyncio.timeout(10):
        with hub.watch(job.job_id) as spoken:
            await spoken.wait()  # subscribed to only now: it may have spoken before
            for attempt in (1, 2):
                spoken.clear()
                await ground.streams.append(job, attempt, said("a"), 0)
                await spoken.wait()
            spoken.clear()
            await cut(ground)
            await spoken.wait()
            spoken.clear()
            hub.close()
            await spoken.wait()
    assert hub.closed


async def test_a_hub_that_closes_ends_every_follower(ground: Ground) -> None:
    async with listening(hub_of(ground)) as hub:
        listeners = [Listener(hub) for _ in range(5)]
        following = [asyncio.create_task(each.listen(streams.job(ids.new()), is_end)) for each in listeners]
        await asyncio.sleep(0.1)
        hub.close()
        await asyncio.wait_for(asyncio.gather(*following), 5)
    assert all(each.after == START for each in listeners)


async def test_one_connection_hears_two_processes_worth_of_everything(ground: Ground) -> None:
    account_id = ids.new()
    jobs = [source(account_id) for _ in range(40)]
    async with listening(hub_of(ground)) as one, listening(hub_of(ground)) as other:
        listeners = [Listener(hub) for hub in (one, other)]
        account = streams.account(account_id)
        following = [
            asyncio.create_task(each.listen(account, lambda _, each=each: len(each.heard) >= 120)) for each in listeners
        ]
        await until(lambda: all(hub.topics and hub.topics[account.name].fresh for hub in (one, other)))
        for job in jobs:
            await ground.streams.append(job, 1, said("started", "progress", "end", shared=True), 0)
        clients: list[dict[str, str]] = await ground.redis.client_list(_type="pubsub")  # pyright: ignore[reportUnknownMemberType, reportGeneralTypeIssues, reportAssignmentType]
        assert len(clients) == 2
        async with asyncio.timeout(10):
            await asyncio.gather(*following)
    assert listeners[0].ids == listeners[1].ids
    assert len(set(listeners[0].ids)) == 120
    assert [frame.type for frame in listeners[0].heard] == [b"started", b"progress", b"end"] * 40


async def test_three_hundred_viewers_that_come_and_go_hear_each_event_exactly_once(ground: Ground) -> None:
    jobs, total = [source() for _ in range(30)], 60
    whole = [*said(*["word"] * (total - 1)), *said("end")]

    async def speak(job: streams.Source) -> None:
        sent = 0
        while sent < total:
            sent = await ground.streams.append(job, 1, whole[: sent + random.randint(1, 4)], sent)
            await asyncio.sleep(random.random() * 0.05)

    async def view(hub: Hub, job: streams.Source) -> list[str]:
        heard: list[str] = []
        after = START
        while not heard or heard[-1] != f"1-{total}":
            listener = Listener(hub, after, pace_s=random.choice((0, 0.01)))
            watching = listener.listen(streams.job(job.job_id), is_end)
            with contextlib.suppress(TimeoutError):  # the client's connection breaks; it comes back after the last id
                await asyncio.wait_for(watching, random.random() * 0.6)
            heard += listener.ids
            assert listener.after is not None
            after = listener.after
        return heard

    async with listening(hub_of(ground)) as hub, asyncio.timeout(30):
        viewing = [asyncio.create_task(view(hub, job)) for job in jobs for _ in range(10)]
        speaking = asyncio.gather(*map(speak, jobs))
        for _ in range(4):
            await asyncio.sleep(0.3)
            await cut(ground)
        await speaking
        for heard in await asyncio.gather(*viewing):
            assert heard == [f"1-{n}" for n in range(1, total + 1)]
