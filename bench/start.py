"""How soon `make run` is ready: on an empty data folder, and again on the same one."""

import os
import resource
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from infra.settings import ROOT

_PATIENCE_S = 120.0


def run(*, quick: bool) -> dict[str, object]:
    """Return the medians of seconds to the ready block, of seconds to stop, and of CPU seconds used in between.

    Each round makes an empty folder, starts the studio on it, stops it, and starts it again.
    """
    first: list[tuple[float, float, float]] = []
    again: list[tuple[float, float, float]] = []
    for _ in range(1 if quick else 5):
        with tempfile.TemporaryDirectory(prefix="pulse-bench-") as folder:
            first.append(_round(Path(folder)))
            again.append(_round(Path(folder)))
    return {"first": _medians(first), "again": _medians(again), "rounds": len(first)}


def _medians(rounds: list[tuple[float, float, float]]) -> dict[str, float]:
    names = ("ready_s", "stop_s", "cpu_s")
    return {
        name: round(statistics.median(column), 2) for name, column in zip(names, zip(*rounds, strict=True), strict=True)
    }


def _round(folder: Path) -> tuple[float, float, float]:
    environ = {name: value for name, value in os.environ.items() if not name.startswith(("PULSE_", "OPENAI_"))}
    started_s, used_s = time.monotonic(), _cpu_s()
    studio = subprocess.Popen(
        [sys.executable, "-m", "scripts.studio"],
        cwd=ROOT,
        env=environ | {"PULSE_HOME": str(folder)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    assert studio.stdout is not None
    for line in studio.stdout:
        if "is ready" in line:
            break
        if time.monotonic() - started_s > _PATIENCE_S:
            break
    ready_s = time.monotonic() - started_s
    studio.send_signal(signal.SIGINT)
    studio.communicate()
    if studio.returncode != 0:
        raise RuntimeError(f"the studio ended with {studio.returncode}")
    return ready_s, time.monotonic() - started_s - ready_s, _cpu_s() - used_s


def _cpu_s() -> float:
    """Return the CPU seconds of all children that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
