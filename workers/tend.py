"""The tender: reconciles PostgreSQL, which is the truth, with Redis, which is the road, and keeps the house.

Any number may run: a round done twice does no harm, and the house is kept by whoever gets the lock.
"""

import asyncio
from collections.abc import Awaitable
from datetime import UTC, datetime, timedelta
from uuid import UUID

import structlog
from msgspec import Struct
from sqlalchemy import func, or_, select, text
from sqlalchemy.orm import load_only

from infra import redis as road
from infra.database import DatabaseUnavailable
from infra.ground import Ground
from infra.models import Job
from infra.storage import StorageUnavailable
from providers.gateway import Gateway
from quotas import ledger, spend
from workers import control, files, intake, lifecycle, pools
from workers.batches import keeping
from workers.batches.carrying import Carrier
from workers.batches.feeding import Feeder
from workers.desk import Desk
from workers.lifecycle import orphans
from workers.webhooks import retention

log = structlog.stdlib.get_logger()

# Any fixed number, other than the one that migrations lock.
_LOCK = 7_305_581_002
_MONTHS_AHEAD = 3
_HOUSEKEEPING_EVERY_S = 3600.0
_BATCH = 1000
# What a broken-off write has left in the file store, and nothing has touched for so long, is nobody's.
_LEFT_S = 24 * 3600.0
#: There while a tender lives.
ALIVE = "pulse:tender"
_SILENCE_S = 30
# So many moments in a row are one.
_LEAST_S = 0.1
# How soon batches are fed again after that could not be done.
_FEED_AGAIN_S = 1.0
# A job this young is still on its way to the queue, or from there to its lease.
_ON_ITS_WAY = timedelta(seconds=3)


#: Running jobs that the queue does not know, and since when.
type Missing = dict[UUID, float]


class Round(Struct, kw_only=True):
    """What one round mended."""

    queued: int = 0
    ended: int = 0


async def tend(ground: Ground) -> None:
    """Do rounds for ever. Nothing ends them: what cannot be mended now may be in the next round."""
    async with asyncio.TaskGroup() as rounds:  # apart: a file store that hangs, or a long round, keeps no job waiting
        rounds.create_task(_tend_jobs(ground))
        rounds.create_task(_tend_moments(ground))
        rounds.create_task(_tend_files(ground))
        rounds.create_task(_tend_batches(ground))
        rounds.create_task(_feed_batches(ground))
        rounds.create_task(_carry_parcels(ground))
        rounds.create_task(_stop_orphans(ground))


async def _tend_files(ground: Ground) -> None:
    clock = asyncio.get_running_loop().time
    tidied_at, desk = -_HOUSEKEEPING_EVERY_S, Desk(ground)
    while True:
        if clock() - tidied_at >= _HOUSEKEEPING_EVERY_S:
            tidied_at = clock()
            await _try("forget old files", files.forget(ground))
            await _try("tidy the file store", _tidy(ground))
        await _try("tend files", intake.tend(ground, desk))
        await asyncio.sleep(ground.settings.tend_every_s)


async def _tidy(ground: Ground) -> None:
    await ground.storage.tidy(older_s=_LEFT_S)


async def _tend_batches(ground: Ground) -> None:
    clock = asyncio.get_running_loop().time
    forgot_at, desk = -_HOUSEKEEPING_EVERY_S, Desk(ground)
    while True:
        if clock() - forgot_at >= _HOUSEKEEPING_EVERY_S:
            forgot_at = clock()
            await _try("forget old batches", keeping.forget(ground))
        await _try("have batches read", intake.submit_unread(ground, desk))
        await asyncio.sleep(ground.settings.tend_every_s)


async def _feed_batches(ground: Ground) -> None:
    feeder = Feeder(ground)
    while True:
        next_s = await _try("feed batches", feeder.round())
        await asyncio.sleep(_FEED_AGAIN_S if next_s is None else next_s)


async def _carry_parcels(ground: Ground) -> None:
    carrier = Carrier(ground)
    try:
        while True:
            await _try("carry parcels", carrier.round())
            await asyncio.sleep(ground.settings.tend_every_s)
    finally:
        await carrier.close()


async def _stop_orphans(ground: Ground) -> None:
    gateway = Gateway(ground.settings, ground.redis)
    try:
        while True:
            await _try("stop what nobody waits for", stop_orphans(ground, gateway))
            await asyncio.sleep(ground.settings.tend_every_s)
    finally:
        await gateway.close()


async def stop_orphans(ground: Ground, gateway: Gateway) -> None:
    """Have vendors stop the answers of jobs that are over without them."""
    while left := await orphans.take(ground):
        await asyncio.gather(*(gateway.abandon(token) for token in left))


async def _tend_jobs(ground: Ground) -> None:
    clock = asyncio.get_running_loop().time
    kept_house_at = -_HOUSEKEEPING_EVERY_S
    missing: Missing = {}
    while True:
        if clock() - kept_house_at >= _HOUSEKEEPING_EVERY_S:
            kept_house_at = clock()
            await _try("keep house", keep_house(ground))
            await _try("forget old webhooks", retention.forget(ground))
        await _try("tell the pools", control.reconcile(ground))
        await _try("reconcile", _round(ground, missing))
        await _try("say that a tender lives", _live_on(ground))
        await asyncio.sleep(ground.settings.tend_every_s)


async def _tend_moments(ground: Ground) -> None:
    usual_s = ground.settings.tend_every_s
    while True:
        next_s = await _try("cancel what is late", _cancel_late(ground))
        await asyncio.sleep(usual_s if next_s is None else min(max(next_s, _LEAST_S), usual_s))


async def _cancel_late(ground: Ground) -> float | None:
    """Cancel what was to be over by now; returns in how many seconds the next job is to be, of those there are."""
    if ended := await lifecycle.cancel_late(ground):
        log.info("cancelled in time", jobs=ended)
    return await lifecycle.next_cancel_s(ground)


async def _try[T](what: str, deed: Awaitable[T]) -> T | None:
    """Return what the deed does, or None where that cannot be done now."""
    try:
        return await deed
    except (DatabaseUnavailable, StorageUnavailable, *road.AWAY) as error:
        log.warning("cannot tend now", what=what, reason=str(error))
    except Exception:
        log.exception("cannot tend now", what=what)
    return None


async def _live_on(ground: Ground) -> None:
    await ground.redis.set(ALIVE, 1, ex=max(_SILENCE_S, int(3 * ground.settings.tend_every_s)))


async def _round(ground: Ground, missing: Missing) -> None:
    mended = await reconcile(ground, missing)
    for pool in pools.POOLS:
        await ground.overseer.recount(pool)
    if mended.queued or mended.ended:
        log.info("mended", queued=mended.queued, ended=mended.ended)


async def reconcile(ground: Ground, missing: Missing) -> Round:
    """Queue the live jobs that the queue has lost; end those not started or not over in time, and cancelled ones that
    nobody runs.

    `missing` says when (loop time) a running job was first seen to be unknown to the queue. Its worker may be alive,
    and takes its lease again by itself when Redis has forgotten it: only after a whole lease is it given to another.
    """
    mended, after = Round(ended=await lifecycle.expire(ground) + await lifecycle.cancel_late(ground)), None
    seen: Missing = {}
    while batch := await _live(ground, after):
        after = batch[-1].id
        mended.ended += await _end_unwanted(ground, [job.id for job in batch if job.cancel_requested_at is not None])
        wanted = [job for job in batch if job.cancel_requested_at is None]
        for pool, kinds in pools.POOLS.items():
            await _reconcile_pool(ground, pool, [job for job in wanted if job.kind in kinds], mended, missing, seen)
    missing.clear()
    missing.update(seen)
    return mended


async def _live(ground: Ground, after: UUID | None) -> list[Job]:
    now = datetime.now(UTC)
    settled = or_(Job.state == "running", Job.run_at < now - _ON_ITS_WAY, Job.cancel_requested_at.is_not(None))
    # Not what was asked and made: that is up to a megabyte a job, and these are all that wait.
    needed = load_only(Job.account_id, Job.kind, Job.state, Job.lane, Job.run_at, Job.cancel_requested_at)
    query = select(Job).options(needed).where(Job.finished_at.is_(None), Job.created_at < now - _ON_ITS_WAY, settled)
    if after is not None:
        query = query.where(Job.id > after)
    async with ground.database.begin() as session:
        return list(await session.scalars(query.order_by(Job.id).limit(_BATCH)))


async def _end_unwanted(ground: Ground, job_ids: list[UUID]) -> int:
    """End the cancelled jobs that nobody runs, also those of a kind that only another build knows."""
    leased = await ground.queue.leased(job_ids) if job_ids else set[UUID]()
    return sum([await _close(ground, job_id) for job_id in job_ids if job_id not in leased])


async def _reconcile_pool(
    ground: Ground, pool: str, live: list[Job], mended: Round, missing: Missing, seen: Missing
) -> None:
    if not live:
        return
    wanted = {job.id: job for job in live}
    lost = await ground.queue.lost(pool, list(wanted))
    now = asyncio.get_running_loop().time()
    given_up = [job_id for job_id in lost if _is_given_up(ground, wanted[job_id], now, missing, seen)]
    if given_up:
        await lifecycle.enqueue(ground, [wanted[job_id] for job_id in given_up])
        mended.queued += len(given_up)


async def _close(ground: Ground, job_id: UUID) -> int:
    """End a job, if that can be done: one that cannot keeps the others from nothing."""
    try:
        await lifecycle.close(ground, job_id)
    except DatabaseUnavailable:
        raise
    except Exception:
        log.exception("a job cannot be ended", job=str(job_id))
        return 0
    return 1


def _is_given_up(ground: Ground, job: Job, now: float, missing: Missing, seen: Missing) -> bool:
    if job.state == "queued":
        return True
    seen[job.id] = missing.get(job.id, now)
    return now - seen[job.id] >= ground.settings.lease_s


async def keep_house(ground: Ground) -> None:
    """Make the partitions of the months ahead, forget old idempotency keys, and follow a cap that was changed.

    One tender at a time.
    """
    async with ground.database.begin() as session:
        if not await session.scalar(select(func.pg_try_advisory_xact_lock(_LOCK))):
            return
        await session.execute(text("SET LOCAL lock_timeout = '5s'"))
        await session.execute(select(func.make_partitions(_MONTHS_AHEAD)))
    async with ground.database.begin() as session:  # apart: what keys there are keeps no partition from being made
        await session.execute(text("SET LOCAL lock_timeout = '5s'"))
        await lifecycle.forget_keys(session)
    if caps := spend.caps(ground.settings):
        async with ground.database.begin() as session:
            await ledger.follow(session, caps)
