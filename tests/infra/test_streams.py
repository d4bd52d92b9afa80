"""The streams of jobs and accounts: ordered, fenced, whole again after Redis forgot, and nothing twice."""

import asyncio
from typing import Any
from uuid import UUID

import msgspec
import pytest

from infra import ids, streams
from infra.ground import Ground
from infra.streams import START, Append, EventId, Fenced, InvalidEventId, Line, Streams
from tests.support.speech import said, source


async def shared(ground: Ground, account_id: UUID) -> list[tuple[str, bytes]]:
    """Return the kinds and the events of an account's stream."""
    ((events, _),) = await ground.streams.pages([(streams.account(account_id), START)], entries=10_000)
    return [(event.kind, event.data) for event in events]


async def test_an_event_sent_twice_is_there_once(ground: Ground) -> None:
    job = source()
    assert await ground.streams.append(job, 1, said("a", "b"), 0) == 2
    assert await ground.streams.append(job, 1, said("a", "b", "c"), 0) == 3  # the answer to the first was lost
    assert [(str(event.id), event.data) for event in await ground.streams.read(job.job_id)] == [
        ("1-1", b'{"type":"a"}'),
        ("1-2", b'{"type":"b"}'),
        ("1-3", b'{"type":"c"}'),
    ]


async def test_what_redis_forgot_is_said_again(ground: Ground) -> None:
    job, whole = source(), said("a", "b", "c", "d")
    await ground.streams.append(job, 2, whole[:3], 0)
    await ground.redis.flushall()  # pyright: ignore[reportUnknownMemberType]
    assert await ground.streams.append(job, 2, whole, 3) == 4
    assert [event.data for event in await ground.streams.read(job.job_id)] == [line.data for line in whole]


async def test_an_old_snapshot_is_completed(ground: Ground) -> None:
    job, whole = source(), said("a", "b", "c", "d", "e")
    await ground.streams.append(job, 2, whole[:2], 0)
    assert await ground.streams.append(job, 2, whole, 4) == 5
    assert [event.data for event in await ground.streams.read(job.job_id)] == [line.data for line in whole]


async def test_an_older_attempt_cannot_speak_any_more(ground: Ground) -> None:
    job = source()
    await ground.streams.append(job, 1, said("a"), 0)
    await ground.streams.append(job, 2, said("started"), 0)
    with pytest.raises(Fenced):
        await ground.streams.append(job, 1, said("a", "zombie"), 1)
    with pytest.raises(Fenced):
        await ground.streams.end(job, 1, said("zombie")[0])
    assert [str(event.id) for event in await ground.streams.read(job.job_id)] == ["1-1", "2-1"]


async def test_an_end_comes_after_whatever_was_said_and_only_once(ground: Ground) -> None:
    job, end = source(), said("end", shared=True)[0]
    await ground.streams.append(job, 1, said("a", "b"), 0)
    for _ in range(2):  # the answer to the first was lost
        await ground.streams.end(job, 1, end)
    assert [str(event.id) for event in await ground.streams.read(job.job_id)] == ["1-1", "1-2", "1-3"]
    assert await shared(ground, job.account_id) == [("chat", end.data)]


async def test_a_finished_stream_is_kept_for_its_time_and_a_live_one_much_longer(ground: Ground) -> None:
    job = source()
    await ground.streams.append(job, 1, said("a"), 0)
    live: int = await ground.redis.ttl(f"pulse:events:{job.job_id}")  # pyright: ignore[reportUnknownMemberType, reportGeneralTypeIssues]
    await ground.streams.append(job, 1, said("a", "z"), 1, over=True)
    over: int = await ground.redis.ttl(f"pulse:events:{job.job_id}")  # pyright: ignore[reportUnknownMemberType, reportGeneralTypeIssues]
    assert live > 86_400
    assert 900 >= over > 0


async def test_first_words_of_many_jobs_are_one_command_of_a_pipeline(ground: Ground) -> None:
    fresh, spoken, fenced = source(), source(), source()
    await ground.streams.append(spoken, 0, said("queued"), 0)
    await ground.streams.append(fenced, 1, said("started"), 0)
    async with ground.redis.pipeline(transaction=False) as pipe:
        ground.streams.put(pipe, [Append(job, 0, 1, said("queued")) for job in (fresh, spoken, fenced)])
        assert len(pipe) == 1
        await pipe.execute()
    told = [await ground.streams.read(job.job_id) for job in (fresh, spoken, fenced)]
    assert [[str(event.id) for event in events] for events in told] == [["0-1"], ["0-1"], ["1-1"]]


async def test_an_account_gets_what_is_shared_and_nothing_of_it_twice(ground: Ground) -> None:
    batch_id, account_id = ids.new(), ids.new()
    job, other = source(account_id, batch_id=batch_id), source(account_id, kind="scan")
    lines = [Line(b'{"type":"started"}', shared=True), *said("delta"), Line(b'{"type":"end"}', shared=True)]
    await ground.streams.append(job, 1, lines[:2], 0)
    await ground.streams.append(job, 1, lines, 0)  # the answer to the first was lost
    await ground.streams.append(job, 1, lines, 0, over=True)
    await ground.streams.append(other, 1, lines, 0)
    ((events, _),) = await ground.streams.pages([(streams.account(account_id), START)], entries=100)
    assert [(event.kind, event.batch, event.data) for event in events] == [
        ("chat", str(batch_id), b'{"type":"started"}'),
        ("chat", str(batch_id), b'{"type":"end"}'),
        ("scan", "", b'{"type":"started"}'),
        ("scan", "", b'{"type":"end"}'),
    ]
    assert f'"job":"{job.job_id}","kind":"chat","batch":"{batch_id}"'.encode() == events[0].whose
    assert f'"job":"{other.job_id}","kind":"scan","batch":null'.encode() == events[2].whose


async def test_an_account_s_stream_is_bounded_and_kept_for_a_week(ground: Ground) -> None:
    account_id, small = ids.new(), Streams(ground.redis, 900, account_events=100)
    for _ in range(3):
        job = source(account_id)
        await small.append(job, 1, said(*["progress"] * 100, shared=True), 0)
    assert 100 <= len(await shared(ground, account_id)) <= 200
    left: int = await ground.redis.ttl(f"pulse:account:{account_id}")  # pyright: ignore[reportUnknownMemberType, reportGeneralTypeIssues]
    assert 6 * 86_400 < left <= 7 * 86_400


async def test_an_end_is_said_also_where_redis_has_forgotten_all_before_it(ground: Ground) -> None:
    job = source()
    await ground.streams.end(job, 0, said("end")[0])
    assert [str(event.id) for event in await ground.streams.read(job.job_id)] == ["0-1"]


async def test_what_a_quiet_job_says_is_for_its_followers_alone_and_goes_with_its_end_where_there_are_none(
    ground: Ground,
) -> None:
    job, lines = msgspec.structs.replace(source(), quiet=True), said("a", "b", shared=True)
    name = streams.job(job.job_id).name
    await ground.streams.append(job, 1, lines[:1], 0)
    assert len(await ground.streams.read(job.job_id)) == 1
    await ground.streams.append(job, 1, lines, 1, over=True)
    assert await ground.streams.read(job.job_id) == []
    follower: Any = ground.redis.pubsub()  # pyright: ignore[reportUnknownMemberType]
    await follower.subscribe(name)
    await follower.get_message(timeout=5)
    await ground.streams.append(job, 1, lines, 0, over=True)
    assert len(await ground.streams.read(job.job_id)) == 2
    left: int = await ground.redis.ttl(name)  # pyright: ignore[reportUnknownMemberType, reportGeneralTypeIssues]
    assert 0 < left <= streams.QUIET_KEEP_S
    message = await follower.get_message(timeout=5)
    assert message["data"] == b"1-2\n" + lines[0].data + b"\n" + lines[1].data
    await follower.aclose()
    assert await shared(ground, job.account_id) == []


async def test_an_account_is_told_something_by_itself_and_no_more_of_it_for_a_while(ground: Ground) -> None:
    job, other = source(kind="batch"), source()
    line = said("first", "second", "last", shared=True)
    assert await ground.streams.tell(job, line[0], silent_s=60)
    assert not await ground.streams.tell(job, line[1], silent_s=60)
    assert await ground.streams.tell(msgspec.structs.replace(other, account_id=job.account_id), line[1], silent_s=60)
    assert await ground.streams.tell(job, line[2])
    told = [("batch", line[0].data), ("chat", line[1].data), ("batch", line[2].data)]
    assert await shared(ground, job.account_id) == told
    assert await ground.streams.read(job.job_id) == []


async def test_ids_sort_by_attempt_then_number() -> None:
    assert EventId(1, 10) > EventId(1, 9)
    assert EventId(2, 1) > EventId(1, 999)


@pytest.mark.parametrize("text", ["", "1", "-1", "1-", "a-1", "1-1-1", "1-99999999999", "٣-١"])
def test_what_is_no_id_is_refused(text: str) -> None:
    with pytest.raises(InvalidEventId):
        EventId.parse(text, field="after")


async def test_many_appends_at_once_are_each_told_their_own(ground: Ground) -> None:
    jobs = [source() for _ in range(50)]
    told = await asyncio.gather(
        *(ground.streams.append(job, 1, said(*["a"] * (n + 1)), 0) for n, job in enumerate(jobs))
    )
    assert told == list(range(1, 51))
