"""How a contender that is driven by an adapter (`bench/peers`) is measured: which processes, in which order."""

import math
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path

from bench.queue import figures
from bench.queue.contender import Drained
from bench.queue.process import Process, ProcessEnded, ProcessSilent
from bench.queue.server import Valkey

#: From a worker's word that it starts until it surely waits for jobs.
_SETTLE_S = 1.5
_SLOTS = 10
_GAP_S = (0.005, 0.030)
_PROBE_GAP_S = 0.1
_PROBES = 5


class Peer:
    """A contender behind an adapter."""

    def __init__(self, name: str, adapter: Path, python: Callable[[], Path]) -> None:
        """Name it; `python` returns the Python that has its library, and may take its time."""
        self.name = name
        self._adapter = adapter
        self._find_python = python
        self._running: set[Process] = set()

    def prepare(self) -> None:
        """Make its environment."""
        self._python = self._find_python()

    def enqueue(self, valkey: Valkey, jobs: int, *, bulk: bool) -> float:
        """See `Contender`."""
        with self._process(valkey) as client:
            client.order(do="enqueue", job="noop", n=jobs, bulk=bulk)
            return client.event("enqueued").seconds

    def drain(self, valkey: Valkey, jobs: int, concurrency: int) -> Drained:
        """See `Contender`."""
        with self._process(valkey) as worker:
            worker.order(do="work", concurrency=concurrency, n=jobs)
            done = worker.event("done")
            return Drained(seconds=done.seconds, worker_cpu_s=done.cpu_s)

    def pickup_ms(self, valkey: Valkey, jobs: int, seed: int) -> list[float]:
        """See `Contender`; one job before the others shows that the worker is there, and is not counted."""
        with self._process(valkey) as worker, self._process(valkey) as client:
            worker.order(do="work", concurrency=_SLOTS, n=jobs + 1)
            worker.event("up")
            self.enqueue(valkey, 1, bulk=False)
            time.sleep(_SETTLE_S)
            client.order(do="trickle", n=jobs, gap_s=_GAP_S, seed=seed)
            return worker.event("done").delays_ms[1:]

    def most_running(self, valkey: Valkey, jobs: int, workers: int, seconds: float) -> int:
        """See `Contender`; watched until every job has run, or three times as long as they should take."""
        changes: list[tuple[int, int]] = []
        with self._process(valkey) as crew, self._process(valkey) as client:
            crew.order(do="work", concurrency=jobs // workers, processes=workers)
            for _ in range(workers):
                crew.event("up")
            time.sleep(_SETTLE_S)
            client.order(do="enqueue", job="nap", n=jobs, seconds=seconds, bulk=True)
            deadline_s = time.monotonic() + 3 * seconds
            while len(changes) < 2 * jobs:
                try:
                    change = crew.event("began", "ended", within_s=deadline_s - time.monotonic())
                except ProcessSilent:
                    break
                changes.append((change.at_ns, 1 if change.event == "began" else -1))
        return figures.most_at_once(changes)

    def rerun_s(self, valkey: Valkey, limit_s: float) -> float | None:
        """See `Contender`."""
        with self._process(valkey) as first, self._process(valkey) as second, self._process(valkey) as client:
            first.order(do="work", concurrency=_SLOTS)
            first.event("up")
            time.sleep(_SETTLE_S)  # SAQ's first sweep takes a job that was just claimed for a lost one, then loses it
            client.order(do="enqueue", job="nap", n=1, seconds=2 * limit_s, bulk=False)
            first.event("began")
            second.order(do="work", concurrency=_SLOTS)
            second.event("up")
            time.sleep(_SETTLE_S)
            first.kill()
            killed_s = time.monotonic()
            try:
                second.event("began", within_s=limit_s)
            except ProcessSilent:
                return None
            return time.monotonic() - killed_s

    def resume_s(self, valkey: Valkey, down_s: float, limit_s: float) -> float | None:
        """See `Contender`; the jobs are enqueued by a process that connects when the Valkey is back."""
        with self._process(valkey) as worker, self._process(valkey) as client:
            worker.order(do="work", concurrency=_SLOTS, echo=True)
            self.enqueue(valkey, 1, bulk=False)
            worker.event("ran")
            valkey.stop()
            time.sleep(down_s)
            valkey.start()
            back_s = time.monotonic()
            client.order(do="trickle", n=math.ceil(limit_s / _PROBE_GAP_S), gap_s=(_PROBE_GAP_S, _PROBE_GAP_S))
            try:
                worker.event("ran", within_s=limit_s)
                resumed_s = time.monotonic() - back_s
                for _ in range(_PROBES):
                    worker.event("ran", within_s=limit_s)
            except (ProcessEnded, ProcessSilent):
                return None
            return resumed_s

    def close(self) -> None:
        """See `Contender`."""
        for process in tuple(self._running):
            process.kill()

    @contextmanager
    def _process(self, valkey: Valkey) -> Generator[Process]:
        with Process(self._python, self._adapter, valkey.url) as process:
            self._running.add(process)
            try:
                process.event("loaded")
                yield process
            finally:
                self._running.discard(process)
