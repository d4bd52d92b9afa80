"""The ways to submit a job: held until it is over, with what it says as the answer, and to be cancelled by itself."""

import asyncio
import json
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import msgspec
from litestar import Litestar

from infra.ground import Ground
from infra.models import Account
from infra.settings import Settings
from tests.support.chats import Client, chat, events, until
from tests.support.served import speaking, until_waiting, waiting
from tests.support.vendor import Answer, Vendor
from tests.support.work import working
from workers import lifecycle


async def test_a_call_that_waits_is_answered_with_the_finished_job_as_soon_as_it_is_over(
    client: Client, app: Litestar, settings: Settings
) -> None:
    async with working(settings):
        answer = await client.post("/v1/jobs", json=chat("hi"), headers={"Prefer": "wait=25"})
    job, quota = answer.json()["job"], answer.json()["quota"]["chat_tokens"]
    assert (answer.status_code, job["state"], job["result"]["text"]) == (200, "succeeded", "Hello from the wire.")
    assert answer.headers["preference-applied"] == "wait=25"
    assert answer.headers["location"] == job["urls"]["self"]
    assert "retry-after" not in answer.headers
    assert (quota["used"], quota["held"]) == (11 + 7 * 5, 0), "what is left is what is left now"
    assert waiting(app) == 0


async def test_a_call_that_has_waited_long_enough_is_answered_with_the_job_as_it_is(
    settings: Settings, key: str
) -> None:
    async with speaking(msgspec.structs.replace(settings, wait_s=1), key) as client:
        wanted = {"wait=1": "wait=1", "wait=600": "wait=1", "respond-async, wait=1": "wait=1", "wait=0": "wait=0"}
        ignored = ["respond-async", "wait=soon", "handling=strict"]
        calls = [
            client.post("/v1/jobs", json=chat("hi"), headers={"Prefer": preference})
            for preference in [*wanted, *ignored]
        ]
        answers = await asyncio.gather(*calls)
    assert {answer.status_code for answer in answers} == {202}
    assert {answer.json()["job"]["state"] for answer in answers} == {"queued"}
    assert {answer.headers["retry-after"] for answer in answers} == {"1"}
    applied = [answer.headers.get("preference-applied") for answer in answers]
    assert applied == [*wanted.values(), *[None] * len(ignored)], "an answer is asynchronous unless a wait is asked for"


async def test_calls_that_wait_are_answered_at_once_when_the_process_goes_down(client: Client, app: Litestar) -> None:
    calls = [
        asyncio.create_task(client.post("/v1/jobs", json=chat("hi"), headers={"Prefer": "wait=30"})) for _ in range(3)
    ]
    await until_waiting(app, 3)
    async with asyncio.timeout(5):
        app.state.hub.close()
        answers = await asyncio.gather(*calls)
    assert [(answer.status_code, answer.json()["job"]["state"]) for answer in answers] == [(202, "queued")] * 3


async def test_a_client_that_leaves_while_it_waits_cancels_nothing_and_leaves_nothing_behind(
    client: Client, app: Litestar, key: str
) -> None:
    async with Client(base_url=client.base_url, headers={"Authorization": f"Bearer {key}"}) as hasty:
        call = asyncio.create_task(hasty.post("/v1/jobs", json=chat("hi"), headers={"Prefer": "wait=30"}))
        await until_waiting(app)
        call.cancel()
        await asyncio.gather(call, return_exceptions=True)
    await until_waiting(app, 0)
    [job] = (await client.get("/v1/jobs")).json()["jobs"]
    assert (job["state"], job["cancel_requested"]) == ("queued", False)


async def test_a_call_waits_for_its_end_also_while_redis_is_away(
    settings: Settings, key: str, ground: Ground, account: Account
) -> None:
    async with speaking(msgspec.structs.replace(settings, redis_url="redis://127.0.0.1:1"), key) as client:
        call = asyncio.create_task(client.post("/v1/jobs", json=chat("hi"), headers={"Prefer": "wait=25"}))
        async with asyncio.timeout(10):
            while True:
                if jobs := (await client.get("/v1/jobs")).json()["jobs"]:
                    break
                await asyncio.sleep(0.02)
        await lifecycle.cancel(ground, account.id, UUID(jobs[0]["id"]))
        async with asyncio.timeout(10):
            answer = await call
    assert (answer.status_code, answer.json()["job"]["state"]) == (200, "canceled")


async def test_a_job_that_is_over_already_is_not_waited_for(client: Client) -> None:
    named = {"Idempotency-Key": "once", "Prefer": "wait=30"}
    first = (await client.post("/v1/jobs", json=chat("hi"), headers={"Idempotency-Key": "once"})).json()["job"]
    await client.post(first["urls"]["cancel"])
    answer = await client.post("/v1/jobs", json=chat("hi"), headers=named)
    assert (answer.status_code, answer.json()["job"]["state"]) == (200, "canceled")
    assert answer.headers["idempotent-replayed"] == "true"


async def test_a_submission_can_be_answered_with_all_that_its_job_says(client: Client, settings: Settings) -> None:
    headers = {"Accept": "text/event-stream", "Idempotency-Key": "stream"}
    async with working(settings):
        answer = await client.post("/v1/jobs", json=chat("hi"), headers=headers)
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/event-stream")
    first, _, rest = answer.text.removeprefix("retry: 1000\n\n").partition("\n\n")
    assert first.startswith("event: submitted\ndata: ")
    submitted = json.loads(first.partition("data: ")[2])
    job = submitted["job"]
    assert answer.headers["location"] == job["urls"]["self"]
    assert (job["state"], submitted.keys()) == ("queued", {"job", "quota", "model", "reason"})
    assert submitted["quota"]["chat_tokens"]["held"] > 0
    told = [event["type"] for _, event in events(rest)]
    assert (told[0], told[-1]) == ("queued", "succeeded")
    again = await client.post("/v1/jobs", json=chat("hi"), headers=headers)
    assert again.headers["idempotent-replayed"] == "true"
    assert events(again.text.removeprefix("retry: 1000\n\n").partition("\n\n")[2]) == events(rest)


async def test_what_a_job_says_can_come_as_lines_of_json(client: Client, settings: Settings) -> None:
    async with working(settings):
        answer = await client.post("/v1/jobs", json=chat("hi"), headers={"Accept": "application/x-ndjson"})
    assert answer.headers["content-type"].startswith("application/x-ndjson")
    lines: list[dict[str, Any]] = [json.loads(line) for line in answer.text.splitlines() if line]
    assert [lines[0]["type"], lines[1]["type"], lines[-1]["type"]] == ["submitted", "queued", "succeeded"]
    assert {"type", "job", "quota", "model", "reason"} == set(lines[0])


async def test_an_error_is_no_stream(client: Client) -> None:
    for accept in ("text/event-stream", "application/x-ndjson"):
        answer = await client.post("/v1/jobs", json={"kind": "poem"}, headers={"Accept": accept})
        assert (answer.status_code, answer.json()["code"]) == (400, "unknown_kind")
        assert answer.headers["content-type"] == "application/problem+json"


async def test_a_job_can_be_told_by_when_it_is_to_be_over(client: Client) -> None:
    answer = await client.post("/v1/jobs", json=chat("hi"), headers={"Cancel-After": "1h30m"})
    job = answer.json()["job"]
    assert datetime.fromisoformat(job["cancel_by"]) == datetime.fromisoformat(job["created_at"]) + timedelta(hours=1.5)
    assert (await client.post("/v1/jobs", json=chat("hi"))).json()["job"]["cancel_by"] is None


async def test_a_time_to_cancel_that_makes_no_sense_is_refused_by_its_header(client: Client) -> None:
    for text in ("soon", "", "4", "4s", "7d1s", "-5m", "5 m"):
        told: set[str] = set()
        for language in ("ar", "en"):
            headers = {"Cancel-After": text, "Accept-Language": language}
            answer = await client.post("/v1/jobs", json=chat("hi"), headers=headers)
            problem = answer.json()
            assert (answer.status_code, problem["code"]) == (400, "invalid_cancel_after"), text
            assert problem["field"] == "Cancel-After"
            assert "Cancel-After" in problem["detail"]
            told.add(problem["detail"])
        assert len(told) == 2
    assert (await client.get("/v1/jobs")).json()["jobs"] == []


async def test_another_go_is_asked_for_once_under_a_key_and_the_key_stands_for_that_job_alone(
    client: Client, settings: Settings, vendor: Vendor
) -> None:
    vendor.script = [Answer(status=400), Answer(status=400)]
    async with working(settings):
        failed = [(await client.post("/v1/jobs", json=chat("hi"))).json()["job"] for _ in range(2)]
        for job in failed:
            assert (await until(client, job))["state"] == "failed"
    one, other = (job["urls"]["retry"] for job in failed)
    named = {"Idempotency-Key": "again"}
    answers = await asyncio.gather(*(client.post(one, headers=named) for _ in range(8)))
    assert {answer.status_code for answer in answers} == {202}
    assert len({answer.json()["job"]["id"] for answer in answers}) == 1
    assert sum("idempotent-replayed" in answer.headers for answer in answers) == 7
    unnamed = await client.post(one)
    assert unnamed.json()["job"]["id"] == answers[0].json()["job"]["id"]
    assert "idempotent-replayed" not in unnamed.headers
    for reused in (client.post(other, headers=named), client.post("/v1/jobs", json=chat("hi"), headers=named)):
        answer = await reused
        assert (answer.status_code, answer.json()["code"]) == (422, "idempotency_key_reused")
    wrong = await client.post(other, headers={"Idempotency-Key": "x" * 256})
    assert (wrong.status_code, wrong.json()["code"]) == (400, "invalid_idempotency_key")
