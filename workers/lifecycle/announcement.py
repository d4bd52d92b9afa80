"""What the queue and the streams hear of jobs that were admitted just now: all of it in one pipeline."""

import asyncio
from collections import defaultdict
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

import structlog

from infra import overview, queue
from infra import redis as road
from infra.ground import Ground
from infra.models import Job
from infra.overview import Place
from infra.queue import Waiting
from infra.streams import Append
from workers import events, jobs, pools
from workers.lifecycle.drawing import Drawn
from workers.lifecycle.submissions import Admitted, Submitted

log = structlog.stdlib.get_logger()

_QUEUED = events.line(events.Queued())
# How long those that were drawn wait for a Redis that hangs.
_PATIENCE_S = 2.0


async def announce(ground: Ground, submitted: Sequence[Submitted]) -> list[Place | None]:
    """Say "queued" and put on the queue what was admitted just now; where that cannot be done, the tender will.

    How long that may take, the caller says. Returns where each waits then; None stands for one that does not, or of
    which that is not known.
    """
    new = [each for each in submitted if each.known is None]
    queued = _by_pool(each.job for each in new)

    def fill(pipe: Any) -> None:
        # The events first: once a job is on the queue, its worker may speak at any moment.
        ground.streams.put(pipe, [_first_words(each) for each in new])
        for pool, waiting in queued.items():
            ground.queue.add(pipe, queue.name(pool), waiting)
            ground.overseer.add_places(pipe, pool, [job.id for job in waiting])

    places: dict[str, Place | None] = {}
    try:
        told = await road.execute(ground.redis, fill)
        for waiting, answer in zip(queued.values(), told[2::2], strict=True):
            places.update(zip([job.id for job in waiting], overview.read(answer), strict=True))
    except road.AWAY:
        log.warning("admitted while the queue is away; the tender will queue them", jobs=len(new))
    return [places.get(str(each.job.id)) for each in submitted]


def _first_words(admitted: Submitted) -> Append:
    job, said = admitted.job, [_QUEUED]
    if admitted.crossings:
        said += [events.line(events.quota_warning(it.meter, it.percent)) for it in admitted.crossings]
    source = jobs.speaker(job.id, job.account_id, job.kind, job.batch_id)
    return Append(source=source, attempt=0, first=1, lines=said)


async def enqueue_drawn(ground: Ground, drawn: Sequence[Drawn]) -> None:
    """Put the jobs on their queues that a batch's lines have become just now.

    Nobody is told that they wait: that would be a stream for each, of jobs that nobody follows yet. What cannot be
    queued now, also for want of a build that knows its kind, the tender will.
    """
    known = [job for job in drawn if any(job.kind in kinds for kinds in pools.POOLS.values())]
    try:
        async with asyncio.timeout(_PATIENCE_S):
            await enqueue(ground, known)
    except road.AWAY:
        log.warning("drawn while the queue is away; the tender will queue them", jobs=len(known))


async def enqueue(ground: Ground, unqueued: Iterable[Job | Admitted | Drawn]) -> None:
    """Put jobs on the queues of their pools, in their lanes, to start when they are due."""
    for pool, waiting in _by_pool(unqueued).items():
        await ground.queue.put(queue.name(pool), waiting)


def _by_pool(unqueued: Iterable[Job | Admitted | Drawn]) -> dict[str, list[Waiting]]:
    """Return how jobs wait on the queues of their pools."""
    now = datetime.now(UTC)
    waiting: dict[str, list[Waiting]] = defaultdict(list)
    for job in unqueued:
        due = job.run_at if job.run_at > now else None
        lane = "batch" if job.lane == "batch" else "interactive"
        waiting[pools.of(job.kind)].append(queue.waiting(job.id, job.account_id, job.kind, lane, due))
    return waiting
