"""One process of a contender: it is given one order and watched through the lines it says (`bench/peers/driver.py`)."""

import os
import queue
import signal
import subprocess
import tempfile
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Self

import msgspec

_DRIVER = Path(__file__).parent.parent / "peers" / "driver.py"
#: Long enough for the slowest peer's longest run, on a machine that others use too.
PATIENCE_S = 300.0

#: Held while any child is started: between its fork and its exec it has copies of what other threads have open, and a
#: server that starts meanwhile would find the lock of its folder taken.
STARTING = threading.Lock()


class Event(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a process said: which event, and the fields that this one has."""

    event: str
    seconds: float = 0.0
    cpu_s: float = 0.0
    at_ns: int = 0
    delays_ms: list[float] = []
    error: str = ""


class ProcessEnded(RuntimeError):
    """A process ended, or its worker gave up, before it said what was waited for."""


class ProcessSilent(TimeoutError):
    """A process did not say in time what was waited for."""


class Process:
    """A process of its own session; a context manager that leaves nothing of it behind."""

    def __init__(self, python: Path, adapter: Path, url: str) -> None:
        """Start it; it loads the adapter and waits for its order."""
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the process
        with STARTING:
            self._child = subprocess.Popen(
                [str(python), "-P", str(_DRIVER), str(adapter), url],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._errors,
                start_new_session=True,  # so that its forks end with it, and a Ctrl-C is the bench's to handle
            )
        self._said: queue.SimpleQueue[Event | None] = queue.SimpleQueue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def order(self, **what: object) -> None:
        """Give it its one order."""
        assert self._child.stdin is not None
        self._child.stdin.write(msgspec.json.encode(what) + b"\n")
        self._child.stdin.flush()

    def event(self, *names: str, within_s: float = PATIENCE_S) -> Event:
        """Return the next event of one of these names, past all others. Raises `ProcessEnded`, `ProcessSilent`."""
        deadline_s = time.monotonic() + within_s
        while True:
            try:
                said = self._said.get(timeout=max(0.0, deadline_s - time.monotonic()))
            except queue.Empty:
                raise ProcessSilent(f"no {' or '.join(names)} in {within_s:.0f} s; {self._last_words()}") from None
            if said is None or said.event == "gave up":
                self._said.put(None)  # whoever asks again is told again
                raise ProcessEnded(said.error if said else self._last_words())
            if said.event in names:
                return said

    def leave(self) -> None:
        """Close its standard input, as happens when this process is killed: it then ends by itself."""
        assert self._child.stdin is not None
        with suppress(BrokenPipeError):
            self._child.stdin.close()

    def kill(self) -> None:
        """End it with SIGKILL, and its forks with it, and return when it is gone."""
        if self._child.poll() is None:
            with suppress(ProcessLookupError):
                os.killpg(self._child.pid, signal.SIGKILL)
        self._child.wait()

    def _read(self) -> None:
        assert self._child.stdout is not None
        for line in self._child.stdout:
            self._said.put(msgspec.json.decode(line, type=Event))
        self._said.put(None)

    def _last_words(self) -> str:
        self._errors.seek(0)
        lines = self._errors.read().decode(errors="replace").strip().splitlines()
        return lines[-1] if lines else "it wrote no error"

    def __enter__(self) -> Self:
        """Give it to whoever orders."""
        return self

    def __exit__(self, *_error: object) -> None:
        """End it."""
        self.kill()
        self.leave()
        self._reader.join()
        assert self._child.stdout is not None
        self._child.stdout.close()
        self._errors.close()
