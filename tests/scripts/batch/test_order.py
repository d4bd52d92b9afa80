"""`pulse batch status|cancel|retry|list`: what batches there are, how they stand, and what still can become of them."""

import json
from collections.abc import Callable

from tests.scripts.batch.conftest import ARABIC
from tests.scripts.batch_stand_in import BatchStandIn, line
from tests.scripts.conftest import Pulse
from tests.scripts.stand_in import Refusal
from tests.scripts.terminal import Terminal

WRONG = {"state": "failed", "result": None, "error": {"code": "x", "en": "Wrong.\x1b[2J", "ar": "خطأ."}}


def test_status_shows_counts_times_and_the_first_lines_that_went_wrong(pulse: Pulse, api: BatchStandIn) -> None:
    batch = api.add(line(1), line(7, **WRONG), line(9), shown=2, metadata={"team": "بحر"}, cancel_requested=True)
    shown = pulse("batch", "status", batch["id"], **ARABIC).stdout
    assert f"id  {batch['id']}\n" in shown
    assert "state  running, to be cancelled\n" in shown
    assert "lines  3 (1 running, 1 succeeded, 1 failed)\n" in shown
    assert 'metadata  {"team":"بحر"}\n' in shown
    assert shown.endswith("\nالسطر 7: خطأ. (x, r-7)\n")
    assert shown.count("\n") == 9
    assert "\x1b" not in pulse("batch", "status", batch["id"]).stdout
    assert json.loads(pulse("batch", "status", batch["id"], "--json").stdout)["id"] == batch["id"]


def test_errors_that_are_not_kept_any_more_do_not_change_how_it_ends(pulse: Pulse, api: BatchStandIn) -> None:
    batch = api.add(line(1, **WRONG))
    gone = Refusal(410, {"status": 410, "code": "results_gone", "detail": "They are not kept any more."})
    api.refusals = [None, gone]
    shown = pulse("batch", "status", batch["id"])
    assert (shown.exit_code, shown.stderr) == (0, "")
    api.refusals = [None, None, *[Refusal(503)] * 5]
    assert pulse("batch", "status", batch["id"], "--follow").exit_code == 3


def test_without_an_id_the_newest_is_shown(pulse: Pulse, api: BatchStandIn) -> None:
    assert pulse("batch", "status", **ARABIC).stderr.startswith("لا توجد دفعة بعد.")
    api.add(line(1))
    newest = api.add(line(1))
    assert f"id  {newest['id']}\n" in pulse("batch", "status").stdout


def test_a_batch_that_failed_says_why(pulse: Pulse, api: BatchStandIn) -> None:
    error = {"code": "too_many_lines", "detail": "It has too many lines."}
    batch = api.add(state="failed", error=error)
    assert pulse("batch", "status", batch["id"]).stdout.endswith("\nIt has too many lines. (too_many_lines)\n")
    assert pulse("batch", "status", batch["id"]).exit_code == 0
    followed = pulse("batch", "status", batch["id"], "--follow")
    assert followed.exit_code == 3
    assert followed.stderr.startswith("failed: 0 of 0 succeeded")


def test_a_batch_that_is_not_there_is_told(pulse: Pulse, api: BatchStandIn) -> None:
    for command in ("status", "cancel", "retry", "results"):
        done = pulse("batch", command, "01a20000-0000-7000-8000-000000000009")
        assert (done.exit_code, done.stderr) == (1, "There is no such batch.\n  code batch_not_found\n")


def test_a_batch_is_stopped(pulse: Pulse, api: BatchStandIn) -> None:
    batch = api.add(line(1), shown=0)
    assert pulse("batch", "cancel", batch["id"]).stdout == f"{batch['id']}: being stopped\n"
    assert json.loads(pulse("batch", "cancel", batch["id"], "--json").stdout)["cancel_requested"] is True


def test_lines_that_failed_get_another_go_once(pulse: Pulse, api: BatchStandIn) -> None:
    batch = api.add(line(1), line(2, **WRONG))
    api.refusals = [Refusal("drop"), None]
    done = pulse("batch", "retry", batch["id"], "--follow")
    _, again = api.batches
    assert (done.exit_code, done.stdout) == (0, f"{again}\n")
    assert done.stderr.splitlines()[-1].startswith("completed: 1 of 1 succeeded")
    made = json.loads(pulse("batch", "retry", batch["id"], "--json").stdout)
    assert (made["retry_of"], len(api.batches)) == (batch["id"], 3)
    watched = pulse("batch", "retry", batch["id"], "--json", "--follow").stdout.splitlines()
    assert [json.loads(each)["state"] for each in watched] == ["running", "completed"]


def test_batches_are_listed_with_their_whole_ids(pulse: Pulse, api: BatchStandIn) -> None:
    first = api.add(*[line(n) for n in range(1, 1301)], line(1301, **WRONG))
    second = api.add(line(1), shown=0, state="validating")
    api.pages = 1
    done = pulse("batch")
    assert done.stdout.splitlines()[1].split()[:5] == [second["id"], "validating", "1", "0", "0"]
    assert done.stderr == "more: pulse batch list --limit 20 --cursor 1\n"
    done = pulse("batch", "list", "--cursor", "1", "--state", "completed")
    assert done.stdout.splitlines()[1].split()[:5] == [first["id"], "completed", "1,301", "1,300", "1"]
    assert "state=completed" in api.calls[-1].path
    assert json.loads(pulse("batch", "--json").stdout)["next_cursor"] == "1"


def test_a_terminal_sees_the_same_bar_again_in_its_language(
    terminal: Callable[..., Terminal], api: BatchStandIn
) -> None:
    batch = api.add(*[line(n, **({} if n % 4 else WRONG)) for n in range(1, 41)], shown=4)
    api.step = 8
    screen = terminal("batch", "status", batch["id"], "--follow", COLUMNS="80", **ARABIC)
    screen.until("قيد التنفيذ")
    screen.until("يتبقى")
    screen.until("/ 40 · ")
    screen.until("مهمة/ث")
    screen.until("فشل")
    assert "اكتملت الدفعة: نجح 30 من 40 · فشل 10" in screen.wait()


def test_a_terminal_sees_that_the_connection_is_lost_and_back(
    terminal: Callable[..., Terminal], api: BatchStandIn
) -> None:
    batch = api.add(*[line(n) for n in range(1, 5)], shown=0)
    api.refusals = [None, None, *[Refusal("drop")] * 1000]
    screen = terminal("batch", "status", batch["id"], "--follow", COLUMNS="80")
    screen.until("running")
    screen.until("the connection is lost; trying again")
    api.refusals = []
    screen.until("running")
    assert "completed: 4 of 4 succeeded" in screen.wait()
