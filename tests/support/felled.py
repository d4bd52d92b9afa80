"""Readers of batches that die: `python -m tests.support.felled HOW ...`, with settings in the environment.

`steps JOB...`         reads one batch after another by its job, each in a process that kills itself at one step, before
                       or after a transaction's end or a call to the store, each a step later than the one before;
                       prints how many that took when one was not cut short;
`whenever DEATHS SEED` is a real worker that is killed after a random while, again and again; the last one lives.

They are forks of one that has loaded everything, and read in small chunks, so that there is much between two deaths.
"""

import asyncio
import os
import random
import signal
import sys
import time
from uuid import UUID

import uvloop

from infra import ground as grounds
from infra import settings as config
from infra import telemetry
from infra.settings import Settings
from tests.support.lives import tools
from tests.support.mortal import LIVED, Death, doom
from workers.batch import run
from workers.batches import holding, reading
from workers.perform import perform
from workers.worker import StudioPool

_CHUNK = 40
# Long enough to start and to read something, mostly.
_LIFE_S = (0.15, 0.7)
_SLOTS = 4


async def _read(settings: Settings, job_id: UUID, step: int) -> None:
    async with grounds.opened(settings) as ground:
        doom(ground, Death(step))
        await perform(tools(ground), job_id)


def _work(settings: Settings) -> None:
    telemetry.configure(settings, "batch")
    asyncio.set_event_loop(uvloop.new_event_loop())
    StudioPool(settings, "batch", slots=_SLOTS).run()


def _die_at_steps(settings: Settings, jobs: list[UUID]) -> None:
    for step, job_id in enumerate(jobs, 1):
        pid = os.fork()
        if pid == 0:
            asyncio.run(_read(settings, job_id, step))
            os._exit(LIVED)
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        if code == LIVED:
            sys.stdout.write(f"{step}\n")
            return
        if code != -signal.SIGKILL:
            sys.exit(f"step {step}: {code}")
    sys.exit("there are more steps than batches")


def _fork(settings: Settings) -> int:
    pid = os.fork()
    if pid == 0:
        _work(settings)
        os._exit(0)
    return pid


def _die_whenever(settings: Settings, deaths: int, dice: random.Random) -> None:
    for death in range(deaths):
        pid = _fork(settings)
        time.sleep(dice.uniform(*_LIFE_S))
        os.kill(pid, signal.SIGKILL)
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        if code != -signal.SIGKILL:
            sys.exit(f"death {death}: {code}")
    sys.stdout.write("lives\n")
    sys.stdout.flush()
    os.waitpid(_fork(settings), 0)


def main() -> None:
    """Die as the command line says."""
    settings = config.load()
    for module, name in ((reading, "_CHUNK_LINES"), (holding, "_AT_ONCE")):
        assert hasattr(module, name)
        setattr(module, name, _CHUNK)
    assert run.reading is reading
    if sys.argv[1] == "steps":
        _die_at_steps(settings, [UUID(job_id) for job_id in sys.argv[2:]])
    else:
        _die_whenever(settings, int(sys.argv[2]), random.Random(sys.argv[3]))


if __name__ == "__main__":
    main()
