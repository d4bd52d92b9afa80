"""`pulse batch submit`: one batch, however the connection behaves, watched to its end and its results written down."""

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from scripts.pulse.sources import CHUNK_BYTES
from tests.scripts.batch.conftest import ARABIC, PATIENCE_S
from tests.scripts.batch_stand_in import BatchStandIn, Fault, line
from tests.scripts.conftest import Pulse, Start
from tests.scripts.files.conftest import until
from tests.scripts.stand_in import PROBLEM, Refusal
from tests.scripts.terminal import Terminal

WRONG = {"code": "malformed_line", "en": "This is no JSON.", "ar": "هذا ليس JSON."}
IN_FLIGHT = {"status": 409, "code": "request_in_flight", "detail": "It is under way."}


def test_a_file_becomes_a_batch_that_is_watched_to_its_end(pulse: Pulse, api: BatchStandIn, requests: Path) -> None:
    done = pulse("batch", "submit", str(requests), "-o", "results.jsonl", "--errors", "errors.jsonl")
    assert done.exit_code == 0, done.stderr
    [batch_id] = api.batches
    assert done.stdout == f"{batch_id}\n"
    assert api.inputs == [("application/jsonl", requests.read_bytes())]
    notes = done.stderr.splitlines()
    assert notes[0] == "validating: 0 B / 1.7 MiB · 3 lines"
    assert notes[1].startswith("running: 0 / 3")
    assert notes[2] == "completed: 3 of 3 succeeded · charged 6 chat tokens · 62.5 s"
    assert Path("results.jsonl").read_bytes() == api.part(batch_id, "results")
    assert Path("errors.jsonl").read_bytes() == b""
    assert sorted(path.name for path in Path().iterdir()) == ["errors.jsonl", "requests.jsonl", "results.jsonl"]


def test_lines_that_went_wrong_are_told_in_the_persons_language(
    pulse: Pulse, api: BatchStandIn, requests: Path
) -> None:
    refused = {"state": "rejected", "error": WRONG, "result": None}
    anthropic = {"type": "errored", "error": {"type": "error", "error": {"type": "api_error", "message": "Broken."}}}
    api.outcomes = [
        line(1),
        line(2, **refused),
        {"custom_id": "o", "line": 3, "state": "failed", "response": None, "error": {"code": "c", "message": "M."}},
        {"custom_id": "a", "line": 4, "state": "failed", "result": anthropic},
        line(5, state="expired", result=None),
        *[line(n, **refused) for n in range(6, 9)],
    ]
    api.step = 8
    done = pulse("batch", "submit", str(requests))
    [batch_id] = api.batches
    assert done.exit_code == 3
    assert done.stderr.splitlines()[-7:] == [
        "completed: 1 of 8 succeeded · 2 failed · 4 refused · 1 expired · charged 2 chat tokens · 62.5 s",
        "line 2: This is no JSON. (malformed_line, r-2)",
        "line 3: M. (c, o)",
        "line 4: Broken. (api_error, a)",
        "line 5: not done in time (expired, r-5)",
        "line 6: This is no JSON. (malformed_line, r-6)",
        f"2 more; all of them: pulse batch results {batch_id} --errors",
    ]
    arabic = pulse("batch", "status", batch_id, "--follow", **ARABIC)
    assert arabic.exit_code == 3
    assert arabic.stderr.splitlines()[:2] == [
        "اكتملت الدفعة: نجح 1 من 8 · فشل 2 · رُفض 4 · انتهت مهلة 1 · احتُسب 2 رموز المحادثة · 62.5 ث",
        "السطر 2: هذا ليس JSON. (malformed_line, r-2)",
    ]


def test_whatever_breaks_on_the_way_makes_exactly_one_batch(pulse: Pulse, api: BatchStandIn, requests: Path) -> None:
    api.upload_faults = [Fault(CHUNK_BYTES), Fault(), Fault(how="silent"), None]
    busy = Refusal(503, b"<html>", {"Retry-After": "0"})
    api.refusals = [None, busy, None, Refusal("drop"), None, Refusal(409, IN_FLIGHT, {"Retry-After": "0"})]
    done = pulse("batch", "submit", str(requests), "--detach")
    assert done.exit_code == 0, done.stderr
    sendings = api.asked("POST", "/v1/batches")
    assert len({call.headers["idempotency-key"] for call in sendings}) == 1
    assert len(sendings) == 7
    assert (done.stdout.split(), len(api.inputs)) == (list(api.batches), 1)
    assert "the connection is lost; trying again" in done.stderr


@pytest.mark.parametrize("status", [413, 429, 402])
def test_a_refusal_is_told_and_not_asked_again(pulse: Pulse, api: BatchStandIn, requests: Path, status: int) -> None:
    api.refusals = [None, Refusal(status, {**PROBLEM, "status": status})]
    done = pulse("batch", "submit", str(requests), **ARABIC)
    assert (done.exit_code, done.stdout) == (1, "")
    assert done.stderr == "لا يتبقى ما يكفي.\n  code quota_exceeded, field input.messages\n"
    assert len(api.asked("POST", "/v1/batches")) == 1


def test_a_limit_that_passes_is_waited_for(pulse: Pulse, api: BatchStandIn, requests: Path) -> None:
    api.refusals = [None, Refusal(429, {**PROBLEM, "status": 429}, {"Retry-After": "1"})]
    done = pulse("batch", "submit", str(requests), "--detach")
    assert done.exit_code == 0
    assert "the studio asks to wait; trying again in 1 s" in done.stderr


def test_a_wrong_key_is_told_before_any_byte_is_sent(pulse: Pulse, api: BatchStandIn, requests: Path) -> None:
    api.refusals = [Refusal(401, {"status": 401, "code": "invalid_api_key", "detail": "Wrong key."})]
    assert pulse("batch", "submit", str(requests)).stderr == "Wrong key.\n  code invalid_api_key\n"
    assert api.asked("POST", "") == []


def test_an_answer_that_never_comes_leaves_the_way_to_send_it_again(
    pulse: Pulse, api: BatchStandIn, requests: Path
) -> None:
    api.upload_faults = [Fault()] * 60
    done = pulse("batch", "submit", "requests.jsonl", "--mode", "all", "--metadata", "team=sea side")
    assert done.exit_code == 1
    key = api.calls[-1].headers["idempotency-key"]
    again = f"pulse batch submit requests.jsonl --key {key} --mode all --metadata 'team=sea side'\n"
    assert done.stderr.endswith(
        f"requests.jsonl was sent 60 times without an answer. Send it again, still as one batch, with: {again}"
    )
    assert (
        pulse(
            *["batch", "submit", "requests.jsonl", "--mode", "all", "--metadata", "team=sea side"], "--key", key
        ).exit_code
        == 0
    )
    assert len(api.batches) == 1


def test_options_of_lines_go_beside_them(pulse: Pulse, api: BatchStandIn, requests: Path) -> None:
    given = ["--mode", "all", "--window", "2h", "--webhook", "https://example.com/hook"]
    labels = ["--metadata", "team=بحر", "--metadata", "run=1=2"]
    assert pulse("batch", "submit", str(requests), *given, *labels, "--key", "nightly").exit_code == 0
    [sent] = api.asked("POST", "/v1/batches")
    query = {name: values[0] for name, values in parse_qs(urlsplit(sent.path).query).items()}
    metadata = json.loads(query.pop("metadata"))
    assert query == {"mode": "all", "completion_window": "2h", "webhook": "https://example.com/hook"}
    assert metadata == {"team": "بحر", "run": "1=2"}
    assert sent.headers["idempotency-key"] == "nightly"
    assert pulse("batch", "submit", str(requests), "--metadata", "team").exit_code == 2
    assert pulse("batch", "submit", str(requests), "--key", "مفتاح").exit_code == 2


@pytest.mark.parametrize("space", ["", " \n"])
def test_options_of_a_body_go_into_it_and_hold(pulse: Pulse, api: BatchStandIn, folder: Path, space: str) -> None:
    asked = [{"custom_id": f"r-{n}", "kind": "chat", "input": {"text": "x" * 200_000}} for n in range(2)]
    path = folder / "requests.json"
    path.write_text(json.dumps({"mode": "each", "requests": asked}, indent=2) + space)
    assert pulse("batch", "submit", str(path), "--mode", "all", "--metadata", "team=sea").exit_code == 0
    [(media_type, sent)] = api.inputs
    assert media_type == "application/json"
    assert json.loads(sent) == {"requests": asked, "mode": "all", "metadata": {"team": "sea"}}
    assert pulse("batch", "submit", str(path)).exit_code == 0
    assert api.inputs[1][1] == path.read_bytes()


@pytest.mark.parametrize(
    ("name", "content", "media_type"),
    [
        ("a.ndjson", '{"requests": []}', "application/jsonl"),
        ("a.json", '{"custom_id": "a"}\n{"custom_id": "b"}\n', "application/jsonl"),
        ("a.json", '\ufeff{"metadata": {}, "requests": []}', "application/json"),
        ("a.json", '{"mode": "all"}', "application/json"),
        ("a.txt", '{"input_file_id": "01a2"}', "application/json"),
        ("a.txt", r'{"params": {"text": "\"requests\": ["}, "custom_id": "a"}', "application/jsonl"),
        ("a", "no JSON", "application/jsonl"),
    ],
)
def test_lines_and_bodies_are_told_apart(
    pulse: Pulse, api: BatchStandIn, folder: Path, name: str, content: str, media_type: str
) -> None:
    (folder / name).write_text(content)
    assert pulse("batch", "submit", name, "--detach").exit_code == 0
    assert api.inputs == [(media_type, content.encode())]


def test_what_comes_on_stdin_can_be_sent_again_and_its_results_poured_out(
    pulse: Pulse, api: BatchStandIn, requests: Path
) -> None:
    api.upload_faults = [Fault(1000)]
    done = pulse("batch", "submit", "-", "-o", "-", stdin=requests.read_bytes())
    [batch_id] = api.batches
    assert api.inputs == [("application/jsonl", requests.read_bytes())]
    assert (done.exit_code, done.stdout_bytes) == (0, api.part(batch_id, "results"))
    assert f"the batch is {batch_id}\n" in done.stderr


def test_a_program_reads_the_batch_at_each_change_of_its_state(pulse: Pulse, api: BatchStandIn, requests: Path) -> None:
    done = pulse("batch", "submit", str(requests), "--json", "-o", "out.jsonl")
    assert (done.exit_code, done.stderr) == (0, "")
    told = [json.loads(each) for each in done.stdout.splitlines()]
    assert [each["state"] for each in told] == ["validating", "running", "completed"]
    assert told[-1] == api.answer(told[0]["id"])
    detached = json.loads(pulse("batch", "submit", str(requests), "--json", "--detach").stdout)
    assert detached["state"] == "validating"


def test_a_studio_that_goes_away_while_it_runs_is_waited_for(pulse: Pulse, api: BatchStandIn, requests: Path) -> None:
    away: list[Refusal | None] = [Refusal("drop"), Refusal(503), Refusal(502), Refusal(429)] * 50
    api.refusals = [None, None, None, *away]
    done = pulse("batch", "submit", str(requests))
    assert done.exit_code == 0, done.stderr
    assert done.stderr.count("the connection is lost; trying again\nconnected again\n") == 1


def test_what_does_not_change_is_not_sent_again(pulse: Pulse, api: BatchStandIn) -> None:
    batch = api.add(line(1), shown=0, state="canceling")
    api.step = 0
    api.hold.clear()
    api.refusals = [None, None, None, None, Refusal(401, {**PROBLEM, "status": 401})]
    assert pulse("batch", "status", batch["id"], "--follow").exit_code == 1
    first, *more = api.calls[1:]
    assert "if-none-match" not in first.headers
    assert len({call.headers["if-none-match"] for call in more}) == 1


def test_a_file_that_changes_while_it_is_sent_is_told_and_makes_no_batch(
    start: Start, api: BatchStandIn, folder: Path
) -> None:
    growing = folder / "requests.jsonl"
    growing.write_bytes(b"x" * 32 * 1024 * 1024)  # more than sockets hold
    api.hold.clear()
    process = start("batch", "submit", str(growing))
    until(lambda: api.asked("POST", "/v1/batches"))
    with growing.open("r+b") as file:
        file.seek(-1, os.SEEK_END)
        file.write(b"y")
    api.hold.set()
    _, stderr = process.communicate(timeout=PATIENCE_S)
    assert (process.returncode, api.batches) == (1, {})
    assert f"{growing} changed while it was being handed over." in stderr


def test_ctrl_c_during_the_upload_says_how_to_send_it_again(start: Start, api: BatchStandIn, folder: Path) -> None:
    large = folder / "requests.jsonl"
    large.write_bytes(b"x" * 32 * 1024 * 1024)
    api.hold.clear()
    process = start("batch", "submit", str(large), "--window", "2h")
    until(lambda: api.asked("POST", "/v1/batches"))
    process.send_signal(signal.SIGINT)
    stdout, stderr = process.communicate(timeout=PATIENCE_S)
    assert (process.returncode, stdout) == (130, "")
    key = api.calls[-1].headers["idempotency-key"]
    assert stderr.endswith(f"with: pulse batch submit {large} --key {key} --window 2h\n")


def test_ctrl_c_leaves_the_batch_running_and_says_how_to_go_on(start: Start, api: BatchStandIn, requests: Path) -> None:
    api.step = 0
    process = start("batch", "submit", str(requests), "-o", "out.jsonl")
    until(lambda: api.asked("GET", "/v1/batches/"))
    api.hold.clear()
    process.send_signal(signal.SIGINT)
    stdout, stderr = process.communicate(timeout=PATIENCE_S)
    [batch_id] = api.batches
    assert (process.returncode, stdout) == (130, f"{batch_id}\n")
    told = f"pulse batch status {batch_id} --follow - or stop it: pulse batch cancel {batch_id}\n"
    assert stderr.endswith(f"The batch goes on without you. Watch it: {told}")
    assert not api.asked("POST", "/cancel")


def test_where_the_results_go_is_looked_at_first(pulse: Pulse, api: BatchStandIn, requests: Path) -> None:
    (requests.parent / "mine.jsonl").write_text("mine")
    for options in (["-o", "mine.jsonl"], ["--errors", "mine.jsonl"]):
        assert "--force" in pulse("batch", "submit", str(requests), *options).stderr
    assert pulse("batch", "submit", str(requests), "-o", "x", "--detach").exit_code == 2
    assert pulse("batch", "submit", str(requests), "--errors", "-", "--json").exit_code == 2
    assert pulse("batch", "submit", str(requests), "-o", "-", "--errors", "-").exit_code == 2
    assert api.calls == []
    assert pulse("batch", "submit", str(requests), "-o", "mine.jsonl", "--force").exit_code == 0
    assert Path("mine.jsonl").read_bytes() == api.part(next(iter(api.batches)), "results")


@pytest.mark.parametrize("path", ["nowhere.jsonl", "empty.jsonl", "."])
def test_what_cannot_be_handed_over_is_told_at_once(pulse: Pulse, api: BatchStandIn, folder: Path, path: str) -> None:
    (folder / "empty.jsonl").touch()
    assert pulse("batch", "submit", path).exit_code == 1
    assert api.calls == []


def test_a_terminal_sees_the_upload_and_then_the_batch(
    terminal: Callable[..., Terminal], api: BatchStandIn, folder: Path
) -> None:
    (folder / "طلبات.jsonl").write_bytes(b"x" * 32 * 1024 * 1024)
    api.outcomes, api.step = [line(n, **({} if n % 4 else {"state": "failed"})) for n in range(1, 41)], 8
    api.hold.clear()
    screen = terminal("batch", "submit", "طلبات.jsonl", COLUMNS="80")
    screen.until("uploading")
    screen.until("/ 32.0 MiB")
    screen.until("iB/s")
    api.hold.set()
    screen.until("validating")
    screen.until("running")
    screen.until("left")
    screen.until("/ 40 · ")
    screen.until("failed")
    assert "completed: 30 of 40 succeeded · 10 failed" in screen.wait()
