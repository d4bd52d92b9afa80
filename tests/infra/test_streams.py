"""The stream of a job: ordered, fenced, whole again after Redis forgot, followed without loss."""

import asyncio

import pytest

from infra import ids
from infra.ground import Ground
from infra.streams import START, Event, EventId, Fenced, Hub, follow


def said(*names: str) -> list[bytes]:
    """Return events by name."""
    return [name.encode() for name in names]


async def test_an_event_sent_twice_is_there_once(ground: Ground) -> None:
    job_id = ids.new()
    assert await ground.streams.append(job_id, 1, said("a", "b"), 0) == 2
    assert await ground.streams.append(job_id, 1, said("a", "b", "c"), 0) == 3  # the answer to the first was lost
    assert [(str(event.id), event.data) for event in await ground.streams.read(job_id)] == [
        ("1-1", b"a"),
        ("1-2", b"b"),
        ("1-3", b"c"),
    ]


async def test_what_redis_forgot_is_said_again(ground: Ground) -> None:
    job_id = ids.new()
    await ground.streams.append(job_id, 2, said("a", "b", "c"), 0)
    await ground.redis.flushall()  # pyright: ignore[reportUnknownMemberType]
    assert await ground.streams.append(job_id, 2, said("a", "b", "c", "d"), 3) == 4
    assert [event.data for event in await ground.streams.read(job_id)] == said("a", "b", "c", "d")


async def test_an_old_snapshot_is_completed(ground: Ground) -> None:
    job_id = ids.new()
    await ground.streams.append(job_id, 2, said("a", "b"), 0)
    assert await ground.streams.append(job_id, 2, said("a", "b", "c", "d", "e"), 4) == 5
    assert [event.data for event in await ground.streams.read(job_id)] == said("a", "b", "c", "d", "e")


async def test_an_older_attempt_cannot_speak_any_more(ground: Ground) -> None:
    job_id = ids.new()
    await ground.streams.append(job_id, 1, said("a"), 0)
    await ground.streams.append(job_id, 2, said("started"), 0)
    with pytest.raises(Fenced):
        await ground.streams.append(job_id, 1, said("a", "zombie"), 1)
    with pytest.raises(Fenced):
        await ground.streams.end(job_id, 1, b"zombie")
    assert [str(event.id) for event in await ground.streams.read(job_id)] == ["1-1", "2-1"]


async def test_a_finished_stream_is_kept_for_its_time_and_a_live_one_much_longer(ground: Ground) -> None:
    job_id = ids.new()
    await ground.streams.append(job_id, 1, said("a"), 0)
    live: int = await ground.redis.ttl(f"pulse:events:{job_id}")  # pyright: ignore[reportUnknownMemberType, reportGeneralTypeIssues]
    await ground.streams.append(job_id, 1, said("a", "z"), 1, over=True)
    over: int = await ground.redis.ttl(f"pulse:events:{job_id}")  # pyright: ignore[reportUnknownMemberType, reportGeneralTypeIssues]
    assert live > 86_400
    assert 900 >= over > 0


async def test_ids_sort_by_attempt_then_number() -> None:
    assert EventId(1, 10) > EventId(1, 9)
    assert EventId(2, 1) > EventId(1, 999)


async def test_followers_get_every_event_once_whenever_they_come(ground: Ground) -> None:
    job_id, hub, total = ids.new(), Hub(ground.redis), 300
    listening = asyncio.create_task(hub.run())

    async def no_end(_after: EventId) -> list[Event] | None:
        return None

    async def watch(pause_s: float) -> list[int]:
        await asyncio.sleep(pause_s)
        followed = follow(
            ground.streams, hub, job_id, START, heartbeat_s=0.5, is_last=lambda e: e.data == b"end", rest=no_end
        )
        return [event.id.n async for event in followed if event is not None]

    watching = [asyncio.create_task(watch(0.005 * n)) for n in range(20)]
    events: list[bytes] = []
    for n in range(1, total + 1):
        events.append(b"end" if n == total else b"%d" % n)
        await ground.streams.append(job_id, 1, events, n - 1)
        if n == total // 2:  # the subscriber loses its connection, and with it some pokes
            await ground.redis.client_kill_filter(_type="pubsub")  # pyright: ignore[reportUnknownMemberType, reportGeneralTypeIssues]
    for got in await asyncio.gather(*watching):
        assert got == list(range(1, total + 1))
    listening.cancel()
    await asyncio.gather(listening, return_exceptions=True)


async def test_a_hub_that_closes_ends_every_stream(ground: Ground) -> None:
    hub = Hub(ground.redis)

    async def no_end(_after: EventId) -> list[Event] | None:
        return None

    async def watch() -> list[Event | None]:
        followed = follow(ground.streams, hub, ids.new(), START, heartbeat_s=60, is_last=lambda _: False, rest=no_end)
        return [event async for event in followed]

    watching = asyncio.create_task(watch())
    await asyncio.sleep(0.1)
    hub.close()
    assert await asyncio.wait_for(watching, 5) == []
