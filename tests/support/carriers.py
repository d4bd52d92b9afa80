"""Carriers that die: `python -m tests.support.carriers STRIDE BATCH ...`, with settings in the environment.

A step is what leaves something behind, here or at the vendor: a transaction that is about to be committed, one that
was, a call to the vendor before it goes out and after its answer has come. Each process carries the parcel of one of
the batches until that is over, and kills itself at one step, as `kill -9` would, STRIDE steps later than the one before
it. They are forks of one that has loaded everything. Each has a key of its own: `key-1` and so on.
"""

import asyncio
import itertools
import os
import signal
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID

import msgspec
from sqlalchemy import text

from infra import ground as grounds
from infra import settings as config
from infra import telemetry
from infra.settings import Settings
from providers import anthropic_batches, openai_batches
from providers.batches import Batches, Doors
from tests.support.batches import batch_of
from tests.support.mortal import LIVED, Death
from workers.batches import carrying
from workers.batches.carrying import Carrier
from workers.batches.feeding import feed

_AT_ONCE = 4
#: Loaded before anybody is born.
LOADED = (anthropic_batches, openai_batches)


def _doom(ground: Any, death: Death) -> None:
    begin = ground.database.begin

    @asynccontextmanager
    async def mortal() -> AsyncGenerator[Any]:
        async with begin() as session:
            yield session
            death.step()
        death.step()

    ground.database.begin = mortal


class _Doors(Doors):
    """Doors at which death waits, too."""

    death: Death

    def behind(self, deployment: Any) -> Batches:
        """Return the batches behind a deployment, each call of which is two steps."""
        batches: Any = super().behind(deployment)
        if not hasattr(batches, "is_doomed"):
            batches.is_doomed = True
            for name in ("upload", "submit", "find", "is_over"):
                setattr(batches, name, self._mortal(getattr(batches, name)))
        return batches

    def _mortal(self, call: Any) -> Any:
        async def mortal(*args: Any) -> Any:
            self.death.step()
            told = await call(*args)
            self.death.step()
            return told

        return mortal


async def live(settings: Settings, batch_id: UUID, step: int) -> None:
    """Carry the parcel of a batch until that is over, unless death comes first."""
    death = Death(step)
    # Nobody else's.
    only = f"WHERE p.batch_id = '{batch_id}' AND p.finished_at IS NULL"
    setattr(carrying, "_TAKE", text(carrying._TAKE.text.replace("WHERE p.finished_at IS NULL", only)))  # noqa: B010  # pyright: ignore[reportPrivateUsage]
    key = f"key-{step}"
    settings = msgspec.structs.replace(settings, openai_api_key=key, anthropic_api_key=key)
    async with grounds.opened(settings) as healthy, grounds.opened(settings) as ground:
        await feed(healthy, batch_id)
        _doom(ground, death)
        carrier = Carrier(ground)
        doors = _Doors(settings)
        doors.death = death
        setattr(carrier, "_doors", doors)  # noqa: B010
        while (await batch_of(healthy, batch_id)).finished_at is None:
            await carrier.carry()
            await feed(healthy, batch_id)
            await asyncio.sleep(0.01)


def _begin(settings: Settings, batch_id: UUID, step: int) -> int:
    pid = os.fork()
    if pid == 0:
        asyncio.run(live(settings, batch_id, step))
        os._exit(LIVED)
    return pid


def main() -> None:
    """Carry one batch after the other, each a step further, until one is not cut short; print how many that took."""
    settings, stride = config.load(), int(sys.argv[1])
    telemetry.configure(settings, "carrying")
    for numbered in itertools.batched(enumerate(sys.argv[2:]), _AT_ONCE):
        some = [(1 + number * stride, batch) for number, batch in numbered]
        pids = {step: _begin(settings, UUID(batch), step) for step, batch in some}
        codes = {step: os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for step, pid in pids.items()}
        if wrong := {step: code for step, code in codes.items() if code not in {LIVED, -signal.SIGKILL}}:
            sys.exit(f"steps: {wrong}")
        if lived := [step for step, code in codes.items() if code == LIVED]:
            sys.stdout.write(f"{lived[0]}\n")
            return
    sys.exit("there are more steps than batches")


if __name__ == "__main__":
    main()
