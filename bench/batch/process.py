"""`python -m bench.batch.process ROLE`: a process of the studio that knows the bench's kind, on the servers of PULSE_*.

`batch` reads batches, `tend` feeds them, `step` runs their jobs; `probe N` submits N interactive jobs, one after the
other, of the two accounts in turn, and says as one JSON line how long each waited to start, in milliseconds.
"""

import asyncio
import json
import sys

import uvloop
from sqlalchemy import select

from bench.batch import step
from infra import ground, settings, telemetry
from infra.ground import Ground
from infra.models import Account, Job
from workers.desk import Desk
from workers.lifecycle import Submission
from workers.tend import tend
from workers.worker import StudioPool

#: Jobs that the bench's worker runs at a time.
SLOTS = 100
# So long a person's program waits between two requests.
_PAUSE_S = 0.05
_LOOK_EVERY_S = 0.01


async def _tend() -> None:
    async with ground.opened(settings.load()) as opened:
        await tend(opened)


async def _probe(jobs: int) -> list[float]:
    waited: list[float] = []
    async with ground.opened(settings.load()) as opened:
        async with opened.database.begin() as session:
            accounts = list(await session.scalars(select(Account).order_by(Account.id)))
        desk = Desk(opened)
        for number in range(jobs):
            request = step.Step(input=step.StepInput(), priority="interactive")
            asked = Submission(account=accounts[number % len(accounts)], request=request)
            submitted = await desk.submit(asked)
            waited.append(await _waited_ms(opened, submitted.job.id))
            await asyncio.sleep(_PAUSE_S)
    return waited


async def _waited_ms(opened: Ground, job_id: object) -> float:
    while True:
        async with opened.database.begin() as session:
            job = (await session.execute(select(Job.created_at, Job.started_at).where(Job.id == job_id))).one()
        if job.started_at is not None:
            return (job.started_at - job.created_at).total_seconds() * 1000
        await asyncio.sleep(_LOOK_EVERY_S)


def main() -> None:
    """Play the role."""
    step.register()
    role, *numbers = sys.argv[1:]
    telemetry.configure(settings.load(), role)
    if role == "probe":
        print(json.dumps(uvloop.run(_probe(int(numbers[0])))), flush=True)
    elif role == "tend":
        uvloop.run(_tend())
    else:
        asyncio.set_event_loop(uvloop.new_event_loop())
        StudioPool(settings.load(), role, slots=SLOTS if role == step.KIND else 4).run()


if __name__ == "__main__":
    main()
