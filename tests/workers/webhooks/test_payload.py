"""What is told is small, whatever an account's labels and our errors say."""

import json
from datetime import datetime, timedelta, timezone
from typing import Any

from infra import ids
from workers.webhooks import payload

AT = datetime(2026, 11, 26, 15, 30, 1, 250_000, tzinfo=timezone(timedelta(hours=3)))


def test_a_payload_has_a_type_a_time_in_utc_and_data_as_it_is() -> None:
    data = {"id": "a", "metadata": {"ك": "ق" * 500}, "charged": {}}
    told = payload.body("job.failed", AT, data)
    assert json.loads(told) == {"type": "job.failed", "timestamp": "2026-11-26T12:30:01.250000Z", "data": data}


def test_the_longest_labels_and_texts_are_cut_and_ids_and_addresses_are_not() -> None:
    job_id = ids.new()
    labels = {f"{n:02}" + "😀" * 62: "😀" * 512 for n in range(16)}
    error: dict[str, Any] = {"code": "x", "en": "e" * 30_000, "ar": "ع" * 30_000, "more": [{"deep": "d" * 9_000}, 1]}
    row = {"kind": "chat", "labels": labels, "error": error, "charged": {"chat_tokens": 5}}
    told = payload.body("job.failed", AT, payload.of_job(job_id, "failed", row))
    assert len(told.encode()) <= 20_000
    data = json.loads(told)["data"]
    assert (data["id"], data["url"], data["charged"]) == (str(job_id), f"/v1/jobs/{job_id}", {"chat_tokens": 5})
    assert data["metadata"].keys() == labels.keys()
    assert all(value.endswith("…") and labels[key].startswith(value[:-1]) for key, value in data["metadata"].items())
    assert data["error"]["ar"].endswith("…")
    assert data["error"]["more"][1] == 1


def test_no_more_is_cut_than_has_to_be() -> None:
    row = {"labels": {"a": "ق" * 500}, "error": {"code": "x", "en": "e" * 30_000, "ar": ""}}
    data = json.loads(payload.body("job.failed", AT, payload.of_job(ids.new(), "failed", row)))["data"]
    assert data["metadata"] == row["labels"]
    assert len(data["error"]["en"]) == 2_000


def test_of_a_job_whose_row_is_gone_there_is_still_its_id_and_state() -> None:
    job_id = ids.new()
    told = payload.of_job(job_id, "succeeded", None)
    assert (told["id"], told["state"], told["kind"], told["metadata"]) == (str(job_id), "succeeded", None, {})
