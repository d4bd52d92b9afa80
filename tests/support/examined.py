"""Examines a file in a child as a worker does, and tells what that took. For the tests' corpus and for the bench."""

import os
import resource
import socket
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import PIL
from msgspec import Struct

from infra.settings import ROOT
from workers.scan.examine import examine
from workers.scan.findings import Asked
from workers.scan.refusals import FileRefused

_PER_MIB = 1024 if sys.platform == "linux" else 1024**2


class Examined(Struct, frozen=True, kw_only=True):
    """How an examination ended (`code` of the refusal; None: the file may be kept), and what it took in the child."""

    code: str | None
    en: str = ""
    ar: str = ""
    seconds: float
    peak_mib: float


def measured(asked: Asked) -> Examined:
    """Examine a file; to be called in a child of its own."""
    start = time.perf_counter()
    refused = None
    try:
        examine(asked)
    except FileRefused as refusal:
        refused = refusal
    return Examined(
        code=refused and refused.code,
        en=refused.text("en") if refused else "",
        ar=refused.text("ar") if refused else "",
        seconds=time.perf_counter() - start,
        peak_mib=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / _PER_MIB,
    )


class Opened(Struct, frozen=True, kw_only=True):
    """What a child has opened for good or ill, but for the code that it runs, and where it has connected to."""

    paths: list[str]
    connected: list[str]


def opened(asked: Asked) -> Opened:
    """Examine a file, and tell what was opened meanwhile; to be called in a child of its own."""
    watch = _Watch()
    examine(asked)
    return watch.seen()


def opens(_asked: Asked, path: Path) -> Opened:
    """Open a path and connect to nobody, as `opened` would have to notice."""
    watch = _Watch()
    path.read_bytes()
    with socket.socket() as connection, suppress(OSError):
        connection.connect(("127.0.0.1", 1))
    return watch.seen()


class _Watch:
    """Hears of everything that is opened through the interpreter from now on."""

    def __init__(self) -> None:
        self._paths: list[str] = []
        self._connected: list[str] = []
        sys.addaudithook(self._hear)

    def _hear(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open" and isinstance(arguments[0], str | bytes):
            self._paths.append(os.fsdecode(arguments[0]))
        if event.startswith("socket.connect"):
            self._connected.append(str(arguments[1:]))

    def seen(self) -> Opened:
        code = (str(ROOT), sys.prefix, sys.base_prefix)
        paths = [path for path in dict.fromkeys(self._paths) if not path.startswith(code)]
        return Opened(paths=paths, connected=self._connected)


def pillow() -> str:
    """Return the version of the Pillow that a child has."""
    return PIL.__version__
