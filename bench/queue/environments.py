"""Decides where a peer's environment is and makes it on demand: what `bench/peers/NAME.txt` pins, and nothing else."""

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

from infra.settings import ROOT
from scripts import environment

PEERS = ROOT / "bench" / "peers"
_HOME = ROOT / ".pulse" / "bench"


def python(name: str) -> Path:
    """Return the Python of a peer's environment. Raises `CalledProcessError` when it cannot be made."""
    folder = _HOME / name
    requirements = PEERS / f"{name}.txt"
    stamp = folder / "pulse-stamp"
    wanted = hashlib.sha256(requirements.read_bytes() + sys.version.encode()).hexdigest()
    if not stamp.is_file() or stamp.read_text() != wanted:
        _make(folder, requirements)
        stamp.write_text(wanted)  # last: an environment without one was interrupted, and is made again
    return folder / "bin" / "python"


def _make(folder: Path, requirements: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    uv = environment.find_uv() or environment.get_uv("Pulse's benchmarks need uv; install it, then run them again.")
    environ = os.environ | environment.index_of_pip()
    # The same Python for every contender.
    for command in (
        ["venv", "--quiet", "--no-project", "--python", sys.executable, str(folder)],
        ["pip", "sync", "--quiet", "--python", str(folder / "bin" / "python"), "--compile-bytecode", str(requirements)],
    ):
        subprocess.run([uv, *command], env=environ, check=True)
