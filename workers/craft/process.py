"""One child as a process: started, asked once, killed whenever it must be, and never left behind."""

import asyncio
import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import msgspec
import structlog
from msgspec import Struct

from infra.settings import ROOT
from workers import events
from workers.craft import wire
from workers.craft.wire import Last

log = structlog.stdlib.get_logger()

type OnProgress = Callable[[events.Progress], Awaitable[None]]

_PROGRAM = "from workers.craft import inside; inside.main()"
# All that a child gets of the worker's environment: no key, no secret, no address of a server.
_PASSED_ON = ("LANG", "LC_ALL", "LC_CTYPE", "LD_LIBRARY_PATH", "PATH", "TZ")
_GONE_WITHIN_S = 5.0
_LOOK_EVERY_S = 0.0005
_LONGEST_REPORT = 200
# How much of what a child printed goes into the log.
_LAST_WORDS = 4096
# Progress beyond this is dropped: so many at once, and so many a second.
_PROGRESS_AT_ONCE = 50
_PROGRESS_PER_S = 10
MIB = 1024 * 1024


class Ended(Struct, frozen=True, kw_only=True):
    """How a child ended: its exit code (negative: the signal; None: unknown), and what it had used and printed."""

    code: int | None = None
    cpu_s: float = 0.0
    peak_mib: float = 0.0
    nonsense: str = ""
    printed: str = ""


class Process:
    """One child, from its start to its end. `kill` and `end` have to be called, whatever happens in between."""

    def __init__(self, modules: tuple[str, ...] = ()) -> None:
        """Start it: some milliseconds, in which the loop waits."""
        self._nonsense = ""
        self._heard = bytearray()
        with contextlib.ExitStack() as unless_started:
            self._folder = Path(tempfile.mkdtemp(prefix="pulse-child-"))
            unless_started.callback(self._folder.rmdir)
            self._printed = unless_started.enter_context(tempfile.TemporaryFile())
            self._conversation, its_conversation = socket.socketpair()
            self._lifeline, its_lifeline = socket.socketpair()
            for ours in (self._conversation, self._lifeline):
                unless_started.callback(ours.close)
                ours.setblocking(False)  # noqa: FBT003 (the name is the socket's)
            with its_conversation, its_lifeline:
                self._guard = self._started((its_conversation.fileno(), its_lifeline.fileno()), modules)
            unless_started.pop_all()

    def _started(self, descriptors: tuple[int, int], modules: tuple[str, ...]) -> "subprocess.Popen[bytes]":
        # -P, -s: nothing that lies in the folder is ever imported.
        python = [sys.executable, "-P", "-s", "-u", "-X", "faulthandler", "-c", _PROGRAM]
        return subprocess.Popen(  # noqa: S603 (our own program)
            [*python, *map(str, descriptors), *modules],
            cwd=self._folder,
            env=_environment(self._folder),
            stdin=subprocess.DEVNULL,
            stdout=self._printed,
            stderr=self._printed,
            pass_fds=descriptors,
            start_new_session=True,
        )

    @property
    def alive(self) -> bool:
        """Whether it can still be asked: it has neither gone nor spoken unasked."""
        try:
            self._conversation.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return True
        except ConnectionError:
            return False
        return False

    async def answer(self, call: bytes, on_progress: OnProgress | None) -> Last | None:
        """Return its last word, or None if it went without one or spoke nonsense."""
        with contextlib.suppress(ConnectionError):
            await asyncio.get_running_loop().sock_sendall(self._conversation, call)
        allowance = _Allowance()
        while (data := await self._frame()) is not None:
            try:
                word = wire.decode_word(data)
            except (msgspec.MsgspecError, RecursionError) as error:
                self._nonsense = str(error)[:200]
                return None
            if not isinstance(word, wire.Said):
                return word
            if on_progress is not None and allowance.take():
                await on_progress(events.Progress(done=word.done, total=word.total, stage=word.stage))
            else:
                await asyncio.sleep(0)  # however much it says, the loop is everybody's
        return None

    async def _frame(self) -> bytes | None:
        head = await self._read(wire.LENGTH_BYTES)
        length = int.from_bytes(head, "big")
        if length > wire.LONGEST_BYTES:
            self._nonsense = f"a message of {length} bytes"
            return None
        data = await self._read(length) if head else b""
        return data or None

    async def _read(self, length: int) -> bytes:
        """Read so many bytes, or nothing when it ends before."""
        loop = asyncio.get_running_loop()
        while len(self._heard) < length:
            try:
                piece = await loop.sock_recv(self._conversation, 65536)
            except ConnectionError:
                piece = b""
            if not piece:
                return b""
            self._heard += piece
        data = bytes(self._heard[:length])
        del self._heard[:length]
        return data

    def kill(self) -> None:
        """Let its guard kill it and all that it has started, at once."""
        with contextlib.suppress(OSError):  # gone already
            self._lifeline.shutdown(socket.SHUT_WR)

    async def end(self) -> Ended:
        """Wait until nothing of it is left, a few seconds at most."""
        report = b""
        try:
            async with asyncio.timeout(_GONE_WITHIN_S):
                report = await self._report()
                while self._guard.poll() is None:  # noqa: ASYNC110 (it has closed everything: it is about to go)
                    await asyncio.sleep(_LOOK_EVERY_S)
        except TimeoutError:
            log.error("a child does not end", guard=self._guard.pid)  # noqa: TRY400 (where, is no news)
            self._guard.kill()  # the kernel then kills the child; that it did not end says that it cannot yet
        ended = self._told(report)
        self._forget()
        if self._folder.exists():  # its guard was killed before it came to that
            await asyncio.to_thread(shutil.rmtree, self._folder, ignore_errors=True)
        return ended

    async def _report(self) -> bytes:
        report = b""
        with contextlib.suppress(ConnectionError):
            while piece := await asyncio.get_running_loop().sock_recv(self._lifeline, _LONGEST_REPORT):
                report += piece
        return report

    def _told(self, report: bytes) -> Ended:
        size = os.fstat(self._printed.fileno()).st_size
        printed = os.pread(self._printed.fileno(), _LAST_WORDS, max(0, size - _LAST_WORDS)).decode(errors="replace")
        if not report:
            return Ended(nonsense=self._nonsense, printed=printed)
        code, cpu_s, peak_bytes = json.loads(report)
        return Ended(
            code=code,
            cpu_s=round(cpu_s, 3),
            peak_mib=round(peak_bytes / MIB, 1),
            nonsense=self._nonsense,
            printed=printed,
        )

    def _forget(self) -> None:
        self._conversation.close()
        self._lifeline.close()
        self._printed.close()


class _Allowance:
    """How much progress may still be passed on: a burst, then a steady trickle."""

    def __init__(self) -> None:
        self._left = float(_PROGRESS_AT_ONCE)
        self._counted_s = time.monotonic()

    def take(self) -> bool:
        now_s = time.monotonic()
        self._left = min(_PROGRESS_AT_ONCE, self._left + (now_s - self._counted_s) * _PROGRESS_PER_S)
        self._counted_s = now_s
        if self._left < 1:
            return False
        self._left -= 1
        return True


def _environment(folder: Path) -> dict[str, str]:
    passed_on = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
    return passed_on | {"HOME": str(folder), "TMPDIR": str(folder), "PYTHONPATH": str(ROOT)}
