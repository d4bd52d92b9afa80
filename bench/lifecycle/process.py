"""`python -m bench.lifecycle.process ROLE`: the client or the worker of `bench lifecycle`, on the servers of PULSE_*.

`submit N CALLERS` submits N jobs over the bench's accounts, CALLERS at a time; `work SLOTS` runs a worker until told to
stop. Each says at its end how many CPU seconds it used, as one JSON line.
"""

import asyncio
import json
import resource
import sys

import uvloop
from sqlalchemy import select

from bench.lifecycle import noop
from infra import ground, settings, telemetry
from infra.models import Account
from workers.desk import Desk
from workers.lifecycle import Submission
from workers.worker import StudioPool


async def submit(jobs: int, callers: int) -> None:
    """Submit so many jobs."""
    async with ground.opened(settings.load()) as opened:
        async with opened.database.begin() as session:
            accounts = list(await session.scalars(select(Account).order_by(Account.id)))
        desk, request = Desk(opened), noop.Noop(input=noop.NoopInput())
        turns = iter(range(jobs))

        async def call() -> None:
            for turn in turns:
                await desk.submit(Submission(account=accounts[turn % len(accounts)], request=request))

        await asyncio.gather(*(call() for _ in range(callers)))


def work(slots: int) -> None:
    """Run a worker."""
    asyncio.set_event_loop(uvloop.new_event_loop())
    StudioPool(settings.load(), noop.KIND, slots=slots).run()


def main() -> None:
    """Play the role."""
    noop.register()
    telemetry.configure(settings.load(), "bench")
    role, *numbers = sys.argv[1:]
    if role == "submit":
        uvloop.run(submit(*map(int, numbers)))
    else:
        work(*map(int, numbers))
    used = resource.getrusage(resource.RUSAGE_SELF)
    print(json.dumps({"cpu_s": used.ru_utime + used.ru_stime}))


if __name__ == "__main__":
    main()
