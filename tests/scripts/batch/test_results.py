"""`pulse batch results`: each byte once, to a file or to stdout, whatever breaks off, also while the batch runs."""

import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.scripts.batch.conftest import ARABIC, PATIENCE_S
from tests.scripts.batch_stand_in import BatchStandIn, Fault, line
from tests.scripts.conftest import Pulse, Start
from tests.scripts.files.conftest import until
from tests.scripts.stand_in import Refusal
from tests.scripts.terminal import Terminal

WRONG = {"state": "failed", "result": None, "error": {"code": "x", "en": "Wrong.", "ar": "خطأ."}}


def lines(count: int) -> list[dict[str, Any]]:
    """Return results, every third of which is none."""
    return [line(n, **(WRONG if n % 3 == 0 else {})) for n in range(1, count + 1)]


@pytest.mark.parametrize("follow", [[], ["--follow"]])
def test_no_byte_is_lost_or_repeated(pulse: Pulse, api: BatchStandIn, folder: Path, follow: list[str]) -> None:
    batch_id = api.add(*lines(3000))["id"]
    api.download_faults = [Fault(50_001), Fault(), Fault(7), None, Fault(1000), Fault(13), Fault()]
    api.refusals = [None, None, None, Refusal(503), Refusal("drop"), Refusal(429)]
    poured = pulse("batch", "results", batch_id, *follow)
    assert (poured.exit_code, poured.stdout_bytes) == (0, api.part(batch_id, "results"))
    done = pulse("batch", "results", batch_id, "-o", "errors.jsonl", "--errors", *follow)
    assert (done.exit_code, done.stdout) == (0, "")
    assert Path("errors.jsonl").read_bytes() == api.part(batch_id, "errors")
    assert [path.name for path in folder.iterdir()] == ["errors.jsonl"]


def test_what_heeds_no_range_loses_and_repeats_nothing(pulse: Pulse, api: BatchStandIn, folder: Path) -> None:
    api.step = 0
    api.ranges = False
    batch_id = api.add(*lines(300))["id"]
    api.download_faults = [Fault(10_001), Fault(20_000), Fault(5000)]
    assert pulse("batch", "results", batch_id).stdout_bytes == api.part(batch_id, "results")
    (folder / f"out.jsonl.{batch_id}.results.part").write_bytes(api.part(batch_id, "results")[:15_000])
    assert pulse("batch", "results", batch_id, "-o", "out.jsonl").exit_code == 0
    assert (folder / "out.jsonl").read_bytes() == api.part(batch_id, "results")


def test_a_file_that_appears_meanwhile_is_not_written_over(start: Start, api: BatchStandIn, folder: Path) -> None:
    batch_id = api.add(*lines(30))["id"]
    api.hold.clear()
    process = start("batch", "results", batch_id, "-o", "out.jsonl")
    until(lambda: api.asked("GET", "/results"))
    (folder / "out.jsonl").write_text("mine")
    api.hold.set()
    process.communicate(timeout=PATIENCE_S)
    assert (process.returncode, (folder / "out.jsonl").read_text()) == (1, "mine")


def test_what_an_earlier_try_left_is_gone_on_with(start: Start, pulse: Pulse, api: BatchStandIn, folder: Path) -> None:
    batch_id = api.add(*lines(6000))["id"]
    content = api.part(batch_id, "results")
    api.hold.clear()
    process = start("batch", "results", batch_id, "-o", "out.jsonl")
    part = folder / f"out.jsonl.{batch_id}.results.part"
    until(lambda: part.exists() and part.stat().st_size == len(content) // 2)
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 130
    assert stderr.endswith(f"Go on with: pulse batch results {batch_id} -o out.jsonl\n")
    left = part.read_bytes()
    whole = left[: left.rfind(b"\n") + 1]
    assert content.startswith(left)
    part.write_bytes(left + bytes(300_000))  # what a power cut may leave
    api.hold.set()
    done = pulse("batch", "results", batch_id, "-o", "out.jsonl", **ARABIC)
    assert (done.exit_code, (folder / "out.jsonl").read_bytes()) == (0, content)
    assert api.asked("GET", "/results")[-1].headers["range"] == f"bytes={len(whole)}-{len(content) - 1}"
    assert (not part.exists(), done.stderr.startswith("نُزّل ")) == (True, True)


def test_what_is_left_of_another_batch_or_part_is_not_touched(pulse: Pulse, api: BatchStandIn, folder: Path) -> None:
    batch_id, other = api.add(*lines(9))["id"], api.add(*lines(3))["id"]
    for left in (f"{other}.results", f"{batch_id}.errors"):
        (folder / f"out.jsonl.{left}.part").write_bytes(b"{}\n")
    assert pulse("batch", "results", batch_id, "-o", "out.jsonl").exit_code == 0
    assert (folder / "out.jsonl").read_bytes() == api.part(batch_id, "results")


def test_more_than_there_should_be_is_never_taken_for_the_results(
    pulse: Pulse, api: BatchStandIn, folder: Path
) -> None:
    batch_id = api.add(*lines(9))["id"]
    part = folder / f"out.jsonl.{batch_id}.results.part"
    part.write_bytes(b"{}\n" * 1000)
    done = pulse("batch", "results", batch_id, "-o", "out.jsonl")
    assert (done.exit_code, (folder / "out.jsonl").exists()) == (1, False)
    assert "code download_damaged" not in done.stderr
    assert "SHA-256 or size" in done.stderr
    assert pulse("batch", "results", batch_id, "-o", "out.jsonl").exit_code == 0, "what was wrong is thrown away"


def test_a_running_batch_gives_what_there_is_or_all_of_it(pulse: Pulse, api: BatchStandIn, folder: Path) -> None:
    api.step = 0
    api.hold.clear()
    batch_id = api.add(*lines(30), shown=9)["id"]
    shown = api.part(batch_id, "results")
    api.download_faults = [Fault(len(shown))]
    now = pulse("batch", "results", batch_id)
    assert (now.exit_code, now.stdout_bytes) == (0, shown)
    assert now.stderr == "the batch is not over; this is what there is by now\n"
    api.hold.set()
    api.shown[batch_id] = 9
    api.download_faults = [Fault(10)]
    followed = pulse("batch", "results", batch_id, "--follow")
    assert followed.stdout_bytes == api.part(batch_id, "results")
    assert len(followed.stdout.splitlines()) == 30
    assert api.answer(batch_id)["state"] == "completed"


def test_an_empty_part_is_an_empty_file(pulse: Pulse, api: BatchStandIn, folder: Path) -> None:
    batch_id = api.add(line(1))["id"]
    assert pulse("batch", "results", batch_id, "--errors", "-o", "errors.jsonl").exit_code == 0
    assert (folder / "errors.jsonl").read_bytes() == b""
    assert pulse("batch", "results", batch_id, "--errors").stdout == ""


def test_results_that_stay_away_are_given_up_with_the_way_back(pulse: Pulse, api: BatchStandIn, folder: Path) -> None:
    batch_id = api.add(*lines(30))["id"]
    api.download_faults = [Fault(100), *[Fault()] * 60]
    done = pulse("batch", "results", batch_id, "-o", "out.jsonl", "--errors")
    assert done.exit_code == 1
    assert done.stderr.endswith(f"Go on with: pulse batch results {batch_id} --errors -o out.jsonl\n")
    assert done.stderr.count("the connection is lost; trying again") == 1
    assert [path.name for path in folder.iterdir()] == [f"out.jsonl.{batch_id}.errors.part"]


def test_what_is_there_is_written_over_only_by_force(pulse: Pulse, api: BatchStandIn, folder: Path) -> None:
    batch_id = api.add(line(1))["id"]
    (folder / "results.jsonl").write_text("mine")
    assert "--force" in pulse("batch", "results", batch_id, "-o", ".").stderr
    assert pulse("batch", "results", batch_id, "-o", ".", "--force").exit_code == 0
    assert (folder / "results.jsonl").read_bytes() == api.part(batch_id, "results")


def test_results_that_are_gone_are_told(pulse: Pulse, api: BatchStandIn, folder: Path) -> None:
    batch_id = api.add(line(1))["id"]
    gone = Refusal(410, {"status": 410, "code": "results_gone", "detail": "They are not kept any more."})
    api.refusals = [None, None, gone]
    done = pulse("batch", "results", batch_id, "-o", "out.jsonl")
    assert (done.exit_code, list(folder.iterdir())) == (1, [])
    assert "code results_gone" in done.stderr


def test_a_terminal_sees_how_a_download_goes(
    terminal: Callable[..., Terminal], api: BatchStandIn, folder: Path
) -> None:
    batch_id = api.add(*lines(6000))["id"]
    api.hold.clear()
    screen = terminal("batch", "results", batch_id, "-o", "out.jsonl", COLUMNS="120")
    screen.until("downloading")
    screen.until("50%")
    api.hold.set()
    assert "· out.jsonl" in screen.wait()
