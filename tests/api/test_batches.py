"""A batch over HTTP: handed over in every way, looked at, listed, cancelled, retried; never another account's."""

import asyncio
import json
from collections.abc import AsyncGenerator
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import httpx2
import msgspec
import pytest
from httpx2 import AsyncClient as Client
from litestar import Litestar
from sqlalchemy import text, update

from infra import ids
from infra.ground import Ground
from infra.models import Account, Batch, Job
from infra.settings import Settings
from quotas import accounts, keys
from tests.support.handovers import LINES, code, element, hand_over, jsonl, left_behind, stored, tell, told
from tests.support.served import speaking
from tests.support.uploads import kept, uploaded
from tests.support.work import working
from workers import intake
from workers.desk import Desk

JSONL = {"Content-Type": "application/jsonl"}


@pytest.fixture
async def other(client: Client, ground: Ground) -> AsyncGenerator[Client]:
    """A client of the same API that speaks for somebody else."""
    async with ground.database.begin() as session:
        somebody = await accounts.create(session, "zayd@example.com")
        key = await keys.issue(session, ground.settings, somebody.id, name="test")
    headers = {"Authorization": f"Bearer {key}"}
    async with httpx2.AsyncClient(base_url=client.base_url, headers=headers, timeout=30) as speaks:
        yield speaks


async def test_a_batch_is_answered_at_once_with_where_to_go_on_and_its_reading_waits(
    client: Client, ground: Ground
) -> None:
    said = {"mode": "all", "completion_window": "90m", "metadata": {"order": "٧"}, "webhook": "https://a.example/b"}
    answer = await client.post("/v1/batches", json={**said, "requests": [element(n) for n in range(3)]})
    assert answer.status_code == 202, answer.text
    batch = answer.json()
    path = f"/v1/batches/{batch['id']}"
    assert (answer.headers["location"], answer.headers["retry-after"]) == (path, "2")
    assert batch["urls"] == {
        "self": path,
        "events": f"/v1/events?batch={batch['id']}",
        "jobs": f"/v1/jobs?batch={batch['id']}",
        **{name: f"{path}/{name}" for name in ("results", "errors", "cancel", "retry")},
    }
    assert (batch["state"], batch["mode"], batch["size_bytes"]) == ("validating", "all", len(LINES))
    assert (batch["metadata"], batch["webhook"]) == (said["metadata"], said["webhook"])
    window = datetime.fromisoformat(batch["expires_at"]) - datetime.fromisoformat(batch["created_at"])
    assert window == timedelta(minutes=90)
    assert await stored(ground, batch) == LINES
    reading = (await client.get(f"/v1/jobs/{batch['job_id']}")).json()
    assert (reading["kind"], reading["state"], reading["input"]) == ("batch", "queued", {"batch": batch["id"]})
    assert (await client.get(path)).json() == batch


async def test_requests_lines_and_a_form_are_the_same_batch(client: Client, ground: Ground) -> None:
    options = {"mode": "all", "metadata": '{"a": "b"}', "endpoint": "/v1/chat/completions", "completion_window": "2d"}
    options |= {"economy": "true"}
    last_is_cut = LINES + b'{"custom_id": "r-9"'
    made = [
        await client.post(
            "/v1/batches",
            content=b'\n{"requests":[\r\n' + LINES.replace(b"}\n", b"},\n").rstrip(b",\n") + b"\n]}",
            headers={"Content-Type": "application/json; charset=utf-8"},
        ),
        *[
            await client.post("/v1/batches", params=options, content=LINES, headers={"Content-Type": media_type})
            for media_type in ("application/jsonl", "application/x-ndjson", "application/x-jsonlines; charset=utf-8")
        ],
        await client.post("/v1/batches", data=options, files={"file": ("a.jsonl", LINES, "application/jsonl")}),
    ]
    for answer in made:
        assert answer.status_code == 202, answer.text
        assert await stored(ground, answer.json()) == LINES
    assert [answer.json()["mode"] for answer in made] == ["each"] + ["all"] * 4
    assert [answer.json()["metadata"] for answer in made[1:]] == [{"a": "b"}] * 4
    assert [answer.json()["economy"] for answer in made] == [False] + [True] * 4
    cut = await client.post("/v1/batches", content=last_is_cut, headers=JSONL)
    assert await stored(ground, cut.json()) == last_is_cut, "what is wrong with a line is for its reader to say"


async def test_the_clients_of_others_hand_over_what_they_are_used_to(client: Client, ground: Ground) -> None:
    theirs: dict[str, Any] = {"custom_id": "a", "params": {"model": "auto", "max_tokens": 8, "messages": []}}
    batch = await hand_over(client, requests=[theirs])
    assert json.loads(await stored(ground, batch)) == theirs


async def test_a_batch_is_made_of_a_file_that_is_ready(
    client: Client, other: Client, ground: Ground, settings: Settings
) -> None:
    async with working(settings, "scan", slots=2):
        file = await kept(client, LINES, name="a.jsonl", purpose="batch")
        note = await kept(client, name="a.txt")
    answer = await client.post("/v1/batches", json={"input_file_id": file["id"], "endpoint": "/v1/jobs"})
    assert answer.status_code == 202, answer.text
    batch = answer.json()
    assert (batch["input_file_id"], batch["size_bytes"]) == (file["id"], file["size_bytes"])
    again = [await client.post("/v1/batches", json={"input_file_id": file["id"]}) for _ in range(2)]
    assert len({each.json()["id"] for each in [answer, *again]}) == 3, "a file may be run more than once"
    waiting = await uploaded(client, LINES + b"\n", name="b.jsonl", purpose="batch")
    for speaks, wrong, status, name in [
        (client, note["id"], 400, "file_of_another_purpose"),
        (client, waiting["id"], 409, "file_not_ready"),
        (client, str(ids.new()), 404, "file_not_found"),
        (client, "file-abc", 404, "file_not_found"),
        (other, file["id"], 404, "file_not_found"),
    ]:
        refused = await speaks.post("/v1/batches", json={"input_file_id": wrong})
        assert (*code(refused), refused.json()["field"]) == (status, name, "input_file_id")


def inline(**members: Any) -> tuple[bytes, dict[str, str]]:
    """Return a body with these members, before the requests."""
    return json.dumps({**members, "requests": [element(1)]}).encode(), {"Content-Type": "application/json"}


def after(**members: Any) -> tuple[bytes, dict[str, str]]:
    """Return a body with these members, behind the requests."""
    return json.dumps({"requests": [element(1)], **members}).encode(), {"Content-Type": "application/json"}


def raw(body: bytes, media_type: str = "application/json") -> tuple[bytes, dict[str, str]]:
    """Return a body as it is."""
    return body, {"Content-Type": media_type}


WRONG: list[tuple[tuple[bytes, dict[str, str]], int, str, str | None]] = [
    (raw(b""), 400, "malformed_json", None),
    (raw(b"{"), 400, "malformed_json", None),
    (raw(b"[]"), 400, "wrong_type", "body"),
    (raw(b"{}"), 400, "lines_missing", None),
    (raw(b'{"input_file_id": 7}'), 400, "wrong_type", "input_file_id"),
    (raw(b'{"requests": []}'), 400, "empty_file", "requests"),
    (raw(b'{"requests": 7}'), 400, "wrong_type", "requests"),
    (raw(b'{"requests": [{}, 7]}'), 400, "wrong_type", "requests[1]"),
    (raw(b'{"requests": [{}'), 400, "malformed_json", None),
    (raw(b'{"requests": [{}]'), 400, "malformed_json", None),
    (raw(b'{"requests": [{}]}]'), 400, "malformed_json", None),
    (raw(b'{"requests": [{}], "requests": [{}]}'), 400, "repeated_member", "requests"),
    (raw(b'{"requests": [{}], "a": "%s"}' % (b"x" * 70_000)), 413, "too_much_around", "requests"),
    (raw(b'{"requests": [%s]}' % (b'{"a": "%s"}' % (b"x" * 99_991))), 413, "batch_too_large", "requests"),
    (raw(b"x" * 100_001, "application/jsonl"), 413, "batch_too_large", "body"),
    (raw(b"", "application/jsonl"), 400, "empty_file", "body"),
    (raw(b"<xml/>", "application/xml"), 415, "batch_type_not_taken", None),
    (raw(LINES, "text/plain"), 415, "batch_type_not_taken", None),
    (raw(b"--b\r\n", "multipart/form-data; boundary=b"), 400, "truncated_form", None),
    *[
        (made(**{field: value}), status, name, field)
        for made in (inline, after)
        for field, value, status, name in [
            ("mode", "some", 400, "invalid_value"),
            ("mode", 7, 400, "wrong_type"),
            ("completion_window", "9m", 400, "invalid_completion_window"),
            ("completion_window", "8d", 400, "invalid_completion_window"),
            ("completion_window", "tomorrow", 400, "invalid_completion_window"),
            ("metadata", {"a": 1}, 400, "wrong_type"),
            ("metadata", {str(n): "" for n in range(17)}, 400, "too_long"),
            ("metadata", {"a": "\0"}, 400, "invalid_text"),
            ("webhook", "https://10.0.0.1/", 400, "address_not_allowed"),
            ("webhook", "https://a.example/#b", 400, "fragment_not_allowed"),
            ("webhook", f"https://a.example/{'a' * 2048}", 400, "too_long"),
            ("endpoint", "/v1/embeddings", 400, "invalid_value"),
            ("input_file_id", str(ids.new()), 400, "lines_twice"),
            ("colour", "red", 400, "unknown_field"),
        ]
    ],
]


async def test_what_is_wrong_is_refused_by_its_field_in_both_languages_and_leaves_nothing(
    settings: Settings, key: str, ground: Ground
) -> None:
    async with speaking(msgspec.structs.replace(settings, batch_bytes=100_000), key) as client:
        for (body, headers), status, name, field in WRONG:
            texts = set[str]()
            for language in ("ar", "en"):
                said = headers | {"Accept-Language": language}
                refused = await client.post("/v1/batches", content=body, headers=said)
                problem = refused.json()
                shown = problem.get("field", "").removesuffix(".a")
                assert (refused.status_code, problem["code"], shown or None) == (status, name, field), body[:200]
                texts.add(problem["detail"])
            assert len(texts) == 2
        for field, value, name in [
            ("mode", "some", "invalid_value"),
            ("completion_window", "1m", "invalid_completion_window"),
            ("metadata", "a=b", "wrong_type"),
            ("metadata", '{"a": 1}', "wrong_type"),
            ("webhook", "https://10.0.0.1/", "address_not_allowed"),
            ("input_file_id", str(ids.new()), "lines_twice"),
            ("colour", "red", "unknown_field"),
        ]:
            asked = await client.post("/v1/batches", params={field: value}, content=LINES, headers=JSONL)
            formed = await client.post("/v1/batches", data={field: value}, files={"file": ("a", LINES)})
            for refused in (asked, formed):
                assert (*code(refused), refused.json()["field"].removesuffix(".a")) == (400, name, field)
        named = await client.post("/v1/batches", data={"mode": "each"}, files={"lines": ("a", LINES)})
        assert (*code(named), named.json()["field"]) == (400, "missing_field", "file")
        assert (await client.get("/v1/batches")).json()["batches"] == []
        assert (await client.get("/v1/jobs")).json()["jobs"] == []
    assert await left_behind(ground) == []


async def test_a_large_batch_is_refused_for_its_first_member_before_the_rest_has_come(client: Client) -> None:
    reader, writer = await asyncio.open_connection(client.base_url.host, client.base_url.port)
    head = f"POST /v1/batches HTTP/1.1\r\nHost: x\r\nAuthorization: {client.headers['authorization']}\r\n"
    head += "Content-Type: application/json\r\nContent-Length: 99999\r\n\r\n"
    writer.write(head.encode() + b'{"mode": "some", "requests": [{"a": "' + b"x" * 5000)
    async with asyncio.timeout(10):
        assert b" 400 " in await reader.readline()
    writer.close()


async def test_two_accounts_never_see_each_others_batches(client: Client, other: Client, ground: Ground) -> None:
    mine, theirs = await hand_over(client), await hand_over(other)
    for each in (mine, theirs):
        await tell(ground, each, [told(1, "failed")], state="completed")
    for batch, stranger in ((mine, other), (theirs, client)):
        urls = batch["urls"]
        answers = [await stranger.get(urls[name]) for name in ("self", "results", "errors")]
        answers += [await stranger.get(urls["results"], params={"follow": "true"})]
        answers += [await stranger.post(urls[name]) for name in ("cancel", "retry")]
        assert {code(each) for each in answers} == {(404, "batch_not_found")}
        assert (await stranger.head(urls["results"])).status_code == 404
        assert (await stranger.get(f"/v1/jobs/{batch['job_id']}")).status_code == 404
    assert [each["id"] for each in (await client.get("/v1/batches")).json()["batches"]] == [mine["id"]]
    for name in ("", "/results", "/errors"):
        assert code(await client.get(f"/v1/batches/nothing{name}")) == (404, "batch_not_found")


async def test_batches_are_listed_newest_first_a_page_at_a_time_and_by_state(client: Client, ground: Ground) -> None:
    made = [(await hand_over(client))["id"] for _ in range(5)]
    first = (await client.get("/v1/batches?limit=3")).json()
    second = (await client.get(f"/v1/batches?limit=3&cursor={first['next_cursor']}")).json()
    assert [each["id"] for each in first["batches"] + second["batches"]] == made[::-1]
    assert second["next_cursor"] is None
    await tell(ground, {"id": made[2]}, [], state="completed")
    done = (await client.get("/v1/batches?state=completed")).json()["batches"]
    assert [each["id"] for each in done] == [made[2]]
    for query, name in [("state=lost", "state"), ("limit=0", "limit"), ("limit=101", "limit"), ("cursor=x", "cursor")]:
        refused = await client.get(f"/v1/batches?{query}")
        assert (refused.status_code, refused.json()["field"]) == (400, name)
    tag = (await client.get("/v1/batches")).headers["etag"]
    assert (await client.get("/v1/batches", headers={"If-None-Match": tag})).status_code == 304


async def test_the_counts_say_where_every_line_is(client: Client, ground: Ground) -> None:
    batch = await hand_over(client)
    async with ground.database.begin() as session:
        await session.execute(update(Batch).values(lines=10, drawn=5))
    await tell(ground, batch, [told(1), told(2, "failed"), told(3, "rejected")])
    counts = (await client.get(batch["urls"]["self"])).json()["counts"]
    ended = {"rejected": 1, "succeeded": 1, "failed": 1, "canceled": 0, "expired": 0}
    assert counts == {"lines": 10, "waiting": 4, "running": 3, **ended}
    # Cancelled lines that never were jobs are told first.
    await tell(ground, batch, [told(n, "canceled") for n in range(4, 8)], state="canceling")
    counts = (await client.get(batch["urls"]["self"])).json()["counts"]
    assert counts.pop("lines") == sum(counts.values()) == 10


async def test_a_batch_is_looked_at_again_cheaply_and_waited_for(client: Client, app: Litestar, ground: Ground) -> None:
    batch = await hand_over(client)
    path = batch["urls"]["self"]
    tag = (await client.get(path)).headers["etag"]
    known = {"If-None-Match": tag}
    assert (await client.get(path, headers=known)).status_code == 304
    async with asyncio.timeout(10):
        changed = asyncio.create_task(client.get(path, params={"wait": "30"}, headers=known))
        over = asyncio.create_task(client.get(path, params={"wait": "30"}))
        await asyncio.sleep(0.1)
        await tell(ground, batch, [told(1)])
        assert (await changed).json()["counts"]["succeeded"] == 1
        assert not over.done()
        await tell(ground, batch, [], state="completed")
        answer = await over
    assert (answer.json()["state"], "retry-after" in answer.headers) == ("completed", False)
    known = {"If-None-Match": answer.headers["etag"]}
    assert (await client.get(path, params={"wait": "30"}, headers=known)).status_code == 304, "nothing more will come"
    again = await hand_over(client)
    path = again["urls"]["self"]
    still = await client.get(path, params={"wait": "1"})
    assert (still.json()["state"], still.headers["retry-after"]) == ("validating", "2")
    assert code(await client.get(path, params={"wait": "soon"})) == (400, "invalid_wait")
    waiting = asyncio.create_task(client.get(path, params={"wait": "30"}))
    await asyncio.sleep(0.1)
    async with asyncio.timeout(5):
        app.state.hub.close()
        assert (await waiting).json()["state"] == "validating"


@pytest.mark.parametrize("state", ["validating", "running"])
async def test_a_batch_is_cancelled_once_and_one_that_is_over_stays_so(
    client: Client, ground: Ground, state: str
) -> None:
    batch = await hand_over(client)
    await tell(ground, batch, [], state=state)
    answer = await client.post(batch["urls"]["cancel"])
    canceled = answer.json()
    assert (answer.status_code, canceled["state"], canceled["cancel_requested"]) == (202, "canceling", True)
    assert (await client.post(batch["urls"]["cancel"])).json() == canceled
    over = await hand_over(client)
    await tell(ground, over, [], state="completed")
    answer = await client.post(over["urls"]["cancel"])
    assert (answer.status_code, answer.json()["state"]) == (202, "completed")
    assert answer.json()["cancel_requested"] is False


async def test_the_failed_lines_are_given_another_go_once(client: Client, ground: Ground, account: Account) -> None:
    batch = await hand_over(client, mode="all", completion_window="2h", metadata={"a": "b"})
    refused = await client.post(batch["urls"]["retry"])
    assert (*code(refused), refused.json()["state"]) == (409, "batch_not_over", "validating")
    await tell(ground, batch, [told(1), told(2, "rejected", is_kept=False)], state="completed")
    assert code(await client.post(batch["urls"]["retry"])) == (409, "nothing_to_retry")
    await tell(ground, batch, [told(3, "failed")], state="completed")
    async with ground.database.begin() as session:  # both have looked for the other go before one can be made
        lock = "SELECT pg_advisory_xact_lock(hashtextextended(CAST(:name AS text), 0))"
        await session.execute(text(lock), {"name": f"batches {account.id}"})
        calls = [asyncio.create_task(client.post(batch["urls"]["retry"])) for _ in range(2)]
        async with asyncio.timeout(10):
            while True:
                if await session.scalar(text("SELECT count(*) FROM pg_locks WHERE NOT granted")) == 2:
                    break
                await asyncio.sleep(0.01)
    at_once = await asyncio.gather(*calls)
    assert {each.status_code for each in at_once} == {202}
    assert sum("idempotent-replayed" in each.headers for each in at_once) == 1
    assert len({each.json()["id"] for each in at_once}) == 1
    again = at_once[0].json()
    assert (again["retry_of"], again["state"], again["mode"]) == (batch["id"], "validating", "all")
    assert (again["metadata"], again["input_file_id"]) == ({"a": "b"}, None)
    window = datetime.fromisoformat(again["expires_at"]) - datetime.fromisoformat(again["created_at"])
    assert window == timedelta(hours=2)
    assert (await client.get(f"/v1/jobs/{again['job_id']}")).json()["input"] == {"batch": again["id"]}
    named = await client.post(batch["urls"]["retry"], headers={"Idempotency-Key": "k-1"})
    assert named.json()["id"] == again["id"]
    other = await hand_over(client)
    await tell(ground, other, [told(1, "expired")], state="expired")
    reused = await client.post(other["urls"]["retry"], headers={"Idempotency-Key": "k-1"})
    assert code(reused) == (422, "idempotency_key_reused")


async def test_more_batches_than_may_be_unfinished_are_refused_and_leave_nothing(
    settings: Settings, key: str, ground: Ground
) -> None:
    async with speaking(msgspec.structs.replace(settings, account_batches=2), key) as client:
        first = await hand_over(client)
        body = {"requests": [element(1)]}
        both = await asyncio.gather(*(client.post("/v1/batches", json=body) for _ in range(3)))
        assert sorted(each.status_code for each in both) == [202, 429, 429], "none of several at once is one too many"
        refused = next(each for each in both if each.status_code == 429)
        assert (*code(refused), refused.json()["limit"]) == (429, "too_many_batches", 2)
        assert refused.headers["retry-after"]
        await tell(ground, first, [told(1, "failed")], state="failed")
        assert (await client.post("/v1/batches", json=body)).status_code == 202
        assert code(await client.post(first["urls"]["retry"])) == (429, "too_many_batches")
    assert len(await left_behind(ground)) == 3, "the lines of those that were made"


async def test_a_reading_that_was_not_submitted_is_submitted_by_the_tender_once(
    client: Client, ground: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def dies(*_: Any) -> None:
        """Stand for a process that ends before it has submitted the reading."""

    monkeypatch.setattr(intake, "read", dies)
    batch = await hand_over(client)
    monkeypatch.undo()
    reading = f"/v1/jobs/{batch['job_id']}"
    assert (await client.get(reading)).status_code == 404
    for _ in range(2):
        await intake.submit_unread(ground, Desk(ground))
    assert (await client.get(reading)).json()["input"] == {"batch": batch["id"]}
    assert len((await client.get("/v1/jobs")).json()["jobs"]) == 1


async def test_a_reading_cannot_be_submitted_by_a_caller(client: Client) -> None:
    answer = await client.post("/v1/jobs", json={"kind": "batch", "input": {"batch": str(ids.new())}})
    assert code(answer) == (400, "unknown_kind")


async def test_the_jobs_of_a_batch_are_listed_by_it(client: Client, ground: Ground, account: Account) -> None:
    batch, other = await hand_over(client), await hand_over(client)
    made = [ids.new() for _ in range(3)]
    async with ground.database.begin() as session:
        for job_id, owner in zip(made, (batch, other, batch), strict=True):
            spec = {"input": element(1)["input"]}
            session.add(Job(id=job_id, account_id=account.id, kind="chat", spec=spec, batch_id=UUID(owner["id"])))
    listed = (await client.get(batch["urls"]["jobs"])).json()["jobs"]
    assert [job["id"] for job in listed] == [str(made[2]), str(made[0])]
    assert {job["batch_id"] for job in listed} == {batch["id"]}
    page = (await client.get(batch["urls"]["jobs"], params={"batch": batch["id"], "limit": "1"})).json()
    assert page["next_cursor"] == str(made[2])
    assert (await client.get("/v1/jobs", params={"batch": str(ids.new())})).json()["jobs"] == []
    refused = await client.get("/v1/jobs", params={"batch": "x"})
    assert (*code(refused), refused.json()["field"]) == (400, "invalid_batch_id", "batch")


async def until_there_is(ground: Ground, *, something: bool) -> None:
    """Wait until something lies in quarantine, or nothing does."""
    while True:
        if bool(await left_behind(ground)) is something:
            return
        await asyncio.sleep(0.01)


async def test_an_upload_that_breaks_off_leaves_nothing(client: Client, ground: Ground) -> None:
    begun = asyncio.Event()

    async def half() -> AsyncGenerator[bytes]:
        for n in range(60):
            yield jsonl([element(n, "x" * 65_536)])
        begun.set()
        await asyncio.Event().wait()

    for headers in (JSONL, JSONL | {"Idempotency-Key": "k-1"}):
        begun.clear()
        upload = asyncio.create_task(client.post("/v1/batches", content=half(), headers=headers))
        await begun.wait()
        async with asyncio.timeout(10):
            await until_there_is(ground, something=True)
            upload.cancel()
            await asyncio.gather(upload, return_exceptions=True)
            await until_there_is(ground, something=False)
    async with ground.database.begin() as session:
        for table in ("batches", "idempotency_keys", "jobs"):
            assert await session.scalar(text(f"SELECT count(*) FROM {table}")) == 0
    assert (await client.post("/v1/batches", content=LINES, headers=headers)).status_code == 202


async def test_whatever_dies_while_lines_come_they_are_removed_when_it_is_time(client: Client, ground: Ground) -> None:
    batch = await hand_over(client)
    async with ground.database.begin() as session:
        assert await session.scalar(text("SELECT count(*) FROM discards")) == 0, "what is a batch's is needed"
        # As it stands where a process ends between the store and the batch.
        owner = await session.scalar(text("SELECT account_id FROM batches"))
        await session.execute(
            text("INSERT INTO discards (area, key, due, until) VALUES ('quarantine', :key, now(), now())"),
            {"key": f"{owner}/{batch['id']}"},
        )
        await session.execute(text("DELETE FROM batches"))
    await intake.tend(ground, Desk(ground))
    assert await left_behind(ground) == []


async def test_the_document_describes_the_routes(client: Client) -> None:
    paths = (await client.get("/docs/openapi.json")).json()["paths"]
    assert {path for path in paths if path.startswith("/v1/batches")} == {
        "/v1/batches",
        *(f"/v1/batches/{{id}}{name}" for name in ("", "/cancel", "/retry", "/results", "/errors")),
    }
    body = paths["/v1/batches"]["post"]["requestBody"]["content"]
    assert body.keys() == {"application/json", "application/jsonl", "multipart/form-data"}
    results = paths["/v1/batches/{id}/results"]["get"]
    assert results["responses"]["200"]["content"].keys() == {"application/x-ndjson"}
    assert {each["name"] for each in results["parameters"]} == {"id", "follow"}
