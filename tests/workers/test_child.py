"""A room's work in a killable child: what crosses, what limits it, and that nothing of it is ever left."""

import asyncio
import contextlib
import os
import signal
import sys
import tempfile
import time
from collections.abc import AsyncGenerator, Callable, Generator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import structlog
import uvloop
from structlog.testing import LogCapture

from infra.settings import Settings
from tests.support import deeds, process, refusing
from tests.support.chats import Client, events, submit, until
from tests.support.deeds import Page
from tests.support.work import working
from workers import events as says
from workers import kinds, pools
from workers.context import Made, Run
from workers.craft import child, wire
from workers.craft.child import (
    ChildDied,
    ChildOutOfMemory,
    ChildRaised,
    ChildTimedOut,
    ChildWroteTooMuch,
    Limits,
    Spares,
)
from workers.perform import JobTimedOut
from workers.request import Asking, Request

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks at processes through /proc")

PATIENCE_S = 20.0
SMALL = Limits(seconds=PATIENCE_S, memory_bytes=100 * 1024**2)
ARABIC = "السَّلامُ عليكم — «نصٌّ» ١٢٣ 🌙"


def lives(pid: int) -> bool:
    """Whether a process is there and is no zombie (whom init reaps when it likes)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


def there(pid: int) -> bool:
    """Whether the kernel still knows a process, be it as a zombie."""
    return Path(f"/proc/{pid}").exists()


def below(pid: int) -> set[int]:
    """Return a process's children, zombies and all."""
    found: set[int] = set()
    for thread in Path(f"/proc/{pid}/task").iterdir():
        with contextlib.suppress(FileNotFoundError):  # it has just ended
            found |= {int(child_pid) for child_pid in (thread / "children").read_text().split()}
    return found


def descriptors() -> int:
    """Count what this process has open."""
    return len(list(Path("/proc/self/fd").iterdir()))


def folders(folder: Path) -> list[Path]:
    """Return the children's folders that are there."""
    return [each for each in folder.iterdir() if each.name.startswith("pulse-child-")]


async def met[T](condition: Callable[[], T]) -> T:
    """Wait until something is so, and return it."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            if found := condition():
                return found
            await asyncio.sleep(0.005)


class Told(list[says.Progress]):
    """Hears what a child tells."""

    async def hear(self, said: says.Progress) -> None:
        """Keep it."""
        self.append(said)

    async def first(self, count: int = 1) -> list[int]:
        """Wait for so many, and return their totals, in which the deeds hide process ids."""
        await met(lambda: len(self) >= count)
        return [said.total for said in self]


@pytest.fixture(autouse=True)
def others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Generator[set[int]]:
    """The processes that are this one's before the test. After every test there is none more, and no folder."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    before = below(os.getpid())
    yield before
    assert folders(tmp_path) == []
    assert below(os.getpid()) - before == set()


@pytest.fixture
def log() -> Generator[list[Any]]:
    """What is logged."""
    captured = LogCapture()
    before = structlog.get_config()["processors"][:]
    structlog.get_config()["processors"][:] = [captured]
    yield captured.entries
    structlog.get_config()["processors"][:] = before


async def test_text_bytes_numbers_paths_and_structs_cross_and_come_back() -> None:
    page = Page(title=ARABIC, picture=bytes(range(256)), places=[(1, 2.5), (-(2**63), 1e300)])
    table = {"": None, ARABIC: 2**64 - 1}
    text, data, returned, path, counts, shapes = await child.run(
        deeds.give_back, ARABIC, b"\x00\xff", page, Path("/tmp/مجلد"), table
    )
    assert (text, data, path, counts) == (ARABIC, b"\x00\xff", "/tmp/مجلد", table)
    assert returned == {"title": ARABIC, "picture": page.picture, "places": [list(place) for place in page.places]}
    assert shapes == ["str", "bytes", "Page", "PosixPath", "dict"]


async def test_what_is_returned_has_the_declared_shape_here_too() -> None:
    assert await child.run(deeds.turn, Page(title="سلام", picture=b"")) == Page(title="مالس", picture=b"")
    assert await child.run(deeds.nothing) is None


async def test_a_function_can_be_named_without_being_loaded_here() -> None:
    assert await child.run("tests.support.deeds:turn", Page(title="ab", picture=b""), returns=Page) == Page(
        title="ba", picture=b""
    )


async def test_what_a_child_could_not_import_or_check_is_refused_before_it_starts() -> None:
    def inner() -> None: ...

    for wrong in (inner, lambda: None, deeds.undeclared):
        with pytest.raises(ValueError, match=r"no function of a module|does not declare"):
            await child.run(wrong)
    with pytest.raises(TypeError, match="cannot cross"):
        await child.run(deeds.nothing, object())
    with pytest.raises(ValueError, match="pass the path of a file"):
        await child.run(deeds.nothing, bytes(wire.LONGEST_BYTES + 1))


async def test_arguments_of_another_shape_are_a_bug_that_only_the_log_sees() -> None:
    with pytest.raises(ChildRaised, match="ValidationError"):
        await child.run(deeds.turn, {"title": 1})
    with pytest.raises(ChildRaised, match="takes 0 arguments, not 1"):
        await child.run(deeds.nothing, 1)
    with pytest.raises(ChildRaised, match="AttributeError"):
        await child.run("tests.support.deeds:missing", returns=int)


async def test_a_child_tells_how_far_it_is_while_it_runs() -> None:
    told = Told()
    assert await child.run(deeds.tell, 20, on_progress=told.hear) == 20
    assert told == [says.Progress(done=done, total=20, stage="رسم") for done in range(1, 21)]
    assert await child.run(deeds.tell, 20) == 20, "nobody has to listen"


async def test_a_flood_of_progress_is_thinned_out_and_hurts_nobody() -> None:
    told = Told()
    assert await child.run(deeds.tell, 30_000, on_progress=told.hear) == 30_000
    assert 50 <= len(told) < 1000


async def test_who_cannot_hear_progress_any_more_ends_the_child() -> None:
    async def deaf(_said: says.Progress) -> None:
        raise TimeoutError("elsewhere")

    with pytest.raises(TimeoutError, match="elsewhere"):
        await child.run(deeds.sleep, on_progress=deaf)


async def test_an_error_of_ours_comes_back_as_itself() -> None:
    with pytest.raises(JobTimedOut) as raised:
        await child.run(refusing.refuse, 2.5)
    assert raised.value.facts == {"seconds": 2.5}
    assert "2.5" in raised.value.text("ar")


async def test_a_bug_comes_back_with_its_traceback_for_the_log() -> None:
    with pytest.raises(ChildRaised, match=r"in stumble(.|\n)*KeyError: 'الحقل'"):
        await child.run(deeds.stumble)
    with pytest.raises(ChildRaised, match="SystemExit: enough"):
        await child.run(deeds.leave_politely)


async def test_who_claims_an_error_that_is_none_of_the_workers_gets_no_such_error() -> None:
    for module, name, facts in (
        ("infra.database", "DatabaseUnavailable", {}),
        ("os", "system", {"command": "true"}),
        ("workers.perform", "JobTimedOut", {"seconds": "a text where a number goes"}),
        ("workers.perform", "JobTimedOut", {}),
    ):
        word = wire.frame({"type": "refused", "module": module, "name": name, "facts": facts})
        with pytest.raises(ChildRaised, match=name):
            await child.run(deeds.speak, word, 1)


async def test_a_child_sees_no_secret_and_nothing_of_the_worker(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("PULSE_SECRET", "PULSE_DATABASE_URL", "OPENAI_API_KEY", "AWS_SECRET_ACCESS_KEY", "ANYTHING"):
        monkeypatch.setenv(name, "hidden")
    with (tmp_path / "open in the worker").open("w"):
        found = await child.run("tests.support.deeds:surroundings", returns=dict[str, Any], limits=SMALL)
    environ = found["environ"]
    assert "hidden" not in environ.values()
    assert set(environ) <= {
        "HOME",
        "LANG",
        "LC_ALL",
        "LC_CTYPE",
        "LD_LIBRARY_PATH",
        "PATH",
        "PYTHONPATH",
        "TMPDIR",
        "TZ",
    }
    own = Path(found["folder"])
    assert (environ["HOME"], environ["TMPDIR"], own.parent) == (str(own), str(own), tmp_path)
    assert str(own) not in found["path"]
    assert "" not in found["path"], "what lies in its folder cannot be imported"
    assert found["stdin"] == b""
    assert len(found["descriptors"]) == 5, "three of its own, the conversation, and the listing"
    assert found["group"] == found["pid"]
    assert not {"asyncio", "structlog", "sqlalchemy", "redis"} & (set(found["loaded"]) - {*_loaded_by_deeds()})
    assert found["limits"]["RLIMIT_DATA"] == 100 * 1024**2
    assert found["limits"]["RLIMIT_CORE"] == 0
    assert found["limits"]["RLIMIT_FSIZE"] == SMALL.file_bytes
    assert 60 <= found["limits"]["RLIMIT_CPU"] <= 62
    assert found["nice"] == min(19, 5 + os.nice(0))


def _loaded_by_deeds() -> set[str]:
    program = "import sys, tests.support.deeds; print(*sys.modules)"
    return set(process.printed(program).split())


async def test_a_child_that_takes_too_long_is_stopped() -> None:
    told = Told()
    with pytest.raises(ChildTimedOut) as raised:
        await child.run(deeds.hold_the_lock, limits=Limits(seconds=2), on_progress=told.hear)
    assert raised.value.facts == {"seconds": 2}
    assert not any(lives(said.total) for said in told)


@pytest.mark.parametrize("deed", [deeds.burn, deeds.burn_stubbornly])
async def test_a_child_that_computes_too_much_is_stopped(deed: Any) -> None:
    with pytest.raises(ChildTimedOut) as raised:
        await child.run(deed, limits=Limits(seconds=PATIENCE_S * 3, cpu_s=1))
    assert raised.value.facts == {"seconds": 1}


async def test_a_child_that_wants_too_much_memory_is_stopped() -> None:
    with pytest.raises(ChildOutOfMemory) as raised:
        await child.run(deeds.eat, limits=SMALL)
    assert raised.value.facts == {"limit_mib": 100}
    with pytest.raises(ChildOutOfMemory):
        await child.run(deeds.return_much, 10**12, limits=SMALL)


@pytest.mark.parametrize("deed", [deeds.eat_until_killed, deeds.abort_for_memory])
async def test_a_child_that_ends_for_want_of_memory_is_told_from_one_that_just_died(deed: Any) -> None:
    with pytest.raises(ChildOutOfMemory):
        await child.run(deed, limits=SMALL)


async def test_memory_counts_when_it_is_mapped_privately() -> None:
    assert await child.run(deeds.map_memory, 50 * 1024**2, limits=SMALL) == 50 * 1024**2
    with pytest.raises(ChildRaised, match="Cannot allocate memory"):
        await child.run(deeds.map_memory, 200 * 1024**2, limits=SMALL)


async def test_a_file_that_grows_too_long_is_stopped(tmp_path: Path) -> None:
    path = tmp_path / "out"
    with pytest.raises(ChildWroteTooMuch) as raised:
        await child.run(deeds.write, path, 2**21, limits=Limits(file_bytes=2**20))
    assert raised.value.facts == {"limit_mib": 1}
    assert path.stat().st_size == 2**20
    await child.run(deeds.write, path, 2**20, limits=Limits(file_bytes=2**20))


@pytest.mark.parametrize(("deed", "arguments", "code"), [(deeds.leave, [7], 7), (deeds.crash, [], -signal.SIGSEGV)])
async def test_a_child_that_dies_says_why_in_the_log_only(
    deed: Any, arguments: list[Any], code: int, log: list[Any]
) -> None:
    with pytest.raises(ChildDied) as raised:
        await child.run(deed, *arguments)
    assert raised.value.facts == {}
    assert [(entry["code"], entry["function"]) for entry in log] == [(code, f"tests.support.deeds:{deed.__name__}")]
    assert ("Segmentation fault" in log[0]["printed"]) == (deed is deeds.crash)


@pytest.mark.parametrize(
    ("words", "times"),
    [
        pytest.param(b"\xff" * 4096, 1, id="a frame of 4 GiB"),
        pytest.param(b"\x00\x00\x00\x04abcd", 1, id="no MessagePack"),
        pytest.param(b"\x00\x00\x00\x05\xdd\xff\xff\xff\xff", 1, id="a list of 4 billion"),
        pytest.param(b"\x00\x01\x00\x00" + b"\x91" * 65536, 1, id="a list in a list in a list"),
        pytest.param(wire.frame({"type": "said", "done": -1, "total": 1, "stage": ""}), 1, id="progress below zero"),
        pytest.param(wire.frame({"type": "said", "done": 1, "total": 1, "stage": "x" * 201}), 1, id="a long stage"),
        pytest.param(wire.frame({"type": "other"}), 1, id="an unknown word"),
        pytest.param(wire.frame({"type": "returned", "value": "text"}), 1, id="another type"),
        pytest.param(b"\x00\x00\x00\x00", 1, id="an empty frame"),
    ],
)
async def test_nonsense_from_a_child_is_not_believed(words: bytes, times: int) -> None:
    with pytest.raises(ChildDied):
        await child.run("tests.support.deeds:speak", words, times, returns=int)


async def test_gigabytes_from_a_child_fill_no_memory_and_end_with_its_time() -> None:
    before_kib = _peak_kib()
    word = wire.frame(wire.Said(done=1, total=1, stage="x"))
    with pytest.raises(ChildTimedOut):
        await child.run(deeds.speak, word * 1000, 1_000_000, limits=Limits(seconds=2))
    assert await child.run(deeds.print_much, 100 * 2**20) == "done"
    assert _peak_kib() - before_kib < 100 * 1024


def _peak_kib() -> int:
    return int(Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0])


async def test_what_is_printed_for_ever_ends_at_the_file_limit() -> None:
    with pytest.raises(ChildWroteTooMuch):
        await child.run(deeds.print_much, 10 * 2**20, limits=Limits(file_bytes=2**20))


async def test_a_child_that_hangs_up_is_not_left_alone() -> None:
    with pytest.raises(ChildDied):
        await child.run(deeds.hang_up)


async def test_a_result_that_is_not_what_was_declared_is_not_believed() -> None:
    with pytest.raises(ChildDied):
        await child.run(deeds.lie)


async def test_a_result_that_is_too_large_to_cross_is_a_bug() -> None:
    with pytest.raises(ChildRaised, match="pass the path of a file"):
        await child.run(deeds.return_much, wire.LONGEST_BYTES)
    assert len(await child.run(deeds.return_much, wire.LONGEST_BYTES - 100)) == wire.LONGEST_BYTES - 100


@pytest.mark.parametrize("deed", [deeds.sleep, deeds.hold_the_lock])
async def test_a_cancelled_call_is_over_when_its_child_is_gone(deed: Any) -> None:
    told = Told()
    call = asyncio.create_task(child.run(deed, on_progress=told.hear))
    (pid,) = await told.first()
    assert lives(pid)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert not there(pid)


async def test_cancelling_twice_does_not_leave_the_child_to_itself() -> None:
    told = Told()
    call = asyncio.create_task(child.run(deeds.sleep, on_progress=told.hear))
    (pid,) = await told.first()
    call.cancel()
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert not there(pid)


@pytest.mark.parametrize("moment_s", [0, 0.001, 0.01, 0.03, 0.06])
async def test_a_call_can_be_cancelled_at_any_moment(moment_s: float) -> None:
    call = asyncio.create_task(child.run(deeds.sleep))
    await asyncio.sleep(moment_s)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call


async def test_programs_that_the_child_has_started_go_with_it_wherever_they_hide() -> None:
    told = Told()
    call = asyncio.create_task(child.run(deeds.have_children, on_progress=told.hear))
    pids = await told.first(4)
    assert all(lives(pid) for pid in pids)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert [pid for pid in pids if there(pid)] == []


async def test_a_program_that_outlives_the_call_does_not_outlive_its_child() -> None:
    pid = await child.run(deeds.leave_a_child)
    assert not there(pid)
    assert await child.run(deeds.in_a_thread) == "returned"


_WORKER = """
import asyncio
from tests.support import deeds, process, refusing
from workers.craft import child

async def tell(said):
    print(said.total, flush=True)

async def main():
    async with child.Spares(count=2):
        await child.run(deeds.have_children, on_progress=tell)

asyncio.run(main())
"""


async def test_nothing_outlives_a_worker_that_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    with process.piped(_WORKER) as worker:
        assert worker.stdout is not None
        pids = [int(worker.stdout.readline()) for _ in range(4)]
        guards = below(worker.pid)
        assert len(guards) == 3, "the one that works and two spares"
        at_work = {pid for guard in guards for pid in below(guard)}
        assert pids[0] in at_work
        assert len(folders(tmp_path)) == 3
        worker.kill()
        await met(lambda: not any(lives(pid) for pid in {*pids, *guards, *at_work}))
    await met(lambda: folders(tmp_path) == [])


@pytest.mark.parametrize("path", [os.environ["PATH"], "/there/is/none"])
async def test_what_a_child_wrote_goes_with_its_folder(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", path)  # without `rm` the guard leaves it to the worker
    await child.run(deeds.clutter, 300)
    with pytest.raises(ChildDied):
        await child.run(deeds.clutter_and_die)


async def test_what_cannot_be_started_leaves_nothing_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    open_before = descriptors()
    monkeypatch.setattr(sys, "executable", "/there/is/none")
    with pytest.raises(FileNotFoundError):
        await child.run(deeds.nothing)
    assert descriptors() == open_before


async def test_many_calls_leave_nothing_behind(tmp_path: Path) -> None:
    await child.run(deeds.nothing)
    open_before = descriptors()
    for number in range(50):
        if number % 5:
            await child.run(deeds.nothing)
        else:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(0.05):
                    await child.run(deeds.sleep)
    assert descriptors() == open_before
    assert folders(tmp_path) == []


async def test_eight_calls_at_once_get_their_own_answers() -> None:
    pages = [Page(title=f"{number} {ARABIC}", picture=bytes([number])) for number in range(8)]
    turned = await asyncio.gather(*(child.run(deeds.turn, page) for page in pages))
    assert turned == [Page(title=page.title[::-1], picture=page.picture) for page in pages]


async def test_the_loop_goes_on_while_a_child_computes() -> None:
    call = asyncio.create_task(child.run(deeds.hold_the_lock))
    turns = 0
    began_s = time.monotonic()
    while time.monotonic() - began_s < 0.5:
        await asyncio.sleep(0.001)
        turns += 1
    call.cancel()
    await asyncio.gather(call, return_exceptions=True)
    assert turns > 20


def test_it_works_on_uvloop_with_threads_about() -> None:
    async def main() -> None:
        naps = [asyncio.to_thread(time.sleep, 0.3) for _ in range(8)]
        told = Told()
        call = asyncio.create_task(child.run(deeds.hold_the_lock, on_progress=told.hear))
        (pid,) = await told.first()
        assert await child.run(deeds.turn, Page(title="ab", picture=b"")) == Page(title="ba", picture=b"")
        await asyncio.gather(*naps)
        call.cancel()
        await asyncio.gather(call, return_exceptions=True)
        assert not lives(pid)

    uvloop.run(main())


async def test_a_spare_is_started_before_it_is_needed_and_serves_one_call(others: set[int]) -> None:
    async with Spares("tests.support.deeds") as spares:
        for _ in range(3):
            waiting = below(os.getpid()) - others
            assert len(waiting) == 1
            found = await child.run("tests.support.deeds:surroundings", returns=dict[str, Any], spares=spares)
            assert found["parent"] in waiting
            assert (below(os.getpid()) - others) & waiting == set()


async def test_who_comes_while_no_spare_waits_gets_a_child_of_his_own(others: set[int]) -> None:
    async with Spares(count=2) as spares:
        pages = [Page(title=str(number), picture=b"") for number in range(8)]
        assert await asyncio.gather(*(child.run(deeds.turn, page, spares=spares) for page in pages)) == pages
        assert len(below(os.getpid()) - others) == 2


async def test_a_spare_that_has_died_is_not_handed_out(others: set[int]) -> None:
    async with Spares() as spares:
        (guard,) = below(os.getpid()) - others
        (pid,) = await met(lambda: below(guard))
        os.kill(pid, signal.SIGKILL)
        await met(lambda: not lives(pid))
        await child.run(deeds.nothing, spares=spares)


async def test_a_module_that_does_not_load_is_told_by_the_call_and_not_by_the_spare() -> None:
    async with Spares("there.is.none") as spares:
        assert await child.run(deeds.turn, Page(title="ab", picture=b""), spares=spares)
        with pytest.raises(ChildRaised, match="ModuleNotFoundError"):
            await child.run("there.is.none:function", returns=int, spares=spares)


class Spin(Request, tag="spin"):
    """Compute for ever."""

    input: dict[str, str]

    def resolved(self, asking: Asking) -> "Spin":  # noqa: ARG002
        """Return the request as it came."""
        return self

    def most(self, asking: Asking) -> dict[str, int]:  # noqa: ARG002
        """Return one document."""
        return {"documents": 1}


def _timeout_s(settings: Settings) -> float:
    return 60.0


async def _spin(request: Spin, run: Run) -> Made:
    await child.run(deeds.hold_the_lock, on_progress=run.say)
    raise AssertionError("it cannot end")


async def _eat(request: Spin, run: Run) -> Made:
    await child.run(deeds.eat, limits=SMALL)
    raise AssertionError("it cannot end")


@pytest.fixture
def room(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """A room of the kind `spin`, whose `make` computes in a child."""
    module: Any = ModuleType("workers.spin.run")
    module.timeout_s = _timeout_s
    module.make = _spin
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setitem(kinds.SPECS, "spin", Spin)
    monkeypatch.setitem(pools.POOLS, "spin", ("spin",))
    return module


@pytest.fixture
async def spinning(room: ModuleType, settings: Settings) -> AsyncGenerator[None]:
    """A worker of that room's pool."""
    async with working(settings, "spin"):
        yield


async def _pid_of(client: Client, job: dict[str, Any]) -> int:
    async with client.stream("GET", job["urls"]["events"]) as stream:
        told = ""
        async for piece in stream.aiter_text():
            told += piece
            for _, event in events(told[: told.rfind("\n\n") + 2]):
                if event["type"] == "progress":
                    return event["total"]
    raise AssertionError(told)


@pytest.mark.usefixtures("spinning")
async def test_a_job_that_computes_in_a_child_is_cancelled_over_http(client: Client) -> None:
    job = await submit(client, {"kind": "spin", "input": {}})
    pid = await _pid_of(client, job)
    assert lives(pid)
    await client.post(job["urls"]["cancel"])
    assert (await until(client, job))["state"] == "canceled"
    assert not lives(pid)


async def test_a_job_whose_child_breaks_a_limit_fails_with_that_fact(
    room: Any, client: Client, settings: Settings
) -> None:
    room.make = _eat
    async with working(settings, "spin"):
        job = await until(client, await submit(client, {"kind": "spin", "input": {}}))
    assert (job["state"], job["attempt"], job["error"]["code"]) == ("failed", 1, "child_out_of_memory")
    arabic = (await client.get(job["urls"]["self"], headers={"Accept-Language": "ar"})).json()
    assert "100 ميبي بايت" in arabic["error"]["detail"]
