"""`POST /v1/chat/complete`: a chat in one call, with everything that a submitted job has."""

import asyncio
from pathlib import Path
from typing import Any
from uuid import UUID

import msgspec
import pytest
from sqlalchemy import text

from infra.ground import Ground
from infra.models import Account
from infra.settings import Settings
from quotas import accounts
from tests.support.books import assert_even, balance_of, grant
from tests.support.catalogs import three
from tests.support.chats import Client, chat, events
from tests.support.served import speaking
from tests.support.shelves import shelve
from tests.support.vendor import Vendor
from tests.support.work import working

PATH = "/v1/chat/complete"
SAID = [{"role": "user", "content": "مرحبا"}]


@pytest.fixture
async def settings(settings: Settings, tmp_path: Path) -> Settings:
    """The usual settings, with the models small, middle and great."""
    return three(settings, tmp_path)


def asked(content: Any = "مرحبا", **members: Any) -> dict[str, Any]:
    """Return a body of one message."""
    return {"messages": [{"role": "user", "content": content}], **members}


async def test_a_chat_is_answered_when_it_is_done_and_says_who_answered_and_why(
    client: Client, settings: Settings, ground: Ground, vendor: Vendor
) -> None:
    async with working(settings):
        answer = await client.post(PATH, json=asked(metadata={"order": "7"}, timeout=60, max_output_tokens=50))
    told = answer.json()
    job = told["job"]
    assert (answer.status_code, job["state"], job["kind"]) == (200, "succeeded", "chat")
    assert (job["metadata"], job["timeout"], job["input"]["max_output_tokens"]) == ({"order": "7"}, 60, 50)
    assert job["result"]["text"] == "Hello from the wire."
    assert told["model"] == job["result"]["model"] == job["input"]["model"] == "small"
    assert told["reason"] == job["result"]["reason"] == job["input"]["routing"]["reason"]
    assert set(told["reason"]) == {"code", "en", "ar"}
    assert answer.headers["location"] == job["urls"]["self"]
    assert vendor.requests[0]["max_tokens"] == 50
    await assert_even(ground)


async def test_one_that_takes_longer_is_answered_with_its_job(settings: Settings, key: str) -> None:
    async with speaking(msgspec.structs.replace(settings, wait_s=1), key) as client:
        wishes = [{}, {"Prefer": "wait=1"}, {"Prefer": "respond-async"}, {"Prefer": "wait=0"}]
        answers = await asyncio.gather(*(client.post(PATH, json=asked(), headers=wish) for wish in wishes))
    assert [answer.status_code for answer in answers] == [202] * 4
    assert [answer.headers["preference-applied"] for answer in answers] == ["wait=1", "wait=1", "wait=0", "wait=0"]
    assert {answer.json()["job"]["state"] for answer in answers} == {"queued"}
    assert {answer.json()["model"] for answer in answers} == {"small"}


async def test_it_can_be_answered_with_all_that_its_job_says(client: Client, settings: Settings) -> None:
    async with working(settings):
        answer = await client.post(PATH, json=asked(), headers={"Accept": "text/event-stream"})
    assert answer.headers["content-type"].startswith("text/event-stream")
    told = [event["type"] for _, event in events(answer.text.partition("\n\n")[2].partition("\n\n")[2])]
    assert (told[0], told[-1]) == ("queued", "succeeded")


async def test_the_same_key_is_one_chat_and_on_another_route_another_request(client: Client) -> None:
    headers = {"Idempotency-Key": "k-1", "Prefer": "respond-async"}
    first, again = [await client.post(PATH, json=asked(), headers=headers) for _ in range(2)]
    assert first.json()["job"]["id"] == again.json()["job"]["id"]
    assert again.headers["idempotent-replayed"] == "true"
    other = await client.post("/v1/jobs", json=chat("مرحبا"), headers=headers)
    assert (other.status_code, other.json()["code"]) == (422, "idempotency_key_reused")


WRONG: list[tuple[dict[str, Any], int, str, str]] = [
    ({}, 400, "missing_field", "messages"),
    ({"messages": []}, 400, "too_short", "messages"),
    (asked(kind="chat"), 400, "unknown_field", "kind"),
    (asked(model="gpt-0"), 400, "unknown_model", "model"),
    (
        asked(routing={"asked": "auto", "tier": None, "reason": {"code": "a", "en": "", "ar": ""}, "chain": []}),
        400,
        "unknown_field",
        "routing",
    ),
    (asked(timeout=0), 400, "out_of_range", "timeout"),
    (asked(webhook="ftp://example.com/"), 400, "scheme_not_allowed", "webhook"),
    (asked(model="small", tools=[{"name": "a"}]), 400, "model_unfit", "tools"),
    (asked(model="smart"), 403, "model_not_in_plan", "model"),
    (
        asked([{"type": "image", "file_id": str(UUID(int=1))}]),
        400,
        "attachment_not_found",
        "messages[0].content[0].file_id",
    ),
]


async def test_what_is_wrong_is_named_from_the_top_of_the_body(client: Client) -> None:
    for body, status, code, field in WRONG:
        answer = await client.post(PATH, json=body, headers={"Prefer": "respond-async"})
        told = answer.json()
        assert (answer.status_code, told["code"], told["field"]) == (status, code, field)


async def test_it_counts_as_a_submission_and_needs_a_key(client: Client) -> None:
    answer = await client.post(PATH, json=asked(), headers={"Prefer": "respond-async"})
    assert any(name.startswith("ratelimit") for name in answer.headers)
    del client.headers["Authorization"]
    assert (await client.post(PATH, json=asked())).status_code == 401
    assert (await client.get(PATH)).status_code == 405


async def test_a_choice_of_the_studio_steps_down_where_the_quota_does_not_allow_it(
    client: Client, ground: Ground, account: Account
) -> None:
    async with ground.database.begin() as session:
        await session.execute(text("UPDATE accounts SET plan = 'pro'"))
    body = asked(tools=[{"name": "weather"}], max_output_tokens=1_000)
    headers = {"Prefer": "respond-async"}

    async def told() -> tuple[int, str | None, str | None, list[str] | None]:
        answer = await client.post(PATH, json=body, headers=headers)
        found = answer.json()
        chain = found["job"]["input"]["routing"]["chain"] if answer.is_success else None
        return answer.status_code, found.get("model"), found.get("reason", {}).get("code"), chain

    status, model, code, chain = await told()
    assert (status, model, chain) == (202, "middle", ["middle", "great"])
    assert code != "quota"
    first = (await balance_of(ground, account)).held
    assert first > 1_000 * 50, "what the dearest of the chain may cost is held"
    await grant(ground, first + 8_000)
    assert await told() == (202, "middle", "quota", ["middle"])
    assert (await balance_of(ground, account)).held - first < 8_000
    assert (await told())[0] == 402
    body["model"] = "middle"  # by name nothing is chosen
    await grant(ground, (await balance_of(ground, account)).held + 8_000)
    assert (await told())[0] == 402
    await assert_even(ground)


async def test_files_of_others_are_none_of_the_account_s(client: Client, ground: Ground, account: Account) -> None:
    async with ground.database.begin() as session:
        other = await accounts.create(session, "omar@example.com")
    theirs = await shelve(ground, other, b"\x89PNG\r\n\x1a\n" + bytes(8), "image/png")
    mine = await shelve(ground, account, b"\x89PNG\r\n\x1a\n" + bytes(8), "image/png")
    waiting = await shelve(ground, account, b"x", "image/png", state="scanning")
    codes = list[object]()
    for file_id in (theirs, mine, waiting):
        content = [{"type": "text", "text": "ما هذه؟"}, {"type": "image", "file_id": str(file_id)}]
        answer = await client.post(PATH, json=asked(content), headers={"Prefer": "respond-async"})
        codes.append(answer.json().get("code"))
    assert codes == ["attachment_not_found", None, "attachment_not_ready"]
