"""One file under one Idempotency-Key: announced or sent whole, however often and however many at once."""

import asyncio
import hashlib
from collections.abc import AsyncGenerator
from typing import Any

import httpx2
import pytest
from httpx2 import AsyncClient as Client
from sqlalchemy import text

from infra.ground import Ground
from infra.models import Account
from quotas import accounts, keys
from tests.support.books import assert_even, balance_of, grant
from tests.support.chats import chat
from tests.support.uploads import TEXT, announce, said, send

NAMED = {"Idempotency-Key": "k-1"}
_BOUNDARY = "pulse"


def form(data: bytes, *, name: str = "رسالة.txt", end: bool = True, **fields: str) -> bytes:
    """Return a form with a file, or where it is to have no end, all of it but that."""
    parts = [
        f'--{_BOUNDARY}\r\nContent-Disposition: form-data; name="{field}"\r\n\r\n{value}\r\n'
        for field, value in ({"purpose": "attachment"} | fields).items()
    ]
    parts.append(f'--{_BOUNDARY}\r\nContent-Disposition: form-data; name="file"; filename="{name}"\r\n\r\n')
    return "".join(parts).encode() + data + (f"\r\n--{_BOUNDARY}--\r\n".encode() if end else b"")


async def post(client: Client, data: bytes = TEXT, *, key: str = "k-1", **facts: Any) -> httpx2.Response:
    """Send a small file whole."""
    headers = {"Content-Type": f"multipart/form-data; boundary={_BOUNDARY}", "Idempotency-Key": key}
    return await client.post("/v1/files", content=form(data, **facts), headers=headers)


class Slow:
    """A file that is sent whole, of which only the beginning comes until it is let go."""

    def __init__(self, client: Client, data: bytes = TEXT) -> None:
        self._go_on, self._whole = asyncio.Event(), form(data)
        headers = {
            "Content-Type": f"multipart/form-data; boundary={_BOUNDARY}",
            "Content-Length": str(len(self._whole)),
            **NAMED,
        }
        self.call = asyncio.create_task(client.post("/v1/files", content=self._chunks(), headers=headers))

    async def _chunks(self) -> AsyncGenerator[bytes]:
        yield self._whole[:-30]
        await self._go_on.wait()
        yield self._whole[-30:]

    async def begun(self, ground: Ground) -> None:
        """Return when the server has begun to take it."""
        async with asyncio.timeout(10):
            while True:
                if await kept(ground):
                    return
                await asyncio.sleep(0.01)

    async def finish(self) -> httpx2.Response:
        """Let the rest come."""
        self._go_on.set()
        return await self.call


async def kept(ground: Ground) -> list[tuple[str, bool]]:
    """Return the callers' keys that are kept, and whether each will be for a day."""
    async with ground.database.begin() as session:
        rows = await session.execute(
            text("SELECT key, expires_at > now() + interval '23 hours' FROM idempotency_keys WHERE key LIKE 'k-%'")
        )
        return [(key, for_a_day) for key, for_a_day in rows]


async def files_of(client: Client) -> list[dict[str, Any]]:
    """Return the account's files."""
    return (await client.get("/v1/files")).json()["files"]


def code(answer: httpx2.Response) -> tuple[int, str]:
    """Return how a call was refused."""
    return answer.status_code, answer.json()["code"]


async def test_an_announcement_that_is_sent_twenty_times_at_once_is_one_file_with_one_hold(
    client: Client, ground: Ground, account: Account
) -> None:
    answers = await asyncio.gather(*(client.post("/v1/files", json=said(TEXT), headers=NAMED) for _ in range(20)))
    assert {answer.status_code for answer in answers} == {201}
    assert sum("idempotent-replayed" in answer.headers for answer in answers) == 19
    told = [answer.json() for answer in answers]
    upload = told[0]["upload"]
    for each in told:
        assert each["upload"]["fields"].keys() == upload["fields"].keys()
        del each["upload"]
    assert told == [told[0]] * 20
    assert len(await files_of(client)) == 1
    assert (await balance_of(ground, account, "storage_bytes")).held == len(TEXT)
    assert (await send(upload, TEXT)).is_success, "whichever form came, it serves"
    await assert_even(ground)


async def test_a_repeated_announcement_tells_what_the_first_one_crossed(client: Client, ground: Ground) -> None:
    await announce(client, b"x")
    await grant(ground, 2 * len(TEXT), "storage_bytes")
    first = await client.post("/v1/files", json=said(TEXT), headers=NAMED)
    assert first.json()["warnings"] == []
    second = [
        (await client.post("/v1/files", json=said(TEXT[:-1]), headers={"Idempotency-Key": "k-2"})).json()
        for _ in range(2)
    ]
    assert [each["warnings"] for each in second] == [["quota_80", "quota_100"]] * 2
    assert (await client.post("/v1/files", json=said(TEXT), headers=NAMED)).json()["warnings"] == []


async def test_a_key_stands_for_one_request_of_one_route_and_one_account(
    client: Client, ground: Ground, account: Account
) -> None:
    first = await client.post("/v1/files", json=said(TEXT), headers=NAMED)
    other = said(TEXT, name="أخرى.txt")
    assert code(await client.post("/v1/files", json=other, headers=NAMED)) == (422, "idempotency_key_reused")
    assert code(await client.post("/v1/jobs", json=chat("hi"), headers=NAMED)) == (422, "idempotency_key_reused")
    assert code(await post(client)) == (422, "idempotency_key_reused"), "announced is not sent"
    await client.post("/v1/jobs", json=chat("hi"), headers={"Idempotency-Key": "k-2"})
    assert code(await client.post("/v1/files", json=said(TEXT), headers={"Idempotency-Key": "k-2"}))[0] == 422
    assert code(await post(client, key="k-2"))[0] == 422
    wrong = await client.post("/v1/files", json=said(TEXT), headers={"Idempotency-Key": "x" * 256})
    assert (*code(wrong), wrong.json()["field"]) == (400, "invalid_idempotency_key", "Idempotency-Key")
    async with ground.database.begin() as session:
        somebody = await accounts.create(session, "zayd@example.com")
        theirs = await keys.issue(session, ground.settings, somebody.id, name="test")
    headers = {"Authorization": f"Bearer {theirs}", **NAMED}
    stranger = await client.post("/v1/files", json=other, headers=headers)
    assert stranger.status_code == 201
    assert "idempotent-replayed" not in stranger.headers
    assert stranger.json()["file"]["id"] != first.json()["file"]["id"]
    assert len(await files_of(client)) == 1


async def test_a_refusal_is_not_remembered(client: Client, ground: Ground, account: Account) -> None:
    clip = {"name": "رحلة.mp4", "purpose": "clip", "sha256": "0" * 64, "size_bytes": 2_000_000_000}
    refused = await client.post("/v1/files", json=clip, headers=NAMED)
    assert code(refused) == (402, "quota_exceeded")
    assert await kept(ground) == []
    await announce(client, b"x")
    await grant(ground, 3_000_000_000, "storage_bytes")
    fits = await client.post("/v1/files", json=clip, headers=NAMED)
    assert (fits.status_code, "idempotent-replayed" in fits.headers) == (201, False)


async def test_a_key_serves_again_after_a_day_and_tells_of_a_file_that_is_gone(client: Client, ground: Ground) -> None:
    first = (await client.post("/v1/files", json=said(TEXT), headers=NAMED)).json()["file"]
    await client.delete(first["urls"]["self"])
    assert code(await client.post("/v1/files", json=said(TEXT), headers=NAMED)) == (404, "file_not_found")
    async with ground.database.begin() as session:
        await session.execute(text("UPDATE idempotency_keys SET expires_at = now()"))
    second = await client.post("/v1/files", json=said(TEXT), headers=NAMED)
    assert (second.status_code, "idempotent-replayed" in second.headers) == (201, False)
    assert second.json()["file"]["id"] != first["id"]


async def test_a_repeated_announcement_has_a_form_only_while_the_upload_is_awaited(
    client: Client, ground: Ground
) -> None:
    first = (await client.post("/v1/files", json=said(TEXT), headers=NAMED)).json()
    await send(first["upload"], TEXT)
    await client.post(first["file"]["urls"]["complete"])
    again = await client.post("/v1/files", json=said(TEXT), headers=NAMED)
    assert (again.status_code, again.json()["upload"], again.json()["file"]["state"]) == (201, None, "scanning")
    late = {"Idempotency-Key": "k-2"}
    await client.post("/v1/files", json=said(TEXT), headers=late)
    async with ground.database.begin() as session:
        await session.execute(text("UPDATE files SET upload_until = now()"))
    again = await client.post("/v1/files", json=said(TEXT), headers=late)
    assert (again.json()["upload"], again.json()["file"]["state"]) == (None, "uploading")


async def test_a_file_that_is_sent_whole_again_is_the_same_file(
    client: Client, ground: Ground, account: Account
) -> None:
    first = await post(client)
    again = await post(client)
    assert (first.status_code, again.status_code) == (201, 201)
    assert "idempotent-replayed" not in first.headers
    assert again.headers["idempotent-replayed"] == "true"
    assert again.json()["file"]["id"] == first.json()["file"]["id"]
    assert again.json()["file"]["declared_sha256"] == hashlib.sha256(TEXT).hexdigest()
    assert again.json()["file"]["job_id"] == first.json()["file"]["job_id"] is not None
    assert code(await post(client, TEXT + b"x")) == (422, "idempotency_key_reused")
    assert code(await post(client, name="أخرى.txt")) == (422, "idempotency_key_reused")
    assert code(await post(client, folder="أخرى")) == (422, "idempotency_key_reused")
    assert len(await files_of(client)) == 1
    assert (await balance_of(ground, account, "storage_bytes")).held >= len(TEXT)
    assert await kept(ground) == [("k-1", True)]
    await assert_even(ground)


async def test_a_file_that_is_still_coming_is_told_to_be_asked_for_again(client: Client, ground: Ground) -> None:
    slow = Slow(client)
    await slow.begun(ground)
    assert await kept(ground) == [("k-1", False)]
    told: set[str] = set()
    for language in ("ar", "en"):
        client.headers["Accept-Language"] = language
        early = await post(client)
        assert code(early) == (409, "request_in_flight")
        assert early.headers["retry-after"] == "2"
        told.add(early.json()["detail"])
    assert len(told) == 2
    assert code(await post(client, folder="أخرى")) == (422, "idempotency_key_reused"), "that is another one anyway"
    first = await slow.finish()
    assert first.status_code == 201
    again = await post(client)
    assert again.json()["file"]["id"] == first.json()["file"]["id"]
    assert len(await files_of(client)) == 1


async def test_a_file_that_did_not_come_leaves_no_key_behind(client: Client, ground: Ground) -> None:
    assert code(await post(client, end=False)) == (400, "truncated_form")
    assert code(await post(client, b"")) == (400, "empty_file")
    assert await kept(ground) == []
    assert await files_of(client) == []
    whole = await post(client)
    assert (whole.status_code, "idempotent-replayed" in whole.headers) == (201, False)
    await assert_even(ground)


async def test_of_two_that_believe_to_be_the_first_only_one_makes_a_file(client: Client, ground: Ground) -> None:
    slow = Slow(client)
    await slow.begun(ground)
    async with ground.database.begin() as session:  # as if nothing had been heard of it for long
        await session.execute(text("UPDATE idempotency_keys SET expires_at = now()"))
    second = await post(client)
    assert second.status_code == 201
    assert code(await slow.finish()) == (409, "request_in_flight")
    assert [file["id"] for file in await files_of(client)] == [second.json()["file"]["id"]]
    assert await kept(ground) == [("k-1", True)]
    await assert_even(ground)


async def test_an_upload_that_is_under_way_says_so_again_and_again(
    client: Client, ground: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workers.idempotency._RENEW_S", 0.02)
    slow = Slow(client)
    await slow.begun(ground)
    async with ground.database.begin() as session:
        await session.execute(text("UPDATE idempotency_keys SET expires_at = now() + interval '1 second'"))
    async with asyncio.timeout(10):
        while True:
            async with ground.database.begin() as session:
                later = text("SELECT expires_at > now() + interval '30 seconds' FROM idempotency_keys")
                if await session.scalar(later):
                    break
            await asyncio.sleep(0.01)
    assert (await slow.finish()).status_code == 201
