"""What runs inside a child: a guard, which only waits and cleans up, and below it the process that does the work.

The guard leads a session of its own and runs none of the work. When the work has ended, or when the worker has closed
its end of the lifeline (to cancel, or because it was killed itself), the guard kills everything that descends from it,
reaps it, removes the folder in which it all began, reports how the work ended, and goes. Work that holds the
interpreter's lock for ever cannot hinder it, and neither can programs that the work has started, in whatever session
they are.
"""

import _thread
import ctypes
import errno
import importlib
import inspect
import json
import math
import os
import resource
import signal
import socket
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import suppress
from operator import attrgetter
from pathlib import Path
from threading import Lock
from typing import Never, get_type_hints

from msgspec import Raw

from infra.errors import PulseError
from workers.craft import wire
from workers.craft.wire import Call, Exceeded, Last, Limits, Refused, Returned, Said

_LINUX = sys.platform == "linux"
_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
# The worker's event loop and its leases come first, and when memory runs out the child goes first.
_NICE = 5
_OOM_SCORE = "600"


def main() -> None:
    """Run one child: the arguments are the descriptors of the conversation and the lifeline, and modules to load."""
    conversation, lifeline = (socket.socket(fileno=int(number)) for number in sys.argv[1:3])
    for each in (conversation, lifeline):
        each.set_inheritable(False)
    guard = os.getpid()
    pid = os.fork()
    if pid == 0:
        lifeline.close()
        _work(conversation, guard, sys.argv[3:])
    conversation.close()
    _guard(lifeline, pid, os.getcwd())  # noqa: PTH109 (it is to be removed by whoever knows how)


def _guard(lifeline: socket.socket, pid: int, folder: str) -> Never:
    if _LINUX:
        _prctl(_PR_SET_CHILD_SUBREAPER, 1)  # what the work leaves behind becomes the guard's, not init's
    _thread.start_new_thread(_kill_when_cut, (lifeline, pid))
    _, status, used = os.wait4(pid, 0)
    _clear(pid)
    _remove(folder)
    peak_bytes = used.ru_maxrss * (1024 if _LINUX else 1)
    report = [os.waitstatus_to_exitcode(status), used.ru_utime + used.ru_stime, peak_bytes]
    with suppress(OSError):  # nobody may be left to hear it
        lifeline.sendall(json.dumps(report).encode())
    os._exit(0)


def _kill_when_cut(lifeline: socket.socket, pid: int) -> None:
    with suppress(OSError):
        lifeline.recv(1)
    _kill_group(pid)
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)  # it may not lead its group yet


def _kill_group(pid: int) -> None:
    with suppress(ProcessLookupError, PermissionError):  # macOS says the latter of a group of zombies
        os.killpg(pid, signal.SIGKILL)


def _clear(pid: int) -> None:
    """Kill and reap everything that the work of `pid` has left behind."""
    _kill_group(pid)
    while True:
        for left in _children():
            with suppress(ProcessLookupError):
                os.kill(left, signal.SIGKILL)
        try:
            os.waitpid(-1, 0)
        except ChildProcessError:
            return


def _children() -> Iterator[int]:
    with suppress(OSError):  # no such files: the group is all that can be found
        for thread in Path("/proc/self/task").iterdir():
            yield from map(int, (thread / "children").read_text().split())


def _remove(folder: str) -> None:
    try:
        os.rmdir(folder)  # noqa: PTH106
    except OSError:  # there is something in it
        with suppress(OSError):  # no such program: the worker sees to it
            os.waitpid(os.posix_spawnp("rm", ["rm", "-rf", "--", folder], os.environ), 0)


def _work(conversation: socket.socket, guard: int, modules: list[str]) -> Never:
    try:
        os.setsid()
        _bind(guard)
        for module in modules:
            with suppress(Exception):  # the call itself will tell
                importlib.import_module(module)
        call = _asked(conversation)
        if call is not None:
            _limit(call.limits)
            conversation.sendall(_answer(call, _speaker(conversation)))
    except BaseException:  # noqa: BLE001 (it is a process's end)
        traceback.print_exc()
        os._exit(1)
    os._exit(0)


def _bind(guard: int) -> None:
    if _LINUX:
        _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != guard:
            os._exit(1)
        with suppress(OSError):
            Path("/proc/self/oom_score_adj").write_text(_OOM_SCORE)
    os.nice(_NICE)


def _prctl(option: int, value: int) -> None:
    ctypes.CDLL(None).prctl(option, value, 0, 0, 0)


def _asked(conversation: socket.socket) -> Call | None:
    """Wait for the call; None when the worker does not need this child any more."""
    length = int.from_bytes(_read(conversation, wire.LENGTH_BYTES), "big")
    return wire.decode(_read(conversation, length), Call) if length else None


def _read(conversation: socket.socket, length: int) -> bytes:
    data = bytearray()
    while len(data) < length and (piece := conversation.recv(length - len(data))):
        data += piece
    return bytes(data)


def _limit(limits: Limits) -> None:
    cpu_s = math.ceil(time.process_time() + limits.cpu_s)
    _cap("RLIMIT_CORE", 0)
    _cap("RLIMIT_FSIZE", limits.file_bytes)
    _cap("RLIMIT_CPU", cpu_s, cpu_s + 1)  # SIGXCPU, and SIGKILL for who ignores it
    # Not RLIMIT_AS: it counts what is only reserved (thread stacks, arenas), and breaks x264 at a gigabyte.
    _cap("RLIMIT_DATA", limits.memory_bytes)


def _cap(name: str, soft: int, hard: int | None = None) -> None:
    number: int | None = getattr(resource, name, None)
    if number is None:
        return
    _, most = resource.getrlimit(number)
    ceiling = math.inf if most == resource.RLIM_INFINITY else most
    with suppress(OSError, ValueError):  # macOS knows some of them by name only
        resource.setrlimit(number, (int(min(soft, ceiling)), int(min(soft if hard is None else hard, ceiling))))


def _speaker(conversation: socket.socket) -> wire.Say:
    lock = Lock()

    def say(done: int, total: int, stage: str) -> None:
        with lock:
            conversation.sendall(wire.frame(Said(done=done, total=total, stage=stage[:200])))

    return say


def _answer(call: Call, say: wire.Say) -> bytes:
    """Make the call and return its frame, whatever comes of it."""
    try:
        return wire.frame(Returned(value=_made(call, say)))
    except MemoryError:
        return wire.frame(Exceeded(limit="memory"))
    except PulseError as error:
        return wire.frame(_refused(error))
    except OSError as error:
        return wire.frame(Exceeded(limit="file") if error.errno == errno.EFBIG else _unforeseen())
    except BaseException:  # noqa: BLE001 (an exit is no answer either)
        return wire.frame(_unforeseen())


def _made(call: Call, say: wire.Say) -> Raw:
    module, _, path = call.function.partition(":")
    function: Callable[..., object] = attrgetter(path)(importlib.import_module(module))
    hints = get_type_hints(function, include_extras=True)
    names = [name for name in inspect.signature(function).parameters if name != "say"]
    if len(call.arguments) > len(names):
        raise TypeError(f"{call.function} takes {len(names)} arguments, not {len(call.arguments)}")
    arguments = [wire.decode(each, hints[name]) for each, name in zip(call.arguments, names, strict=False)]
    spoken = {"say": say} if "say" in hints else {}
    return wire.raw(function(*arguments, **spoken))


def _refused(error: PulseError) -> Last:
    facts = {name: fact if isinstance(fact, int | float | None) else str(fact) for name, fact in error.facts.items()}
    return Refused(module=type(error).__module__, name=type(error).__name__, facts=facts)


def _unforeseen() -> Last:
    return wire.raised(traceback.format_exc())
