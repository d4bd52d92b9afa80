"""What is measured of a queue, and so what one that takes part in `bench queue` can be asked."""

from typing import Protocol

import msgspec

from bench.queue.server import Valkey


class Drained(msgspec.Struct, frozen=True, kw_only=True):
    """How one worker process worked off a full queue, from its first job's start to its last one's end."""

    seconds: float
    worker_cpu_s: float


class Contender(Protocol):
    """A queue under measurement. Each measurement is given a Valkey that is empty, and leaves no process behind."""

    name: str

    def prepare(self) -> None:
        """Make what the measurements need and should not pay for."""
        ...

    def enqueue(self, valkey: Valkey, jobs: int, *, bulk: bool) -> float:
        """Return the seconds one process takes to enqueue no-op jobs; they stay on the queue.

        Each call is awaited before the next; with `bulk` it is done as fast as the contender can. Every job carries
        one number, the time of its enqueuing in nanoseconds.
        """
        ...

    def drain(self, valkey: Valkey, jobs: int, concurrency: int) -> Drained:
        """Let one worker process of so many slots run the jobs that `enqueue` left, each result kept 60 s.

        The last job's end is when no job is left: its result is kept, and nothing of it could be run again.
        """
        ...

    def pickup_ms(self, valkey: Valkey, jobs: int, seed: int) -> list[float]:
        """Return for each job the time from before its enqueuing to the first line of its body.

        The worker process is idle: another process enqueues one job at a time, 5 to 30 ms after the one before.
        """
        ...

    def most_running(self, valkey: Valkey, jobs: int, workers: int, seconds: float) -> int:
        """Return how many of the jobs ran at once at most, where `workers` processes have together a slot for each.

        The workers wait, then all jobs are enqueued at once; each takes `seconds`.
        """
        ...

    def rerun_s(self, valkey: Valkey, limit_s: float) -> float | None:
        """Return the seconds from the SIGKILL of a job's worker process until the job's body starts again.

        A second worker process is there all along. None: not within `limit_s`.
        """
        ...

    def resume_s(self, valkey: Valkey, down_s: float, limit_s: float) -> float | None:
        """Stop the Valkey for `down_s`; return the seconds from its return until the same worker runs jobs again.

        None: not within `limit_s`, or the worker process ended.
        """
        ...

    def close(self) -> None:
        """End every process that is still there; a measurement under way in another thread then fails."""
        ...
