"""One batch under one Idempotency-Key: however it comes, however often and however many at once."""

import asyncio
from collections.abc import AsyncGenerator
from typing import Any

import httpx2
import pytest
from httpx2 import AsyncClient as Client
from sqlalchemy import text

from infra.database import DatabaseUnavailable
from infra.ground import Ground
from infra.settings import Settings
from tests.support.handovers import LINES, code, element, left_behind, stored
from tests.support.uploads import TEXT, kept, said
from tests.support.work import working
from workers.batches import rows

NAMED = {"Idempotency-Key": "k-1"}
JSONL = {"Content-Type": "application/jsonl", **NAMED}


async def post(client: Client, data: bytes = LINES, **options: Any) -> httpx2.Response:
    """Hand over lines under the key."""
    return await client.post("/v1/batches", content=data, params=options, headers=JSONL)


async def inline(client: Client, **members: Any) -> httpx2.Response:
    """Hand over the same lines as JSON under the key."""
    body = {"requests": [element(n) for n in range(3)], **members}
    return await client.post("/v1/batches", json=body, headers=NAMED)


async def batches_of(client: Client) -> list[str]:
    """Return the account's batches."""
    return [batch["id"] for batch in (await client.get("/v1/batches")).json()["batches"]]


async def keys_of(ground: Ground) -> list[tuple[str, bool]]:
    """Return the callers' keys that are kept, and whether each will be for a day."""
    async with ground.database.begin() as session:
        found = await session.execute(
            text("SELECT key, expires_at > now() + interval '23 hours' FROM idempotency_keys WHERE key LIKE 'k-%'")
        )
        return [(key, for_a_day) for key, for_a_day in found]


class Slow:
    """A batch of which only the beginning comes until it is let go."""

    def __init__(self, client: Client) -> None:
        self._go_on = asyncio.Event()
        headers = JSONL | {"Content-Length": str(len(LINES))}
        self.call = asyncio.create_task(client.post("/v1/batches", content=self._chunks(), headers=headers))

    async def _chunks(self) -> AsyncGenerator[bytes]:
        yield LINES[:-30]
        await self._go_on.wait()
        yield LINES[-30:]

    async def begun(self, ground: Ground) -> None:
        """Return when the server has begun to take it."""
        async with asyncio.timeout(10):
            while True:
                if await keys_of(ground):
                    return
                await asyncio.sleep(0.01)

    async def finish(self) -> httpx2.Response:
        """Let the rest come."""
        self._go_on.set()
        return await self.call


async def test_what_is_asked_again_is_the_same_batch_in_whichever_way_it_comes(client: Client, ground: Ground) -> None:
    first = await post(client, mode="all")
    again = [
        await post(client, mode="all", completion_window="1440m"),
        await inline(client, mode="all"),
        await client.post("/v1/batches", data={"mode": "all"}, files={"file": ("a.jsonl", LINES)}, headers=NAMED),
    ]
    assert {each.status_code for each in (first, *again)} == {202}
    assert ["idempotent-replayed" in each.headers for each in (first, *again)] == [False, True, True, True]
    assert {each.json()["id"] for each in again} == {first.json()["id"]}
    assert {each.headers["location"] for each in again} == {first.headers["location"]}
    assert await batches_of(client) == [first.json()["id"]]
    assert len((await client.get("/v1/jobs")).json()["jobs"]) == 1
    assert await keys_of(ground) == [("k-1", True)]
    assert await left_behind(ground) == [first.json()["id"]]


async def test_a_key_stands_for_one_batch_with_its_lines_and_options(client: Client, ground: Ground) -> None:
    first = await post(client)
    for other in (
        await post(client, LINES + b"\n"),
        await post(client, mode="all"),
        await post(client, metadata='{"a": "b"}'),
        await post(client, webhook="https://a.example/b"),
        await post(client, completion_window="25h"),
        await inline(client, mode="all"),
        await client.post("/v1/files", json=said(TEXT), headers=NAMED),
        await client.post("/v1/jobs", json=_job(), headers=NAMED),
    ):
        assert code(other) == (422, "idempotency_key_reused")
    await client.post("/v1/jobs", json=_job(), headers={"Idempotency-Key": "k-2"})
    used = await client.post("/v1/batches", content=LINES, headers=JSONL | {"Idempotency-Key": "k-2"})
    assert code(used) == (422, "idempotency_key_reused")
    wrong = await client.post("/v1/batches", content=LINES, headers=JSONL | {"Idempotency-Key": "x" * 256})
    assert (*code(wrong), wrong.json()["field"]) == (400, "invalid_idempotency_key", "Idempotency-Key")
    assert await batches_of(client) == [first.json()["id"]]
    assert await left_behind(ground) == [first.json()["id"]]


def _job() -> dict[str, Any]:
    return {name: value for name, value in element(1).items() if name != "custom_id"}


async def test_of_twenty_at_once_one_is_made(client: Client, ground: Ground) -> None:
    answers = await asyncio.gather(*(post(client) for _ in range(20)))
    made = [each.json()["id"] for each in answers if each.status_code == 202]
    assert {code(each) for each in answers if each.status_code != 202} <= {(409, "request_in_flight")}
    assert len(set(made)) == 1
    assert await batches_of(client) == made[:1]
    assert await left_behind(ground) == made[:1]


async def test_a_batch_of_a_file_is_made_once(client: Client, settings: Settings) -> None:
    async with working(settings, "scan", slots=2):
        file, other = [await kept(client, LINES, name=f"{name}.jsonl", purpose="batch") for name in "ab"]
    body = {"input_file_id": file["id"]}
    answers = await asyncio.gather(*(client.post("/v1/batches", json=body, headers=NAMED) for _ in range(8)))
    assert {each.status_code for each in answers} == {202}
    assert sum("idempotent-replayed" in each.headers for each in answers) == 7
    assert len(await batches_of(client)) == 1
    for wrong in ({"input_file_id": other["id"]}, body | {"mode": "all"}):
        assert code(await client.post("/v1/batches", json=wrong, headers=NAMED)) == (422, "idempotency_key_reused")
    assert code(await post(client)) == (422, "idempotency_key_reused"), "its lines are another thing than the file"


async def test_a_batch_that_is_still_coming_is_told_to_be_asked_for_again(client: Client, ground: Ground) -> None:
    slow = Slow(client)
    await slow.begun(ground)
    assert await keys_of(ground) == [("k-1", False)]
    for early in (await post(client), await inline(client, mode="all")):
        assert code(early) == (409, "request_in_flight")
        assert early.headers["retry-after"] == "2"
    first = await slow.finish()
    assert first.status_code == 202
    again = await post(client)
    assert (again.json()["id"], again.headers["idempotent-replayed"]) == (first.json()["id"], "true")
    assert await stored(ground, first.json()) == LINES


async def test_a_refusal_leaves_no_key_behind(client: Client, ground: Ground) -> None:
    for refused in (await post(client, b""), await inline(client, mode="some"), await post(client, colour="red")):
        assert refused.status_code == 400
    late = b'{"requests": [{}], "webhook": "https://10.0.0.1/"}'
    headers = {"Content-Type": "application/json", **NAMED}
    assert code(await client.post("/v1/batches", content=late, headers=headers)) == (400, "address_not_allowed")
    assert await keys_of(ground) == []
    assert await left_behind(ground) == []
    made = await post(client)
    assert (made.status_code, "idempotent-replayed" in made.headers) == (202, False)


async def test_of_two_that_believe_to_be_the_first_only_one_makes_a_batch(client: Client, ground: Ground) -> None:
    slow = Slow(client)
    await slow.begun(ground)
    async with ground.database.begin() as session:  # as if nothing had been heard of it for long
        await session.execute(text("UPDATE idempotency_keys SET expires_at = now()"))
    second = await post(client)
    assert second.status_code == 202
    assert code(await slow.finish()) == (409, "request_in_flight")
    assert await batches_of(client) == [second.json()["id"]]
    assert await keys_of(ground) == [("k-1", True)]
    assert await left_behind(ground) == [second.json()["id"]]


async def test_an_upload_that_was_given_up_makes_no_batch(client: Client, ground: Ground) -> None:
    slow = Slow(client)
    await slow.begun(ground)
    async with ground.database.begin() as session:  # as the tender does when it has taken too long
        await session.execute(text("DELETE FROM discards"))
    assert code(await slow.finish()) == (408, "batch_too_slow")
    assert await batches_of(client) == []
    assert await left_behind(ground) == []
    assert await keys_of(ground) == []


async def test_a_batch_whose_commit_was_not_heard_of_keeps_its_lines(
    client: Client, ground: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = rows.add

    async def unheard(*args: Any, **options: Any) -> Any:
        """Commit in the middle, and lose the connection then."""
        await made(*args, **options)
        await args[0].commit()
        raise DatabaseUnavailable

    monkeypatch.setattr(rows, "add", unheard)
    assert code(await post(client)) == (503, "database_unavailable")
    monkeypatch.undo()
    again = await post(client)
    assert (again.status_code, again.headers["idempotent-replayed"]) == (202, "true")
    assert await stored(ground, again.json()) == LINES
