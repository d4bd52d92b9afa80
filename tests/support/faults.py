"""What can befall a studio: faults drawn at random, from a seed, and what each does to its target."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from pathlib import Path

from msgspec import Struct

from tests.support.fleet import Backend, Fleet


class Fault(Struct, frozen=True):
    """Something that happens `after_s` seconds after the fault before, to a target, for `for_s` seconds."""

    after_s: float
    what: str
    target: str
    for_s: float

    def __str__(self) -> str:
        """Return what a failed test says of it."""
        return f"+{self.after_s:.2f} s: {self.what} {self.target} for {self.for_s:.2f} s"


def draw(dice: random.Random, fleet: Fleet, count: int, longest_s: float) -> list[Fault]:
    """Draw faults as from a shuffled pack, so that each kind comes once before one comes again."""
    pack: list[tuple[str, str]] = []
    drawn: list[Fault] = []
    for _ in range(count):
        if not pack:
            servers = [(what, "postgres") for what in ("kill", "freeze", "restart")]
            servers += [(what, "valkey") for what in ("kill", "freeze", "restart", "empty", "rewind", "rewind far")]
            processes = [(what, name) for name in fleet.workers for what in ("kill", "freeze", "restart")]
            processes += [("kill", "api"), ("freeze", "api"), ("kill", "tend"), ("freeze", "tend")]
            pack = [*servers, *dice.sample(processes, len(servers))]
            dice.shuffle(pack)
        what, target = pack.pop()
        drawn.append(Fault(dice.uniform(0.2, 1.6), what, target, dice.uniform(0.1, longest_s)))
    return drawn


class Fate:
    """Lets faults happen; several may overlap, but only one at a time to the same target."""

    def __init__(self, fleet: Fleet) -> None:
        """Act on `fleet`."""
        self._fleet = fleet
        self._locks = {name: asyncio.Lock() for name in (*fleet.commands, "postgres", "valkey")}
        self._far: Path | None = None
        #: The exit codes of the processes that were told to stop.
        self.codes: list[int] = []

    async def befall(self, faults: list[Fault]) -> None:
        """Let them happen, and return when all have been healed."""
        self._far = await self._fleet.valkey.snapshot()
        async with asyncio.TaskGroup() as happening:
            for fault in faults:
                await asyncio.sleep(fault.after_s)
                happening.create_task(self._happen(fault))

    async def _happen(self, fault: Fault) -> None:
        async with self._locks[fault.target]:
            match fault.target:
                case "postgres":
                    await self._strike_server(self._fleet.postgres, fault)
                case "valkey":
                    await self._strike_server(self._fleet.valkey, fault)
                case _:
                    await self._strike_process(fault)

    async def _strike_server(self, server: Backend, fault: Fault) -> None:
        match fault.what:
            case "freeze":
                await _frozen(server.freeze, server.thaw, fault.for_s)
            case "restart":
                await _down(server.stop, server.start, fault.for_s)
            case "kill":
                await _down(server.kill, server.start, fault.for_s)
            case _:
                await self._rewind(server, fault)

    async def _rewind(self, server: Backend, fault: Fault) -> None:
        """Bring it back empty, as it was a moment ago, or as it was before the first fault."""
        snapshot = self._far if fault.what == "rewind far" else None
        if fault.what == "rewind":
            snapshot = await server.snapshot()
            await asyncio.sleep(fault.for_s)

        async def back() -> None:
            await server.rewind(snapshot)
            await server.start()

        await _down(server.kill, back, fault.for_s / 4)

    async def _strike_process(self, fault: Fault) -> None:
        fleet, name = self._fleet, fault.target
        match fault.what:
            case "freeze":
                await _frozen(lambda: fleet.freeze(name), lambda: fleet.thaw(name), fault.for_s)
            case "restart":
                self.codes.append(await fleet.terminate(name))
                fleet.start(name)
            case _:
                fleet.kill(name)
                await asyncio.sleep(fault.for_s / 4)
                fleet.start(name)


async def _frozen(freeze: Callable[[], None], thaw: Callable[[], None], for_s: float) -> None:
    freeze()
    try:
        await asyncio.sleep(for_s)
    finally:
        thaw()


async def _down(end: Callable[[], Awaitable[None]], start: Callable[[], Awaitable[None]], for_s: float) -> None:
    await end()
    try:
        await asyncio.sleep(for_s)
    finally:
        await start()
