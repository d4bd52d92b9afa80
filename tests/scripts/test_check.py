"""The checks: what fails in either part of the tests fails the whole, and what is broken off leaves nothing running."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from infra.settings import ROOT
from scripts import check

# Stands in for pytest: what is chosen in COMPUTING and in WAITING is done by the part that computes and by the other.
_PYTEST = """
case "$*" in *no:cacheprovider*) part=computing deed=$COMPUTING;; *) part=waiting deed=$WAITING;; esac
echo "$part"
eval "$deed"
"""
_CHECK = """
import sys
from scripts import check
check._STEPS, check._PYTEST = {}, ("sh", sys.argv.pop(1))
check.main()
"""


@pytest.fixture
def command(tmp_path: Path) -> list[str]:
    """The checks, without the steps before the tests."""
    assert check._STEPS  # pyright: ignore[reportPrivateUsage]
    assert check._PYTEST[1:] == ("-m", "pytest")  # pyright: ignore[reportPrivateUsage]
    (tmp_path / "pytest").write_text(_PYTEST)
    return [sys.executable, "-c", _CHECK, str(tmp_path / "pytest")]


@pytest.mark.parametrize(
    ("computing", "waiting", "code"),
    [("", "", 0), ("exit 1", "", 1), ("", "exit 2", 2), ("kill -9 $$", "", 9), ("", "kill -9 $$", 9)],
)
def test_what_fails_in_either_part_fails_the_whole(command: list[str], computing: str, waiting: str, code: int) -> None:
    environ = os.environ | {"COMPUTING": computing, "WAITING": waiting}
    done = subprocess.run(command, cwd=ROOT, env=environ, stdout=subprocess.PIPE, text=True, check=False)
    assert done.returncode == code
    assert done.stdout.splitlines() == ["tests:", "waiting", f"tests of {' and '.join(_computing())}:", "computing"]


def _computing() -> tuple[str, ...]:
    return check._BESIDE  # pyright: ignore[reportPrivateUsage]


def test_tests_that_are_chosen_run_alone(command: list[str]) -> None:
    environ = os.environ | {"COMPUTING": "exit 1", "WAITING": "exit 0"}
    done = subprocess.run([*command, "tests"], cwd=ROOT, env=environ, stdout=subprocess.PIPE, text=True, check=False)
    assert (done.returncode, done.stdout.splitlines()) == (0, ["tests:", "waiting"])


def test_ctrl_c_ends_both_parts_each_in_its_own_time(command: list[str], tmp_path: Path) -> None:
    deed = "trap 'sleep 0.2; echo ended >> $ENDS; exit 2' INT; echo begun >> $ENDS; while :; do sleep 0.05; done"
    ends = tmp_path / "ends"
    environ = os.environ | {"COMPUTING": deed, "WAITING": deed, "ENDS": str(ends)}
    with subprocess.Popen(
        command, cwd=ROOT, env=environ, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, process_group=0
    ) as checks:
        until_s = time.monotonic() + 20
        while not ends.exists() or ends.read_text().count("begun") < 2:
            assert time.monotonic() < until_s
            time.sleep(0.01)
        os.killpg(checks.pid, signal.SIGINT)
    assert checks.returncode != 0
    assert ends.read_text().count("ended") == 2
