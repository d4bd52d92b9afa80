"""Stops: many jobs of an account are cancelled together, those that wait at once, those that run by their workers."""

import asyncio
import itertools
from collections.abc import Sequence
from functools import partial
from typing import Any
from uuid import UUID

import structlog
from sqlalchemy import text

from infra import queue
from infra import redis as road
from infra.ground import Ground
from infra.streams import Append
from workers import events, pools
from workers.lifecycle import ends, orphans
from workers.lifecycle.ends import End, Ended

log = structlog.stdlib.get_logger()
_MOST_AT_ONCE = 500
# How long it waits for a Redis that hangs.
_PATIENCE_S = 2.0

_STOP = text("""
    WITH locked AS MATERIALIZED (
        SELECT id, attempt, state FROM jobs
        WHERE id = ANY(CAST(:ids AS uuid[])) AND finished_at IS NULL AND cancel_requested_at IS NULL
        ORDER BY id FOR NO KEY UPDATE
    ), asking AS (
        UPDATE jobs j SET cancel_requested_at = now()
        FROM locked l WHERE j.id = l.id AND j.id = ANY(CAST(:ids AS uuid[]))
    )
    SELECT id, attempt, state FROM locked ORDER BY id
""")


async def stop(ground: Ground, job_ids: Sequence[UUID]) -> int:
    """Cancel those of the jobs that are not over and were not cancelled before; returns how many.

    One that waits ends here, for nothing. Whatever keeps this from being done to its end, the tender's next round does.
    """
    stopped = 0
    for some in itertools.batched(job_ids, _MOST_AT_ONCE):
        asked = await ground.database.ask(_STOP, {"ids": list(some)})
        await _tell_workers(ground, [job_id for job_id, _, state in asked if state == "running"])
        waiting = [
            End(job_id=job_id, attempt=attempt, state="canceled", was="queued")
            for job_id, attempt, state in asked
            if state == "queued"
        ]
        # One that was claimed meanwhile is ended by whoever claims it: it was cancelled by then.
        await _tell_followers(ground, [job for job in await ends.finish(ground, waiting) if job is not None])
        stopped += len(asked)
    return stopped


async def _tell_workers(ground: Ground, job_ids: Sequence[UUID]) -> None:
    def fill(pipe: Any) -> None:
        for job_id in job_ids:
            pipe.publish(queue.CANCELS, str(job_id))

    try:
        async with asyncio.timeout(_PATIENCE_S):
            if job_ids:
                await road.execute(ground.redis, fill)
    except road.AWAY:
        log.warning("cancelled while Redis is away; their next checkpoints will see it", jobs=len(job_ids))


async def _tell_followers(ground: Ground, ended: Sequence[Ended]) -> None:
    by_pool: dict[str, list[UUID]] = {}
    for job in ended:
        for pool in (pool for pool, kinds in pools.POOLS.items() if job.kind in kinds):
            by_pool.setdefault(pool, []).append(job.id)
    try:
        async with asyncio.timeout(_PATIENCE_S):
            if ended:
                await road.execute(ground.redis, partial(_say, ground, ended))
            for pool, job_ids in by_pool.items():
                await ground.queue.forget(pool, job_ids)
    except road.AWAY:
        log.warning("last events stay unsaid", jobs=len(ended))


def _say(ground: Ground, ended: Sequence[Ended], pipe: Any) -> None:
    last = [
        Append(source=job.source(), attempt=job.attempt, first=0, lines=[events.line(job.terminal())], over=True)
        for job in ended
    ]
    ground.streams.put(pipe, last)
    orphans.note(pipe, [job.left for job in ended if job.left is not None])
