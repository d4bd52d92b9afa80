"""Webhook endpoints over HTTP: made, changed, switched off and on, deleted; their secrets; never another account's."""

import asyncio
import base64
import re
from collections.abc import AsyncGenerator
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import httpx2
import msgspec
import pytest
from httpx2 import AsyncClient as Client
from sqlalchemy import text
from standardwebhooks import Webhook

from api.app import create_app
from infra.ground import Ground
from infra.models import Account
from infra.settings import Settings
from quotas import accounts, keys
from tests.support.endpoints import URL, add, delivered
from tests.support.serving import PLAIN, free_port, serving
from workers.webhooks.messages import TYPES

pytestmark = pytest.mark.reused

NAMED = {"Idempotency-Key": "k-1"}


@pytest.fixture
async def other(client: Client, ground: Ground) -> AsyncGenerator[Client]:
    """A client of the same API that speaks for somebody else."""
    async with ground.database.begin() as session:
        somebody = await accounts.create(session, "zayd@example.com")
        key = await keys.issue(session, ground.settings, somebody.id, name="test")
    headers = {"Authorization": f"Bearer {key}"}
    async with Client(base_url=client.base_url, headers=headers, timeout=30, verify=PLAIN) as speaks:
        yield speaks


def code(answer: httpx2.Response) -> tuple[int, str]:
    """Return how a call was refused."""
    return answer.status_code, answer.json()["code"]


async def put(ground: Ground, statement: str, **values: Any) -> None:
    """Do what the process that delivers would do."""
    async with ground.database.begin() as session:
        await session.execute(text(statement), values)


async def owner_of(ground: Ground, endpoint: dict[str, Any]) -> UUID:
    """Return whose an endpoint is."""
    async with ground.database.begin() as session:
        query = text("SELECT account_id FROM webhook_endpoints WHERE id = :id")
        return (await session.execute(query, {"id": endpoint["id"]})).scalar_one()


async def waited_for(ground: Ground, count: int) -> None:
    """Return when so many wait for an advisory lock."""
    waiting = text("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted")
    async with asyncio.timeout(10):
        while True:
            async with ground.database.begin() as session:
                if await session.scalar(waiting) == count:
                    return
            await asyncio.sleep(0.01)


async def test_an_endpoint_is_made_with_a_secret_that_the_standard_takes(client: Client) -> None:
    answer = await client.post("/v1/webhooks", json={"url": URL, "description": "طلبات"})
    made = answer.json()
    assert (answer.status_code, answer.headers["location"]) == (201, f"/v1/webhooks/{made['id']}")
    assert answer.headers["cache-control"] == "no-store"
    assert (made["url"], made["events"], made["description"]) == (URL, ["*"], "طلبات")
    assert (made["signature"], made["enabled"], made["disabled"], made["public_key"]) == ("hmac", True, None, None)
    assert made["secret"].startswith("whsec_")
    assert 24 <= len(base64.b64decode(made["secret"].removeprefix("whsec_"), validate=True)) <= 64
    assert Webhook(made["secret"]).sign("msg_1", datetime.now(UTC), "{}").startswith("v1,")
    shown = (await client.get(made["urls"]["secret"])).json()["secrets"]
    assert [(each["secret"], each["expires_at"]) for each in shown] == [(made["secret"], None)]


async def test_of_a_pair_of_keys_only_the_public_one_is_told(client: Client) -> None:
    made = await add(client, signature="ed25519")
    assert (made["secret"], made["public_key"][:5]) == (None, "whpk_")
    assert len(base64.b64decode(made["public_key"].removeprefix("whpk_"), validate=True)) == 32
    rotated = await client.post(made["urls"]["rotate"])
    shown = await client.get(made["urls"]["secret"])
    assert [each["public_key"] for each in shown.json()["secrets"]] == [
        rotated.json()["secret"]["public_key"],
        made["public_key"],
    ]
    assert "whsk_" not in rotated.text + shown.text


async def test_a_secret_is_kept_sealed_and_told_by_no_list(client: Client, ground: Ground) -> None:
    made = await add(client)
    key = base64.b64decode(made["secret"].removeprefix("whsec_"))
    async with ground.database.begin() as session:
        kept = (await session.scalars(text("SELECT sealed FROM webhook_secrets"))).all()
    assert len(kept) == 1
    assert key not in kept[0]
    changed = await client.patch(made["urls"]["self"], json={"description": "x"})
    for told in (await client.get("/v1/webhooks"), await client.get(made["urls"]["self"]), changed):
        assert told.status_code == 200
        assert "whsec_" not in told.text
        assert "public_key" not in told.text


async def test_what_an_endpoint_is_told_of_is_chosen_by_type_and_group(client: Client) -> None:
    made = await add(client, events=["job.*", "file.ready", "job.*"])
    assert made["events"] == ["job.*", "file.ready"]
    changed = await client.patch(made["urls"]["self"], json={"events": ["*"]})
    assert changed.json()["events"] == ["*"]


WRONG: list[tuple[dict[str, Any], str, str]] = [
    ({}, "missing_field", "url"),
    ({"url": URL, "kind": "x"}, "unknown_field", "kind"),
    ({"url": 5}, "wrong_type", "url"),
    ({"url": URL + "#top"}, "fragment_not_allowed", "url"),
    ({"url": "https://layla:secret@hooks.example.com/"}, "url_not_valid", "url"),
    ({"url": "ftp://hooks.example.com/"}, "scheme_not_allowed", "url"),
    ({"url": "https://169.254.169.254/"}, "address_not_allowed", "url"),
    ({"url": "https://localhost/"}, "host_not_allowed", "url"),
    ({"url": URL + "x" * 2048}, "too_long", "url"),
    ({"url": URL, "events": []}, "too_short", "events"),
    ({"url": URL, "events": ["job.failed", "job.done"]}, "unknown_event", "events[1]"),
    ({"url": URL, "events": ["jo*"]}, "unknown_event", "events[0]"),
    ({"url": URL, "description": "x" * 201}, "too_long", "description"),
    ({"url": URL, "description": "\0"}, "invalid_text", "description"),
    ({"url": URL, "signature": "rsa"}, "invalid_value", "signature"),
]


async def test_a_wrong_endpoint_is_refused_by_its_field_in_both_languages(client: Client) -> None:
    for said, refusal, field in WRONG:
        told: set[str] = set()
        for language in ("ar", "en"):
            answer = await client.post("/v1/webhooks", json=said, headers={"Accept-Language": language})
            assert (*code(answer), answer.json()["field"]) == (400, refusal, field), said
            told.add(answer.json()["detail"])
        assert len(told) == 2
    assert (await client.get("/v1/webhooks")).json()["webhooks"] == []


async def test_an_unknown_event_is_told_which_there_are(client: Client) -> None:
    refused = await client.post("/v1/webhooks", json={"url": URL, "events": ["job"]})
    known = refused.json()["known"].split(", ")
    assert set(known) == {*TYPES, "*", "job.*", "batch.*", "file.*", "quota.*", "webhook.*"}


async def test_production_takes_https_alone(settings: Settings, client: Client, key: str) -> None:
    assert (await add(client, url="http://hooks.example.com:8080/"))["url"].startswith("http:")
    strict = msgspec.structs.replace(settings, env="production", port=free_port())
    async with (
        serving(create_app(strict), strict.port) as url,
        Client(base_url=url, headers={"Authorization": f"Bearer {key}"}, verify=PLAIN) as live,
    ):
        for address, refusal in (("http://a.example.com/", "scheme"), ("https://a.example.com:8080/", "port")):
            refused = await live.post("/v1/webhooks", json={"url": address})
            assert code(refused) == (400, f"{refusal}_not_allowed")


async def test_endpoints_are_listed_a_page_at_a_time_and_looking_again_is_cheap(client: Client) -> None:
    made = [await add(client, description=str(number)) for number in range(3)]
    first = (await client.get("/v1/webhooks?limit=2")).json()
    rest = (await client.get("/v1/webhooks", params={"limit": 2, "cursor": first["next_cursor"]})).json()
    assert [each["id"] for each in first["webhooks"] + rest["webhooks"]] == [each["id"] for each in reversed(made)]
    assert rest["next_cursor"] is None
    for path in ("/v1/webhooks", made[0]["urls"]["self"], "/v1/webhooks/deliveries", "/v1/webhooks/events"):
        shown = await client.get(path)
        again = await client.get(path, headers={"If-None-Match": shown.headers["etag"]})
        assert (shown.status_code, again.status_code, again.content) == (200, 304, b"")
    assert code(await client.get("/v1/webhooks?cursor=x")) == (400, "invalid_cursor")
    assert code(await client.get("/v1/webhooks?limit=0")) == (400, "invalid_limit")


async def test_no_interleaving_makes_more_endpoints_than_an_account_may_have(settings: Settings, key: str) -> None:
    few = msgspec.structs.replace(settings, account_webhooks=3)
    headers = {"Authorization": f"Bearer {key}"}
    async with serving(create_app(few), few.port) as url, Client(base_url=url, headers=headers, verify=PLAIN) as client:
        answers = await asyncio.gather(*(client.post("/v1/webhooks", json={"url": URL}) for _ in range(8)))
        assert sorted(each.status_code for each in answers) == [201] * 3 + [409] * 5
        refused = next(each for each in answers if each.status_code == 409)
        assert (refused.json()["code"], refused.json()["limit"]) == ("too_many_webhooks", 3)
        assert "retry-after" not in refused.headers, "waiting does not help"
        first = (await client.get("/v1/webhooks")).json()["webhooks"][0]
        assert (await client.delete(first["urls"]["self"])).status_code == 204
        await add(client)


async def test_one_key_makes_one_endpoint_however_often_it_is_sent(client: Client, other: Client) -> None:
    answers = await asyncio.gather(
        *(client.post("/v1/webhooks", json={"url": URL}, headers=NAMED) for _ in range(10)),
    )
    assert {each.status_code for each in answers} == {201}
    assert len({each.text for each in answers}) == 1, "the secret too"
    assert sum("idempotent-replayed" in each.headers for each in answers) == 9
    assert len((await client.get("/v1/webhooks")).json()["webhooks"]) == 1
    another = {"url": URL, "description": "x"}
    assert code(await client.post("/v1/webhooks", json=another, headers=NAMED)) == (422, "idempotency_key_reused")
    assert (await other.post("/v1/webhooks", json=another, headers=NAMED)).status_code == 201
    await client.delete(answers[0].json()["urls"]["self"])
    assert code(await client.post("/v1/webhooks", json={"url": URL}, headers=NAMED)) == (404, "webhook_not_found")


async def test_a_refused_endpoint_leaves_no_key_behind(client: Client) -> None:
    wrong = {"url": URL, "events": ["x"]}
    assert code(await client.post("/v1/webhooks", json=wrong, headers=NAMED)) == (400, "unknown_event")
    made = await client.post("/v1/webhooks", json={"url": URL}, headers=NAMED)
    assert (made.status_code, "idempotent-replayed" in made.headers) == (201, False)


async def test_a_change_touches_what_it_names_and_what_waits_follows_the_address(
    client: Client, ground: Ground, account: Account
) -> None:
    made, neighbour = await add(client, description="x"), await add(client)
    waits = await delivered(ground, account.id, made, state="pending")
    done = await delivered(ground, account.id, made)
    beside = await delivered(ground, account.id, neighbour, state="pending")
    moved = (await client.patch(made["urls"]["self"], json={"url": "https://new.example.com/"})).json()
    assert moved == {name: value for name, value in made.items() if name not in {"secret", "public_key"}} | {
        "url": "https://new.example.com/"
    }
    assert (await client.get(made["urls"]["self"])).json() == moved
    assert (await client.patch(made["urls"]["self"], json={})).json() == moved
    found = (await client.get("/v1/webhooks/deliveries")).json()["deliveries"]
    urls = {each["id"]: each["url"] for each in found}
    assert urls == {str(waits): "https://new.example.com/", str(done): URL, str(beside): URL}
    for said, field in (({"url": "https://10.0.0.1/"}, "url"), ({"events": ["x"]}, "events[0]"), ({"id": "x"}, "id")):
        refused = await client.patch(made["urls"]["self"], json=said)
        assert (refused.status_code, refused.json()["field"]) == (400, field)
    assert (await client.get(made["urls"]["self"])).json() == moved


async def test_an_endpoint_that_is_switched_off_gets_nothing_that_waits(
    client: Client, ground: Ground, account: Account
) -> None:
    made, neighbour = await add(client), await add(client)
    waits = await delivered(ground, account.id, made, state="pending")
    beside = await delivered(ground, account.id, neighbour, state="pending")
    headers = {"Accept-Language": "ar"}
    off = (await client.patch(made["urls"]["self"], json={"enabled": False}, headers=headers)).json()
    assert (off["enabled"], off["disabled"]["code"]) == (False, "account")
    assert off["disabled"]["detail"] == "أوقفته أنت."
    states = {each: (await client.get(f"/v1/webhooks/deliveries/{each}")).json() for each in (waits, beside)}
    assert [each["state"] for each in states.values()] == ["canceled", "pending"]
    assert states[waits]["finished_at"] is not None
    assert code(await client.post(made["urls"]["test"])) == (409, "webhook_disabled")
    on = (await client.patch(made["urls"]["self"], json={"enabled": True})).json()
    assert (on["enabled"], on["disabled"]) == (True, None)


async def test_what_another_address_answered_is_not_held_against_the_new_one(client: Client, ground: Ground) -> None:
    made = await add(client)
    resting = (
        "UPDATE webhook_endpoints SET pauses = 7, failing_since = now() - interval '4 days',"
        " paused_until = now() + interval '1 day'"
    )
    await put(ground, resting)
    for said, rests in (({"url": URL, "events": ["job.*"]}, True), ({"url": URL + "&new"}, False)):
        moved = (await client.patch(made["urls"]["self"], json=said)).json()
        assert [moved[name] is not None for name in ("failing_since", "paused_until")] == [rests, rests]
    async with ground.database.begin() as session:
        assert await session.scalar(text("SELECT pauses FROM webhook_endpoints")) == 0


async def test_an_endpoint_that_is_switched_on_begins_anew(client: Client, ground: Ground) -> None:
    made = await add(client)
    await put(
        ground,
        "UPDATE webhook_endpoints SET disabled_at = now(), disabled_reason = 'failing', pauses = 7,"
        " failing_since = now() - interval '5 days', paused_until = now() + interval '1 hour'",
    )
    failing = (await client.get(made["urls"]["self"])).json()
    assert (failing["disabled"]["code"], failing["enabled"]) == ("failing", False)
    assert failing["failing_since"]
    assert failing["paused_until"]
    await client.patch(made["urls"]["self"], json={"enabled": False})
    still = (await client.get(made["urls"]["self"])).json()
    assert still == failing, "why it is off is not forgotten"
    on = (await client.patch(made["urls"]["self"], json={"enabled": True})).json()
    assert [on[name] for name in ("enabled", "disabled", "failing_since", "paused_until")] == [True, None, None, None]
    async with ground.database.begin() as session:
        assert await session.scalar(text("SELECT pauses FROM webhook_endpoints")) == 0


async def test_a_deleted_endpoint_leaves_its_log(client: Client, ground: Ground, account: Account) -> None:
    made, neighbour = await add(client), await add(client)
    waits = await delivered(ground, account.id, made, state="pending")
    done = await delivered(ground, account.id, made)
    beside = await delivered(ground, account.id, neighbour, state="pending")
    assert (await client.delete(made["urls"]["self"])).status_code == 204
    for path in (made["urls"]["self"], made["urls"]["secret"], made["urls"]["deliveries"]):
        assert code(await client.get(path)) == (404, "webhook_not_found")
    assert code(await client.delete(made["urls"]["self"])) == (404, "webhook_not_found")
    found = (await client.get("/v1/webhooks/deliveries")).json()["deliveries"]
    states = {each["id"]: each["state"] for each in found}
    assert states == {str(waits): "canceled", str(done): "delivered", str(beside): "pending"}
    of_it = (await client.get("/v1/webhooks/deliveries", params={"endpoint": made["id"]})).json()["deliveries"]
    assert {each["id"] for each in of_it} == {str(waits), str(done)}
    async with ground.database.begin() as session:
        assert await session.scalar(text("SELECT count(*) FROM webhook_secrets")) == 1
    for gone in (waits, done):
        assert code(await client.post(f"/v1/webhooks/deliveries/{gone}/replay")) == (409, "webhook_deleted")


async def test_a_rotated_secret_signs_as_well_until_its_time_is_over(client: Client, ground: Ground) -> None:
    made = await add(client)
    neighbour = await add(client)
    answer = await client.post(made["urls"]["rotate"], json={"overlap": "2h"})
    rotated = answer.json()
    assert (answer.status_code, answer.headers["cache-control"]) == (201, "no-store")
    assert rotated["secret"]["secret"] != made["secret"]
    assert rotated["secret"]["expires_at"] is None
    left = datetime.fromisoformat(rotated["old_until"]) - datetime.now(UTC)
    assert 7100 < left.total_seconds() <= 7200
    shown = await client.get(made["urls"]["secret"])
    assert shown.headers["cache-control"] == "no-store"
    assert [(each["secret"], each["expires_at"]) for each in shown.json()["secrets"]] == [
        (rotated["secret"]["secret"], None),
        (made["secret"], rotated["old_until"]),
    ]
    again = (await client.post(made["urls"]["rotate"])).json()
    left = datetime.fromisoformat(again["old_until"]) - datetime.now(UTC)
    assert 86_300 < left.total_seconds() <= 86_400, "a day where nothing is said"
    shown = (await client.get(made["urls"]["secret"])).json()["secrets"]
    assert [each["expires_at"] for each in shown] == [None, again["old_until"], rotated["old_until"]]
    await put(ground, "UPDATE webhook_secrets SET expires_at = now() WHERE expires_at < now() + interval '3 hours'")
    shown = (await client.get(made["urls"]["secret"])).json()["secrets"]
    assert [each["secret"] for each in shown] == [again["secret"]["secret"], rotated["secret"]["secret"]]
    at_once = (await client.post(made["urls"]["rotate"], json={"overlap": "0"})).json()
    assert at_once["old_until"] is None
    shown = (await client.get(made["urls"]["secret"])).json()["secrets"]
    assert shown == [at_once["secret"]]
    assert [each["secret"] for each in (await client.get(neighbour["urls"]["secret"])).json()["secrets"]] == [
        neighbour["secret"]
    ]


async def test_a_wrong_overlap_is_refused(client: Client) -> None:
    made = await add(client)
    for overlap in ("8d", "7d1s", "-1", "soon", ""):
        refused = await client.post(made["urls"]["rotate"], json={"overlap": overlap})
        assert (*code(refused), refused.json()["field"]) == (400, "invalid_overlap", "overlap")
    assert len((await client.get(made["urls"]["secret"])).json()["secrets"]) == 1


async def test_so_many_secrets_sign_at_a_time_and_no_more(client: Client) -> None:
    made = await add(client)
    answers = await asyncio.gather(*(client.post(made["urls"]["rotate"], json={"overlap": "7d"}) for _ in range(6)))
    assert sorted(each.status_code for each in answers) == [201] * 4 + [409] * 2
    refused = next(each for each in answers if each.status_code == 409)
    assert (refused.json()["code"], refused.json()["limit"]) == ("too_many_secrets", 5)
    assert len((await client.get(made["urls"]["secret"])).json()["secrets"]) == 5
    assert (await client.post(made["urls"]["rotate"], json={"overlap": "0"})).status_code == 201
    assert len((await client.get(made["urls"]["secret"])).json()["secrets"]) == 1


async def test_one_key_rotates_once(client: Client) -> None:
    made = await add(client)
    for path in (made["urls"]["rotate"], "/v1/webhooks/secret/rotate"):
        headers = {"Idempotency-Key": path}
        answers = await asyncio.gather(*(client.post(path, headers=headers) for _ in range(5)))
        assert {each.status_code for each in answers} == {201}
        assert len({each.text for each in answers}) == 1
        assert sum("idempotent-replayed" in each.headers for each in answers) == 4
        assert code(await client.post(path, json={"overlap": "1h"}, headers=headers))[0] == 422
    assert len((await client.get(made["urls"]["secret"])).json()["secrets"]) == 2


async def test_the_accounts_own_secret_is_made_when_it_is_first_asked_for(
    client: Client, other: Client, ground: Ground, account: Account
) -> None:
    async with ground.database.begin() as session:  # so that all of them find that there is none
        lock = text("SELECT pg_advisory_xact_lock(hashtextextended(:name, 0))")
        await session.execute(lock, {"name": f"webhooks {account.id}"})
        asking = [asyncio.create_task(client.get("/v1/webhooks/secret")) for _ in range(4)]
        await waited_for(ground, len(asking))
    answers = await asyncio.gather(*asking)
    assert {each.status_code for each in answers} == {200}
    assert {each.headers["cache-control"] for each in answers} == {"no-store"}
    assert len({each.text for each in answers}) == 1
    own = answers[0].json()["secrets"]
    assert [(each["signature"], each["expires_at"]) for each in own] == [("hmac", None)]
    assert own[0]["secret"].startswith("whsec_")
    theirs = (await other.get("/v1/webhooks/secret")).json()["secrets"]
    assert theirs[0]["secret"] != own[0]["secret"]
    made = await add(client)
    rotated = (await client.post("/v1/webhooks/secret/rotate", json={})).json()
    shown = (await client.get("/v1/webhooks/secret")).json()["secrets"]
    assert [each["secret"] for each in shown] == [rotated["secret"]["secret"], own[0]["secret"]]
    assert (await other.get("/v1/webhooks/secret")).json()["secrets"] == theirs
    assert len((await client.get(made["urls"]["secret"])).json()["secrets"]) == 1, "an endpoint has its own"


async def test_the_types_of_events_are_told_in_both_languages(client: Client) -> None:
    english = (await client.get("/v1/webhooks/events")).json()
    arabic = (await client.get("/v1/webhooks/events", headers={"Accept-Language": "ar"})).json()
    assert [each["type"] for each in english["events"]] == [each["type"] for each in arabic["events"]] == list(TYPES)
    assert english["groups"] == ["*", "job.*", "batch.*", "file.*", "quota.*", "webhook.*"]
    for one, same in zip(english["events"], arabic["events"], strict=True):
        assert one["description"].isascii()
        assert re.search(r"[\u0600-\u06ff]", same["description"])


async def test_two_accounts_never_see_each_others_webhooks(
    client: Client, other: Client, ground: Ground, account: Account
) -> None:
    mine, theirs = await add(client), await add(other)
    their_account = await owner_of(ground, theirs)
    my_delivery = await delivered(ground, account.id, mine, state="failed")
    their_delivery = await delivered(ground, their_account, theirs, state="failed")
    for endpoint, delivery, stranger in ((mine, my_delivery, other), (theirs, their_delivery, client)):
        urls = endpoint["urls"]
        log = f"/v1/webhooks/deliveries/{delivery}"
        answers = [
            await stranger.get(urls["self"]),
            await stranger.patch(urls["self"], json={"url": "https://evil.example.com/"}),
            await stranger.delete(urls["self"]),
            await stranger.get(urls["secret"]),
            await stranger.post(urls["rotate"]),
            await stranger.post(urls["test"]),
            await stranger.get(urls["deliveries"]),
            await stranger.post(urls["recover"], json={"since": "2020-01-01T00:00:00Z"}),
            await stranger.get(log),
            await stranger.post(f"{log}/replay"),
        ]
        assert {code(each) for each in answers} == {(404, "webhook_not_found"), (404, "delivery_not_found")}
        for listed in (
            await stranger.get("/v1/webhooks"),
            await stranger.get("/v1/webhooks/deliveries"),
            await stranger.get("/v1/webhooks/deliveries", params={"endpoint": endpoint["id"]}),
        ):
            assert listed.status_code == 200
            assert endpoint["id"] not in listed.text
            assert str(delivery) not in listed.text
    for endpoint, owner in ((mine, client), (theirs, other)):
        shown = (await owner.get("/v1/webhooks")).json()["webhooks"]
        assert [(each["id"], each["url"]) for each in shown] == [(endpoint["id"], URL)]
        secrets = (await owner.get(endpoint["urls"]["secret"])).json()["secrets"]
        assert [each["secret"] for each in secrets] == [endpoint["secret"]]
        listed = (await owner.get("/v1/webhooks/deliveries")).json()["deliveries"]
        assert [each["state"] for each in listed] == ["failed"]
    async with ground.database.begin() as session:
        assert await session.scalar(text("SELECT count(*) FROM webhook_messages")) == 0


async def test_every_route_wants_a_key_and_the_document_has_them_all(client: Client) -> None:
    document = (await client.get("/docs/openapi.json")).json()
    routes = {
        (method, path)
        for path, item in document["paths"].items()
        for method in item
        if path.startswith("/v1/webhooks") and method in {"get", "post", "patch", "delete"}
    }
    assert len(routes) == 16
    some = "01a20721-c5bf-74af-bffc-60491c094db7"
    for method, path in routes:
        assert document["paths"][path][method]["security"] == [{"apiKey": []}]
        headers = {"Authorization": "Bearer pulse_x"}
        refused = await client.request(method.upper(), path.replace("{id}", some), headers=headers)
        assert code(refused) == (401, "invalid_api_key"), path
    body = document["paths"]["/v1/webhooks"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    shape = document["components"]["schemas"][body["$ref"].rpartition("/")[2]]
    assert set(shape["properties"]) == {"url", "events", "description", "signature"}
    assert shape["required"] == ["url"]


async def test_ids_that_are_none_are_told_as_what_is_not_there(client: Client) -> None:
    assert code(await client.get("/v1/webhooks/nothing")) == (404, "webhook_not_found")
    assert code(await client.get("/v1/webhooks/deliveries/nothing")) == (404, "delivery_not_found")
    assert code(await client.delete("/v1/webhooks/secret")) == (405, "method_not_allowed")
