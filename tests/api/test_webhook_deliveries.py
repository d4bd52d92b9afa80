"""Deliveries over HTTP: listed, shown with their tries, and sent again, one or all that failed."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import httpx2
import pytest
from httpx2 import AsyncClient as Client
from sqlalchemy import text

from infra import ids
from infra.ground import Ground
from infra.models import Account
from tests.support.endpoints import BODY, URL, add, delivered

pytestmark = pytest.mark.reused

DELIVERIES = "/v1/webhooks/deliveries"
LONG_AGO = "2020-01-01T00:00:00Z"


def code(answer: httpx2.Response) -> tuple[int, str]:
    """Return how a call was refused."""
    return answer.status_code, answer.json()["code"]


async def rows(ground: Ground, query: str, **values: Any) -> list[Any]:
    """Return what is kept."""
    async with ground.database.begin() as session:
        return [tuple(row) for row in await session.execute(text(query), values)]


async def listed(client: Client, path: str = DELIVERIES, **asked: Any) -> list[str]:
    """Return the ids of what is listed."""
    answer = await client.get(path, params=asked)
    assert answer.status_code == 200, answer.text
    return [each["id"] for each in answer.json()["deliveries"]]


async def test_a_test_is_a_message_for_the_endpoint_alone_whatever_it_asks_for(
    client: Client, ground: Ground, account: Account
) -> None:
    made = await add(client, events=["quota.*"])
    answer = await client.post(made["urls"]["test"])
    told = answer.json()
    assert (answer.status_code, told["type"]) == (202, "webhook.test")
    kept = await rows(ground, "SELECT id, account_id, type, endpoint_id, url, spread_at, data FROM webhook_messages")
    message = kept[0][0]
    data = {"id": made["id"], "url": made["urls"]["self"]}
    assert kept == [(message, account.id, "webhook.test", UUID(made["id"]), None, None, data)]
    assert told["message"] == f"msg_{message.hex}"
    assert answer.headers["location"] == told["deliveries"]
    assert (await client.get(told["deliveries"])).json() == {"deliveries": [], "next_cursor": None}
    await delivered(ground, account.id, made)
    found = await delivered(ground, account.id, made, message_id=message, type="webhook.test", state="pending")
    shown = (await client.get(told["deliveries"])).json()["deliveries"]
    assert [(each["id"], each["message"]) for each in shown] == [(str(found), told["message"])]


async def test_one_key_tests_and_replays_once(client: Client, ground: Ground, account: Account) -> None:
    made = await add(client)
    old = await delivered(ground, account.id, made)
    for path in (made["urls"]["test"], f"{DELIVERIES}/{old}/replay"):
        headers = {"Idempotency-Key": "k" + path}
        answers = await asyncio.gather(*(client.post(path, headers=headers) for _ in range(5)))
        assert {each.status_code for each in answers} == {202}
        assert len({each.text for each in answers}) == 1
        assert sum("idempotent-replayed" in each.headers for each in answers) == 4
        assert code(await client.post(made["urls"]["rotate"], headers=headers)) == (422, "idempotency_key_reused")
    assert await rows(ground, "SELECT count(*) FROM webhook_messages") == [(1,)]
    assert len(await listed(client)) == 2


async def test_deliveries_are_chosen_by_endpoint_state_type_and_message(
    client: Client, ground: Ground, account: Account
) -> None:
    one, two = await add(client), await add(client)
    first = str(await delivered(ground, account.id, one))
    second = str(await delivered(ground, account.id, one, state="failed", type="file.ready"))
    third = str(await delivered(ground, account.id, two, state="pending", type="job.failed"))
    given = str(await delivered(ground, account.id, state="canceled"))
    assert await listed(client) == [given, third, second, first]
    assert await listed(client, one["urls"]["deliveries"]) == [second, first]
    assert await listed(client, endpoint=two["id"]) == [third]
    assert await listed(client, state="failed") == [second]
    assert await listed(client, type="job.*") == [given, third, first]
    assert await listed(client, type="file.ready") == [second]
    assert await listed(client, type="*") == [given, third, second, first]
    assert await listed(client, one["urls"]["deliveries"], type="job.*", state="delivered") == [first]
    assert await listed(client, one["urls"]["deliveries"], state="pending") == []
    message = (await client.get(f"{DELIVERIES}/{third}")).json()["message"]
    assert await listed(client, message=message) == [third]
    assert await listed(client, one["urls"]["deliveries"], message=message) == []
    page = (await client.get(DELIVERIES, params={"limit": 3})).json()
    assert await listed(client, limit=3, cursor=page["next_cursor"]) == [first]
    assert await listed(client, one["urls"]["deliveries"], limit=1, cursor=second) == [first]


async def test_a_wrong_choice_of_deliveries_is_refused(client: Client) -> None:
    for field, value, refusal in (
        ("state", "lost", "invalid_state"),
        ("type", "job", "unknown_event"),
        ("message", "x", "invalid_message_id"),
        ("message", "msg_x", "invalid_message_id"),
        ("endpoint", "x", "invalid_endpoint_id"),
        ("cursor", "x", "invalid_cursor"),
        ("limit", "101", "invalid_limit"),
    ):
        for language in ("ar", "en"):
            refused = await client.get(DELIVERIES, params={field: value}, headers={"Accept-Language": language})
            assert (*code(refused), refused.json()["field"]) == (400, refusal, field)


async def test_a_delivery_shows_what_is_sent_and_every_try(client: Client, ground: Ground, account: Account) -> None:
    made = await add(client)
    log = [
        {"at": "2026-11-26T09:00:00Z", "status": 500, "took_ms": 12, "code": None, "answer": "خطأ"},
        {"at": "2026-11-26T09:00:05Z", "status": None, "took_ms": 20000.5, "code": "fetch_timed_out"},
    ]
    kept = await delivered(ground, account.id, made, state="pending", log=log, tries=2, status=500)
    answer = await client.get(f"{DELIVERIES}/{kept}")
    shown = answer.json()
    assert shown["body"] == BODY
    assert [(each["status"], each["took_ms"], each["code"], each["answer"]) for each in shown["log"]] == [
        (500, 12, None, "خطأ"),
        (None, 20000.5, "fetch_timed_out", None),
    ]
    assert (shown["state"], shown["tries"], shown["status"], shown["endpoint_id"]) == ("pending", 2, 500, made["id"])
    assert shown["next_at"]
    assert shown["finished_at"] is None
    again = await client.get(f"{DELIVERIES}/{kept}", headers={"If-None-Match": answer.headers["etag"]})
    assert again.status_code == 304
    brief = (await client.get(DELIVERIES)).json()["deliveries"][0]
    assert brief == {name: value for name, value in shown.items() if name not in {"body", "log"}}


async def test_a_replay_is_a_new_delivery_of_the_same_message_at_once(
    client: Client, ground: Ground, account: Account
) -> None:
    made = await add(client)
    for state in ("delivered", "failed", "canceled", "pending"):
        await replayed(client, ground, account, made, state)


async def replayed(client: Client, ground: Ground, account: Account, made: dict[str, Any], state: str) -> None:
    """Fail unless a delivery in this state can be sent again."""
    old = await delivered(ground, account.id, made, state=state, tries=10, status=503)
    answer = await client.post(f"{DELIVERIES}/{old}/replay")
    new = answer.json()
    assert (answer.status_code, answer.headers["location"]) == (202, new["urls"]["self"])
    before, after = [(await client.get(f"{DELIVERIES}/{each}")).json() for each in (old, new["id"])]
    assert (after["message"], after["body"], after["url"]) == (before["message"], BODY, URL)
    assert (after["type"], after["endpoint_id"], after["replay_of"]) == (before["type"], made["id"], str(old))
    assert (after["state"], after["tries"], after["status"], after["log"]) == ("pending", 0, None, [])
    due = "SELECT next_at <= now(), account_id FROM webhook_deliveries WHERE id = :id"
    assert await rows(ground, due, id=UUID(new["id"])) == [(True, account.id)]
    assert before["state"] == ("canceled" if state == "pending" else state)
    assert before["finished_at"] is not None


async def test_a_replay_finds_its_endpoint_where_it_is_now_and_a_given_address_as_it_was(
    client: Client, ground: Ground, account: Account
) -> None:
    made = await add(client)
    old = await delivered(ground, account.id, made)
    given = await delivered(ground, account.id)
    await client.patch(made["urls"]["self"], json={"url": "https://new.example.com/"})
    assert (await client.post(f"{DELIVERIES}/{old}/replay")).json()["url"] == "https://new.example.com/"
    again = (await client.post(f"{DELIVERIES}/{given}/replay")).json()
    assert (again["url"], again["endpoint_id"]) == ("https://given.example.com/", None)


async def test_nothing_is_sent_again_to_an_endpoint_that_is_off(
    client: Client, ground: Ground, account: Account
) -> None:
    made = await add(client)
    old = await delivered(ground, account.id, made, state="failed")
    await client.patch(made["urls"]["self"], json={"enabled": False})
    for language in ("ar", "en"):
        headers = {"Accept-Language": language}
        for refused in (
            await client.post(f"{DELIVERIES}/{old}/replay", headers=headers),
            await client.post(made["urls"]["recover"], json={"since": LONG_AGO}, headers=headers),
            await client.post(made["urls"]["test"], headers=headers),
        ):
            assert (*code(refused), refused.json()["reason"]) == (409, "webhook_disabled", "account")
    assert len(await listed(client)) == 1


async def test_what_was_missed_since_a_moment_is_sent_again_once(
    client: Client, ground: Ground, account: Account
) -> None:
    made, neighbour = await add(client), await add(client)
    since = datetime.now(UTC) - timedelta(hours=1)
    early = since - timedelta(minutes=2)
    at = int(early.timestamp() * 1000) << 80
    await delivered(ground, account.id, made, state="failed", id=UUID(int=at | 7 << 76), created_at=early)
    failed = await delivered(ground, account.id, made, state="failed")
    canceled = await delivered(ground, account.id, made, state="canceled")
    await delivered(ground, account.id, made)
    await delivered(ground, account.id, made, state="pending")
    taken, twice, again = ids.new(), ids.new(), ids.new()
    await delivered(ground, account.id, made, state="failed", message_id=taken)
    await delivered(ground, account.id, made, message_id=taken)
    await delivered(ground, account.id, made, state="failed", message_id=twice)
    newest = await delivered(ground, account.id, made, state="failed", message_id=twice)
    await delivered(ground, account.id, made, state="failed", message_id=again)
    await delivered(ground, account.id, made, state="pending", message_id=again)
    await delivered(ground, account.id, neighbour, state="failed")
    calls = await asyncio.gather(
        *(client.post(made["urls"]["recover"], json={"since": since.isoformat()}) for _ in range(3))
    )
    assert {each.status_code for each in calls} == {202}
    assert sorted((each.json()["recovered"], each.json()["more"]) for each in calls) == [
        (0, False),
        (0, False),
        (3, False),
    ]
    fresh = "SELECT replay_of, url, body, state, next_at <= now() FROM webhook_deliveries WHERE replay_of IS NOT NULL"
    sent = await rows(ground, fresh)
    assert {row[0] for row in sent} == {failed, canceled, newest}
    assert {row[1:] for row in sent} == {(URL, BODY, "pending", True)}


async def test_a_long_recovery_goes_on_where_it_stopped(
    client: Client, ground: Ground, account: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workers.webhooks.deliveries.MOST_RECOVERED", 2)
    made = await add(client)
    failed = [await delivered(ground, account.id, made, state="failed") for _ in range(5)]
    told = [(await client.post(made["urls"]["recover"], json={"since": LONG_AGO})).json() for _ in range(4)]
    assert told == [
        {"recovered": 2, "more": True},
        {"recovered": 2, "more": True},
        {"recovered": 1, "more": False},
        {"recovered": 0, "more": False},
    ]
    sent = await rows(ground, "SELECT replay_of FROM webhook_deliveries WHERE replay_of IS NOT NULL ORDER BY id")
    assert [row[0] for row in sent] == failed, "the oldest first, and in their order"


async def test_any_moment_can_be_recovered_from(client: Client, ground: Ground, account: Account) -> None:
    made = await add(client)
    await delivered(ground, account.id, made, state="failed")
    for since in ("9999-12-31T23:59:59-14:00", "2200-01-01T00:00:00Z"):
        none = await client.post(made["urls"]["recover"], json={"since": since})
        assert none.json() == {"recovered": 0, "more": False}
    for since in ("0001-01-01T00:00:00+14:00", "1969-12-31T00:00:00Z"):
        other = await add(client)
        await delivered(ground, account.id, other, state="failed")
        one = await client.post(other["urls"]["recover"], json={"since": since})
        assert one.json() == {"recovered": 1, "more": False}


async def test_a_wrong_moment_to_recover_from_is_refused(client: Client) -> None:
    made = await add(client)
    for since, refusal in (
        (None, "missing_field"),
        ("yesterday", "invalid_moment"),
        ("2026-11-26T09:00:00", "invalid_moment"),
    ):
        said = {"since": since} if since else {}
        refused = await client.post(made["urls"]["recover"], json=said)
        assert (*code(refused), refused.json()["field"]) == (400, refusal, "since")
