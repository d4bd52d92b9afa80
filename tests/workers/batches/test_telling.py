"""What is told of a line has the shape in which it was asked."""

import json
from typing import Any
from uuid import UUID

import msgspec
import pytest
from msgspec import Raw

from infra import ids
from infra.models import Batch
from workers.batches import telling
from workers.batches.results import Outcome

JOB = UUID("019a0000-0000-7000-8000-000000000001")
ERROR = {"code": "unknown_model", "en": "There is no such model.", "ar": "لا يوجد هذا النموذج.", "line": 3}
CHAT = {
    "text": "مرحبا",
    "model": "wire-1",
    "finish_reason": "stop",
    "usage": {"input_tokens": 3, "output_tokens": 2, "estimated": False},
}


def told(form: str, outcome: Outcome, **facts: Any) -> dict[str, Any]:
    """Return what is told of line 3."""
    line = telling.tell(3, "سطر", form, outcome, **facts)
    assert (line.line, line.outcome, line.is_kept) == (3, outcome, facts.get("is_kept", True))
    assert b"\n" not in line.told
    return json.loads(line.told)


def test_our_own_shape_tells_the_job_as_it_is() -> None:
    made = Raw(b'{"text": "a\\nb"}')
    done = told("own", "succeeded", kind="chat", job_id=JOB, result=made, charged={"chat_tokens": 5})
    assert done == {
        "custom_id": "سطر",
        "line": 3,
        "state": "succeeded",
        "kind": "chat",
        "job_id": str(JOB),
        "result": {"text": "a\nb"},
        "error": None,
        "charged": {"chat_tokens": 5},
    }
    refused = told("own", "rejected", error=ERROR, is_kept=False)
    assert (refused["state"], refused["error"], refused["job_id"], refused["charged"]) == ("rejected", ERROR, None, {})


def test_a_line_of_openai_s_is_told_as_openai_tells_it() -> None:
    done = told("openai", "succeeded", kind="chat", job_id=JOB, result=CHAT, charged={"chat_tokens": 5})
    name = f"batch_req_{JOB.hex}"
    assert (done["id"], done["custom_id"], done["error"], done["line"], done["state"]) == (
        name,
        "سطر",
        None,
        3,
        "succeeded",
    )
    assert (done["response"]["status_code"], done["response"]["request_id"]) == (200, name)
    body = done["response"]["body"]
    assert (body["object"], body["created"]) == ("chat.completion", int(ids.created(JOB).timestamp()))
    assert body["choices"][0]["message"]["content"] == "مرحبا"
    failed = told("openai", "failed", kind="chat", job_id=JOB, error=ERROR)
    assert failed["response"] is None
    assert failed["error"] == {"code": "unknown_model", "message": "There is no such model."}
    assert told("openai", "expired")["error"]["code"] == "batch_expired"
    assert told("openai", "canceled", job_id=JOB)["error"]["code"] == "batch_cancelled"


def test_what_is_no_chat_is_told_to_openai_s_readers_as_it_was_made() -> None:
    done = told("openai", "succeeded", kind="pair", job_id=JOB, result=Raw(b'{"pages": 2}'))
    assert done["response"]["body"] == {"pages": 2}


def test_a_line_of_anthropic_s_is_told_as_anthropic_tells_it() -> None:
    done = told("anthropic", "succeeded", kind="chat", job_id=JOB, result=Raw(json.dumps(CHAT).encode()))
    assert (done["custom_id"], done["line"], done["state"]) == ("سطر", 3, "succeeded")
    assert done["result"]["type"] == "succeeded"
    assert done["result"]["message"]["content"] == [{"type": "text", "text": "مرحبا"}]
    failed = told("anthropic", "failed", job_id=JOB, error=ERROR)["result"]
    said = {"type": "unknown_model", "message": "There is no such model."}
    assert failed == {"type": "errored", "error": {"type": "error", "error": said}}


@pytest.mark.parametrize("outcome", ["canceled", "expired"])
def test_anthropic_s_readers_are_told_no_more_of_a_line_that_was_no_job(outcome: Outcome) -> None:
    assert told("anthropic", outcome)["result"] == {"type": outcome}


def test_no_line_of_a_batch_that_is_over_waits() -> None:
    ended = {"rejected": 1, "succeeded": 0, "failed": 0, "canceled": 0, "expired": 0}
    batch = Batch(state="running", lines=3, drawn=1, **ended)
    assert telling.counts(batch) == {"lines": 3, "waiting": 1, "running": 1, **ended}
    batch.state = "failed"
    assert telling.counts(batch) == {"lines": 3, "waiting": 0, "running": 0, **ended}


@pytest.mark.parametrize("form", ["own", "openai", "anthropic"])
def test_a_line_is_one_line_however_a_reader_cuts_lines(form: str) -> None:
    separated = "a\u2028b\u2029c\x85d"
    made = Raw(msgspec.json.encode(CHAT | {"text": separated}))
    line = telling.tell(3, separated, form, "succeeded", kind="chat", job_id=JOB, result=made)
    assert len(line.told.decode().splitlines()) == 1
    assert json.dumps(json.loads(line.told)).count("a\\u2028b\\u2029c\\u0085d") == 2, "nothing else is changed"
