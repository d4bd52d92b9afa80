"""Processes that deliver webhooks and die: `python -m tests.support.postmen DEATHS SEED`, settings in the environment.

Each is `python -m workers webhooks` in a process that is forked anew (everything is loaded by then) each time that the
one before was killed after a random while, as `kill -9` would. The last one lives until it is told to end.
"""

import os
import random
import signal
import sys
import time

from infra import settings as config
from infra import telemetry
from workers import __main__ as workers

# Long enough to start and to deliver something, mostly.
_LIFE_S = (0.1, 0.7)


def _fork() -> int:
    pid = os.fork()
    if pid == 0:
        sys.argv = ["workers", "webhooks"]
        os._exit(workers.main())
    return pid


def main() -> None:
    """Die so many times; print `lives` when the last one is started."""
    deaths, dice = int(sys.argv[1]), random.Random(sys.argv[2])
    telemetry.configure(config.load(), "postmen")
    for death in range(deaths):
        pid = _fork()
        time.sleep(dice.uniform(*_LIFE_S))
        os.kill(pid, signal.SIGKILL)
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        if code != -signal.SIGKILL:
            sys.exit(f"death {death}: {code}")
    sys.stdout.write("lives\n")
    sys.stdout.flush()
    os.waitpid(_fork(), 0)


if __name__ == "__main__":
    main()
