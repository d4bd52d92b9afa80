"""A studio in a process of its own, on stand-ins: `python -m tests.support.studio PROCFILE` runs it with no schema."""

import contextlib
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Generator, Mapping
from pathlib import Path

from infra import pidfile
from infra import settings as config
from infra.errors import PulseError
from infra.settings import ROOT
from scripts.studio import course

KEY = "pulse_key_of_the_tests"


class Studio:
    """One that was started; `log` is what it has printed so far."""

    def __init__(self, folder: Path, process: "subprocess.Popen[str]") -> None:
        """Follow `process`, whose data is in `folder`."""
        self.folder = folder
        self.process = process
        self.log = ""

    @classmethod
    @contextlib.contextmanager
    def started(cls, folder: Path, procfile: str, environ: Mapping[str, str] | None = None) -> Generator["Studio"]:
        """Start one on the lines of a Procfile, leader of a process group of its own, and leave nothing of it.

        It has a Valkey of its own. A PostgreSQL too when PULSE_DATABASE_URL is emptied in `environ`: few tests need it.
        """
        path = folder / "Procfile"
        path.write_text(procfile)
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.support.studio", str(path)],
            cwd=ROOT,
            env={
                **os.environ,
                "PULSE_HOME": str(folder / "data"),
                "PULSE_DATABASE_URL": "postgresql://nobody@nowhere/asks",
                **(environ or {}),
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        studio = cls(folder / "data", process)
        try:
            yield studio
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            with process:  # closes its pipe and waits
                pass
            for held in studio.held():
                pidfile.end(held, signal.SIGKILL)

    def until(self, text: str) -> str:
        """Read what it prints until a line with `text`, and return that line."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.log += line
            if text in line:
                return line
        raise AssertionError(f"it never said {text!r}:\n{self.log}")

    def ended(self) -> int:
        """Wait for its end and return its exit code; one that stays a minute is killed, which is its code then."""
        assert self.process.stdout is not None
        watchdog = threading.Timer(60, self.process.kill)
        watchdog.start()
        self.log += self.process.stdout.read()
        watchdog.cancel()
        return self.process.wait()

    def held(self) -> list[Path]:
        """Return the pid files of its children that somebody still holds."""
        files = [
            *self.folder.glob("run/pools/*.pid"),
            *(self.folder / "run" / f"{n}.pid" for n in ("postgres", "valkey")),
        ]
        return [path for path in files if _is_held(path)]

    def leaves_nothing(self) -> bool:
        """Wait until no child of it is left; False when one stays."""
        for _ in range(1000):
            if not self.held():
                return True
            time.sleep(0.02)
        return False

    def port(self) -> int:
        """Return the port of its API, as it told."""
        found = re.search(r"API +http://127\.0\.0\.1:(\d+)", self.log)
        assert found is not None, self.log
        return int(found[1])


def _is_held(path: Path) -> bool:
    if not path.exists():
        return False
    lock = pidfile.claim(path, passed_on=True)
    if lock is not None:
        os.close(lock)
    return lock is None


if __name__ == "__main__":
    try:
        sys.exit(course.run(config.load(), Path(sys.argv[1]), lambda _settings: KEY))
    except PulseError as error:
        sys.exit(str(error))
