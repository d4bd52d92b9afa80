"""An account's own stream: what concerns it of all of its jobs, filtered, resumed, and its gaps told."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID

import msgspec
import pytest

from infra import ids, streams
from infra.ground import Ground
from infra.models import Account
from infra.settings import Settings
from infra.streams import Line, Source
from tests.support.chats import Client, submit
from tests.support.line import until
from tests.support.speech import said, source
from tests.support.work import working

SHARED = ["queued", "started", "succeeded"]


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """Settings under which silence is short and little is kept."""
    return msgspec.structs.replace(settings, heartbeat_s=0.2, account_events=100)


class Told:
    """What a client of the stream was told until now."""

    def __init__(self) -> None:
        """Begin with nothing."""
        self.ids: list[str] = []
        self.types: list[str] = []
        self.events: list[dict[str, Any]] = []

    def read(self, frame: str) -> None:
        """Read one frame."""
        lines = dict(line.split(": ", 1) for line in frame.splitlines() if not line.startswith(":"))
        if "id" in lines:
            self.ids.append(lines["id"])
        if "data" in lines:
            self.types.append(lines["event"])
            self.events.append(msgspec.json.decode(lines["data"]))

    async def until(self, many: int) -> None:
        """Wait until there are so many events."""
        async with asyncio.timeout(10):
            while len(self.events) < many:  # noqa: ASYNC110
                await asyncio.sleep(0.01)


@asynccontextmanager
async def following(client: Client, **params: Any) -> AsyncGenerator[Told]:
    """Follow the account for the length of a block."""
    told, begun = Told(), asyncio.Event()

    async def follow() -> None:
        async with client.stream("GET", "/v1/events", params=params) as answer:
            assert answer.status_code == 200
            buffer = ""
            async for piece in answer.aiter_text():
                begun.set()
                *frames, buffer = (buffer + piece).split("\n\n")
                for frame in frames:
                    told.read(frame)

    task = asyncio.create_task(follow())
    await asyncio.wait_for(begun.wait(), 10)
    try:
        yield told
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def speaker(account: Account, *, kind: str = "chat", batch_id: UUID | None = None) -> Source:
    """Return a job of the account."""
    return source(account.id, kind=kind, batch_id=batch_id)


async def speak(ground: Ground, job: Source, *types: str) -> None:
    """Say something that concerns the account."""
    await ground.streams.append(job, 1, said(*types, shared=True), 0)


async def test_all_jobs_of_the_account_are_told_from_now_on_but_no_text(client: Client, settings: Settings) -> None:
    jobs = [await submit(client)]
    async with following(client) as told, working(settings):
        jobs += [await submit(client), await submit(client)]
        await told.until(8)
        mine = [[event["event"]["type"] for event in told.events if event["job"] == job["id"]] for job in jobs]
    assert mine == [SHARED[1:], SHARED, SHARED]
    assert told.types == [event["event"]["type"] for event in told.events]
    assert {(event["kind"], event["batch"]) for event in told.events} == {("chat", None)}


async def test_filters_choose_by_kind_and_batch_and_do_not_break_resuming(
    client: Client, ground: Ground, account: Account
) -> None:
    batch_id = ids.new()
    jobs = [speaker(account), speaker(account, kind="scan"), speaker(account, batch_id=batch_id)]
    async with (
        following(client, after="0", kind="scan") as scans,
        following(client, after="0", kind=["chat", "scan"]) as both,
        following(client, after="0", kind="chat, scan") as again,
        following(client, after="0", batch=str(batch_id), kind="chat") as batch,
    ):
        for job in jobs:
            await speak(ground, job, "started", "succeeded")
        for told in (both, again):
            await told.until(6)
        await asyncio.sleep(0.5)  # a silence: whoever did not want the last ones is told where it stands
        assert [event["kind"] for event in scans.events] == ["scan", "scan"]
        assert [event["batch"] for event in batch.events] == [str(batch_id)] * 2
        assert scans.ids[-1] == both.ids[-1] == again.ids[-1] == batch.ids[-1]
        assert both.events == again.events


async def test_it_goes_on_after_any_id_and_from_the_oldest(client: Client, ground: Ground, account: Account) -> None:
    await speak(ground, speaker(account), *["progress"] * 5)
    async with following(client, after="0") as whole:
        await whole.until(5)
    for n, after in enumerate(whole.ids[:-1]):
        async with following(client, after=after) as rest:
            await rest.until(4 - n)
            assert rest.ids == whole.ids[n + 1 :]
            assert "missed" not in rest.types


async def test_whoever_comes_back_too_late_is_told_that_something_is_missing(
    client: Client, ground: Ground, account: Account
) -> None:
    await speak(ground, speaker(account), "first")
    before = str(await ground.streams.newest(streams.account(account.id)))
    await speak(ground, speaker(account), *["progress"] * 400)
    async with following(client, after=before, kind="scan") as late:
        await late.until(1)
        assert late.events[0] == {"type": "missed"}, "whatever is chosen"
    async with following(client, after=before) as late:
        await late.until(2)
        assert late.types[:2] == ["missed", "progress"]
    await ground.redis.flushall()  # pyright: ignore[reportUnknownMemberType]
    async with following(client, after=before) as lost:
        await lost.until(1)
        assert lost.types[0] == "missed"
        await speak(ground, speaker(account), "first")
        await lost.until(2)
        assert lost.types[1:] == ["first"]
    async with following(client, after=lost.ids[-1]) as again:
        await speak(ground, speaker(account), "second")
        await again.until(1)
        assert again.types == ["second"], "nothing is missed, and no alarm is given"


async def test_whoever_is_left_before_the_first_event_comes_back_to_it(
    client: Client, ground: Ground, account: Account
) -> None:
    for types in ([], ["first"]):
        if types:
            await speak(ground, speaker(account), *types)
        async with following(client) as left:
            await until(lambda told=left: bool(told.ids))
        assert left.events == []
        await speak(ground, speaker(account), "second", "third")
        async with following(client, after=left.ids[-1]) as back:
            await back.until(2)
            assert back.types == ["second", "third"]


async def test_an_id_that_is_ahead_of_all_events_is_told_and_does_not_hide_the_next_ones(
    client: Client, ground: Ground, account: Account
) -> None:
    await speak(ground, speaker(account), "first")
    async with following(client, after="99999999999999-0") as ahead:
        await ahead.until(1)
        await speak(ground, speaker(account), "second")
        await ahead.until(2)
    assert ahead.types == ["missed", "second"]


async def test_what_redis_lost_while_it_was_away_is_told_to_whoever_follows(
    client: Client, ground: Ground, account: Account
) -> None:
    await speak(ground, speaker(account), "first")
    async with following(client, after="0") as told:
        await told.until(1)
        await ground.redis.flushall()  # pyright: ignore[reportUnknownMemberType]
        await ground.redis.client_kill_filter(_type="pubsub")  # pyright: ignore[reportUnknownMemberType, reportGeneralTypeIssues]
        await told.until(2)
        await speak(ground, speaker(account), "second")
        await told.until(3)
    assert told.types == ["first", "missed", "second"]
    assert told.ids == sorted(set(told.ids))


async def test_ndjson_is_the_same_with_empty_lines_for_silence(
    client: Client, ground: Ground, account: Account
) -> None:
    await speak(ground, speaker(account), "started", "succeeded")
    async with following(client, after="0") as told:
        await told.until(2)
    lines: list[bytes] = []
    headers = {"Accept": "application/x-ndjson"}
    async with client.stream("GET", "/v1/events?after=0", headers=headers) as answer, asyncio.timeout(10):
        async for piece in answer.aiter_bytes():
            lines += piece.split(b"\n")[:-1]
            if lines.count(b"") >= 3:
                break
    shown = [msgspec.json.decode(line) for line in lines if line]
    assert shown == [{"id": name, **event} for name, event in zip(told.ids, told.events, strict=True)]


async def test_nobody_hears_another_account(client: Client, ground: Ground, account: Account) -> None:
    async with following(client) as told:
        await ground.streams.append(source(), 1, [Line(b'{"type":"started"}', shared=True)], 0)
        await speak(ground, speaker(account), "started")
        await told.until(1)
        await asyncio.sleep(0.2)
    assert len(told.events) == 1
