"""`pulse webhooks`: addresses that are told of events, what verifies that, and how it was delivered."""

import json
from typing import Any

import pytest

from tests.scripts.conftest import Pulse
from tests.scripts.stand_in import PROBLEM, Refusal, StandIn

ID = "01a20000-0000-7000-8000-000000000007"
BASE = f"/v1/webhooks/{ID}"


def endpoint(**facts: Any) -> dict[str, Any]:
    """Return an endpoint as the API shows it."""
    plain = {
        "id": ID,
        "url": "https://example.com/hook",
        "events": ["job.*", "batch.completed"],
        "description": "",
        "signature": "hmac",
        "enabled": True,
        "disabled": None,
        "failing_since": None,
        "paused_until": None,
        "created_at": "2026-11-26T06:00:00Z",
        "urls": {"self": BASE},
    }
    return {**plain, **facts}


def delivery(**facts: Any) -> dict[str, Any]:
    """Return a delivery as the API shows it."""
    plain = {
        "id": ID,
        "message": "msg_01a2075b24bc7086a60afa7cb0b60f29",
        "type": "job.succeeded",
        "endpoint_id": ID,
        "url": "https://example.com/hook",
        "state": "pending",
        "tries": 3,
        "status": 503,
        "next_at": "2126-11-26T06:00:00Z",
        "replay_of": None,
        "created_at": "2026-11-26T06:00:00Z",
        "finished_at": None,
    }
    return {**plain, **facts}


def test_endpoints_are_listed_with_what_is_wrong_with_them(pulse: Pulse, api: StandIn) -> None:
    gone = {"at": "2026-11-26T06:00:00Z", "code": "gone", "detail": "It answered 410."}
    since = "2026-11-26T06:00:00Z"
    listed = [
        endpoint(),
        endpoint(disabled=gone),
        endpoint(failing_since=since, paused_until=since),
        endpoint(paused_until=since),
    ]
    api.answers["/v1/webhooks?limit=20"] = {"webhooks": listed, "next_cursor": "c1"}
    done = pulse("webhooks")
    rows = [row.split() for row in done.stdout.splitlines()[1:]]
    assert rows[0] == [ID, "ok", "job.*", "batch.completed", "https://example.com/hook"]
    assert [row[1] for row in rows] == ["ok", "gone", "unreached", "paused"]
    assert done.stderr == "more: pulse webhooks list --limit 20 --cursor c1\n"
    assert json.loads(pulse("webhooks", "--json").stdout)["webhooks"] == listed


@pytest.mark.parametrize("key", [{"secret": "whsec_x", "public_key": None}, {"secret": None, "public_key": "whsec_x"}])
def test_an_endpoint_is_added_once_and_what_verifies_it_printed(
    pulse: Pulse, api: StandIn, key: dict[str, Any]
) -> None:
    api.answers["/v1/webhooks"] = endpoint(**key)
    api.refusals = [Refusal("drop")]
    done = pulse("webhooks", "add", "https://example.com/hook")
    assert done.stdout == f"{ID}\nwhsec_x\n"
    assert api.calls[-1].body == {"url": "https://example.com/hook", "events": ["*"]}
    first, second = (call.headers["idempotency-key"] for call in api.calls)
    assert first == second
    given = ["--event", "job.*", "--event", "batch.failed", "--signature", "ed25519", "--description", "بحر"]
    assert json.loads(pulse("webhooks", "add", "https://x.example", *given, "--json").stdout)["id"] == ID
    assert api.calls[-1].body == {
        "url": "https://x.example",
        "events": ["job.*", "batch.failed"],
        "signature": "ed25519",
        "description": "بحر",
    }


def test_an_endpoint_is_tried_out_rotated_and_removed(pulse: Pulse, api: StandIn) -> None:
    api.answers[f"{BASE}/test"] = {"message": "msg_7", "type": "webhook.test", "deliveries": "/v1/webhooks"}
    assert pulse("webhooks", "test", ID).stdout == "msg_7\n"
    fresh = {"signature": "hmac", "secret": "whsec_y", "public_key": None, "created_at": "", "expires_at": None}
    api.answers[f"{BASE}/rotate"] = {"secret": fresh, "old_until": "2026-11-27T06:00:00Z"}
    assert pulse("webhooks", "rotate", ID, "--overlap", "2h").stdout == "whsec_y\n"
    assert api.calls[-1].body == {"overlap": "2h"}
    assert pulse("webhooks", "rotate", ID).stdout == "whsec_y\n"
    assert api.calls[-1].body is None
    api.answers[BASE] = {}
    assert pulse("webhooks", "rm", ID).stdout == ""
    assert (api.calls[-1].method, api.calls[-1].path) == ("DELETE", BASE)
    assert json.loads(pulse("webhooks", "rm", ID, "--json").stdout) == {"id": ID, "deleted": True}


def test_deliveries_are_listed_and_sent_again(pulse: Pulse, api: StandIn) -> None:
    page = {"deliveries": [delivery(), delivery(state="delivered", status=200, next_at=None)], "next_cursor": "c1"}
    api.answers[f"{BASE}/deliveries?state=failed&limit=5"] = page
    api.answers["/v1/webhooks/deliveries?limit=20"] = {**page, "next_cursor": None}
    done = pulse("webhooks", "deliveries", ID, "--state", "failed", "--limit", "5")
    waits, taken = (row.split() for row in done.stdout.splitlines()[1:])
    assert waits[:5] == [ID, "pending", "job.succeeded", "3", "503"]
    assert taken[1:5] == ["delivered", "job.succeeded", "3", "200"]
    assert done.stderr == f"more: pulse webhooks deliveries {ID} --state failed --limit 5 --cursor c1\n"
    assert json.loads(pulse("webhooks", "deliveries", "--json").stdout)["deliveries"] == page["deliveries"]
    api.answers[f"/v1/webhooks/deliveries/{ID}/replay"] = delivery()
    assert pulse("webhooks", "replay", ID).stdout == f"{ID}\n"


def test_a_refusal_is_told_in_the_persons_language(pulse: Pulse, api: StandIn) -> None:
    api.refusals = [Refusal(400, PROBLEM)]
    done = pulse("webhooks", "add", "nowhere", LANG="ar_EG.UTF-8")
    assert (done.exit_code, done.stderr) == (1, "لا يتبقى ما يكفي.\n  code quota_exceeded, field input.messages\n")
