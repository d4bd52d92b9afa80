"""Keeps which of our processes are alive: a file that names one, locked for as long as it lives.

A process id alone proves nothing, since the kernel gives it to somebody else later. A lock does: the kernel drops it
when its last holder is gone, however that went. So whoever finds such a file locked may signal the process it names.
"""

import contextlib
import fcntl
import os
import signal
import time
from pathlib import Path

from infra.errors import PulseError

_PATIENCE_S = 15.0
_LOOK_EVERY_S = 0.02


class ProcessStays(PulseError):
    """Process {pid} of an earlier run does not end; end it by hand, then try again."""

    ar = "العملية {pid} من تشغيل سابق لا تنتهي؛ أنهِها يدويًا ثم حاول مرة أخرى."


def claim(path: Path, *, passed_on: bool = False) -> int | None:
    """Lock `path` and return its open descriptor, or return None while somebody else holds it.

    With `passed_on` the lock also lives in every child that inherits the descriptor (flock); without, it is this
    process's alone and forks of it do not keep it alive (a POSIX record lock, which any close of the same file by
    this process would end: its holder must not read it).
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        (fcntl.flock if passed_on else fcntl.lockf)(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):  # POSIX leaves it open which of the two says "held"
        os.close(descriptor)
        return None
    os.ftruncate(descriptor, 0)
    return descriptor


def name(descriptor: int, pid: int) -> None:
    """Write `pid` into a claimed file."""
    os.pwrite(descriptor, str(pid).encode(), 0)


def named(path: Path) -> int | None:
    """Return the process that `path` names, alive or not."""
    with contextlib.suppress(FileNotFoundError, ValueError):
        return int(path.read_text())
    return None


def end(path: Path, ask: signal.Signals) -> None:
    """End the process group that holds `path`, as `take` does, and leave it to nobody."""
    os.close(take(path, ask))


def take(path: Path, ask: signal.Signals) -> int:
    """Claim `path` with `passed_on`, and end the process group that holds it if one does: `ask` first, then SIGKILL.

    Raises `ProcessStays` when even that does not help. To end its holder and claim it after that would be no claim: a
    child that any thread of ours has forked meanwhile, and that is not yet the program it is to be, holds it too.
    """
    asked = None
    started_s = time.monotonic()
    while (descriptor := claim(path, passed_on=True)) is None:
        waited_s = time.monotonic() - started_s
        pid = named(path)
        if waited_s > _PATIENCE_S * 2:
            raise ProcessStays(pid=pid)
        due = ask if waited_s < _PATIENCE_S else signal.SIGKILL
        if pid is not None and asked is not due:
            asked = due
            with contextlib.suppress(ProcessLookupError):
                os.killpg(pid, due)
        time.sleep(_LOOK_EVERY_S)
    return descriptor
