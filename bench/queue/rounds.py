"""Runs the rounds of `bench queue`: every contender in turn for each measurement, then all of it again."""

import sys
from collections.abc import Callable, Generator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager

import msgspec

from bench.queue import field, figures
from bench.queue.contender import Contender
from bench.queue.figures import Round
from bench.queue.server import Valkey

_SLOTS = 300
_WORKERS = 30
_NAP_S = 3.0
_DOWN_S = 5.0


class Size(msgspec.Struct, frozen=True, kw_only=True):
    """How much of everything is measured."""

    rounds: int
    jobs: int
    pickups: int
    rerun_limit_s: float
    resume_limit_s: float


QUICK = Size(rounds=1, jobs=1_000, pickups=200, rerun_limit_s=10, resume_limit_s=8)
#: The pickups of all rounds are taken together: 2,100.
FULL = Size(rounds=3, jobs=6_000, pickups=700, rerun_limit_s=90, resume_limit_s=20)

Field = Mapping[str, Contender]
Measure = Callable[[Contender, Valkey, Round], None]


def run(*, quick: bool) -> dict[str, object]:
    """Return the figures of everyone in the field; what is being done goes to standard error."""
    size = QUICK if quick else FULL
    contenders = field.contenders()
    for name, contender in contenders.items():
        _tell(f"preparing {name}")
        contender.prepare()
    rounds: dict[str, list[Round]] = {name: [] for name in contenders}
    with Valkey() as valkey, _closing(contenders):
        persistence = valkey.describe()
        for number in range(1, size.rounds + 1):
            _tell(f"round {number} of {size.rounds}")
            for name, found in _round(contenders, valkey, size, seed=number).items():
                rounds[name].append(found)
    return figures.summary(rounds, rerun_limit_s=size.rerun_limit_s) | {
        "persistence": persistence,
        "rounds": size.rounds,
        "jobs": size.jobs,
        "pickups": size.pickups * size.rounds,
    }


def _round(contenders: Field, valkey: Valkey, size: Size, *, seed: int) -> dict[str, Round]:
    rounds = {name: Round() for name in contenders}

    def pickups(contender: Contender, valkey: Valkey, found: Round) -> None:
        found.pickup_ms = contender.pickup_ms(valkey, size.pickups, seed)

    def slots(contender: Contender, valkey: Valkey, found: Round) -> None:
        found.most_running = contender.most_running(valkey, _SLOTS, _WORKERS, _NAP_S)

    def rerun(contender: Contender, valkey: Valkey, found: Round) -> None:
        found.rerun_s = contender.rerun_s(valkey, size.rerun_limit_s)

    def resume(contender: Contender, valkey: Valkey, found: Round) -> None:
        found.resume_s = contender.resume_s(valkey, _DOWN_S, size.resume_limit_s)

    steps: dict[str, Measure] = {
        "32 slots": _throughput(size.jobs, 32),
        "100 slots": _throughput(size.jobs, 100),
        "pickup": pickups,
        f"{_SLOTS} slots": slots,
    }
    for step, measure in steps.items():
        for name, contender in contenders.items():
            _tell(f"  {step}: {name}")
            valkey.clear()
            measure(contender, valkey, rounds[name])
    # These mostly wait, and each has a Valkey for itself: all contenders at once.
    for step, measure in {"kill -9": rerun, "Valkey restart": resume}.items():
        _tell(f"  {step}: all")
        _together(contenders, rounds, measure)
    return rounds


def _throughput(jobs: int, concurrency: int) -> Measure:
    """Measure at 32 slots with the jobs enqueued one by one, at 100 slots with all at once."""

    def measure(contender: Contender, valkey: Valkey, found: Round) -> None:
        bulk = concurrency > 32
        enqueue_per_s = jobs / contender.enqueue(valkey, jobs, bulk=bulk)
        before_s = valkey.cpu_s()
        drained = contender.drain(valkey, jobs, concurrency)
        if bulk:
            found.bulk_enqueue_per_s = enqueue_per_s
            found.jobs_per_s_of_100 = jobs / drained.seconds
        else:
            found.enqueue_per_s = enqueue_per_s
            found.jobs_per_s = jobs / drained.seconds
            found.worker_cpu_us = drained.worker_cpu_s / jobs * 1e6
            found.server_cpu_us = (valkey.cpu_s() - before_s) / jobs * 1e6

    return measure


def _together(contenders: Field, rounds: dict[str, Round], measure: Measure) -> None:
    with ExitStack() as stack, ThreadPoolExecutor(len(contenders)) as pool, _closing(contenders):
        waiting = [
            pool.submit(measure, contender, stack.enter_context(Valkey()), rounds[name])
            for name, contender in contenders.items()
        ]
        for one in waiting:
            one.result()


@contextmanager
def _closing(contenders: Field) -> Generator[None]:
    """End the contenders' processes, however this is left: a thread that waits for one then comes to its end."""
    try:
        yield
    finally:
        for contender in contenders.values():
            contender.close()


def _tell(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
