"""A job's events over HTTP: whole, resumed from any id, and from PostgreSQL when the stream is gone."""

import asyncio

import msgspec
import pytest
from litestar import Litestar

from infra.ground import Ground
from infra.settings import Settings
from tests.support.chats import Client, chat, events, submit, text, until
from tests.support.vendor import Answer, Vendor
from tests.support.work import working

SAID = ["queued", "started", "delta", "delta", "delta", "delta", "delta", "usage", "succeeded"]


@pytest.fixture
async def done(client: Client, settings: Settings, vendor: Vendor) -> dict[str, str]:
    """The urls of a job that is over; its deltas came one by one."""
    vendor.script = [Answer(deltas=["سلام", " 👋🏽", "\n", "e\u0301", "!"], pause_s=0.03)]
    async with working(settings):
        job = await until(client, await submit(client, chat("hi")))
    return job["urls"]


async def test_a_finished_job_tells_everything_in_order(client: Client, done: dict[str, str]) -> None:
    answer = await client.get(done["events"])
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert answer.headers["cache-control"] == "no-store"
    assert answer.text.startswith("retry: 1000\n\n")
    told = events(answer.text)
    assert [event["type"] for _, event in told] == SAID
    assert [name for name, _ in told] == ["0-1", *(f"1-{n}" for n in range(1, 9))]
    assert text(told) == "سلام 👋🏽\ne\u0301!"
    assert told[-1][1] == {"type": "succeeded", "charged": {"chat_tokens": 46}}


@pytest.mark.parametrize("gone", [False, True], ids=["from Redis", "from PostgreSQL"])
async def test_resuming_after_any_id_tells_exactly_the_rest(
    client: Client, done: dict[str, str], ground: Ground, gone: bool
) -> None:
    whole = events((await client.get(done["events"])).text)
    if gone:
        await ground.redis.flushall()  # pyright: ignore[reportUnknownMemberType]
    for index, (last_seen, _) in enumerate(whole[:-1]):
        rest = (await client.get(done["events"], headers={"Last-Event-ID": last_seen})).text
        # PostgreSQL keeps what the last attempt said; that it was queued before is all that it forgets.
        assert events(rest) == whole[index + 1 :]
        assert events((await client.get(done["events"], params={"after": last_seen})).text) == whole[index + 1 :]


async def test_the_stream_of_a_job_that_redis_forgot_ends_from_postgresql(
    client: Client, done: dict[str, str], ground: Ground
) -> None:
    whole = events((await client.get(done["events"])).text)
    await ground.redis.flushall()  # pyright: ignore[reportUnknownMemberType]
    assert events((await client.get(done["events"])).text) == whole[1:]


async def test_a_viewer_past_the_end_is_told_the_end(client: Client, done: dict[str, str], ground: Ground) -> None:
    await ground.redis.flushall()  # pyright: ignore[reportUnknownMemberType]
    told = events((await client.get(done["events"], headers={"Last-Event-ID": "9-9"})).text)
    assert [event["type"] for _, event in told] == ["succeeded"]


async def test_silence_is_filled_with_comments(
    settings: Settings, client: Client, vendor: Vendor, app: Litestar
) -> None:
    quick = msgspec.structs.replace(settings, heartbeat_s=0.05)
    ground: Ground = app.state.ground
    app.state.ground = msgspec.structs.replace(ground, settings=quick)
    vendor.script = [Answer(hold=asyncio.Event())]
    async with working(settings):
        job = await submit(client)
        await vendor.speaking.wait()
        watching = asyncio.create_task(client.get(job["urls"]["events"]))
        await asyncio.sleep(0.5)
        await client.post(job["urls"]["cancel"])
        body = (await watching).text
    assert body.count(": \n\n") >= 2
    assert events(body)[-1][1]["type"] == "canceled"


async def test_the_account_is_warned_once_when_it_crosses_80_percent(client: Client) -> None:
    told: list[str] = []
    for _ in range(6):
        job = await submit(client, chat("all", max_output_tokens=16_384))
        await client.post(job["urls"]["cancel"])  # ends the stream; the hold comes back
    jobs = [await submit(client, chat("all", max_output_tokens=16_384)) for _ in range(6)]
    for job in jobs:
        await client.post(job["urls"]["cancel"])
        told += [
            event["code"] for _, event in events((await client.get(job["urls"]["events"])).text) if "code" in event
        ]
    assert told == ["quota_80"]
