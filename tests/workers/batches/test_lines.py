"""A line is a request in one of three shapes, or it is refused for the one thing that is wrong with it."""

import json
from typing import Any
from uuid import UUID

import msgspec
import pytest

from infra.ground import Ground
from infra.models import Account
from infra.settings import Settings
from tests.support.lives import asking
from tests.support.readings import line
from workers import kinds, lifecycle
from workers.batches.lines import Line, Reader, Refusal, Waiting
from workers.lifecycle import Submission
from workers.request import Attached

SETTINGS = Settings(compatible_url="http://127.0.0.1:1/v1", compatible_models="wire-1", body_limit_bytes=2048)
PICTURE, OTHER = UUID(int=1), UUID(int=2)
FILES = {PICTURE: Attached(id=PICTURE, name="a.png", state="ready", media_type="image/png", size_bytes=10)}
ASKED: dict[str, Any] = {
    "messages": [{"role": "user", "content": "صف القمر"}],
    "max_output_tokens": 16,
    "model": "auto",
}
BODY: dict[str, Any] = {"messages": ASKED["messages"], "max_tokens": 16, "model": "auto"}
OWN: dict[str, Any] = line("طلب ١", "صف القمر")
OPENAI: dict[str, Any] = {"custom_id": "طلب ١", "method": "POST", "url": "/v1/chat/completions", "body": BODY}
JOBS: dict[str, Any] = {
    "custom_id": "طلب ١",
    "method": "POST",
    "url": "/v1/jobs",
    "body": {"kind": "chat", "input": ASKED},
}
ANTHROPIC: dict[str, Any] = {"custom_id": "طلب ١", "params": BODY}


def read(asked: Any, *, settings: Settings = SETTINGS, is_open: bool = False) -> Line | Refusal:
    """Read a line, JSON or bytes, as the seventh."""
    raw = asked if isinstance(asked, bytes) else json.dumps(asked, ensure_ascii=False).encode()
    reader = Reader(kinds.SPECS, asking(settings))
    found = reader.read(7, raw, is_open=is_open)
    return reader.finish(found, FILES) if isinstance(found, Waiting) else found


def refusal(asked: Any, **facts: Any) -> tuple[str | None, str, str]:
    """Return the custom_id, the code and the English reason for which a line is refused."""
    found = read(asked, **facts)
    assert isinstance(found, Refusal), found
    assert found.line == 7
    assert not found.is_kept
    assert found.error["ar"] != found.error["en"]
    assert "{" not in found.error["ar"] + found.error["en"]
    return found.custom_id, found.error["code"], found.error["en"]


@pytest.mark.parametrize(
    ("asked", "form"), [(OWN, "own"), (OPENAI, "openai"), (JOBS, "openai"), (ANTHROPIC, "anthropic")], ids=range(4)
)
def test_every_shape_says_the_same_and_is_resolved(asked: dict[str, Any], form: str) -> None:
    found = read(asked)
    assert isinstance(found, Line)
    assert (found.line, found.custom_id, found.form, found.kind) == (7, "طلب ١", form, "chat")
    spec = msgspec.json.decode(found.spec)
    routing = spec["input"].pop("routing")
    assert spec == {
        "kind": "chat",
        "input": {"messages": [{"role": "user", "content": "صف القمر"}], "model": "wire-1", "max_output_tokens": 16},
    }
    assert (routing["asked"], routing["chain"]) == ("auto", ["wire-1"])
    assert found.units == {"chat_tokens": 64 + 16 + len("صف القمر".encode()) + 16 * 5}
    assert (found.labels, found.timeout_s) == (None, None)


async def test_what_is_kept_of_a_line_is_what_a_job_keeps_of_the_same_request(ground: Ground, account: Account) -> None:
    asked = {"kind": "chat", "input": ASKED, "metadata": {"لون": "أزرق"}, "timeout": 60}
    request = msgspec.convert(asked, kinds.SPECS["chat"])
    ready = lifecycle.prepare(ground, Submission(account=account, request=request))
    found = Reader(kinds.SPECS, asking(ground.settings)).read(1, json.dumps({"custom_id": "a"} | asked).encode())
    assert isinstance(found, Line)
    assert msgspec.json.decode(found.spec) == ready.job.spec
    assert kinds.read(found.kind, msgspec.json.decode(found.spec)) == kinds.read("chat", ready.job.spec)
    assert found.labels is not None
    assert msgspec.json.decode(found.labels) == ready.job.labels == {"لون": "أزرق"}
    assert (found.timeout_s, found.units) == (ready.job.timeout_s, ready.most)


#: What is asked; its custom_id, the reason's code, and how the reason begins.
WRONG: list[tuple[dict[str, Any], str, str, str]] = [
    ({"custom_id": "a"}, "a", "missing_field", "kind is required."),
    (line("a") | {"kind": "song"}, "a", "unknown_kind", "kind: there is no kind 'song'; there are: chat."),
    (line("a") | {"kind": "scan"}, "a", "unknown_kind", "kind: there is no kind 'scan'; there are: chat."),
    (line("a") | {"x": 1}, "a", "unknown_field", "x: there is no such field."),
    (line("a") | {"input": {}}, "a", "missing_field", "input.messages is required."),
    (line("a") | {"timeout": 0}, "a", "out_of_range", "timeout must be >= 1."),
    (line("a") | {"metadata": {"k": 1}}, "a", "wrong_type", "metadata must be str."),
    (line("a", "س" * 300) | {"input": {"messages": [], "model": "x"}}, "a", "too_short", "input.messages"),
    (line("a") | {"input": ASKED | {"model": "gpt-9"}}, "a", "unknown_model", "input.model: there is no model"),
    *((line("a") | {name: None}, "a", "field_of_batch", name) for name in ("priority", "run_at", "webhook")),
    *((line("a") | {name: "x"}, "a", "field_of_batch", name) for name in ("start_deadline", "unique_key")),
    (OPENAI | {"method": "GET"}, "طلب ١", "invalid_value", "method: 'GET' is not one of the allowed values."),
    (OPENAI | {"url": "/v1/embeddings"}, "طلب ١", "invalid_value", "url: '/v1/embeddings' is not one"),
    (OPENAI | {"endpoint": 1}, "طلب ١", "unknown_field", "endpoint: there is no such field."),
    ({"custom_id": "a", "body": BODY}, "a", "missing_field", "method is required."),
    ({"custom_id": "a", "method": "POST", "url": "/v1/jobs"}, "a", "missing_field", "body is required."),
    (OPENAI | {"body": []}, "طلب ١", "wrong_type", "body must be object."),
    (OPENAI | {"body": BODY | {"n": 2}}, "طلب ١", "field_not_supported", "body.n: this is not supported"),
    (
        OPENAI | {"body": BODY | {"model": "gpt-9"}},
        "طلب ١",
        "unknown_model",
        "body.model: there is no model 'gpt-9'",
    ),
    (OPENAI | {"body": {"model": "auto"}}, "طلب ١", "missing_field", "body.messages is required."),
    (JOBS | {"body": {"kind": "song"}}, "طلب ١", "unknown_kind", "body.kind: there is no kind 'song'"),
    (JOBS | {"body": JOBS["body"] | {"run_at": 1}}, "طلب ١", "field_of_batch", "body.run_at cannot be chosen"),
    (
        JOBS | {"body": {"kind": "chat", "input": ASKED | {"model": "m"}}},
        "طلب ١",
        "unknown_model",
        "body.input.model",
    ),
    (ANTHROPIC | {"params": BODY | {"top_k": 1}}, "طلب ١", "field_not_supported", "params.top_k: this is"),
    (
        ANTHROPIC | {"params": BODY | {"model": "c"}},
        "طلب ١",
        "unknown_model",
        "params.model: there is no model 'c'",
    ),
    (ANTHROPIC | {"x": 1}, "طلب ١", "unknown_field", "x: there is no such field."),
]


@pytest.mark.parametrize(("asked", "custom_id", "code", "reason"), WRONG, ids=range(len(WRONG)))
def test_what_is_wrong_is_named_by_its_field(asked: Any, custom_id: str, code: str, reason: str) -> None:
    told = refusal(asked)
    assert told[:2] == (custom_id, code)
    assert told[2].startswith(reason), told[2]


@pytest.mark.parametrize(
    ("given", "told", "code"),
    [
        ({}, None, "missing_field"),
        ({"custom_id": None}, None, "wrong_type"),
        ({"custom_id": 5}, None, "wrong_type"),
        ({"custom_id": ""}, "", "too_short"),
        ({"custom_id": "س" * 257}, "س" * 256, "too_long"),
        ({"custom_id": "a\nb"}, "a\nb", "control_characters"),
        ({"custom_id": "a\u0085b"}, "a\u0085b", "control_characters"),
    ],
    ids=range(7),
)
def test_a_custom_id_has_to_be_given_and_to_be_one(given: dict[str, Any], told: str | None, code: str) -> None:
    for shape in (OWN, OPENAI, ANTHROPIC):
        without = {name: it for name, it in shape.items() if name != "custom_id"}
        assert refusal(without | given)[:2] == (told, code)


def test_a_custom_id_may_be_long_and_in_any_script() -> None:
    for custom_id in ("س" * 256, "🌙 ليلة-٢", "a" * 256):
        assert isinstance(read(line(custom_id)), Line)


@pytest.mark.parametrize(
    ("raw", "code", "reason"),
    [
        (b"hello", "malformed_json", "This is not valid JSON in UTF-8."),
        (b"{}{}", "malformed_json", "This is not valid JSON in UTF-8."),
        (b"{'a': 1}", "malformed_json", "This is not valid JSON in UTF-8."),
        (b'{"custom_id": "a", "kind": "chat", "input": ' + b"[" * 900, "malformed_json", "This is not valid"),
        (b"[" * 900 + b"]" * 900, "line_not_an_object", "The line must be one JSON object."),
        (b'{"kind":' * 200 + b"1" + b"}" * 200, "missing_field", "custom_id is required."),
        (b'["custom_id"]', "line_not_an_object", "The line must be one JSON object."),
        (b'"a"', "line_not_an_object", "The line must be one JSON object."),
        (b"null", "line_not_an_object", "The line must be one JSON object."),
        (b'{"custom_id": "a\xff"}', "line_not_utf8", "The line is not valid UTF-8 at byte 16, counted from 0."),
        (b'{"custom_id": "\xd9', "line_not_utf8", "The line is not valid UTF-8 at byte 15, counted from 0."),
        ("سلام".encode("utf-16"), "line_not_utf8", "The line is not valid UTF-8 at byte 0, counted from 0."),
        (b'{"custom_id": "a\0b"}', "line_has_nul", "The line has a NUL (U+0000) at byte 16, counted from 0."),
        (b" " * 2049, "line_too_long", "The line has more than 2048 bytes."),
    ],
    ids=range(14),
)
def test_what_is_no_object_in_json_is_told_exactly(raw: bytes, code: str, reason: str) -> None:
    told = refusal(raw)
    assert told[1] == code
    assert told[2].startswith(reason)


@pytest.mark.parametrize(
    ("content", "code", "reason"),
    [
        ("a\\u0000b", "invalid_text", "input.messages[0].content: the text has a character that cannot be kept"),
        ("a\\ud800b", "invalid_text", "input.messages[0].content: the text has a character that cannot be kept"),
    ],
)
def test_what_cannot_be_kept_is_told_by_its_field(content: str, code: str, reason: str) -> None:
    raw = json.dumps(line("a", "@")).replace("@", content).encode()
    told = refusal(raw)
    assert told[1] == code
    assert told[2].startswith(reason)


@pytest.mark.parametrize("raw", [b'"\\ud800"', b'["\\ud800"]', b'{"custom_id": ["\\ud800"]}'])
def test_half_of_a_pair_is_refused_wherever_it_stands(raw: bytes) -> None:
    assert refusal(raw)[0] is None


def test_a_last_line_that_breaks_off_was_cut_short() -> None:
    whole = json.dumps(OWN, ensure_ascii=False).encode()
    for length in range(1, len(whole)):
        assert refusal(whole[:length], is_open=True)[1] == "line_cut_short", whole[:length]
    assert isinstance(read(whole, is_open=True), Line)
    assert refusal(whole[:50])[1] != "line_cut_short", "one in the middle is malformed"
    assert refusal(b"hello", is_open=True)[1] == "malformed_json", "nothing that follows would mend it"


def test_a_line_may_be_as_long_as_a_body_to_the_byte() -> None:
    whole = json.dumps(line("a", "@"), ensure_ascii=False).encode()
    fitting = whole.replace(b"@", b"x" * (2048 - len(whole) + 1))
    assert len(fitting) == 2048
    assert isinstance(read(fitting), Line)
    assert refusal(fitting.replace(b"xx", b"xxx", 1))[1] == "line_too_long"


def seen(file_id: UUID) -> dict[str, list[dict[str, Any]]]:
    """Return, by the shape, what a user says who shows a file."""
    text = {"type": "text", "text": "صف هذه"}
    return {
        "own": [text, {"type": "image", "file_id": str(file_id)}],
        "openai": [text, {"type": "file", "file": {"file_id": str(file_id)}}],
        "anthropic": [text, {"type": "image", "source": {"type": "file", "file_id": str(file_id)}}],
    }


def showing(form: str, file_id: UUID) -> dict[str, Any]:
    """Return a line of a shape that shows a file."""
    messages = [{"role": "user", "content": seen(file_id)[form]}]
    if form == "own":
        return {"custom_id": "a", "kind": "chat", "input": {"messages": messages}}
    body = {"model": "auto", "max_tokens": 16, "messages": messages}
    if form == "anthropic":
        return {"custom_id": "a", "params": body | {"system": "أجب بإيجاز."}}
    return {"custom_id": "a", "method": "POST", "url": "/v1/chat/completions", "body": body}


def test_a_line_that_names_files_waits_for_them_and_holds_them() -> None:
    raw = json.dumps(showing("own", PICTURE)).encode()
    waiting = Reader(kinds.SPECS, asking(SETTINGS)).read(1, raw)
    assert isinstance(waiting, Waiting)
    assert list(waiting.request.file_ids()) == [PICTURE]
    plain = read(ASKED_ALONE)
    for form in ("own", "anthropic"):
        found = read(showing(form, PICTURE))
        assert isinstance(found, Line), found
        assert isinstance(plain, Line)
        assert found.units["chat_tokens"] > plain.units["chat_tokens"] + 1_000, "a picture is some thousand tokens"


ASKED_ALONE = {"custom_id": "a", "kind": "chat", "input": ASKED}


@pytest.mark.parametrize(
    ("form", "field"),
    [
        ("own", "input.messages[0].content[1].file_id"),
        ("openai", "body.messages[0].content[1].file_id"),
        ("anthropic", "params.messages[0].content[1].file_id"),
    ],
)
def test_a_file_that_is_not_the_account_s_refuses_its_line_where_it_stands(form: str, field: str) -> None:
    custom_id, code, reason = refusal(showing(form, OTHER))
    assert (custom_id, code) == ("a", "attachment_not_found")
    assert reason.startswith(f"{field}: ")


def test_tools_and_forms_of_others_are_lines_too() -> None:
    schema = {"type": "object"}
    tool = {"type": "function", "function": {"name": "weather", "parameters": schema}}
    form = {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema}}
    found = read(OPENAI | {"body": BODY | {"tools": [tool], "response_format": form}})
    assert isinstance(found, Line), found
    kept = msgspec.json.decode(found.spec)["input"]
    assert (kept["tools"][0]["name"], kept["format"]["schema"]) == ("weather", schema)
    wrong = {"type": "function", "function": {"name": "weather", "parameters": {"type": "string"}}}
    _, code, reason = refusal(OPENAI | {"body": BODY | {"tools": [wrong]}})
    assert (code, reason.partition(" ")[0]) == ("invalid_schema", "body.tools[0].parameters.type")


@pytest.mark.parametrize("asked", [OPENAI, JOBS, ANTHROPIC], ids=range(3))
@pytest.mark.parametrize(
    ("model", "apart"), [("gpt-6-luna", "gpt-6-luna"), ("claude-haiku-5-5", "claude-haiku-5-5"), ("wire-1", None)]
)
def test_a_line_may_go_to_its_vendors_batches_where_the_caller_allows_it(
    asked: dict[str, Any], model: str, apart: str | None
) -> None:
    settings = msgspec.structs.replace(SETTINGS, openai_api_key="k", anthropic_api_key="k")
    raw = json.dumps(asked).replace('"auto"', f'"{model}"').encode()
    for economy in (True, False):
        found = Reader(kinds.SPECS, asking(settings), economy=economy).read(1, raw)
        assert isinstance(found, Line)
        assert found.model == (apart if economy else None)


@pytest.mark.parametrize("needy", ["tools", "picture", "form", "moderation"])
def test_what_a_vendors_batch_is_not_asked_runs_in_our_pools(needy: str) -> None:
    settings = msgspec.structs.replace(SETTINGS, openai_api_key="k")
    chat: dict[str, Any] = {"model": "gpt-6-luna", "messages": [{"role": "user", "content": "مرحبا"}]}
    match needy:
        case "tools":
            chat["tools"] = [{"name": "weather"}]
        case "picture":
            picture = {"type": "image", "data": "iVBORw0KGgoAAAAAAAAAAA==", "media_type": "image/png"}
            chat["messages"][0]["content"] = [picture]
        case "form":
            chat["format"] = {"type": "json_schema", "name": "answer", "schema": {"type": "object"}}
        case _:
            settings = msgspec.structs.replace(settings, moderation="openai")
    raw = json.dumps({"custom_id": "a", "kind": "chat", "input": chat}).encode()
    found = Reader(kinds.SPECS, asking(settings), economy=True).read(1, raw)
    assert isinstance(found, Line), found
    assert found.model is None
