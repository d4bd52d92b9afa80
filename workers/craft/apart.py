"""Does one deed in a process of its own, forked from a child of ours, which may use far less than the child itself.

For what may well take for ever, or all memory, and is not worth it. Only a child (`workers.craft.child`) may call it,
since it has one thread, and whatever it leaves behind is killed with it.
"""

import os
import resource
import signal
import tempfile
from collections.abc import Callable
from contextlib import suppress
from typing import BinaryIO, cast

_DONE, _FAILED, _EXHAUSTED = 0, 3, 4


class Exhausted(Exception):
    """The deed was stopped: it used more than it may."""


class Failed(Exception):
    """The deed raised something."""


def run(deed: Callable[[BinaryIO], None], *, cpu_s: int, memory_bytes: int) -> bytes:
    """Return what `deed` writes to the file that it is given. Raises `Exhausted` and `Failed`."""
    with tempfile.TemporaryFile() as file:
        pid = os.fork()
        if pid == 0:
            os._exit(_done(deed, cast("BinaryIO", file), cpu_s, memory_bytes))
        _, status = os.waitpid(pid, 0)
        code = os.waitstatus_to_exitcode(status)
        if code == _FAILED:
            raise Failed
        if code != _DONE:
            raise Exhausted(f"it ended with {code}")
        file.seek(0)
        return file.read()


def _done(deed: Callable[[BinaryIO], None], file: BinaryIO, cpu_s: int, memory_bytes: int) -> int:
    """Do the deed and return the exit code. It dies of SIGXCPU, or of SIGABRT where a library gets no memory."""
    try:
        signal.signal(signal.SIGXCPU, signal.SIG_DFL)
        for name, limit in (("RLIMIT_CPU", cpu_s), ("RLIMIT_DATA", memory_bytes)):
            number: int = getattr(resource, name)
            _, most = resource.getrlimit(number)
            with suppress(OSError, ValueError):  # macOS knows some of them by name only
                resource.setrlimit(number, (limit if most == resource.RLIM_INFINITY else min(limit, most), most))
        deed(file)
        file.flush()
    except MemoryError:
        return _EXHAUSTED
    except BaseException:  # noqa: BLE001 (it is a process's end)
        return _FAILED
    return _DONE
