"""What the tests let a child do: each by its name honest, greedy or hostile."""

import ctypes
import itertools
import mmap
import os
import resource
import signal
import stat
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from msgspec import Struct

from workers.craft.wire import Say

FOR_EVER_S = 3600


class Page(Struct, forbid_unknown_fields=True):
    """A shape of our own."""

    title: str
    picture: bytes
    places: list[tuple[int, float]] = []


def give_back(text: str, data: bytes, page: Page, path: Path, table: dict[str, int | None]) -> tuple[Any, ...]:
    """Return what came, and of which types it was."""
    shapes = [type(each).__name__ for each in (text, data, page, path, table)]
    return text, data, page, path, table, shapes


def turn(page: Page) -> Page:
    """Return the page with its title turned round."""
    return Page(title=page.title[::-1], picture=page.picture, places=page.places)


def nothing() -> None:
    """Do nothing."""


def write(path: Path, size_bytes: int) -> None:
    """Write a file."""
    with path.open("wb") as file:
        for _ in range(0, size_bytes, 65536):
            file.write(bytes(65536))


def clutter(depth: int) -> None:
    """Leave files in the folder, and folders in folders."""
    Path("--help").write_text("x")
    for _ in range(depth):
        Path("نص").mkdir()
        os.chdir("نص")


def clutter_and_die() -> None:
    """Leave files, and end."""
    clutter(3)
    os.abort()


def surroundings() -> dict[str, Any]:
    """Tell what a child can see."""
    limits = {name: resource.getrlimit(getattr(resource, name))[0] for name in dir(resource) if "RLIMIT_" in name}
    return {
        "environ": dict(os.environ),
        "folder": str(Path.cwd()),
        "path": sys.path,
        "nice": os.nice(0),
        "limits": {name: limit for name, limit in limits.items() if 0 <= limit < 2**63},
        "stdin": os.read(0, 1),
        "descriptors": sorted(int(each.name) for each in Path("/proc/self/fd").iterdir()),
        "pid": os.getpid(),
        "parent": os.getppid(),
        "group": os.getpgid(0),
        "loaded": sorted(sys.modules),
    }


def tell(times: int, say: Say) -> int:
    """Say so many things as fast as it goes."""
    for done in range(1, times + 1):
        say(done, times, "رسم")
    return times


def stumble() -> None:
    """Have a bug."""
    _ = {}["الحقل"]  # type: ignore[index]


def leave(code: int) -> None:
    """End the process in the middle of it."""
    os._exit(code)


def leave_politely() -> None:
    """End the process as a program would."""
    sys.exit("enough")


def crash() -> None:
    """Read where nothing is."""
    ctypes.string_at(0)


def eat() -> int:
    """Take all the memory there is, in objects that are kept."""
    kept = [bytes(1 << 20)]
    while True:
        kept.append(b"x" * (1 << 20))


def eat_until_killed() -> None:
    """Take much memory, and be killed with it, as the kernel would do."""
    kept = [b"x" * (1 << 20) for _ in range(95)]
    os.kill(os.getpid(), signal.SIGKILL)
    assert kept


def abort_for_memory() -> None:
    """End as a program in Rust ends that gets no memory."""
    os.write(2, b"memory allocation of 8589934592 bytes failed\n")
    os.abort()


def map_memory(size_bytes: int) -> int:
    """Map private memory without touching it."""
    with mmap.mmap(-1, size_bytes, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as mapped:
        return len(mapped)


def burn() -> None:
    """Compute for ever."""
    while True:
        pass


def burn_stubbornly() -> None:
    """Compute for ever and ignore every sign that can be ignored."""
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGXCPU):
        signal.signal(number, signal.SIG_IGN)
    burn()


def hold_the_lock(say: Say) -> int:
    """Compute for ever inside C code that never lets go of the interpreter's lock."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    say(0, os.getpid(), "holds")
    return sum(itertools.repeat(0))


def sleep(say: Say) -> None:
    """Say which process it is, and wait for ever."""
    say(0, os.getpid(), "sleeps")
    time.sleep(FOR_EVER_S)


def have_children(say: Say) -> None:
    """Start programs that would stay: one as usual, one in a session of its own, and one that has left its parent."""
    nap = [sys.executable, "-c", f"import time; time.sleep({FOR_EVER_S})"]
    usual = subprocess.Popen(nap)
    apart = subprocess.Popen(nap, start_new_session=True)
    orphan = f"import subprocess as s; print(s.Popen({nap!r}, stdout=s.DEVNULL, start_new_session=True).pid)"
    left = subprocess.run([sys.executable, "-c", orphan], stdout=subprocess.PIPE, text=True, check=True, timeout=20)
    for number in (os.getpid(), usual.pid, apart.pid, int(left.stdout)):
        say(0, number, "lives")
    time.sleep(FOR_EVER_S)


def leave_a_child() -> int:
    """Return while a program that it started goes on."""
    return subprocess.Popen([sys.executable, "-c", f"import time; time.sleep({FOR_EVER_S})"]).pid


def _conversation() -> int:
    for number in [int(each.name) for each in Path("/proc/self/fd").iterdir()]:
        with suppress(OSError):  # that of the listing itself
            if stat.S_ISSOCK(os.fstat(number).st_mode):
                return number
    raise AssertionError("no conversation")


def speak(words: bytes, times: int) -> None:
    """Write to the worker whatever it is, so many times, and wait."""
    conversation = _conversation()
    for _ in range(times):
        data = memoryview(words)
        while data:
            data = data[os.write(conversation, data) :]
    time.sleep(FOR_EVER_S)


def hang_up() -> None:
    """Close the conversation and go on."""
    os.close(_conversation())
    time.sleep(FOR_EVER_S)


def print_much(size_bytes: int) -> str:
    """Print to both outputs."""
    for _ in range(0, size_bytes, 65536):
        os.write(1, b"o" * 65536)
        os.write(2, b"e" * 65536)
    return "done"


def lie() -> int:
    """Return something else than is declared."""
    return "text"  # type: ignore[return-value]


def return_much(size_bytes: int) -> bytes:
    """Return so many bytes."""
    return bytes(size_bytes)


def undeclared():  # type: ignore[no-untyped-def]
    """Do not say what is returned."""


def in_a_thread() -> str:
    """Compute in two threads and return from one."""
    threading.Thread(target=burn, daemon=True).start()
    return "returned"
