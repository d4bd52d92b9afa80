"""An API that dies again and again: `python -m tests.support.doomed HOW DEATHS SEED`, with settings in the environment.

It is the real one, behind its real server, in a process that is forked anew (everything is loaded by then) each time
that the one before has died by SIGKILL:

`committed`  dies by itself as soon as an admission is committed, before Redis or anybody else hears of it;
`whenever`   is killed by its parent after a random while.

When so many have died, the last one lives until it is told to end.
"""

import os
import random
import signal
import sys
import time
from collections.abc import Sequence
from typing import Any
from unittest.mock import patch

import uvloop

from api.__main__ import serve
from infra import settings as config
from infra import telemetry
from infra.ground import Ground
from infra.settings import Settings
from workers import lifecycle

# Long enough to start and to admit something, mostly.
_LIFE_S = (0.15, 0.6)


def _live(settings: Settings, admissions: int | None) -> None:
    """Serve; die after so many admissions, if that is given."""
    telemetry.configure(settings, "api")
    if admissions is None:
        uvloop.run(serve(settings))
        return
    announce, left = lifecycle.announce, admissions

    async def doomed(ground: Ground, admitted: Sequence[Any]) -> Any:
        nonlocal left
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return await announce(ground, admitted)

    with patch.object(lifecycle, "announce", doomed):
        uvloop.run(serve(settings))


def _fork(settings: Settings, admissions: int | None = None) -> int:
    pid = os.fork()
    if pid == 0:
        _live(settings, admissions)
        os._exit(0)
    return pid


def main() -> None:
    """Die so many times; print the number of each death, and `lives` when the last one is started."""
    how, deaths, dice = sys.argv[1], int(sys.argv[2]), random.Random(sys.argv[3])
    settings = config.load()
    for death in range(deaths):
        if how == "committed":
            pid = _fork(settings, dice.choice([1, 1, 2, 3]))
        else:
            pid = _fork(settings)
            time.sleep(dice.uniform(*_LIFE_S))
            os.kill(pid, signal.SIGKILL)
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        if code != -signal.SIGKILL:
            sys.exit(f"death {death}: {code}")
        sys.stdout.write(f"{death + 1}\n")
    sys.stdout.write("lives\n")
    sys.stdout.flush()
    os.waitpid(_fork(settings), 0)


if __name__ == "__main__":
    main()
