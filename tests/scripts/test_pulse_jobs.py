"""`pulse jobs`, its `--json`, and the place that the command finds the studio at."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pytest

from infra.settings import InvalidSetting, Settings
from scripts.pulse import place
from tests.scripts.conftest import Pulse
from tests.scripts.stand_in import ANSWER, JOB_ID, PROBLEM, Refusal, StandIn, job

OTHER_ID = "01a20000-0000-7000-8000-000000000002"


def some_jobs() -> list[dict[str, object]]:
    """Return a job that is over and one that waits."""
    now = datetime.now(UTC)
    over = job(
        state="succeeded",
        attempt=1,
        created_at=(now - timedelta(hours=3)).isoformat(),
        started_at=(now - timedelta(hours=3)).isoformat(),
        finished_at=(now - timedelta(hours=3) + timedelta(seconds=2.5)).isoformat(),
        charged={"chat_tokens": 1234},
        result={"text": "Hello\nfrom the sea"},
    )
    return [over, job(id=OTHER_ID, created_at=(now - timedelta(seconds=30)).isoformat())]


def words(text: str) -> list[list[str]]:
    """Return the words of each line."""
    return [line.split() for line in text.splitlines()]


@pytest.mark.parametrize("arguments", [["jobs"], ["jobs", "list"], ["jobs", "--limit", "20"]])
def test_the_list_tells_what_became_of_each_job(pulse: Pulse, api: StandIn, arguments: list[str]) -> None:
    api.answers["/v1/jobs?limit=20"] = {"jobs": some_jobs(), "next_cursor": OTHER_ID}
    done = pulse(*arguments)
    assert words(done.stdout) == [
        ["id", "kind", "state", "age", "took", "units"],
        [JOB_ID, "chat", "succeeded", "3", "h", "2.5", "s", "1,234"],
        [OTHER_ID, "chat", "queued", "30", "s"],
    ]
    assert done.stderr == f"more: pulse jobs list --cursor {OTHER_ID}\n"


def test_the_list_for_a_program_is_the_answer_of_the_api(pulse: Pulse, api: StandIn) -> None:
    page = {"jobs": some_jobs(), "next_cursor": None}
    api.answers["/v1/jobs?limit=7&cursor=a%26b"] = page
    done = pulse("jobs", "--limit", "7", "--cursor", "a&b", "--json")
    assert (json.loads(done.stdout), done.stderr) == (page, "")


def test_one_job_is_shown_with_its_result(pulse: Pulse, api: StandIn) -> None:
    api.answers[f"/v1/jobs/{JOB_ID}"] = some_jobs()[0]
    done = pulse("jobs", "show", JOB_ID)
    assert ["charged", "1,234", "chat", "tokens"] in words(done.stdout)
    assert done.stdout.endswith("\nHello\nfrom the sea\n")


def test_one_failed_job_is_shown_with_its_reason(pulse: Pulse, api: StandIn) -> None:
    failed = job(state="failed", error={"code": "answer_truncated", "detail": "It broke off."})
    api.answers[f"/v1/jobs/{JOB_ID}"] = failed
    assert "It broke off. (answer_truncated)" in pulse("jobs", "show", JOB_ID).stdout
    assert json.loads(pulse("jobs", "show", JOB_ID, "--json").stdout) == failed


def test_a_result_without_text_is_shown_as_json(pulse: Pulse, api: StandIn) -> None:
    api.answers[f"/v1/jobs/{JOB_ID}"] = job(state="succeeded", result={"files": ["a"]})
    assert pulse("jobs", "show", JOB_ID).stdout.endswith('{\n  "files": [\n    "a"\n  ]\n}\n')


def test_what_a_job_was_asked_beside_its_kind_is_shown(pulse: Pulse, api: StandIn) -> None:
    plain = pulse("jobs", "show", JOB_ID).stdout
    assert not any(name in plain for name in ("timeout", "cancel by", "webhook"))
    hook = "https://hooks.example.com/\x1b[2J"
    api.answers[f"/v1/jobs/{JOB_ID}"] = job(timeout=40, cancel_by="2026-11-23T06:10:00Z", webhook=hook)
    shown = words(pulse("jobs", "show", JOB_ID, TZ="UTC").stdout)
    assert ["timeout", "40", "s", "a", "try"] in shown
    assert ["webhook", "https://hooks.example.com/[2J"] in shown
    [moment] = [line for line in shown if line[:2] == ["cancel", "by"]]
    assert datetime.fromisoformat("T".join(moment[2:])) == datetime(2026, 11, 23, 6, 10, tzinfo=UTC)


@pytest.mark.parametrize(
    ("facts", "told"),
    [
        ({"state": "canceled", "finished_at": "2026-11-23T06:00:01Z", "cancel_requested": True}, "canceled"),
        ({"state": "running", "cancel_requested": True}, "being stopped"),
        ({"state": "succeeded", "finished_at": "2026-11-23T06:00:01Z"}, "succeeded"),
    ],
)
def test_cancelling_tells_what_became_of_the_job(
    pulse: Pulse, api: StandIn, facts: dict[str, object], told: str
) -> None:
    api.answers[f"/v1/jobs/{JOB_ID}/cancel"] = job(**facts)
    assert pulse("jobs", "cancel", JOB_ID).stdout == f"{JOB_ID}: {told}\n"
    assert json.loads(pulse("jobs", "cancel", JOB_ID, "--json").stdout) == job(**facts)
    assert {call.method for call in api.calls} == {"POST"}


def test_following_as_a_program_gives_the_events_alone(pulse: Pulse, api: StandIn) -> None:
    done = pulse("jobs", "follow", JOB_ID, "--after", "1-4", "--json")
    assert [json.loads(line) for line in done.stdout.splitlines()] == [
        {"id": event_id, **said} for event_id, said in ANSWER[4:]
    ]
    assert api.streams[0].headers["last-event-id"] == "1-4"


def test_what_is_no_id_never_reaches_the_api(pulse: Pulse, api: StandIn) -> None:
    assert pulse("jobs", "show", "../keys").exit_code == 2
    assert not api.calls


def test_a_job_that_is_not_there_is_told_at_once(pulse: Pulse, api: StandIn) -> None:
    api.refusals = [Refusal(404, PROBLEM)]
    assert pulse("jobs", "follow", JOB_ID).exit_code == 1
    assert not api.streams


def test_the_running_studio_of_this_folder_is_found(tmp_path: Path) -> None:
    settings = Settings(home=str(tmp_path), port=8123)
    assert place.find(settings) == place.Place("http://127.0.0.1:8123", "")
    (tmp_path / "studio.json").write_text('{"url": "http://127.0.0.1:9999", "pid": 7}')
    (tmp_path / "key").write_text("pulse_local\n")
    assert place.find(settings) == place.Place("http://127.0.0.1:9999", "pulse_local")


def test_a_studio_file_that_cannot_be_read_is_as_good_as_none(tmp_path: Path) -> None:
    (tmp_path / "studio.json").write_text('{"url": ')
    assert place.find(Settings(home=str(tmp_path))).url == "http://127.0.0.1:8000"


def test_the_key_of_this_machine_is_shown_to_no_other(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("pulse_local\n")
    elsewhere = Settings(home=str(tmp_path), url="https://studio.example/")
    assert place.find(elsewhere) == place.Place("https://studio.example", "")
    assert place.find(msgspec.structs.replace(elsewhere, api_key="mine")).key == "mine"


@pytest.mark.parametrize("url", ["localhost:8000", "ftp://a.example", "http://"])
def test_an_address_that_is_none_is_named(url: str) -> None:
    with pytest.raises(InvalidSetting, match="PULSE_URL"):
        place.find(Settings(url=url))


def test_a_setting_that_is_wrong_is_named(pulse: Pulse) -> None:
    done = pulse("jobs", "--json", PULSE_PORT="x")
    assert (done.exit_code, done.stdout) == (1, "")
    assert json.loads(done.stderr)["key"] == "PULSE_PORT"


def test_retrying_prints_the_id_of_the_new_job(pulse: Pulse, api: StandIn) -> None:
    answer = {"job": job(retry_of=JOB_ID), "quota": {}}
    api.answers[f"/v1/jobs/{JOB_ID}/retry"] = answer
    assert pulse("jobs", "retry", JOB_ID).stdout == f"{answer['job']['id']}\n"
    assert json.loads(pulse("jobs", "retry", JOB_ID, "--json").stdout) == answer


def test_a_waiting_job_shows_its_turn(pulse: Pulse, api: StandIn) -> None:
    span = {"p50": 4.0, "p90": 8.0}
    api.answers[f"/v1/jobs/{JOB_ID}"] = job(waiting={"position": 3, "starts_in_s": span, "finishes_in_s": span})
    assert "position 3, starts in 4.0 s, done in 4.0 s (nine in ten: 8.0 s)" in pulse("jobs", "show", JOB_ID).stdout
    api.answers[f"/v1/jobs/{JOB_ID}"] = job(waiting={"position": 3, "starts_in_s": None, "finishes_in_s": None})
    assert "position 3\n" in pulse("jobs", "show", JOB_ID).stdout
