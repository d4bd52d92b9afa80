"""Batches fed by tenders that die: `python -m tests.support.feeding HOW BATCH ...`, with settings in the environment.

A step is what leaves something behind, or tells somebody of it: a transaction that is about to be committed, one that
was, a statement of its own, a call to Redis. Each process feeds one of the batches to its end (HOW is `run`), or after
its first jobs were drawn and it was cancelled (`cancel`) or its window closed (`close`); and kills itself at one step,
as `kill -9` would, one step later than the one before it. They are forks of one that has loaded everything.
"""

import asyncio
import itertools
import os
import signal
import sys
from typing import Any
from uuid import UUID

from infra import ground as grounds
from infra import settings as config
from infra import telemetry
from infra.ground import Ground
from infra.settings import Settings
from tests.support.batches import batch_of, cancel, close_window, flights, land
from tests.support.mortal import LIVED, Death, doom
from tests.support.pairs import pairs
from workers import lifecycle
from workers.batches.feeding import feed

# So many live at a time.
_AT_ONCE = 4


class _Death(Death):
    """Comes only to whoever feeds."""

    feeds = False

    def step(self) -> None:
        if self.feeds:
            super().step()


def _doom_queue(ground: Ground, death: Death) -> None:
    for name in ("put", "forget"):
        deed = getattr(ground.queue, name)

        async def mortal(*args: Any, _deed: Any = deed) -> Any:
            death.step()
            told = await _deed(*args)
            death.step()
            return told

        setattr(ground.queue, name, mortal)


async def live(settings: Settings, how: str, batch_id: UUID, step: int) -> None:
    """Feed a batch and end its jobs until it is over, unless death comes first."""
    death = _Death(step)
    async with grounds.opened(settings) as ground:
        doom(ground, death)
        _doom_queue(ground, death)
        if how != "run":
            await feed(ground, batch_id)
            await (cancel if how == "cancel" else close_window)(ground, batch_id)
        while (await batch_of(ground, batch_id)).finished_at is None:
            death.feeds = True
            await feed(ground, batch_id)
            death.feeds = False
            await lifecycle.expire(ground)
            await land(ground, await flights(ground, batch_id))


def _begin(settings: Settings, how: str, batch_id: UUID, step: int) -> int:
    pid = os.fork()
    if pid == 0:
        with pairs():
            asyncio.run(live(settings, how, batch_id, step))
        os._exit(LIVED)
    return pid


def main() -> None:
    """Feed one batch after the other, each a step further, until one is not cut short; print how many that took."""
    settings, how = config.load(), sys.argv[1]
    telemetry.configure(settings, "feeding")
    for some in itertools.batched(enumerate(sys.argv[2:], start=1), _AT_ONCE):
        pids = {step: _begin(settings, how, UUID(batch), step) for step, batch in some}
        codes = {step: os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for step, pid in pids.items()}
        if wrong := {step: code for step, code in codes.items() if code not in {LIVED, -signal.SIGKILL}}:
            sys.exit(f"steps: {wrong}")
        if lived := [step for step, code in codes.items() if code == LIVED]:
            sys.stdout.write(f"{lived[0]}\n")
            return
    sys.exit("there are more steps than batches")


if __name__ == "__main__":
    main()
