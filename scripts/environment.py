"""Makes `.venv` what the lock says: gets uv, a Python, the packages and the `pulse` command, or finds it all done.

Standard library only, and nothing newer than Python 3.8, which may be all there is before uv fetches a newer one.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
STAMP = VENV / "pulse-stamp"
TOOLS = ROOT / ".pulse" / "tools"
UV_VERSION = "0.13.9"  # the one that wrote the locks; they are read by any from UV_OLDEST on
UV_OLDEST = (0, 9)
PREFERRED = ((ROOT / ".python-version").read_text().strip(), "3.12", "3.14", ">=3.12")
TOO_OLD = sys.version_info < (3, 12)
_STARTED_S = time.monotonic()


class Stuck(Exception):
    """A step failed; the text says what to do."""


def main(python_needed: str) -> None:
    """Set up, or exit with one line. `python_needed` is that line for a machine without a Python that is new enough."""
    dev = "--dev" in sys.argv[1:]
    if is_done(dev=dev):
        return
    TOOLS.mkdir(parents=True, exist_ok=True)
    try:
        with (TOOLS / "setup.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # `make run` and `make test` at once: the second finds it done
            if not is_done(dev=dev):
                make(python_needed, dev=dev)
    except Stuck as error:
        sys.exit(str(error))
    except KeyboardInterrupt:
        sys.exit("stopped; run it again to go on")


def is_done(*, dev: bool) -> bool:
    """Say whether `.venv` is whole and up to date. One with the tools in it also serves to run."""
    if not STAMP.is_file() or not (VENV / "bin" / "python").exists():
        return False
    return STAMP.read_text() in ([digest(dev=True)] if dev else [digest(dev=False), digest(dev=True)])


def digest(*, dev: bool) -> str:
    """Return what the environment is made of, in few characters."""
    parts = [lock(dev=dev), ROOT / "pyproject.toml", ROOT / ".python-version", Path(__file__)]
    whole = hashlib.sha256(b"\0".join(part.read_bytes() for part in parts)).hexdigest()
    return ("dev " if dev else "run ") + whole


def lock(*, dev: bool) -> Path:
    """Return the lock to install."""
    return ROOT / ("requirements-dev.lock" if dev else "requirements.lock")


def make(python_needed: str, *, dev: bool) -> None:
    """Make the environment, the stamp last: one without it was interrupted and is made again."""
    old = STAMP.read_text() if STAMP.is_file() else ""
    dev = dev or old.startswith("dev ")
    uv = find_uv() or get_uv(python_needed)
    os.environ.update(index_of_pip())
    if not old or not (VENV / "bin" / "python").exists():
        python = find_python(uv) or get_python(uv, python_needed)
        shutil.rmtree(VENV, ignore_errors=True)
        say(f"making .venv with {python}")
        run("making .venv", [uv, "venv", "--quiet", "--no-project", "--python", python, str(VENV)])
    STAMP.unlink(missing_ok=True)
    into = ["--python", str(VENV / "bin" / "python")]
    say("installing the packages (about 300 MB the first time, 440 MB with the developers' tools)")
    run("installing the packages", [uv, "pip", "sync", *into, "--compile-bytecode", str(lock(dev=dev))])
    editable = ["--quiet", "--no-deps", "--no-build-isolation", "--editable", str(ROOT)]
    run("installing the pulse command", [uv, "pip", "install", *into, *editable])
    STAMP.write_text(digest(dev=dev))
    say("the environment is ready")


def find_uv() -> str | None:
    """Return a uv that is new enough: ours, else the one on PATH."""
    for command in (str(TOOLS / "uv"), "uv"):
        version = re.match(r"uv (\d+)\.(\d+)", output([command, "--version"]) or "")
        if version and (int(version[1]), int(version[2])) >= UV_OLDEST:
            return command
    return None


def get_uv(python_needed: str) -> str:
    """Install uv for this project alone, with pip into a folder, or with a virtual environment's pip."""
    unfinished = TOOLS / "uv.new"
    shutil.rmtree(unfinished, ignore_errors=True)
    if not TOO_OLD:
        say(f"getting uv {UV_VERSION}")
    if output([sys.executable, "-m", "pip", "--version"]):
        pip = [sys.executable, "-m", "pip", "install", "--target", str(unfinished)]
    else:
        if not output([sys.executable, "-c", "import ensurepip, venv; print(1)"]):
            get_venv(python_needed)
        run("making uv's folder", [sys.executable, "-m", "venv", str(unfinished)])
        pip = [str(unfinished / "bin" / "python"), "-m", "pip", "install"]
    pip += ["-qq", "--disable-pip-version-check", f"uv=={UV_VERSION}"]
    os.environ["PIP_ROOT_USER_ACTION"] = "ignore"  # its warning is about the system's own folders
    if not TOO_OLD:
        run("getting uv", pip)
    elif output(pip) is None:
        raise Stuck(python_needed)
    (unfinished / "bin" / "uv").replace(TOOLS / "uv")  # the program is all there is to it
    shutil.rmtree(unfinished)
    return str(TOOLS / "uv")


def get_venv(python_needed: str) -> None:
    """Install what Debian leaves out of its Python, or say how."""
    package = f"python{sys.version_info[0]}.{sys.version_info[1]}-venv"
    if TOO_OLD:
        raise Stuck(python_needed)
    if os.geteuid() != 0 or not shutil.which("apt-get"):
        raise Stuck(
            f"Pulse needs pip or venv, which this Python lacks: `sudo apt install {package}`, then run it again."
        )
    say(f"installing {package}")
    run("reading the system's packages", ["apt-get", "update", "-qq"])
    run(f"installing {package}", ["apt-get", "install", "-y", "-qq", package])


def find_python(uv: str) -> str | None:
    """Return the Python for `.venv`: $PYTHON, else the preferred version, else any that is new enough."""
    for request in (os.environ.get("PYTHON"), *PREFERRED):
        if request:
            command = [uv, "python", "find", "--no-project", "--no-python-downloads", "--system", request]
            python = output(command)
            if python and output([python, "-c", "import sys; assert sys.version_info >= (3, 12); print(1)"]):
                return python
    return None


def get_python(uv: str, python_needed: str) -> str:
    """Let uv fetch a Python of its own."""
    if output([uv, "python", "install", "--quiet", PREFERRED[0]]) is None:
        raise Stuck(python_needed)
    say(f"uv fetched Python {PREFERRED[0]}")
    return PREFERRED[0]


def index_of_pip() -> dict[str, str]:
    """Return the package index that this machine's pip was told to use, in uv's words: uv does not read pip's."""
    if "UV_DEFAULT_INDEX" in os.environ:
        return {}
    index = os.environ.get("PIP_INDEX_URL") or output(
        [sys.executable, "-m", "pip", "config", "get", "global.index-url"]
    )
    return {"UV_DEFAULT_INDEX": index} if index else {}


def output(command: list[str]) -> str | None:
    """Return what a command prints, or None when it fails or is not there."""
    try:
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=False)
    except OSError:
        return None
    return done.stdout.decode().strip() if done.returncode == 0 else None


def run(step: str, command: list[str]) -> None:
    """Run a command in view of the user. Raises `Stuck` when it fails."""
    if subprocess.call(command) != 0:
        raise Stuck(
            f"Setup stopped at: {step}. What was fetched is kept; with the network there, run it again to go on."
        )


def say(text: str) -> None:
    """Tell a step and the time it began."""
    print(f"{time.monotonic() - _STARTED_S:6.1f} s  {text}", flush=True)
