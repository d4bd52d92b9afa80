"""A file's way where the store is S3: the client sends to the bucket, and what that lets through the scan does not."""

from collections.abc import AsyncGenerator
from pathlib import Path

import httpx2
import msgspec
import pytest

from api.app import create_app
from infra import ground as grounds
from infra.ground import Ground
from infra.models import Account
from infra.settings import Settings
from tests.support import stores
from tests.support.books import assert_even, balance_of
from tests.support.chats import Client
from tests.support.serving import free_port, serving
from tests.support.uploads import TEXT, announce, decided, download, kept, picture, send, uploaded
from tests.support.work import work_off, working
from workers import intake
from workers.desk import Desk


@pytest.fixture
def buckets(settings: Settings, s3_address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Settings with two buckets of their own."""
    s3 = stores.in_buckets(s3_address, tmp_path, monkeypatch)
    named = {name: getattr(s3, name) for name in ("s3_endpoint", "s3_region", "s3_assets", "s3_quarantine")}
    return msgspec.structs.replace(settings, port=free_port(), **named)


@pytest.fixture
async def caller(buckets: Settings, key: str) -> AsyncGenerator[Client]:
    """A client of an API on those buckets."""
    async with (
        serving(create_app(buckets), buckets.port) as url,
        httpx2.AsyncClient(base_url=url, headers={"Authorization": f"Bearer {key}"}, timeout=30) as client,
    ):
        yield client


async def test_a_file_goes_past_the_api_and_comes_back_past_it(
    caller: Client, buckets: Settings, ground: Ground, account: Account
) -> None:
    data = picture(form="JPEG")
    async with working(buckets, "scan"):
        answer = await announce(caller, data, name="صورة.jpg", purpose="photo")
        assert answer["upload"]["url"].startswith(buckets.s3_endpoint)
        file = await kept(caller, data, name="صورة.jpg", purpose="photo")
    served = await download(caller, file["urls"]["content"], Range="bytes=0-1")
    assert (served.status_code, served.content) == (206, b"\xff\xd8")
    assert served.headers["content-type"] == "image/jpeg"
    assert served.headers["content-disposition"].startswith("attachment")
    assert "%D8%B5%D9%88%D8%B1%D8%A9.jpg" in served.headers["content-disposition"]
    assert (await download(caller, file["urls"]["thumbnail"])).content[:4] == b"RIFF"
    link = (await caller.get(file["urls"]["link"])).json()["url"]
    assert (await caller.delete(file["urls"]["self"])).status_code == 204
    async with grounds.opened(buckets) as opened:
        await intake.tend(opened, Desk(opened))
    async with httpx2.AsyncClient() as stranger:
        assert (await stranger.get(link)).status_code in {403, 404}
    await caller.delete(answer["file"]["urls"]["self"])
    balance = await balance_of(ground, account, "storage_bytes")
    assert (balance.held, balance.used) == (0, 0)
    await assert_even(ground)


@pytest.mark.parametrize(("sent", "code"), [(TEXT + b"more", "size_mismatch"), (TEXT[:-1] + b"!", "hash_mismatch")])
async def test_what_a_careless_store_lets_through_the_scan_does_not(
    caller: Client, buckets: Settings, ground: Ground, sent: bytes, code: str
) -> None:
    answer = await announce(caller)
    assert (await send(answer["upload"], sent)).is_success, "moto does not enforce what S3 does"
    assert (await caller.post(answer["file"]["urls"]["complete"])).status_code == 202
    await work_off(buckets, "scan")
    shown = await decided(caller, answer["file"])
    assert (shown["state"], shown["error"]["code"]) == ("rejected", code)
    await assert_even(ground)


async def test_a_form_that_is_sent_again_after_the_verdict_changes_nothing_that_is_served(
    caller: Client, buckets: Settings, ground: Ground
) -> None:
    answer = await announce(caller)
    await send(answer["upload"], TEXT)
    await caller.post(answer["file"]["urls"]["complete"])
    await work_off(buckets, "scan")
    file = await decided(caller, answer["file"])
    await send(answer["upload"], b"<script>")
    assert (await caller.post(answer["file"]["urls"]["complete"])).json()["state"] == "ready"
    assert (await download(caller, file["urls"]["content"])).content == TEXT
    await assert_even(ground)


async def test_buckets_that_are_away_are_said_to_be(caller: Client, buckets: Settings) -> None:
    file = (await announce(caller))["file"]
    gone = msgspec.structs.replace(buckets, s3_endpoint=f"http://127.0.0.1:{free_port()}", port=free_port())
    async with (
        serving(create_app(gone), gone.port) as url,
        httpx2.AsyncClient(base_url=url, headers=caller.headers, timeout=60) as client,
    ):
        answer = await client.post(file["urls"]["complete"])
    assert (answer.status_code, answer.json()["code"]) == (503, "storage_unavailable")
    assert (await uploaded(caller))["state"] == "scanning"
