"""A job's events over HTTP: whole, resumed from any id, and from PostgreSQL when the stream is gone."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager, nullcontext

import httpx2
import msgspec
import pytest
from litestar import Litestar, Response, get

from api import viewers
from api.events import stream
from api.handover import Studio
from infra import ids
from infra.ground import Ground
from infra.settings import Settings
from infra.streams import START, Line
from tests.support.chats import Client, chat, events, submit, text, until
from tests.support.line import until as until_true
from tests.support.serving import serving
from tests.support.speech import hub_of, listening, source
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


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """Settings under which silence is short."""
    return msgspec.structs.replace(settings, heartbeat_s=0.2)


async def test_silence_is_filled_with_comments(settings: Settings, client: Client, vendor: Vendor) -> None:
    vendor.script = [Answer(hold=asyncio.Event())]
    async with working(settings):
        job = await submit(client)
        await vendor.speaking.wait()
        watching = asyncio.create_task(client.get(job["urls"]["events"]))
        await asyncio.sleep(1)
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


@pytest.mark.parametrize("gone", [False, True], ids=["from Redis", "from PostgreSQL"])
async def test_ndjson_tells_the_same(client: Client, done: dict[str, str], ground: Ground, gone: bool) -> None:
    whole = events((await client.get(done["events"])).text)
    if gone:
        await ground.redis.flushall()  # pyright: ignore[reportUnknownMemberType]
        whole = whole[1:]
    answer = await client.get(done["events"], headers={"Accept": "application/x-ndjson"})
    assert answer.headers["content-type"] == "application/x-ndjson"
    told = [msgspec.json.decode(line) for line in answer.text.splitlines() if line]
    assert told == [{"id": name, **event} for name, event in whole]


@pytest.mark.parametrize(
    ("accept", "form"),
    [
        ("*/*", "text/event-stream"),
        ("text/*, application/json", "text/event-stream"),
        ("application/x-ndjson;q=0.5, text/event-stream", "text/event-stream"),
        ("application/x-ndjson, text/event-stream;q=0.5", "application/x-ndjson"),
        ("text/event-stream;q=0, */*", "application/x-ndjson"),
        ("application/json", None),
        ("text/event-stream;q=0, application/json", None),
    ],
)
async def test_accept_chooses_the_form(client: Client, accept: str, form: str | None) -> None:
    job = await submit(client)
    await client.post(job["urls"]["cancel"])
    answer = await client.get(job["urls"]["events"], headers={"Accept": accept})
    assert answer.headers["content-type"].split(";")[0] == (form or "application/problem+json")
    if form is None:
        assert (answer.status_code, answer.json()["code"]) == (406, "not_acceptable")


@pytest.mark.parametrize("language", ["ar", "en"])
async def test_what_cannot_be_followed_is_refused_as_ever(client: Client, language: str) -> None:
    headers = {"Accept-Language": language}
    for path, status, code in [
        (f"/v1/jobs/{ids.new()}/events", 404, "job_not_found"),
        ("/v1/jobs/nonsense/events", 404, "job_not_found"),
        (f"/v1/jobs/{ids.new()}/events?after=x", 400, "invalid_event_id"),
        (f"/v1/jobs/{ids.new()}/events?after=1764137105000-0", 400, "invalid_event_id"),
        ("/v1/events?after=x", 400, "invalid_event_id"),
        ("/v1/events?kind=chat,opera", 400, "unknown_kind"),
        ("/v1/events?batch=x", 400, "invalid_batch_id"),
    ]:
        answer = await client.get(path, headers=headers)
        assert (answer.status_code, answer.json()["code"]) == (status, code)
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.headers["content-language"] == language
    assert (await client.get("/v1/events", headers={"Authorization": "Bearer pulse_x"})).status_code == 401
    for method in ("HEAD", "POST"):
        answer = await client.request(method, "/v1/events/")
        assert (answer.status_code, answer.headers["allow"]) == (405, "GET, OPTIONS")


async def test_a_process_that_goes_down_ends_every_stream_properly(client: Client, app: Litestar) -> None:
    job = await submit(client)
    watching = [asyncio.create_task(client.get(path)) for path in ["/v1/events", job["urls"]["events"]] * 3]
    await asyncio.sleep(0.5)
    assert not any(each.done() for each in watching)
    app.state.hub.close()
    async with asyncio.timeout(5):
        for answer in await asyncio.gather(*watching):
            assert answer.status_code == 200
        assert (await client.get(job["urls"]["events"])).status_code == 200  # and so does one that comes too late


async def test_a_viewer_that_leaves_is_forgotten_and_its_job_goes_on(client: Client, app: Litestar) -> None:
    job, hub = await submit(client), app.state.hub
    async with client.stream("GET", job["urls"]["events"]) as answer:
        await anext(answer.aiter_bytes())
        (topic,) = hub.topics.values()
        assert len(topic.followers) == 1
    await until_true(lambda: not topic.followers)
    assert (await client.get(job["urls"]["self"])).json()["state"] == "queued"


async def test_a_viewer_whose_credentials_end_is_ended_and_let_go_of(ground: Ground) -> None:
    held: list[Callable[[], None]] = []
    counted: list[str] = []

    def hold(on_end: Callable[[], None]) -> Callable[[], None]:
        held.append(on_end)
        return lambda: counted.append("released")

    @asynccontextmanager
    async def opening() -> AsyncGenerator[None]:
        counted.append("opened")
        yield
        counted.append("closed")

    async with listening(hub_of(ground)) as hub:

        @get("/")
        async def follow() -> Response[bytes]:
            first, headers = b"first\n\n", {"Location": "/here"}
            return stream(hub, hold, opening(), ids.new(), START, "sse", first=first, status=202, headers=headers)

        async with serving(Studio([follow])) as url, httpx2.AsyncClient(base_url=url) as client:
            watching = asyncio.create_task(client.get("/"))
            await until_true(lambda: bool(held))
            held[0]()
            answer = await asyncio.wait_for(watching, 5)
            assert (answer.status_code, answer.headers["location"]) == (202, "/here")
            assert answer.text == "retry: 1000\n\nfirst\n\n"
            await until_true(lambda: len(counted) == 3)
    assert counted == ["opened", "released", "closed"]


async def test_a_viewer_that_takes_nothing_for_long_is_let_go(ground: Ground, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(viewers, "_STALLED_S", 0.5)
    job, ended = source(), list[str]()
    big = Line(b'{"type":"word","text":"%s"}' % (b"x" * 200_000), shared=False)
    async with listening(hub_of(ground, heartbeat_s=0.2)) as hub:

        @get("/")
        async def follow() -> Response[bytes]:
            return stream(hub, lambda _: lambda: ended.append("released"), nullcontext(), job.job_id, START, "sse")

        async with serving(Studio([follow])) as url:
            reader, writer = await asyncio.open_connection("127.0.0.1", int(url.rsplit(":", 1)[1]), limit=1024)
            writer.write(b"GET / HTTP/1.1\r\nHost: here\r\n\r\n")
            await reader.readline()
            for n in range(100):
                await ground.streams.append(job, 1, [big] * (n + 1), n)
            await until_true(lambda: bool(ended))
            assert not hub.closed
            writer.close()


async def test_a_viewer_that_takes_nothing_is_cut_off_when_it_has_to_end(ground: Ground) -> None:
    job, ended = source(), list[str]()
    big = Line(b'{"type":"word","text":"%s"}' % (b"x" * 200_000), shared=False)
    async with listening(hub_of(ground)) as hub:

        @get("/")
        async def follow() -> Response[bytes]:
            return stream(hub, lambda _: lambda: ended.append("released"), nullcontext(), job.job_id, START, "sse")

        async with serving(Studio([follow])) as url:
            reader, writer = await asyncio.open_connection("127.0.0.1", int(url.rsplit(":", 1)[1]), limit=1024)
            writer.write(b"GET / HTTP/1.1\r\nHost: here\r\n\r\n")
            await reader.readline()
            for n in range(100):
                await ground.streams.append(job, 1, [big] * (n + 1), n)
            hub.close()
            await until_true(lambda: bool(ended))
            writer.close()
