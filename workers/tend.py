"""The tender: reconciles PostgreSQL, which is the truth, with Redis, which is the road, and keeps the house.

Any number may run: each round is done by whoever gets the lock, and a round done twice does no harm.
"""

import asyncio
from datetime import UTC, datetime, timedelta

import structlog
from msgspec import Struct
from sqlalchemy import func, or_, select, text

from infra import redis as road
from infra.database import DatabaseUnavailable
from infra.ground import Ground
from infra.models import LIVE, Job
from workers import lifecycle, pools

log = structlog.stdlib.get_logger()

# Any fixed number, other than the one that migrations lock.
_LOCK = 7_305_581_002
_MONTHS_AHEAD = 3
_HOUSEKEEPING_EVERY_S = 3600.0
_BATCH = 1000
# A job this young is still on its way to the queue, or from there to its lease.
_ON_ITS_WAY = timedelta(seconds=3)


class Round(Struct, kw_only=True):
    """What one round mended."""

    queued: int = 0
    ended: int = 0


async def tend(ground: Ground) -> None:
    """Do rounds for ever; a database or a Redis that is away is waited for."""
    clock = asyncio.get_running_loop().time
    kept_house_at = -_HOUSEKEEPING_EVERY_S
    while True:
        try:
            if clock() - kept_house_at >= _HOUSEKEEPING_EVERY_S:
                await keep_house(ground)
                kept_house_at = clock()
            mended = await reconcile(ground)
            if mended.queued or mended.ended:
                log.info("mended", queued=mended.queued, ended=mended.ended)
        except (DatabaseUnavailable, *road.AWAY) as error:
            log.warning("cannot tend now", reason=str(error))
        await asyncio.sleep(ground.settings.tend_every_s)


async def reconcile(ground: Ground) -> Round:
    """Queue the live jobs that the queue has lost, and end the cancelled ones whose worker is dead."""
    mended, after = Round(), None
    while batch := await _live(ground, after):
        after = batch[-1].id
        for pool in pools.POOLS:
            await _reconcile_pool(ground, pool, [job for job in batch if pools.of(job.kind) == pool], mended)
    return mended


async def _live(ground: Ground, after: object) -> list[Job]:
    now = datetime.now(UTC)
    settled = or_(Job.state == "running", Job.run_at < now - _ON_ITS_WAY)
    query = select(Job).where(Job.state.in_(LIVE), Job.created_at < now - _ON_ITS_WAY, settled)
    if after is not None:
        query = query.where(Job.id > after)
    async with ground.database.begin() as session:
        return list(await session.scalars(query.order_by(Job.id).limit(_BATCH)))


async def _reconcile_pool(ground: Ground, pool: str, live: list[Job], mended: Round) -> None:
    if not live:
        return
    unwanted = [job for job in live if job.state == "running" and job.cancel_requested_at is not None]
    leased = await ground.queue.leased([job.id for job in unwanted])
    for job in unwanted:
        if job.id not in leased:
            await lifecycle.abandon(ground, job)
            mended.ended += 1
    lost = await ground.queue.lost(pool, [job.id for job in live if job not in unwanted])
    if lost:
        accounts = {job.id: job.account_id for job in live}
        await ground.queue.enqueue(pool, [(job_id, accounts[job_id]) for job_id in lost])
        mended.queued += len(lost)


async def keep_house(ground: Ground) -> None:
    """Make the partitions of the months ahead and forget old idempotency keys; one tender at a time."""
    async with ground.database.begin() as session:
        if not await session.scalar(select(func.pg_try_advisory_xact_lock(_LOCK))):
            return
        await session.execute(text("SET LOCAL lock_timeout = '5s'"))
        await session.execute(select(func.make_partitions(_MONTHS_AHEAD)))
        await lifecycle.forget_keys(session)
