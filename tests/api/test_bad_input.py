"""What is wrong with a request is told by code, status and field, in both languages, and costs nothing."""

import json
from typing import Any

import msgspec
import pytest

from api.app import create_app
from infra.ground import Ground
from infra.models import Account
from infra.settings import Settings
from tests.support.books import assert_even, balance_of
from tests.support.chats import Client, chat, submit
from tests.support.serving import serving

FIRST = {"role": "user", "content": "hi"}


def raw(text: str) -> bytes:
    """Return a chat request whose message is the JSON string `text`."""
    return b'{"kind":"chat","input":{"messages":[{"role":"user","content":"%s"}]}}' % text.encode()


WRONG: list[tuple[str, Any, int, str, str | None]] = [
    ("no JSON", b"{", 400, "malformed_json", None),
    ("nothing", b"", 400, "malformed_json", None),
    ("not UTF-8", raw("x").replace(b"x", b"\xff"), 400, "malformed_json", None),
    ("a list", [], 400, "wrong_type", "body"),
    ("no kind", {"input": {}}, 400, "missing_field", "kind"),
    ("unknown kind", {"kind": "poem", "input": {}}, 400, "unknown_kind", "kind"),
    ("kind of a wrong type", {"kind": 7}, 400, "wrong_type", "kind"),
    ("no input", {"kind": "chat"}, 400, "missing_field", "input"),
    ("unknown field", chat("hi") | {"colour": "red"}, 400, "unknown_field", "colour"),
    ("unknown field below", chat("hi", colour="red"), 400, "unknown_field", "input.colour"),
    (
        "unknown field in a message",
        {"kind": "chat", "input": {"messages": [FIRST | {"name": "x"}]}},
        400,
        "unknown_field",
        "input.messages[0].name",
    ),
    ("wrong type", {"kind": "chat", "input": {"messages": "hi"}}, 400, "wrong_type", "input.messages"),
    ("a number as text", chat("hi", max_output_tokens="9"), 400, "wrong_type", "input.max_output_tokens"),
    ("no messages", chat(), 400, "too_short", "input.messages"),
    ("too many messages", chat(*["hi"] * 257), 400, "too_long", "input.messages"),
    ("an empty message", chat("hi", ""), 400, "too_short", "input.messages[1].content"),
    ("a message too long", chat("x" * 200_001), 400, "too_long", "input.messages[0].content"),
    (
        "an unknown role",
        {"kind": "chat", "input": {"messages": [FIRST | {"role": "king"}]}},
        400,
        "invalid_value",
        "input.messages[0].role",
    ),
    ("too hot", chat("hi", temperature=2.5), 400, "out_of_range", "input.temperature"),
    ("no output", chat("hi", max_output_tokens=0), 400, "out_of_range", "input.max_output_tokens"),
    ("a moment without an offset", chat("hi") | {"run_at": "2026-12-01T06:00:00"}, 400, "invalid_moment", "run_at"),
    ("no moment", chat("hi") | {"run_at": "tomorrow"}, 400, "invalid_moment", "run_at"),
    ("too far away", chat("hi") | {"run_at": "2099-01-01T00:00:00Z"}, 400, "moment_too_late", "run_at"),
    ("a year beyond all", chat("hi") | {"run_at": "9999-12-31T23:59:59-12:00"}, 400, "moment_too_late", "run_at"),
    (
        "a deadline gone by",
        chat("hi") | {"start_deadline": "2020-01-01T00:00:00Z"},
        400,
        "start_deadline_too_early",
        "start_deadline",
    ),
    ("an empty unique key", chat("hi") | {"unique_key": ""}, 400, "too_short", "unique_key"),
    ("an unknown priority", chat("hi") | {"priority": "urgent"}, 400, "invalid_value", "priority"),
    ("unknown model", chat("hi", model="gpt-99"), 400, "unknown_model", "input.model"),
    ("NUL", raw("a\\u0000b"), 400, "invalid_text", "input.messages[0].content"),
    ("a lone surrogate", raw("a\\ud800b"), 400, "invalid_text", "input.messages[0].content"),
    ("a lone low surrogate", raw("\\udc00"), 400, "invalid_text", "input.messages[0].content"),
    ("NUL in a key", raw("x").replace(b'"input"', b'"\\u0000":1,"input"'), 400, "unknown_field", "\x00"),
    ("too much metadata", chat("hi") | {"metadata": {str(n): "" for n in range(17)}}, 400, "too_long", "metadata"),
    ("metadata of a wrong type", chat("hi") | {"metadata": {"a": 1}}, 400, "wrong_type", "metadata"),
    ("a long metadata value", chat("hi") | {"metadata": {"a": "ع" * 513}}, 400, "too_long", "metadata"),
    ("an empty metadata key", chat("hi") | {"metadata": {"": "a"}}, 400, "too_short", "metadata"),
    ("no time", chat("hi") | {"timeout": 0}, 400, "out_of_range", "timeout"),
    ("more than a day", chat("hi") | {"timeout": 86_401}, 400, "out_of_range", "timeout"),
    ("a time with a fraction", chat("hi") | {"timeout": 1.5}, 400, "wrong_type", "timeout"),
    ("a long webhook", chat("hi") | {"webhook": f"https://a.example/{'a' * 2048}"}, 400, "too_long", "webhook"),
    ("a webhook inside", chat("hi") | {"webhook": "https://10.0.0.1/"}, 400, "address_not_allowed", "webhook"),
    ("half a webhook", chat("hi") | {"webhook": "https://a.example/#b"}, 400, "fragment_not_allowed", "webhook"),
    ("a long metadata key", chat("hi") | {"metadata": {"k" * 65: ""}}, 400, "too_long", "metadata"),
    ("a body too large", raw("x" * 1_100_000), 413, "body_too_large", None),
]


@pytest.mark.parametrize(("request_", "status", "code", "field"), [w[1:] for w in WRONG], ids=[w[0] for w in WRONG])
async def test_a_wrong_request_is_refused_by_its_field_before_it_costs_anything(
    client: Client, ground: Ground, account: Account, request_: Any, status: int, code: str, field: str | None
) -> None:
    body = request_ if isinstance(request_, bytes) else json.dumps(request_).encode()
    told = dict[str, str]()
    for language in ("en", "ar"):
        headers = {"Content-Type": "application/json", "Accept-Language": language}
        answer = await client.post("/v1/jobs", content=body, headers=headers)
        problem = answer.json()
        assert (answer.status_code, problem["code"], problem.get("field")) == (status, code, field)
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.headers["content-language"] == language
        assert problem["type"] == f"urn:pulse:problem:{code}"
        told[language] = problem["detail"]
        if field:
            assert field.replace("body", "") in problem["detail"]
    assert any("\u0600" <= letter <= "\u06ff" for letter in told["ar"])
    assert not any("\u0600" <= letter <= "\u06ff" for letter in told["en"])
    balance = await balance_of(ground, account)
    assert (balance.held, balance.used) == (0, 0)
    assert (await client.get("/v1/jobs")).json()["jobs"] == []
    await assert_even(ground)


async def test_an_escaped_backslash_before_u0000_is_plain_text(client: Client) -> None:
    answer = await client.post("/v1/jobs", content=raw("a\\\\u0000b"), headers={"Content-Type": "application/json"})
    assert answer.status_code == 202
    assert answer.json()["job"]["input"]["messages"][0]["content"] == "a\\u0000b"


async def test_text_outside_the_basic_plane_and_with_diacritics_is_kept_as_it_came(client: Client) -> None:
    text = "السَّلامُ عليكُم 👩🏽\u200d💻 \u200f(RTL)\u200e ﷽"
    job = await submit(client, chat(text))
    shown = (await client.get(job["urls"]["self"])).json()
    assert shown["input"]["messages"][0]["content"] == text


async def test_a_form_is_not_json(client: Client) -> None:
    answer = await client.post("/v1/jobs", data={"kind": "chat"})
    assert (answer.status_code, answer.json()["code"]) == (415, "unsupported_media_type")


@pytest.mark.parametrize(
    ("header", "status", "code"),
    [
        (None, 401, "missing_api_key"),
        ("Basic eDp5", 401, "missing_api_key"),
        ("Bearer nonsense", 401, "invalid_api_key"),
        ("Bearer pulse_" + "0" * 42, 401, "invalid_api_key"),
        ("Bearer pulse_\u0661" + "0" * 41, 401, "invalid_api_key"),
    ],
)
async def test_without_a_valid_key_nothing_is_answered(
    client: Client, header: str | None, status: int, code: str
) -> None:
    del client.headers["Authorization"]
    headers = {b"Authorization": header.encode()} if header else {}
    # A wrong body and a wrong key: the key is what is told.
    answer = await client.post("/v1/jobs", json={"kind": "poem"}, headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert answer.headers["www-authenticate"].startswith("Bearer")


@pytest.mark.parametrize("last_seen", ["x", "1", "1-", "-1", "1-2-3", "1--2", "9" * 30 + "-1", "1-2\u0661"])
async def test_a_broken_last_event_id_is_refused(client: Client, last_seen: str) -> None:
    job = await submit(client)
    by_header = await client.get(job["urls"]["events"], headers={b"Last-Event-ID": last_seen.encode()})
    by_query = await client.get(job["urls"]["events"], params={"after": last_seen})
    for answer, field in ((by_header, "Last-Event-ID"), (by_query, "after")):
        problem = answer.json()
        assert (answer.status_code, problem["code"], problem["field"]) == (400, "invalid_event_id", field)


@pytest.mark.parametrize(
    ("query", "code", "field"),
    [
        ("cursor=x", "invalid_cursor", "cursor"),
        ("limit=0", "invalid_limit", "limit"),
        ("limit=x", "invalid_limit", "limit"),
        ("state=lost", "invalid_state", "state"),
    ],
)
async def test_a_broken_page_is_refused(client: Client, query: str, code: str, field: str) -> None:
    problem = (await client.get(f"/v1/jobs?{query}")).json()
    assert (problem["status"], problem["code"], problem["field"]) == (400, code, field)


@pytest.mark.parametrize("name", ["", "x" * 256, "a\u00e9"])
async def test_a_broken_idempotency_key_is_refused(client: Client, name: str) -> None:
    answer = await client.post("/v1/jobs", json=chat("hi"), headers={b"Idempotency-Key": name.encode()})
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid_idempotency_key")


async def test_an_unknown_address_method_and_job_are_told_apart(client: Client) -> None:
    assert (await client.get("/v1/nothing")).json()["code"] == "no_such_route"
    assert (await client.delete("/v1/jobs")).json()["code"] == "method_not_allowed"
    assert (await client.get("/v1/jobs/nothing")).json()["code"] == "job_not_found"
    assert (await client.get("/v1/jobs/01a20721-c5bf-74af-bffc-60491c094db7")).json()["code"] == "job_not_found"


@pytest.mark.parametrize(
    ("header", "language"),
    [("", "en"), ("ar", "ar"), ("ar-EG", "ar"), ("fr, ar;q=0.5", "ar"), ("en;q=0.2, ar;q=0.9", "ar"), ("*;q=x", "en")],
)
async def test_accept_language_chooses_the_language(client: Client, header: str, language: str) -> None:
    answer = await client.get("/v1/jobs/nothing", headers={"Accept-Language": header})
    assert answer.headers["content-language"] == language


async def test_a_database_that_is_away_is_a_503_that_says_when_to_come_back(settings: Settings, key: str) -> None:
    away = msgspec.structs.replace(settings, database_url="postgresql://nobody@127.0.0.1:1/none")
    headers = {"Authorization": f"Bearer {key}"}
    async with serving(create_app(away)) as url, Client(base_url=url, headers=headers) as client:
        answer = await client.post("/v1/jobs", json=chat("hi"))
        assert (answer.status_code, answer.json()["code"]) == (503, "database_unavailable")
        assert answer.headers["retry-after"] == "2"
        assert (await client.get("/readyz")).json()["code"] == "database_unavailable"
        assert (await client.get("/healthz")).status_code == 200


async def test_a_redis_that_is_away_is_told_by_readyz_while_jobs_are_still_admitted(
    settings: Settings, key: str, ground: Ground, account: Account
) -> None:
    away = msgspec.structs.replace(settings, redis_url="redis://127.0.0.1:1")
    headers = {"Authorization": f"Bearer {key}"}
    async with serving(create_app(away)) as url, Client(base_url=url, headers=headers, timeout=30) as client:
        assert (await client.get("/readyz")).json()["code"] == "redis_unavailable"
        job = await submit(client)
    assert job["state"] == "queued"
    assert (await balance_of(ground, account)).held > 0
