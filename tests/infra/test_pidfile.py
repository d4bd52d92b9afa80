"""Pid files: locked for as long as the process they name lives."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from infra import pidfile


def hold(path: Path, command: list[str]) -> "subprocess.Popen[bytes]":
    """Start a process group that holds `path`."""
    lock = pidfile.claim(path, passed_on=True)
    assert lock is not None
    child = subprocess.Popen(command, pass_fds=[lock], start_new_session=True, stdout=subprocess.PIPE)
    pidfile.name(lock, child.pid)
    os.close(lock)
    return child


def test_a_file_is_held_for_as_long_as_a_child_has_it(tmp_path: Path) -> None:
    path = tmp_path / "child.pid"
    with hold(path, ["sleep", "1000"]) as child:
        assert pidfile.claim(path, passed_on=True) is None
        assert pidfile.named(path) == child.pid
        child.kill()
    lock = pidfile.claim(path, passed_on=True)
    assert lock is not None
    os.close(lock)


@pytest.mark.parametrize("asked", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_who_holds_a_file_is_ended_as_asked(tmp_path: Path, asked: signal.Signals) -> None:
    path = tmp_path / "child.pid"
    with hold(path, ["sleep", "1000"]) as child:
        pidfile.end(path, asked)
    assert child.returncode == -asked


def test_who_does_not_listen_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pidfile, "_PATIENCE_S", 0.2)
    path = tmp_path / "child.pid"
    with hold(path, ["sh", "-c", "trap '' TERM; echo deaf; sleep 1000"]) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"deaf\n"
        pidfile.end(path, signal.SIGTERM)
    assert child.returncode == -signal.SIGKILL


def test_a_stale_file_is_nobody_s(tmp_path: Path) -> None:
    path = tmp_path / "stale.pid"
    path.write_text(str(os.getppid()))
    pidfile.end(path, signal.SIGKILL)  # would kill what runs these tests
    assert pidfile.named(path) is None


def test_a_fork_does_not_keep_what_is_one_process_s_alone(tmp_path: Path) -> None:
    path = tmp_path / "studio.pid"
    program = f"""
import os, time
from pathlib import Path
from infra import pidfile
pidfile.claim(Path({str(path)!r}))
if os.fork() == 0:
    print("forked", flush=True)
    time.sleep(1000)
time.sleep(1000)
"""
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, start_new_session=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"forked\n"
        assert pidfile.claim(path) is None
        process.kill()
        process.wait()
        lock = pidfile.claim(path)
        assert lock is not None
        os.close(lock)
        os.killpg(process.pid, signal.SIGKILL)
