"""What tests of the `pulse` command may ask for: a stand-in for the studio's API, and the command run against it."""

import os
import subprocess
import sys
import threading
from collections.abc import Callable, Generator
from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner, Result

from infra.settings import Settings, variable
from scripts.pulse.__main__ import build
from tests.scripts import stand_in
from tests.scripts.stand_in import StandIn
from tests.scripts.terminal import Terminal

Pulse = Callable[..., Result]
Start = Callable[..., subprocess.Popen[str]]
_PATIENCE_S = 20.0


@pytest.fixture
def api() -> Generator[StandIn]:
    """A stand-in for the studio's API."""
    with stand_in.standing_in() as served:
        yield served


@pytest.fixture
def environ(api: StandIn, tmp_path: Path) -> dict[str, str]:
    """An environment that points at the stand-in, in English, with nothing of the machine's own studio."""
    plain = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    ours = {"PULSE_URL": api.url, "PULSE_API_KEY": stand_in.KEY, "PULSE_HOME": str(tmp_path)}
    return {**plain, **ours, "LANG": "en_US.UTF-8", "TERM": "xterm"}


@pytest.fixture
def pulse(environ: dict[str, str]) -> Pulse:
    """Run the command inside this process: `pulse("jobs", "--json", LANG="ar_EG.UTF-8")`."""

    def run(*arguments: str, stdin: str | bytes | None = None, **more: str) -> Result:
        gone: dict[str, str | None] = dict.fromkeys(os.environ)
        env = {**gone, **environ, **more}
        return CliRunner().invoke(build(), arguments, input=stdin, env=env, catch_exceptions=False, prog_name="pulse")

    return run


@pytest.fixture
def operator(pulse: Pulse, settings: Settings, environ: dict[str, str]) -> Pulse:
    """Run the command as the operator of a studio with real servers."""
    plain = Settings()
    for field, value in msgspec.structs.asdict(settings).items():
        if value != getattr(plain, field):
            environ[variable(field)] = str(value)
    return pulse


@pytest.fixture
def start(environ: dict[str, str]) -> Generator[Start]:
    """Start the command as a process of its own, with pipes; it is ended with the test, or where it hangs."""
    started: list[subprocess.Popen[str]] = []
    timers: list[threading.Timer] = []

    def run(*arguments: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "scripts.pulse", *arguments]
        pipe = subprocess.PIPE
        process = subprocess.Popen(command, env=environ, stdin=pipe, stdout=pipe, stderr=pipe, text=True)
        started.append(process)
        timers.append(threading.Timer(_PATIENCE_S, process.kill))
        timers[-1].start()
        return process

    yield run
    for timer, process in zip(timers, started, strict=True):
        timer.cancel()
        process.kill()
        process.communicate()


@pytest.fixture
def terminal(environ: dict[str, str]) -> Generator[Callable[..., Terminal]]:
    """Run the command in a terminal: `terminal("chat", NO_COLOR="1")`."""
    opened: list[Terminal] = []

    def run(*arguments: str, **more: str) -> Terminal:
        opened.append(Terminal(arguments, {**environ, **more}))
        return opened[-1]

    yield run
    for terminal in opened:
        terminal.close()
