"""A whole studio of real processes and servers, each of which can be killed, frozen and brought back while it works."""

import asyncio
import os
import shutil
import signal
import subprocess
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import httpx2
import msgspec
from redis.asyncio import Redis

from infra import embedded, pidfile, queue
from infra.embedded import addresses, postgres, valkey
from infra.embedded.server import Server
from infra.queue import Living
from infra.settings import Settings
from tests.support import process
from tests.support.serving import PLAIN


class Backend:
    """A server of its own for the tests, started from one thread: the kernel's death signal goes by thread."""

    def __init__(self, server: Server, settings: Settings, name: str) -> None:
        """Rule `server`, whose data is in `settings.folder / name`."""
        self.name = name
        self.data = settings.folder / name
        self._server = server
        self._pid_path = settings.folder / "run" / f"{name}.pid"
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=name)
        self._snapshots = 0

    async def _do(self, *deeds: Callable[[], object]) -> None:
        def do() -> None:
            for deed in deeds:
                deed()

        await asyncio.get_running_loop().run_in_executor(self._thread, do)

    async def start(self) -> None:
        """Start it and return when it answers."""
        await self._do(lambda: self._server.launch(lambda _text: None), self._server.wait)

    async def stop(self) -> None:
        """Tell it to stop and wait."""
        await self._do(self._server.stop)

    async def kill(self) -> None:
        """End it as `kill -9` would."""
        os.kill(self._pid, signal.SIGKILL)
        await self._do(self._server.stop)  # only waits: it is dead

    def freeze(self) -> None:
        """Stop it and all of its children in the middle of whatever they do."""
        self._send(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let them go on."""
        self._send(signal.SIGCONT)

    async def snapshot(self) -> Path:
        """Copy the data of the running server, and return where to."""
        self._snapshots += 1
        copy = self.data.with_name(f"{self.name}.{self._snapshots}")
        await self._do(lambda: shutil.copytree(self.data, copy))
        return copy

    async def rewind(self, snapshot: Path | None) -> None:
        """Put what `snapshot` kept, or nothing at all, in the place of the dead server's data."""
        await self._do(lambda: shutil.rmtree(self.data))
        if snapshot is not None:
            await self._do(lambda: shutil.copytree(snapshot, self.data))

    @property
    def _pid(self) -> int:
        pid = pidfile.named(self._pid_path)
        assert pid is not None, f"{self.name} is not running"
        return pid

    def _send(self, number: signal.Signals) -> None:
        for pid in [self._pid, *_children(self._pid)]:
            with suppress(ProcessLookupError):
                os.kill(pid, number)


def _terminated(told: "subprocess.Popen[bytes]", within_s: float) -> int:
    while told.poll() is None and not _catches(told.pid, signal.SIGTERM):
        time.sleep(0.05)  # it has only just been started
    told.send_signal(signal.SIGTERM)
    return told.wait(within_s)


def _catches(pid: int, number: signal.Signals) -> bool:
    caught = Path(f"/proc/{pid}/status").read_text().partition("SigCgt:\t")[2].partition("\n")[0]
    return bool(int(caught, 16) >> (number - 1) & 1)


def _children(parent: int) -> list[int]:
    found: list[int] = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            # The name, in parentheses, may hold anything; state and parent come after it.
            if int(path.read_text().rpartition(")")[2].split()[1]) == parent:
                found.append(int(path.parent.name))
    return found


class Backends:
    """A PostgreSQL and a Valkey of their own."""

    def __init__(self, settings: Settings) -> None:
        """Choose those of `settings.folder`; nothing is started."""
        addresses.make_socket_folder(settings)
        self.settings = settings
        self.postgres = Backend(postgres.server(settings), settings, "postgres")
        self.valkey = Backend(valkey.server(settings), settings, "valkey")

    async def start(self) -> None:
        """Start both."""
        await asyncio.gather(self.postgres.start(), self.valkey.start())

    async def stop(self) -> None:
        """Stop both."""
        await asyncio.gather(self.postgres.stop(), self.valkey.stop())


class Fleet:
    """The processes of one studio, by name: `api`, `tend`, `worker 1`, ..."""

    def __init__(self, settings: Settings, backends: Backends, log: Path, workers: int) -> None:
        """Rule the processes on `settings`, which write to `log`; nothing is started."""
        self.settings = settings
        self.postgres, self.valkey = backends.postgres, backends.valkey
        self.log = log
        self.workers = [f"worker {n + 1}" for n in range(workers)]
        self.commands = {"api": ("api",), "tend": ("workers", "tend")}
        self.commands |= dict.fromkeys(self.workers, ("workers", "chat"))
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._ends: dict[str, ExitStack] = {}

    @classmethod
    @asynccontextmanager
    async def running(
        cls, settings: Settings, backends: Backends, log: Path, *, workers: int
    ) -> AsyncGenerator["Fleet"]:
        """Run one for the length of a block, and leave nothing of it."""
        fleet = cls(settings, backends, log, workers)
        try:
            await fleet.complete()
            yield fleet
        finally:
            for name in list(fleet._processes):
                fleet.kill(name)

    def start(self, name: str) -> None:
        """Start a process that does not run."""
        assert name not in self._processes
        end = self._ends[name] = ExitStack()
        env = process.environ(self.settings)
        self._processes[name] = end.enter_context(process.started(*self.commands[name], env=env, log=self.log))

    def kill(self, name: str) -> None:
        """End a process as `kill -9` would; one that does not run is fine."""
        if name in self._processes:
            del self._processes[name]
            self._ends.pop(name).close()

    def freeze(self, name: str) -> None:
        """Stop a process in the middle of whatever it does."""
        self._processes[name].send_signal(signal.SIGSTOP)

    def thaw(self, name: str) -> None:
        """Let it go on."""
        self._processes[name].send_signal(signal.SIGCONT)

    async def terminate(self, name: str) -> int:
        """Tell a process to stop, and return its exit code when it is gone."""
        told = self._processes[name]
        code = await asyncio.to_thread(_terminated, told, self.settings.grace_s + 60)
        self.kill(name)
        return code

    def fallen(self) -> list[str]:
        """Return the processes that have ended although nobody ended them."""
        return [name for name, each in self._processes.items() if each.poll() is not None]

    def traceback(self) -> str:
        """Return the first traceback that a process wrote, when one did."""
        _, found, after = self.log.read_text().partition("Traceback")
        return f"{found}{after[:5000]}"

    async def complete(self) -> None:
        """Start what does not run, and return when every worker lives and the API answers that it can serve."""
        for name in self.commands.keys() - self._processes.keys():
            self.start(name)
        async with asyncio.timeout(60):
            while not await self._is_ready():
                assert self.fallen() == [], self.log.read_text()
                await asyncio.sleep(0.05)

    async def _is_ready(self) -> bool:
        if len(await self._living()) < len(self.workers):
            return False
        try:
            async with httpx2.AsyncClient(timeout=2, verify=PLAIN) as client:
                return (await client.get(f"http://127.0.0.1:{self.settings.port}/readyz")).status_code == 200
        except httpx2.TransportError:
            return False

    async def _living(self) -> dict[bytes, str]:
        """Return the workers that live, by the names that the queue knows them by."""
        told = await self.look(lambda redis: redis.hgetall(f"{queue.base(queue.name('chat'))}workers"))
        known = {msgspec.msgpack.decode(said, type=Living).pid: name for name, said in told.items()}
        ours = {self._processes[name].pid: name for name in self.workers if name in self._processes}
        return {known[pid]: ours[pid] for pid in known.keys() & ours.keys()}

    async def holder(self, job_id: str) -> str:
        """Return the worker that runs a job, as soon as one does."""
        async with asyncio.timeout(20):
            while True:
                owner = await self.look(lambda redis: redis.hget(f"{queue.base(queue.name('chat'))}owners", job_id))
                living = await self._living()
                if owner in living:
                    return living[owner]
                await asyncio.sleep(0.02)

    async def look[T](self, ask: Callable[[Any], Awaitable[T]]) -> T:
        """Ask Valkey something, by a connection of its own."""
        async with Redis.from_url(embedded.redis_url(self.settings)) as redis:  # pyright: ignore[reportUnknownMemberType]
            return await ask(redis)
