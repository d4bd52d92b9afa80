"""Runs one order in a contender's own environment: put jobs on its queue, or work them off; speaks JSON lines.

`python -P driver.py ADAPTER URL`, with nothing of this project imported. The adapter is a file with a class `Peer`
(see `Peer` below), the URL that of the Redis. The program says `loaded`, reads one order from its standard input,
and says on its standard output what happens. It ends when its standard input does, so it cannot outlive the bench.

The orders, by `do`:
    enqueue   `n` jobs of the kind `job`, one awaited after the other, or with `bulk` as fast as the peer can
    trickle   `n` no-op jobs, each after a random pause within `gap_s`
    work      run a worker with `concurrency` slots in each of `processes`, until killed
"""

import asyncio
import importlib.util
import json
import logging
import os
import random
import resource
import sys
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import uvloop

#: Enqueues under way at once where a peer has no call for many; as many as the benchmark in streaQ's repository has.
_IN_FLIGHT = 32
_LOOK_EVERY_S = 0.001

Noop = Callable[[int], None]
Nap = Callable[[float], Coroutine[Any, Any, None]]


class Peer(Protocol):
    """What an adapter's class `Peer` offers. Its jobs `noop` and `nap` take one number, and call what it was given."""

    def __init__(self, url: str, noop: Noop, nap: Nap) -> None:
        """Prepare; nothing is connected yet."""
        ...

    async def open(self) -> None:
        """Connect the side that enqueues."""
        ...

    async def enqueue(self, job: str, argument: float) -> None:
        """Enqueue one job."""
        ...

    async def work(self, concurrency: int) -> None:
        """Run a worker; returns or raises only if the worker ends."""
        ...

    async def left(self) -> int:
        """Return how many jobs are not finished yet, with the worker's own connection."""
        ...


@runtime_checkable
class BulkPeer(Protocol):
    """What an adapter adds when its peer has a call for many jobs."""

    async def enqueue_many(self, job: str, arguments: list[float]) -> None:
        """Enqueue many jobs by that call."""
        ...


class Tally:
    """What the jobs of one worker process leave behind."""

    def __init__(self, *, expected: int, echo: bool) -> None:
        """Expect so many no-op jobs; with `echo`, say each one."""
        self._expected = expected
        self._echo = echo
        self._delays_ns: list[int] = []
        self._all_ran = asyncio.Event()
        self._began = (0.0, 0.0)

    def noop(self, sent_ns: int) -> None:
        """Be a job that does nothing but note when it ran."""
        self._delays_ns.append(time.time_ns() - sent_ns)
        if len(self._delays_ns) == 1:
            self._began = (time.perf_counter(), cpu_s())
        if self._echo:
            say(event="ran")
        if len(self._delays_ns) == self._expected:
            self._all_ran.set()

    async def nap(self, seconds: float) -> None:
        """Be a job that only takes time."""
        say(event="began", at_ns=time.time_ns())
        await asyncio.sleep(seconds)
        say(event="ended", at_ns=time.time_ns())

    async def report(self, peer: Peer) -> None:
        """Say the figures once every job is finished: not merely run, but with its result and out of the queue."""
        await self._all_ran.wait()
        while await peer.left():  # noqa: ASYNC110 - what is awaited is in another program
            await asyncio.sleep(_LOOK_EVERY_S)
        ended = (time.perf_counter(), cpu_s())
        seconds, used_s = (after - before for before, after in zip(self._began, ended, strict=True))
        say(event="done", seconds=seconds, cpu_s=used_s, delays_ms=[delay / 1e6 for delay in self._delays_ns])


def cpu_s() -> float:
    """Return the CPU seconds that this process has used."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def say(**what: object) -> None:
    """Write one line; a short one in one piece, whoever else writes to the same pipe."""
    line = json.dumps(what).encode() + b"\n"
    while line:
        line = line[os.write(1, line) :]


def main() -> None:
    """Load the adapter, then do what the first line says."""
    path, url = sys.argv[1:]
    logging.disable(logging.CRITICAL)
    adapter = _load(Path(path))
    say(event="loaded")
    order: dict[str, Any] = json.loads(sys.stdin.readline())
    do: Callable[..., Coroutine[Any, Any, None]] = {"enqueue": enqueue, "trickle": trickle, "work": work}[
        order.pop("do")
    ]
    # Forked after the imports and before there is a loop: many workers start as fast as one.
    for _ in range(order.pop("processes", 1) - 1):
        if os.fork() == 0:
            break
    uvloop.run(_obey(do(adapter, url, **order)))


async def _obey(doing: Coroutine[Any, Any, None]) -> None:
    asyncio.get_running_loop().add_reader(0, _end_with_input)
    await doing


def _end_with_input() -> None:
    if not os.read(0, 1):
        os._exit(0)


def _load(path: Path) -> type[Peer]:
    """Load an adapter from its file: by name it would be mistaken for the library that it is called after."""
    spec = importlib.util.spec_from_file_location("adapter", path)
    if spec is None or spec.loader is None:
        raise ImportError(path)
    module = importlib.util.module_from_spec(spec)
    sys.modules["adapter"] = module
    spec.loader.exec_module(module)
    return module.Peer


async def enqueue(adapter: type[Peer], url: str, *, job: str, n: int, bulk: bool, seconds: float = 0.0) -> None:
    """Enqueue `n` jobs and say how long that took; naps are told to take `seconds`."""
    peer = await _client(adapter, url)
    started_s = time.perf_counter()
    if bulk:
        await _enqueue_many(peer, job, [seconds if job == "nap" else time.time_ns() for _ in range(n)])
    else:
        for _ in range(n):
            await peer.enqueue(job, seconds if job == "nap" else time.time_ns())
    say(event="enqueued", seconds=time.perf_counter() - started_s)


async def _enqueue_many(peer: Peer, job: str, arguments: list[float]) -> None:
    if isinstance(peer, BulkPeer):
        return await peer.enqueue_many(job, arguments)
    waiting = iter(arguments)

    async def take() -> None:
        for argument in waiting:
            await peer.enqueue(job, argument)

    await asyncio.gather(*(take() for _ in range(_IN_FLIGHT)))
    return None


async def trickle(adapter: type[Peer], url: str, *, n: int, gap_s: tuple[float, float], seed: int = 0) -> None:
    """Enqueue no-op jobs one by one with a random pause before each."""
    peer = await _client(adapter, url)
    pauses = random.Random(seed)  # noqa: S311 - the same pauses for everyone, not a secret
    for _ in range(n):
        await asyncio.sleep(pauses.uniform(*gap_s))
        await peer.enqueue("noop", time.time_ns())
    say(event="enqueued")


async def work(adapter: type[Peer], url: str, *, concurrency: int, n: int = 0, echo: bool = False) -> None:
    """Work until killed; say the figures after `n` no-op jobs, and say it if the peer's worker gives up."""
    tally = Tally(expected=n, echo=echo)
    peer = adapter(url, tally.noop, tally.nap)
    say(event="up")
    working, reporting = asyncio.create_task(peer.work(concurrency)), asyncio.create_task(tally.report(peer))
    try:
        await asyncio.wait({working, reporting}, return_when=asyncio.FIRST_COMPLETED)
        if reporting.done():
            reporting.result()
        await working
    except Exception as error:  # noqa: BLE001 - whatever it is, it is the finding
        say(event="gave up", error=repr(error))
    else:
        say(event="gave up", error="its worker returned")
    reporting.cancel()


async def _client(adapter: type[Peer], url: str) -> Peer:
    """Return a peer for enqueuing; its jobs exist, as most need to know them by name, but are not run."""
    tally = Tally(expected=0, echo=False)
    peer = adapter(url, tally.noop, tally.nap)
    await peer.open()
    return peer


if __name__ == "__main__":
    main()
