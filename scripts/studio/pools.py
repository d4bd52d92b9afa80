"""Runs the lines of the Procfile: honcho's forks, colours and printer, with the studio's own rules for ending them."""

import contextlib
import multiprocessing
import os
import queue
import signal
import threading
import time
from collections.abc import Callable, Mapping
from multiprocessing import connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, cast

from honcho.colour import get_colours
from honcho.printer import Message, Printer
from honcho.process import Popen, Process

from infra import pidfile
from infra.embedded import privileges
from infra.settings import ROOT

_LOOK_EVERY_S = 0.1
_KILL_AFTER_S = 5.0  # beyond the grace that the processes give their own work


class _Terminal(Printer):
    """honcho's printer, which goes on when whoever read it is gone (a closed terminal, `make run | head`)."""

    def write(self, message: Message) -> None:  # pyright: ignore[reportUnknownMemberType]
        with contextlib.suppress(OSError):
            super().write(message)  # pyright: ignore[reportUnknownMemberType]


class _Pool(Process):
    """One line: a process group that is named in a pid file and does not outlive the studio.

    honcho runs it inside a fork of the studio, which relays what it prints.
    """

    def __init__(self, command: str, pid_path: Path, **rest: Any) -> None:
        super().__init__(command, **rest)  # pyright: ignore[reportUnknownMemberType]
        self._pid_path = pid_path
        self._child_ctor = self._open

    def _open(self, command: str, **rest: Any) -> Popen:
        while (lock := pidfile.claim(self._pid_path, passed_on=True)) is None:
            time.sleep(_LOOK_EVERY_S)
        # Should even the relaying fork be killed, the kernel ends the process.
        bound = privileges.bound(["/bin/sh", "-c", command], signal.SIGTERM)
        child = Popen(bound, shell=False, pass_fds=(lock,), **rest)
        pidfile.name(lock, child.pid)
        threading.Thread(target=_end_with_the_studio, args=(child.pid,), daemon=True).start()
        return child


def _end_with_the_studio(group: int) -> None:
    """Wait for the studio to be killed, however hard; then end the group, and the fork that this runs in."""
    studio = multiprocessing.parent_process()
    if studio is not None:
        connection.wait([studio.sentinel])
    with contextlib.suppress(ProcessLookupError):
        os.killpg(group, signal.SIGKILL)
    os._exit(1)


def clear_leftovers(folder: Path) -> None:
    """End what a killed studio left behind; its jobs are taken up again, which is what leases are for."""
    for path in folder.glob("*.pid"):
        pidfile.end(path, signal.SIGKILL)


class Pools:
    """All of them; one that ends by itself ends the rest."""

    def __init__(self, folder: Path, environ: Mapping[str, str], grace_s: float) -> None:
        """Keep their pid files in `folder`; `grace_s` is what they give their own work when they are told to end."""
        self._folder = folder
        self._environ = dict(environ)
        self._grace_s = grace_s
        # honcho was made for fork; since Python 3.14 it has to be asked for.
        self._context = multiprocessing.get_context("fork")
        self._events: Any = self._context.Queue()
        self._printer = _Terminal()
        self._colours = get_colours()
        self._forks: dict[str, BaseProcess] = {}
        self._groups: dict[str, int] = {}
        self._codes: dict[str, int] = {}
        self._relaying = False
        self._ending: signal.Signals | None = None
        self._interrupts = 0

    def begin(self, name: str, command: str) -> None:
        """Start one of them. What it prints is shown from `relay` on."""
        self._printer.width = max(self._printer.width, len(name))
        pool = _Pool(
            command,
            self._folder / f"{name}.pid",
            name=name,
            colour=next(self._colours),
            env=self._environ,
            cwd=ROOT,
        )
        run = cast("Callable[..., None]", pool.run)  # pyright: ignore[reportUnknownMemberType]
        self._forks[name] = fork = self._context.Process(target=run, args=(self._events, True), name=name)
        fork.start()

    def interrupt(self) -> None:
        """Be told to stop, by a signal handler: the first time gently, the second time at once.

        Raises `KeyboardInterrupt` as long as there was no `relay` to notice it.
        """
        if not self._relaying:
            raise KeyboardInterrupt
        self._interrupts += 1

    def relay(self, fallen: Callable[[], str | None]) -> str | None:
        """Print what they say until all are gone; return what went wrong, or None when they were told to stop.

        `fallen` says what else has ended that they cannot do without.
        """
        self._relaying = True
        wrong = None
        kill_at_s = float("inf")
        while self._left():
            self._take_event()
            now_s = time.monotonic()
            if self._ending is None:
                wrong = self._ended() or fallen()
                if wrong or self._interrupts:
                    kill_at_s = now_s + self._grace_s + _KILL_AFTER_S
                    self._end(signal.SIGTERM)
            elif now_s > kill_at_s or self._interrupts > 1:
                self._end(signal.SIGKILL)
        return wrong

    def stop(self) -> None:
        """Leave none of them behind, whatever happened before."""
        self._interrupts += 1
        self.relay(lambda: None)

    def _left(self) -> list[str]:
        return [name for name in self._forks if name not in self._codes]

    def _take_event(self) -> None:
        try:
            event = self._events.get(timeout=_LOOK_EVERY_S)
        except queue.Empty:
            for name in self._left():
                if (code := self._forks[name].exitcode) is not None:  # killed, so that it could not tell
                    self._codes[name] = code
                    pidfile.end(self._folder / f"{name}.pid", signal.SIGKILL)
            return
        if event.type == "line":
            self._printer.write(event)  # pyright: ignore[reportUnknownMemberType]
        elif event.type == "start":
            self._groups[event.name] = event.data["pid"]
            if self._ending is not None:
                self._end(self._ending)
        elif event.type == "stop":
            self._codes[event.name] = event.data["returncode"]

    def _ended(self) -> str | None:
        for name, code in self._codes.items():
            return f"{name} ended by itself ({f'exit code {code}' if code >= 0 else signal.Signals(-code).name})"
        return None

    def _end(self, how: signal.Signals) -> None:
        self._ending = how
        for name in self._left():
            if name in self._groups:
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.killpg(self._groups[name], how)
