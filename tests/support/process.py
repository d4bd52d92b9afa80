"""Real processes of the studio, each in a group of its own, and nothing of them left behind."""

import os
import signal
import subprocess
import sys
from collections.abc import Generator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

import msgspec

from infra.settings import ROOT, Settings, variable


def environ(settings: Settings) -> dict[str, str]:
    """Return this process's environment with every one of `settings` in it."""
    fields = msgspec.structs.asdict(settings)
    return os.environ | {variable(name): str(value) for name, value in fields.items() if value != ""}


def kill(process: "subprocess.Popen[bytes]") -> None:
    """End a process and its children as `kill -9` would."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


@contextmanager
def started(*command: str, env: Mapping[str, str], log: Path | None = None) -> Generator["subprocess.Popen[bytes]"]:
    """Run `python -m COMMAND` for the length of a block, its output in `log`."""
    with (log or Path(os.devnull)).open("ab") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", *command],
            cwd=ROOT,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        yield process
    finally:
        kill(process)


@contextmanager
def piped(program: str) -> Generator["subprocess.Popen[str]"]:
    """Run the text of a Python program for the length of a block, its output in a pipe."""
    command = [sys.executable, "-c", program]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def printed(program: str) -> str:
    """Run the text of a Python program and return what it printed."""
    command = [sys.executable, "-c", program]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout


def peak_mib(process: "subprocess.Popen[bytes]") -> float:
    """Return the most memory that a process has had, in MiB."""
    status = Path(f"/proc/{process.pid}/status").read_text(encoding="utf-8")
    return next(int(line.split()[1]) / 1024 for line in status.splitlines() if line.startswith("VmHWM"))
