"""A terminal in which the command runs, so that what only terminals get can be tested."""

import contextlib
import os
import pty
import select
import subprocess
import sys
import time

_PATIENCE_S = 20.0


class Terminal:
    """The command in a pseudo-terminal."""

    def __init__(self, arguments: tuple[str, ...], environ: dict[str, str]) -> None:
        """Start it."""
        self._ours, theirs = pty.openpty()
        command = [sys.executable, "-m", "scripts.pulse", *arguments]
        self._process = subprocess.Popen(command, env=environ, stdin=theirs, stdout=theirs, stderr=theirs)
        os.close(theirs)
        self._shown = ""
        self._looked_at = 0

    def type(self, text: str) -> None:
        """Press keys."""
        os.write(self._ours, text.encode())

    def until(self, text: str) -> None:
        """Wait until `text` is shown after what was waited for before."""
        until_s = time.monotonic() + _PATIENCE_S
        while (found := self._shown.find(text, self._looked_at)) < 0:
            assert time.monotonic() < until_s, f"{text!r} is not in {self._shown[self._looked_at :]!r}"
            self._read()
        self._looked_at = found + len(text)

    def wait(self) -> str:
        """Wait for its end and return everything that was shown."""
        until_s = time.monotonic() + _PATIENCE_S
        while self._process.poll() is None:
            assert time.monotonic() < until_s, f"it does not end after {self._shown!r}"
            self._read()
        while self._read():
            pass
        return self._shown

    def close(self) -> None:
        """End it, whatever it does."""
        self._process.kill()
        self._process.wait()
        os.close(self._ours)

    def _read(self) -> bool:
        ready, _, _ = select.select([self._ours], [], [], 0.05)
        data = b""
        if ready:
            with contextlib.suppress(OSError):  # Linux says EIO when the other side is closed
                data = os.read(self._ours, 65536)
        self._shown += data.decode(errors="replace")
        return bool(data)
