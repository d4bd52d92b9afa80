"""A process of a bench that is given orders and answers each: one line of JSON either way."""

import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import Self

import msgspec

from infra.settings import ROOT

_PIECE_BYTES = 1_048_576


class ChildSilent(TimeoutError):
    """A process did not answer in time."""


class ChildEnded(RuntimeError):
    """A process ended before it answered; what it wrote stands on standard error."""


class Child:
    """`python -m MODULE`; a context manager that leaves nothing of it behind."""

    def __init__(self, *command: str, env: Mapping[str, str] | None = None) -> None:
        """Start it."""
        self._process = subprocess.Popen(
            [sys.executable, "-m", *command],
            cwd=ROOT,
            env=env,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            bufsize=0,
            start_new_session=True,
        )
        self._read = b""

    def order(self, what: object) -> None:
        """Give it an order."""
        assert self._process.stdin is not None
        self._process.stdin.write(msgspec.json.encode(what) + b"\n")

    def answer[T](self, shape: type[T], within_s: float) -> T:
        """Return its next answer. Raises `ChildSilent` and `ChildEnded`."""
        assert self._process.stdout is not None
        deadline_s = time.monotonic() + within_s
        while b"\n" not in self._read:
            ready, _, _ = select.select([self._process.stdout], [], [], max(0.0, deadline_s - time.monotonic()))
            if not ready:
                raise ChildSilent(f"no {shape.__name__} in {within_s:.0f} s")
            piece = os.read(self._process.stdout.fileno(), _PIECE_BYTES)
            if not piece:
                raise ChildEnded(f"a process ended instead of saying {shape.__name__}")
            self._read += piece
        line, _, self._read = self._read.partition(b"\n")
        return msgspec.json.decode(line, type=shape)

    def ask[T](self, what: object, shape: type[T], within_s: float) -> T:
        """Give it an order and return its answer."""
        self.order(what)
        return self.answer(shape, within_s)

    def __enter__(self) -> Self:
        """Give it to whoever orders."""
        return self

    def __exit__(self, *_error: object) -> None:
        """End it."""
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            pipe.close()
