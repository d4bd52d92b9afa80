"""A real clamd on loopback that knows one virus, which is none: the test file of the EICAR institute."""

import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from msgspec import Struct

from tests.support.corpus import eicar
from tests.support.serving import free_port

SIGNATURE = "Eicar-Test-Signature"
_PACKAGE = "clamav-daemon"
_STARTS_WITHIN_S = 30.0


class Clamd(Struct, frozen=True, kw_only=True):
    """Where it listens, twice, and the longest stream that it takes."""

    unix: str
    tcp: str
    most_bytes: int


def found() -> str | None:
    """Return the program, installed from Debian's package where it is not there and can be; None where it cannot."""
    if program := _program():
        return program
    if os.geteuid() or not shutil.which("apt-get"):
        return None
    _run("apt-get", "update", "-qq")
    _run("apt-get", "install", "-y", "-qq", "--no-install-recommends", _PACKAGE)
    return _program()


def _run(*command: str) -> None:
    subprocess.run(command, check=False, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=300)


def _program() -> str | None:
    return shutil.which("clamd", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")


@contextmanager
def running(program: str, *, most_bytes: int = 2 * 1024**2) -> Generator[Clamd]:
    """Run it for the length of a block."""
    # pytest's own folders are too deep for a unix socket's path.
    with tempfile.TemporaryDirectory(prefix="pulse-clamd-") as name:
        folder, port = Path(name), free_port()
        (folder / "signatures").mkdir()
        (folder / "signatures" / "test.ndb").write_text(f"{SIGNATURE}:0:*:{eicar().hex()}\n")
        options = {
            "DatabaseDirectory": folder / "signatures",
            "Foreground": "yes",
            "LocalSocket": folder / "clamd.sock",
            "LogFile": folder / "clamd.log",
            "StreamMaxLength": most_bytes,
            "TCPAddr": "127.0.0.1",
            "TCPSocket": port,
            "TemporaryDirectory": folder,
        }
        configuration = folder / "clamd.conf"
        configuration.write_text("".join(f"{key} {value}\n" for key, value in options.items()))
        process = subprocess.Popen(
            [program, f"--config-file={configuration}"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        try:
            _wait(process, folder / "clamd.sock")
            yield Clamd(unix=f"unix://{folder}/clamd.sock", tcp=f"tcp://127.0.0.1:{port}", most_bytes=most_bytes)
        finally:
            process.kill()
            process.wait()


def _wait(process: "subprocess.Popen[bytes]", path: Path) -> None:
    deadline = time.monotonic() + _STARTS_WITHIN_S
    while time.monotonic() < deadline and process.poll() is None:
        with socket.socket(socket.AF_UNIX) as probe:
            if probe.connect_ex(str(path)) == 0:
                return
        time.sleep(0.02)
    raise RuntimeError(f"clamd does not listen; it ended with {process.poll()}")
