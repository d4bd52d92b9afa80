"""`pulse chat` against a stand-in for the API that fails in all the ways that networks and studios do."""

import json
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from scripts.pulse.client import Client
from scripts.pulse.follow import follow
from scripts.pulse.place import Place
from scripts.pulse.problems import StudioLost
from tests.scripts.conftest import Pulse, Start
from tests.scripts.stand_in import (
    ANSWER,
    JOB_ID,
    KEY,
    PROBLEM,
    STARTED,
    SUCCEEDED,
    Break,
    Refusal,
    StandIn,
    delta,
    told,
)
from tests.scripts.terminal import Terminal

TEXT = "Hello from the sea\n"


def test_the_answer_is_on_stdout_and_what_it_cost_on_stderr(pulse: Pulse, api: StandIn) -> None:
    done = pulse("chat", "Tell me", "a story")
    assert (done.exit_code, done.stdout) == (0, TEXT)
    told = done.stderr.split(" · ")
    assert told[:3] == ["wire-1", "11 + 7 tokens", "charged 46 chat tokens"]
    assert told[3].endswith(" s")
    assert told[4].endswith(" tokens/s")
    assert told[5] == "854 chat tokens left\n"
    [submission] = api.submissions
    assert submission.body == {
        "kind": "chat",
        "input": {"messages": [{"role": "user", "content": "Tell me a story"}]},
    }
    assert submission.headers["authorization"] == f"Bearer {KEY}"


def test_options_become_members_of_the_request(pulse: Pulse, api: StandIn) -> None:
    options = ["--system", "Be brief", "--model", "wire-1", "--max-tokens", "9", "--temperature", "0"]
    assert pulse("chat", *options, "Hi").exit_code == 0
    assert api.submissions[0].body["input"] == {
        "messages": [{"role": "system", "content": "Be brief"}, {"role": "user", "content": "Hi"}],
        "model": "wire-1",
        "max_output_tokens": 9,
        "temperature": 0.0,
    }


def test_pictures_and_files_are_shown_with_the_question(pulse: Pulse, api: StandIn, tmp_path: Path) -> None:
    path = tmp_path / "صورة.png"
    path.write_bytes(b"\x89PNG\r\n\x1a\n")
    assert pulse("chat", "--image", str(path), "--file", JOB_ID, "--effort", "low", "Hi").exit_code == 0
    asked = api.submissions[0].body["input"]
    assert asked["effort"] == "low"
    assert asked["messages"][0]["content"] == [
        {"type": "image", "data": "iVBORw0KGgo=", "media_type": "image/png"},
        {"type": "file", "file_id": JOB_ID},
        {"type": "text", "text": "Hi"},
    ]


def test_what_is_no_picture_is_not_sent(pulse: Pulse, api: StandIn, tmp_path: Path) -> None:
    for path in ("notes.txt", str(tmp_path / "none.png")):
        done = pulse("chat", "--image", path, "Hi")
        assert (done.exit_code, api.submissions) == (1, [])
        assert path in done.stderr


def test_who_answers_and_why_is_told_beside_the_answer(pulse: Pulse, api: StandIn) -> None:
    reason = {"code": "proof", "en": "It asks for a proof.", "ar": "يطلب برهانًا."}
    api.chosen = {"model": "wire-1", "reason": reason}
    done = pulse("chat", "Hi")
    assert done.stdout == TEXT
    assert done.stderr.splitlines()[0] == "wire-1: It asks for a proof."
    api.chosen = {"model": "wire-1", "reason": reason | {"code": "asked"}}
    assert "proof" not in pulse("chat", "Hi").stderr, "whoever named a model knows"


def test_how_long_a_try_may_take_is_said_beside_the_input(pulse: Pulse, api: StandIn) -> None:
    assert pulse("chat", "--timeout", "40", "Hi").exit_code == 0
    assert api.submissions[0].body["timeout"] == 40
    assert "timeout" not in api.submissions[0].body["input"]


def test_words_appear_while_the_answer_is_still_being_made(start: Start, api: StandIn) -> None:
    api.hold.clear()
    process = start("chat", "Hi")
    assert process.stdout is not None
    assert process.stdout.read(len(TEXT) - 1) == TEXT.rstrip()
    assert process.poll() is None
    api.hold.set()
    assert process.wait(10) == 0


@pytest.mark.parametrize("arguments", [["-"], []])
def test_the_question_can_come_from_stdin(pulse: Pulse, api: StandIn, arguments: list[str]) -> None:
    pulse("chat", *arguments, stdin="سؤال\nfrom a file\n")
    assert api.submissions[0].body["input"]["messages"][0]["content"] == "سؤال\nfrom a file"


def test_bytes_that_are_no_text_reach_the_api_for_it_to_refuse(pulse: Pulse, api: StandIn) -> None:
    pulse("chat", "-", stdin=b"a\xffb")
    assert api.submissions[0].body["input"]["messages"][0]["content"] == "a\udcffb"


def test_without_following_only_the_id_is_printed(pulse: Pulse, api: StandIn) -> None:
    done = pulse("chat", "--no-follow", "Hi")
    assert (done.exit_code, done.stdout, done.stderr) == (0, f"{JOB_ID}\n", "")
    assert not api.streams


def test_json_is_the_job_and_then_every_event_as_it_came(pulse: Pulse) -> None:
    done = pulse("chat", "--json", "Hi")
    submitted, *events = map(json.loads, done.stdout.splitlines())
    assert submitted["type"] == "submitted"
    assert submitted["job"]["id"] == JOB_ID
    assert submitted["quota"]["chat_tokens"]["remaining"] == 850
    assert events == [{"id": event_id, **said} for event_id, said in ANSWER]
    assert done.stderr == ""


@pytest.mark.parametrize("how", ["cut", "half a frame", "end"])
def test_a_broken_stream_goes_on_where_it_broke(pulse: Pulse, api: StandIn, how: str) -> None:
    api.breaks = [Break(2, how), Break(0, how), Break(1, how)]  # pyright: ignore[reportArgumentType]
    done = pulse("chat", "Hi")
    assert (done.exit_code, done.stdout) == (0, TEXT)
    assert [call.headers.get("last-event-id") for call in api.streams] == [None, "1-2", "1-2", "1-3"]
    assert done.stderr.startswith("the connection is lost; trying again\nwire-1")


def test_a_studio_that_comes_back_slowly_is_waited_for(pulse: Pulse, api: StandIn) -> None:
    api.breaks = [Break(3)]
    api.stream_refusals = [None, Refusal("drop"), Refusal(503, PROBLEM), Refusal(502)]
    done = pulse("chat", "--json", "Hi")
    assert [json.loads(line).get("id") for line in done.stdout.splitlines()[1:]] == [event_id for event_id, _ in ANSWER]
    assert done.stderr == ""
    assert not api.stream_refusals


def test_a_refusal_while_coming_back_is_told(pulse: Pulse, api: StandIn) -> None:
    api.breaks = [Break(3)]
    api.stream_refusals = [None, Refusal(402, PROBLEM)]
    done = pulse("chat", "Hi")
    assert (done.exit_code, done.stdout) == (1, "Hello from\n")
    assert "code quota_exceeded" in done.stderr


def test_a_studio_that_stays_away_is_given_up_with_the_way_back(api: StandIn) -> None:
    api.breaks = [Break(2), *[Break(0)] * 100]
    client = Client(Place(api.url, KEY), "en")
    lost: list[int] = []
    events = follow(client, UUID(JOB_ID), "", on_lost=lost.append, patience_s=0.3)
    assert [next(events).id, next(events).id] == ["1-1", "1-2"]
    with pytest.raises(StudioLost, match=f"pulse jobs follow {JOB_ID} --after 1-2"):
        next(events)
    assert lost == list(range(1, len(lost) + 1))
    client.close()


def test_ctrl_c_leaves_the_job_alone_and_says_how_to_come_back(start: Start, api: StandIn) -> None:
    api.hold.clear()
    process = start("chat", "Hi")
    assert process.stdout is not None
    process.stdout.read(len(TEXT) - 1)
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=10)
    assert process.returncode == 130
    assert f"pulse jobs follow {JOB_ID} --after 1-" in stderr
    assert f"pulse jobs cancel {JOB_ID}" in stderr
    assert not [call for call in api.calls if call.path.endswith("/cancel")]


def test_following_after_a_ctrl_c_gives_the_rest(pulse: Pulse) -> None:
    done = pulse("jobs", "follow", JOB_ID, "--after", "1-2")
    assert done.stdout == " from the sea\n"


def test_a_submission_that_got_no_answer_makes_one_job(pulse: Pulse, api: StandIn) -> None:
    api.refusals = [Refusal("drop"), Refusal(503, PROBLEM, {"Retry-After": "0"}), Refusal(502)]
    done = pulse("chat", "Hi")
    assert (done.exit_code, done.stdout) == (0, TEXT)
    keys = [call.headers["idempotency-key"] for call in api.submissions]
    assert len(keys) == 4
    assert len(set(keys)) == 1


def test_two_questions_are_two_jobs(pulse: Pulse, api: StandIn) -> None:
    pulse("chat", "Hi")
    pulse("chat", "Hi")
    assert len({call.headers["idempotency-key"] for call in api.submissions}) == 2


def test_a_refusal_is_told_with_its_code_and_field(pulse: Pulse, api: StandIn) -> None:
    api.refusals = [Refusal(402, PROBLEM)]
    done = pulse("chat", "Hi")
    assert (done.exit_code, done.stdout) == (1, "")
    assert done.stderr == "Not enough chat tokens left.\n  code quota_exceeded, field input.messages\n"
    assert len(api.submissions) == 1


@pytest.mark.parametrize("variable", ["LANG", "LC_MESSAGES", "LC_ALL"])
def test_an_arabic_terminal_is_told_in_arabic(pulse: Pulse, api: StandIn, variable: str) -> None:
    api.refusals = [Refusal(402, PROBLEM)]
    done = pulse("chat", "Hi", **{variable: "ar_EG.UTF-8"})
    assert done.stderr.startswith("لا يتبقى ما يكفي.\n")
    assert api.submissions[0].headers["accept-language"] == "ar"


def test_an_arabic_terminal_reads_what_an_answer_cost_in_arabic_alone(pulse: Pulse, api: StandIn) -> None:
    done = pulse("chat", "Hi", LANG="ar_EG.UTF-8")
    told = done.stderr.split(" · ")
    assert told[2].endswith("46 رموز المحادثة")
    assert "chat tokens" not in done.stderr


def test_a_refusal_for_a_program_is_the_problem_itself(pulse: Pulse, api: StandIn) -> None:
    api.refusals = [Refusal(402, PROBLEM)]
    done = pulse("chat", "--json", "Hi")
    assert (done.exit_code, done.stdout) == (1, "")
    assert json.loads(done.stderr) == {**PROBLEM, "detail": "Not enough chat tokens left."}


@pytest.mark.parametrize("body", [b"<html>", {}])
def test_a_page_that_is_no_problem_is_told_by_its_status(pulse: Pulse, api: StandIn, body: Any) -> None:
    api.refusals = [Refusal(418, body)]
    assert pulse("chat", "Hi").stderr == f"HTTP 418 {api.url}/v1/jobs\n  code http_418\n"


def test_what_is_no_studio_is_called_so(pulse: Pulse, api: StandIn) -> None:
    api.answers["/v1/jobs"] = b"<html>"
    done = pulse("chat", "Hi")
    assert (done.exit_code, done.stderr) == (1, f"What answers at {api.url} is not a Pulse studio.\n")


FAILED = {"type": "failed", "code": "provider_unavailable", "en": "The model is away.", "ar": "النموذج غير متاح."}


@pytest.mark.parametrize(("locale", "text"), [("en_US.UTF-8", FAILED["en"]), ("ar_SA.UTF-8", FAILED["ar"])])
def test_a_failed_job_is_told_in_the_terminals_language(pulse: Pulse, api: StandIn, locale: str, text: str) -> None:
    api.says = told(STARTED, delta("Hel"), FAILED)
    done = pulse("chat", "Hi", LANG=locale)
    assert (done.exit_code, done.stdout) == (1, "Hel\n")
    assert done.stderr == f"{text}\n  code provider_unavailable\n"


def test_a_failed_job_for_a_program_is_an_event_and_a_problem(pulse: Pulse, api: StandIn) -> None:
    api.says = told(STARTED, FAILED)
    done = pulse("chat", "--json", "Hi")
    assert done.exit_code == 1
    assert json.loads(done.stdout.splitlines()[-1]) == {"id": "1-2", **FAILED}
    assert json.loads(done.stderr)["code"] == "provider_unavailable"


def test_a_cancelled_job_has_an_exit_code_of_its_own(pulse: Pulse, api: StandIn) -> None:
    api.says = told(STARTED, delta("Hel"), {"type": "canceled", "charged": {"chat_tokens": 12}})
    done = pulse("chat", "Hi")
    assert (done.exit_code, done.stdout) == (3, "Hel\n")
    assert "charged 12 chat tokens" in done.stderr
    assert "The job was cancelled." in done.stderr


def test_an_expired_job_is_a_failure(pulse: Pulse, api: StandIn) -> None:
    api.says = told({"type": "expired"})
    done = pulse("chat", "Hi")
    assert (done.exit_code, done.stderr) == (1, "The job was not started in time. Nothing was charged.\n")


RESTARTED = [
    *told(STARTED, delta("Hel")),
    *told(
        {"type": "started", "attempt": 2}, {"type": "restarted", "attempt": 2}, delta("Good day"), SUCCEEDED, attempt=2
    ),
]


def test_a_new_attempt_starts_the_text_again_with_a_note(pulse: Pulse, api: StandIn) -> None:
    api.says = RESTARTED
    done = pulse("chat", "Hi")
    assert done.stdout == "Hel\nGood day\n"
    assert done.stderr.startswith("a new attempt starts the answer again; what stands above is void\n")


def test_a_new_attempt_is_one_more_event_to_a_program(pulse: Pulse, api: StandIn) -> None:
    api.says = RESTARTED
    done = pulse("chat", "--json", "Hi")
    assert {"id": "2-2", "type": "restarted", "attempt": 2} in map(json.loads, done.stdout.splitlines())
    assert done.stderr == ""


def test_a_warning_and_an_event_of_a_later_version_do_not_disturb(pulse: Pulse, api: StandIn) -> None:
    warning = {"type": "warning", "code": "quota_80", "detail": {"meter": "chat_tokens"}}
    api.says = told(STARTED, warning, {"type": "sparkle", "glow": [1]}, delta("Hi"), SUCCEEDED)
    done = pulse("chat", "Hi")
    assert (done.exit_code, done.stdout) == (0, "Hi\n")
    assert done.stderr.startswith("note: quota_80 chat_tokens\n")


def test_when_nobody_answers_one_line_says_what_to_do(pulse: Pulse) -> None:
    nowhere = "http://127.0.0.1:9"
    done = pulse("chat", "Hi", PULSE_URL=nowhere)
    assert (done.exit_code, done.stdout) == (1, "")
    assert done.stderr == f"The studio does not answer at {nowhere}. Start it with: make run\n"


def test_an_answer_cannot_take_over_the_terminal(terminal: Callable[..., Terminal], api: StandIn) -> None:
    api.says = told(STARTED, delta("safe\x1b]0;owned\x07\x1b[2J text"), SUCCEEDED)
    screen = terminal("chat", "Hi").wait()
    assert "safe]0;owned[2J text" in screen


def test_a_pipe_gets_the_answer_as_it_is(pulse: Pulse, api: StandIn) -> None:
    api.says = told(STARTED, delta("a\x1b[1mb"), SUCCEEDED)
    assert pulse("chat", "Hi").stdout == "a\x1b[1mb\n"


def test_a_terminal_without_colours_gets_none(terminal: Callable[..., Terminal]) -> None:
    assert "\x1b[2m" in terminal("chat", "Hi").wait()
    assert "\x1b[2m" not in terminal("chat", "Hi", NO_COLOR="1", TERM="dumb").wait()


def test_a_terminal_tells_that_the_connection_is_being_made_again(
    terminal: Callable[..., Terminal], api: StandIn
) -> None:
    api.breaks = [Break(2), Break(0)]
    screen = terminal("chat", "Hi", NO_COLOR="1", TERM="dumb").wait()
    assert "Hello\r\nthe connection is lost; trying again\r\n from the sea\r\n" in screen


def test_a_conversation_keeps_what_was_said(terminal: Callable[..., Terminal], api: StandIn) -> None:
    api.says = RESTARTED
    screen = terminal("chat", "--system", "Be brief")
    for question in ("First?", "Second?"):
        screen.until("you> ")
        screen.type(f"{question}\n")
        screen.until("chat tokens left")
    screen.until("you> ")
    screen.type("\x04")
    screen.wait()
    assert [message["content"] for message in api.submissions[1].body["input"]["messages"]] == [
        "Be brief",
        "First?",
        "Good day",
        "Second?",
    ]


def test_a_refused_question_does_not_end_a_conversation(terminal: Callable[..., Terminal], api: StandIn) -> None:
    api.refusals = [Refusal(402, PROBLEM)]
    screen = terminal("chat")
    screen.until("you> ")
    screen.type("First?\n")
    screen.until("quota_exceeded")
    screen.until("you> ")
    screen.type("Second?\n")
    screen.until("chat tokens left")
    screen.until("you> ")
    screen.type("\x04")
    screen.wait()
    assert [message["content"] for message in api.submissions[1].body["input"]["messages"]] == ["Second?"]
