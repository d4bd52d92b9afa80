"""Runs the rounds of `bench api`: everyone's top rate in turn, latencies at fixed rates, then all of it again."""

import asyncio
import os
from collections import Counter
from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from itertools import count

import msgspec
from msgspec import Struct

from bench.api import books
from bench.api.figures import BARE, HOT, MANY, OTHER_HOT, OTHER_MANY, Paced, Round, Top, summary
from bench.stage import crowd, ledger, load, servers, usage
from bench.stage.child import Child
from bench.stage.servers import Served, Stage
from tests.support.process import environ, started
from tests.support.serving import free_port

_ACCOUNTS = 1_000
_BODY = msgspec.json.encode({"kind": "chat", "input": ledger.INPUT}).decode()
_BATCH = 200
_LONGEST_S = 120.0


class Size(Struct, frozen=True, kw_only=True):
    """How much is measured. `samples` is the least that a 99th percentile is taken of."""

    rounds: int
    connections: tuple[int, ...]
    top_s: float
    paced_s: float
    samples: int
    rates: tuple[int, ...]
    ledger_batches: int


QUICK = Size(rounds=1, connections=(64,), top_s=2, paced_s=2, samples=200, rates=(), ledger_batches=20)
FULL = Size(
    rounds=3,
    connections=(64, 256),
    top_s=4,
    paced_s=4,
    samples=2_000,
    rates=(100, 250, 500, 1_000, 2_000, 4_000),
    ledger_batches=150,
)


class _Target(Struct, frozen=True, kw_only=True):
    """Whom to send to, and with which keys."""

    served: Served
    keys: list[str]


class _Bench:
    """Everyone who is measured, and what they have accepted and kept by now."""

    def __init__(self, set_up: Stage, targets: dict[str, _Target], size: Size) -> None:
        self._stage = set_up
        self._targets = targets
        self._size = size
        self._names = count()
        self.accepted = Counter[str]()

    def round(self, *, last: bool) -> Round:
        found = Round()
        for who in self._targets:
            found.top[who] = max((self._top(who, many) for many in self._size.connections), key=lambda top: top.per_s)
            servers.tell(f"  {who}: {found.top[who].per_s:.0f}/s")
        found.ledger_per_s, found.ledger_cpu_us = self._ledger()
        servers.tell(f"  ledger: {found.ledger_per_s:.0f}/s")
        # The textbook's seconds are long ones: it is slow, and its percentiles want as many samples.
        for who in (HOT, MANY, OTHER_HOT, OTHER_MANY) if last else (HOT, MANY):
            found.half[who] = self._paced(who, found.top[who].per_s / 2)
            servers.tell(f"  {who} at {found.half[who].per_s:.0f}/s: p99 {found.half[who].p99_ms:.1f} ms")
        return found

    def fixed(self, tops: dict[str, Top]) -> dict[str, dict[str, Paced]]:
        """Return latencies at the rates that everyone is asked for, where they are below nine tenths of his top."""
        return {
            who: {str(rate): self._paced(who, rate) for rate in self._size.rates if rate < 0.9 * tops[who].per_s}
            for who in (HOT, MANY, OTHER_HOT, OTHER_MANY)
        }

    def _top(self, who: str, connections: int) -> Top:
        told, used_s = self._load(who, connections=connections, seconds=self._size.top_s)
        used = {part: seconds / told.accepted * 1e6 for part, seconds in used_s.items()}
        return Top(
            per_s=told.per_s,
            connections=connections,
            p50_ms=told.p50_ms,
            p99_ms=told.p99_ms,
            cpu_us=used | {"client": told.cpu_us},
        )

    def _paced(self, who: str, per_s: float) -> Paced:
        seconds = max(self._size.paced_s, self._size.samples / per_s)
        told, _ = self._load(who, connections=max(self._size.connections), seconds=seconds, per_s=per_s)
        return Paced(per_s=per_s, p50_ms=told.p50_ms, p99_ms=told.p99_ms, samples=told.samples)

    def _load(
        self, who: str, *, connections: int, seconds: float, per_s: float = 0.0
    ) -> tuple[load.Told, dict[str, float]]:
        """Send to `who`, and check what came of it; return how it went, and the CPU seconds that it took each."""
        target = self._targets[who]
        self._stage.settle()
        order = load.Order(
            port=target.served.port,
            path=target.served.jobs,
            keys=target.keys,
            body=_BODY,
            name=f"bench-{next(self._names)}",
            connections=connections,
            seconds=seconds,
            per_s=per_s,
        )
        with Child("bench.stage.load") as client:
            before_s = self._cpu_s(who)
            told = client.ask(order, load.Told, within_s=seconds + _LONGEST_S)
        if told.error:
            raise RuntimeError(f"{who} did not accept a submission: {told.error}")
        used_s = {part: now_s - before_s[part] for part, now_s in self._cpu_s(who).items()}
        if who != BARE:
            self._close(target.served.name, told.accepted)
        return told, used_s

    def _ledger(self) -> tuple[float, float]:
        self._stage.settle()
        numbers = (str(self._size.ledger_batches), str(_BATCH))
        with Child("bench.stage.ledger", *numbers, env=environ(self._stage.settings)) as process:
            told = process.answer(ledger.Told, within_s=_LONGEST_S)
        self._close("pulse", told.accepted)
        return told.per_s, told.cpu_us

    def _close(self, name: str, accepted: int) -> None:
        books.close(self._stage, name, accepted)
        self.accepted[name] += accepted

    def _cpu_s(self, who: str) -> dict[str, float]:
        return {"api": usage.cpu_s(self._targets[who].served.pid)} | self._stage.servers_cpu_s()


def run(*, quick: bool) -> dict[str, object]:
    """Return submissions a second, latencies at fixed rates, and what a submission costs each process.

    Raises where anything was refused, or where the books and the rows do not say what was answered.
    """
    size = QUICK if quick else FULL
    with servers.opened() as set_up, _served(set_up) as targets:
        bench = _Bench(set_up, targets, size)
        rounds: list[Round] = []
        for number in range(1, size.rounds + 1):
            servers.tell(f"round {number} of {size.rounds}")
            rounds.append(bench.round(last=number == size.rounds))
        fixed = bench.fixed(rounds[-1].top)
        described = set_up.describe()
    return summary(rounds) | {
        "at_fixed_rates": msgspec.to_builtins(fixed),
        "jobs_checked": dict(bench.accepted),
        "persistence": described,
        "rounds": size.rounds,
        "accounts": _ACCOUNTS,
    }


@contextmanager
def _served(set_up: Stage) -> Generator[dict[str, _Target]]:
    """Run everyone for the length of a block, in the order of a round."""
    servers.tell("making the accounts")
    keys = asyncio.run(crowd.make(set_up.settings, _ACCOUNTS))
    others = set_up.set_textbook_up(accounts=_ACCOUNTS, jobs=0).keys
    with ExitStack() as stack:
        ours, textbook = stack.enter_context(set_up.api()), stack.enter_context(set_up.textbook())
        bare = stack.enter_context(_bare())
        yield {
            BARE: _Target(served=bare, keys=keys[:1]),
            HOT: _Target(served=ours, keys=keys[:1]),
            OTHER_HOT: _Target(served=textbook, keys=others[:1]),
            MANY: _Target(served=ours, keys=keys),
            OTHER_MANY: _Target(served=textbook, keys=others),
        }


@contextmanager
def _bare() -> Generator[Served]:
    port = free_port()
    with started("bench.stage.bare", str(port), env=os.environ) as process:
        servers.until_it_listens(port, process)
        yield Served(name=BARE, pid=process.pid, port=port, jobs="/v1/jobs")
