"""What an embedded server is: a child process with a log, told to be ready, stopped gently, never left behind."""

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable
from importlib import util
from pathlib import Path

from infra import pidfile
from infra.errors import PulseError

Say = Callable[[str], None]
_READY_WITHIN_S = 120.0  # crash recovery of a big database takes its time
_STOPPED_WITHIN_S = 30.0
_LOOK_EVERY_S = 0.005


class ServerMissing(PulseError):
    """There is no {name} for this machine in the environment; set {key} to a server of your own."""

    ar = "لا يوجد {name} لهذا الجهاز في البيئة؛ اضبط {key} على خادم خاص بك."


class ServerFailed(PulseError):
    """{name} did not start: {reason} (its log: {log})."""

    ar = "لم يبدأ {name}: {reason} (السجل: {log})."


def package_folder(package: str) -> Path:
    """Return the folder of an installed package without importing it; a missing one gives a path that is not there."""
    spec = util.find_spec(package)
    return Path(spec.origin).parent if spec and spec.origin else Path(package)


class Server:
    """One server. Start it from a thread that lives as long as it: the kernel's death signal goes by thread."""

    def __init__(
        self,
        *,
        name: str,
        command: list[str],
        pid_path: Path,
        log: Path,
        prepare: Callable[[Say], None],
        answers: Callable[[], bool],
        ask: signal.Signals,
    ) -> None:
        """Describe it: `prepare` makes its data, `answers` says whether it is ready, `ask` is its signal to stop."""
        self.name = name
        self._command = command
        self._pid_path = pid_path
        self.log = log
        self._prepare = prepare
        self._answers = answers
        self._ask = ask
        self._child: subprocess.Popen[bytes] | None = None

    def launch(self, say: Say) -> None:
        """Begin to start it.

        A server left by a killed run is stopped, not adopted: it has no parent whose death would end it, and it may be
        of another version. The caller holds the lock of the servers' folder, so it cannot belong to a living studio.
        """
        lock = pidfile.take(self._pid_path, self._ask)
        try:
            self._prepare(say)
            with contextlib.suppress(FileNotFoundError):
                self.log.replace(self.log.with_suffix(".log.1"))
            with self.log.open("wb") as log:
                self._child = subprocess.Popen(  # noqa: S603 - our own binary
                    self._command,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    pass_fds=[lock],
                    start_new_session=True,  # a Ctrl-C in the terminal is the studio's to handle, in its order
                )
            pidfile.name(lock, self._child.pid)
        finally:
            os.close(lock)

    def wait(self) -> None:
        """Return when it answers. Raises `ServerFailed` when it ends instead, or takes too long."""
        deadline_s = time.monotonic() + _READY_WITHIN_S
        while not self._answers():
            if self.fallen:
                raise ServerFailed(name=self.name, reason=self._last_words(), log=self.log)
            if time.monotonic() > deadline_s:
                raise ServerFailed(name=self.name, reason=f"no answer in {_READY_WITHIN_S:.0f} s", log=self.log)
            time.sleep(_LOOK_EVERY_S)

    @property
    def fallen(self) -> bool:
        """Whether it was launched and has ended."""
        return self._child is not None and self._child.poll() is not None

    def ask_to_stop(self) -> None:
        """Tell it to stop, without waiting."""
        if self._child is not None and not self.fallen:
            self._child.send_signal(self._ask)

    def stop(self) -> None:
        """Tell it to stop and wait until it is gone."""
        if self._child is None:
            return
        self.ask_to_stop()
        try:
            self._child.wait(_STOPPED_WITHIN_S)
        except subprocess.TimeoutExpired:
            self._child.kill()
            self._child.wait()
        self._child = None

    def _last_words(self) -> str:
        lines = self.log.read_text(errors="replace").strip().splitlines()
        telling = [line for line in lines if "FATAL" in line or "PANIC" in line] or lines
        return telling[-1].split("FATAL:")[-1].strip() if telling else "it said nothing"
