"""Decides the order in which everything of one machine starts, and that it stops in the reverse one."""

import contextlib
import json
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import cast

import msgspec
from honcho import environ

from infra import embedded, pidfile
from infra.errors import PulseError
from infra.settings import Settings, variable
from scripts.studio import STARTED_S, ports, welcome
from scripts.studio.pools import Pools, clear_leftovers

_MODEL = "model"  # the one line of the Procfile that needs no database, so it starts first
_GRACE_S = 3.0  # a person waits at the terminal, and what is handed back runs again at the next start


class StudioRunning(PulseError):
    """Pulse already runs on {folder} at {url} (process {pid}); stop it, or set PULSE_HOME to another folder."""

    ar = "يعمل Pulse بالفعل على {folder} في {url} (العملية {pid})؛ أوقفه أو اضبط PULSE_HOME على مجلد آخر."


def run(settings: Settings, procfile: Path, prepare: Callable[[Settings], str]) -> int:
    """Run until told to stop, and return the exit code: 0 then, 1 when a process or a server ended by itself.

    `prepare` is called when the servers answer and before the processes start; it returns an API key to show.
    Raises `StudioRunning`, `InvalidSetting` and what `embedded.Servers` raises.
    """
    folder = settings.folder / "run"
    with contextlib.ExitStack() as undo:
        _claim(settings, folder)
        clear_leftovers(folder / "pools")  # they may still hold the ports
        settings = _with_free_ports(settings)
        servers = embedded.Servers(settings, _say)
        undo.callback(servers.stop)
        pools = Pools(folder / "pools", _environ(settings), settings.grace_s)
        undo.callback(pools.stop)
        _listen_to_signals(pools)
        commands = _commands(procfile, settings)
        if _MODEL in commands:
            pools.begin(_MODEL, commands.pop(_MODEL))
        servers.start()
        key = prepare(settings)
        _say("the database is up to date")
        undo.callback(_publish(settings).unlink, missing_ok=True)
        for name, command in commands.items():
            pools.begin(name, command)
        _say(f"starting {', '.join(commands)}")
        welcome.greet_when_ready(settings, key, STARTED_S)
        wrong = pools.relay(servers.fallen)
        _say(f"{wrong}: stopped everything" if wrong else "stopped; the data is kept")
    return 1 if wrong else 0


def _say(text: str) -> None:
    with contextlib.suppress(OSError):
        print(f"{time.monotonic() - STARTED_S:6.1f} s  {text}", flush=True)


def _claim(settings: Settings, folder: Path) -> None:
    """Make this the folder's only studio, for as long as this process lives. Raises `StudioRunning`."""
    path = folder / "studio.pid"
    lock = pidfile.claim(path)
    if lock is None:
        url = "an address still to be chosen"
        with contextlib.suppress(OSError, ValueError, KeyError):
            url = json.loads((settings.folder / "studio.json").read_text())["url"]
        raise StudioRunning(folder=settings.folder, url=url, pid=pidfile.named(path))
    pidfile.name(lock, os.getpid())


def _with_free_ports(settings: Settings) -> Settings:
    port = ports.free(settings.host, settings.port)
    local_port = settings.local_port if settings.cloud else ports.free("127.0.0.1", settings.local_port, (port,))
    for wanted, got in ((settings.port, port), (settings.local_port, local_port)):
        if wanted != got:
            _say(f"port {wanted} is taken; using {got}")
    return msgspec.structs.replace(
        settings,
        port=port,
        local_port=local_port,
        grace_s=settings.grace_s if variable("grace_s") in os.environ else _GRACE_S,
    )


def _environ(settings: Settings) -> dict[str, str]:
    """Return the environment of the pools: ours, with what was decided here."""
    decided = {variable(field): str(getattr(settings, field)) for field in ("port", "local_port", "grace_s")}
    return {**os.environ, **decided, "PYTHONUNBUFFERED": "1"}


def _commands(procfile: Path, settings: Settings) -> dict[str, str]:
    parsed = environ.parse_procfile(procfile.read_text())  # pyright: ignore[reportUnknownMemberType]
    commands = dict(cast("dict[str, str]", parsed.processes))  # pyright: ignore[reportUnknownMemberType]
    if settings.cloud:
        commands.pop(_MODEL, None)
    return commands


def _listen_to_signals(pools: Pools) -> None:
    studio = os.getpid()

    def heard(_number: int, _frame: FrameType | None) -> None:
        if os.getpid() == studio:  # the forks that relay output hear a Ctrl-C too; they end with what they relay
            pools.interrupt()

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, heard)


def _publish(settings: Settings) -> Path:
    """Write where this studio is, for the `pulse` command of another terminal; return the file."""
    path = settings.folder / "studio.json"
    path.unlink(missing_ok=True)
    path.touch(mode=0o600)
    where = {"url": welcome.url(settings), "pid": os.getpid(), "local_port": settings.local_port}
    path.write_text(json.dumps(where))
    return path
