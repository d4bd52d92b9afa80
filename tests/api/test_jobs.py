"""A job over HTTP: submitted, looked at, listed, cancelled."""

import asyncio

import msgspec

from infra.ground import Ground
from infra.models import Account
from infra.settings import Settings
from quotas import accounts, keys
from tests.support.books import assert_even, balance_of
from tests.support.chats import Client, chat, events, submit, until
from tests.support.vendor import Answer, Vendor
from tests.support.work import working


async def test_a_submitted_job_is_answered_with_its_addresses_and_what_is_left(client: Client) -> None:
    answer = await client.post("/v1/jobs", json=chat("hi", max_output_tokens=100) | {"metadata": {"order": "7"}})
    assert answer.status_code == 202
    job, quota = answer.json()["job"], answer.json()["quota"]
    assert job["state"] == "queued"
    assert job["metadata"] == {"order": "7"}
    assert job["input"]["model"] == "wire-1", "auto is resolved at submit"
    assert answer.headers["location"] == job["urls"]["self"] == f"/v1/jobs/{job['id']}"
    assert answer.headers["retry-after"] == "1"
    # "hi" is 2 bytes, its template at most 64 + 16 tokens; an output token weighs 5.
    assert quota["chat_tokens"]["held"] == 2 + 80 + 100 * 5
    assert quota["chat_tokens"]["remaining"] == 500_000 - 582


async def test_a_job_is_made_and_settled_by_what_the_vendor_counted(
    client: Client, settings: Settings, ground: Ground, account: Account, vendor: Vendor
) -> None:
    async with working(settings):
        job = await until(client, await submit(client, chat("What is Pulse?")))
    assert job["state"] == "succeeded"
    assert job["result"]["text"] == "Hello from the wire."
    assert job["result"]["finish_reason"] == "stop"
    assert job["charged"] == {"chat_tokens": 11 + 7 * 5}
    balance = await balance_of(ground, account)
    assert (balance.used, balance.held, balance.overage) == (46, 0, 0)
    await assert_even(ground)
    assert vendor.requests[0]["messages"] == [{"role": "user", "content": "What is Pulse?"}]


async def test_what_a_vendor_used_beyond_the_hold_is_overage_and_never_silent(
    client: Client, settings: Settings, ground: Ground, account: Account, vendor: Vendor
) -> None:
    vendor.script = [Answer(output_tokens=1000)]
    async with working(settings):
        job = await until(client, await submit(client, chat("hi", max_output_tokens=10)))
    held = 2 + 80 + 10 * 5
    assert job["charged"] == {"chat_tokens": held}
    balance = await balance_of(ground, account)
    assert (balance.used, balance.held, balance.overage) == (held, 0, 11 + 1000 * 5 - held)
    await assert_even(ground)
    told = [event for _, event in events((await client.get(job["urls"]["events"])).text) if event["type"] == "warning"]
    detail = {"meter": "chat_tokens", "held": held, "used": 11 + 1000 * 5}
    assert told == [{"type": "warning", "code": "overage", "detail": detail}]


async def test_a_vendor_that_counts_nothing_is_charged_by_estimate_and_says_so(
    client: Client, settings: Settings, vendor: Vendor
) -> None:
    vendor.script = [Answer(end="no usage")]
    async with working(settings):
        job = await until(client, await submit(client, chat("four by four: 16")))
    assert job["result"]["usage"] == {
        "input_tokens": 4,
        "cached_tokens": 0,
        "output_tokens": 5,
        "reasoning_tokens": 0,
        "estimated": True,
    }
    assert job["charged"] == {"chat_tokens": 4 + 5 * 5}


async def test_jobs_are_listed_newest_first_a_page_at_a_time(client: Client) -> None:
    made = [(await submit(client))["id"] for _ in range(5)]
    first = (await client.get("/v1/jobs?limit=3")).json()
    second = (await client.get(f"/v1/jobs?limit=3&cursor={first['next_cursor']}")).json()
    assert [job["id"] for job in first["jobs"] + second["jobs"]] == made[::-1]
    assert second["next_cursor"] is None


async def test_a_queued_job_is_cancelled_at_once_and_costs_nothing(
    client: Client, ground: Ground, account: Account, settings: Settings, vendor: Vendor
) -> None:
    job = await submit(client)
    answer = await client.post(job["urls"]["cancel"])
    assert answer.status_code == 202
    assert answer.json()["state"] == "canceled"
    assert answer.json()["charged"] == {"chat_tokens": 0}
    told = events((await client.get(job["urls"]["events"])).text)
    assert [event["type"] for _, event in told] == ["queued", "canceled"]
    balance = await balance_of(ground, account)
    assert (balance.used, balance.held) == (0, 0)
    await assert_even(ground)
    async with working(settings):  # its id is still on the queue
        await asyncio.sleep(0.3)
    assert vendor.requests == []


async def test_a_running_job_is_stopped_charged_for_what_it_made_and_keeps_it(
    client: Client, settings: Settings, ground: Ground, account: Account, vendor: Vendor
) -> None:
    vendor.script = [Answer(hold=asyncio.Event())]
    async with working(settings):
        job = await submit(client, chat("count"))
        await vendor.speaking.wait()
        await until(client, job, "running")
        await asyncio.sleep(0.1)  # the delta is on its way from the vendor to the room
        answer = await client.post(job["urls"]["cancel"])
        assert answer.json()["cancel_requested"] is True
        stopped = await until(client, job)
    assert stopped["state"] == "canceled"
    assert stopped["result"]["text"] == "Hello"
    assert stopped["charged"] == {"chat_tokens": 2 + 2 * 5}, "2 tokens in and 2 out, by estimate"
    told = events((await client.get(job["urls"]["events"])).text)
    assert told[-1][1] == {"type": "canceled", "charged": {"chat_tokens": 12}}
    await assert_even(ground)


async def test_cancelling_a_finished_job_changes_nothing(client: Client, settings: Settings) -> None:
    async with working(settings):
        job = await until(client, await submit(client))
    answer = await client.post(job["urls"]["cancel"])
    assert answer.status_code == 202
    assert answer.json() == job


async def test_the_same_idempotency_key_makes_one_job(client: Client, ground: Ground, account: Account) -> None:
    send = [client.post("/v1/jobs", json=chat("once"), headers={"Idempotency-Key": "k-1"}) for _ in range(10)]
    answers = await asyncio.gather(*send)
    assert {answer.status_code for answer in answers} == {202}
    assert len({answer.json()["job"]["id"] for answer in answers}) == 1
    assert sum("idempotent-replayed" in answer.headers for answer in answers) == 9
    assert (await balance_of(ground, account)).held == 4 + 80 + 1024 * 5
    await assert_even(ground)


async def test_the_same_idempotency_key_with_another_request_is_refused(client: Client) -> None:
    await submit(client, chat("one"), **{"Idempotency-Key": "k-2"})
    answer = await client.post("/v1/jobs", json=chat("two"), headers={"Idempotency-Key": "k-2"})
    assert (answer.status_code, answer.json()["code"]) == (422, "idempotency_key_reused")


async def test_somebody_elses_job_does_not_exist(client: Client, ground: Ground, settings: Settings) -> None:
    job = await submit(client)
    async with ground.database.begin() as session:
        other = await accounts.create(session, "omar@example.com")
        client.headers["Authorization"] = f"Bearer {await keys.issue(session, settings, other.id, name='his')}"
    for ask in (
        client.get(job["urls"]["self"]),
        client.get(job["urls"]["events"]),
        client.post(job["urls"]["cancel"]),
    ):
        answer = await ask
        assert (answer.status_code, answer.json()["code"]) == (404, "job_not_found")
    assert (await client.get("/v1/jobs")).json()["jobs"] == []


async def test_concurrent_submissions_never_oversell(
    client: Client, ground: Ground, account: Account, settings: Settings
) -> None:
    each = 3 + 80 + 16_384 * 5
    fitting = 500_000 // each
    send = [client.post("/v1/jobs", json=chat("all", max_output_tokens=16_384)) for _ in range(30)]
    codes = [answer.status_code for answer in await asyncio.gather(*send)]
    assert codes.count(202) == fitting
    assert codes.count(402) == 30 - fitting
    assert (await balance_of(ground, account)).held == fitting * each
    await assert_even(ground)


async def test_a_plan_without_units_left_is_told_what_remains_and_when_it_resets(
    client: Client, account: Account
) -> None:
    for _ in range(6):
        await submit(client, chat("all", max_output_tokens=16_384))
    english = await client.post("/v1/jobs", json=chat("all", max_output_tokens=16_384))
    arabic = await client.post(
        "/v1/jobs", json=chat("all", max_output_tokens=16_384), headers={"Accept-Language": "ar-JO,en;q=0.5"}
    )
    problem = english.json()
    assert (english.status_code, problem["code"], problem["meter"]) == (402, "quota_exceeded", "chat_tokens")
    assert problem["remaining"] == 500_000 - 6 * (3 + 80 + 16_384 * 5)
    assert problem["resets_at"] > msgspec.json.decode(msgspec.json.encode(account.created_at))
    assert "chat tokens" in problem["detail"]
    assert "رموز المحادثة" in arabic.json()["detail"]
