"""Streams at the edge: counted for their account, told where it stands, and ended with their key."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import msgspec
import pytest
from httpx2 import Response
from litestar import Litestar

from api.app import create_app
from infra.ground import Ground
from infra.settings import Settings
from quotas import keys
from tests.support.chats import Client, chat, submit
from tests.support.line import until

STREAM = {"Accept": "text/event-stream"}


@pytest.fixture
def app(settings: Settings) -> Litestar:
    """The API, which lets an account have two streams open."""
    return create_app(msgspec.structs.replace(settings, account_streams=2))


@asynccontextmanager
async def opened(client: Client, path: str = "/v1/events", **how: Any) -> AsyncGenerator[Response]:
    """Open a stream for the length of a block, submitting a job where there is one."""
    method = "POST" if "json" in how else "GET"
    async with client.stream(method, path, headers=STREAM, **how) as answer:
        yield answer


async def test_every_stream_tells_where_its_account_stands(client: Client) -> None:
    job = await submit(client)
    async with opened(client) as whole, opened(client, job["urls"]["events"]) as one:
        for answer, kind in ((whole, "stream"), (one, "stream")):
            assert answer.status_code == 200
            for name in ("ratelimit", "ratelimit-policy"):
                scopes = [each.partition(";")[0] for each in answer.headers[name].split(", ")]
                assert scopes == [f'"{scope}"' for scope in ("ip", "key", "account", kind)]
    async with opened(client, "/v1/jobs", json=chat("hi")) as answer:
        assert (answer.status_code, answer.headers["location"][:9]) == (200, "/v1/jobs/")
        assert '"submit";r=' in answer.headers["ratelimit"]


@pytest.mark.parametrize("language", ["ar", "en"])
async def test_a_stream_too_many_is_refused_and_makes_no_job(client: Client, app: Litestar, language: str) -> None:
    job = await submit(client)
    client.headers["Accept-Language"] = language
    async with opened(client), opened(client, "/v1/jobs", json=chat("hi")):
        for path, how in [("/v1/events", {}), (job["urls"]["events"], {}), ("/v1/jobs", {"json": chat("hi")})]:
            async with opened(client, path, **how) as answer:
                await answer.aread()
                assert (answer.status_code, answer.json()["code"]) == (429, "too_many_streams")
                assert answer.headers["content-type"] == "application/problem+json"
                assert answer.headers["content-language"] == language
                assert answer.headers["retry-after"]
                assert "ratelimit" in answer.headers
                assert answer.json()["limit"] == 2
        assert len((await client.get("/v1/jobs")).json()["jobs"]) == 2
    await until(lambda: not app.state.streams.held)


async def test_what_was_refused_broken_off_or_over_is_counted_no_longer(client: Client, app: Litestar) -> None:
    over = await submit(client)
    await client.post(over["urls"]["cancel"])
    for _ in range(3):
        assert (await client.get(over["urls"]["events"])).status_code == 200
        assert (await client.get("/v1/jobs/nothing/events")).status_code == 404
        assert (await client.post("/v1/jobs", json={"kind": "poem"}, headers=STREAM)).status_code == 400
        dear = chat("hi", max_output_tokens=10**9)
        assert (await client.post("/v1/jobs", json=dear, headers=STREAM)).status_code >= 400
        async with opened(client), opened(client, "/v1/jobs", json=chat("hi")):
            assert app.state.streams.held
        await until(lambda: not app.state.streams.held)


async def test_with_its_key_every_stream_ends_and_nothing_more_is_answered(
    client: Client, app: Litestar, ground: Ground, key: str
) -> None:
    async with AsyncExitStack() as stack:
        answers = [
            await stack.enter_async_context(opened(client)),
            await stack.enter_async_context(opened(client, "/v1/jobs", json=chat("hi"))),
        ]
        async with ground.database.begin() as session:
            await keys.revoke(session, ground.settings, key)
        async with asyncio.timeout(5):
            await asyncio.gather(*(answer.aread() for answer in answers))
    refused = await client.get("/v1/events")
    assert (refused.status_code, refused.json()["code"]) == (401, "revoked_api_key")
    await until(lambda: not app.state.streams.held)


async def test_a_process_that_goes_down_leaves_nothing_counted(client: Client, app: Litestar) -> None:
    async with opened(client) as one, opened(client, "/v1/jobs", json=chat("hi")) as other:
        app.state.hub.close()
        async with asyncio.timeout(5):
            await asyncio.gather(one.aread(), other.aread())
    await until(lambda: not app.state.streams.held)
