"""Feeds batches: their lines become jobs a window at a time, and what became of those becomes their results.

Any number may feed: each step is one transaction under the lock on the batch's row, which who comes second passes by.
Nobody else writes that row while the batch runs, so that thousands of ends are one change of it.
"""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import datetime
from math import inf
from uuid import UUID

import structlog
from msgspec import Struct
from sqlalchemy import func, select, text
from sqlalchemy.ext.asyncio import AsyncSession

from infra import redis as road
from infra.database import DatabaseUnavailable
from infra.errors import PulseError
from infra.ground import Ground
from infra.models import LIVE, Batch, BatchFlight, Document, Job
from quotas import ledger
from workers import lifecycle
from workers.batches import gathering, inputs, packing, parcels, telling
from workers.lifecycle import Drawn

log = structlog.stdlib.get_logger()

# How soon it is looked again after something moved; after nothing did, for all of them and for one; and while there are
# none.
BUSY_S, QUIET_S, LONGEST_S, NONE_S = 0.1, 0.5, 2.0, 2.0
_GROWTH = 1.6
# So many at a time: each needs a connection.
_AT_ONCE = 4
# So many are drawn in one statement, and then at once the next: one that takes long keeps the jobs of people waiting.
_MOST_DRAWN = 500
# How often it is looked who is to be told of what moved; an end is told at once.
_TELL_EVERY_S = 0.25
# How long it waits for a Redis that hangs.
_PATIENCE_S = 2.0


class ReadingBrokenOff(PulseError):
    """The batch was not read to its end: the job that read it was cancelled. Hand it over again."""

    ar = "لم تُقرأ الدفعة إلى نهايتها لأن المهمة التي تقرؤها أُلغيت. أرسلها من جديد."


class Moved(Struct, kw_only=True):
    """What a look after a batch did: lines that were told, and jobs that were drawn, lines that were packed.

    `ended` it was then.
    """

    told: int = 0
    drawn: int = 0
    packed: int = 0
    ended: bool = False

    @property
    def is_full(self) -> bool:
        """Whether that is as much as one look does: there may be more to do."""
        return self.packed > 0 or self.drawn >= _MOST_DRAWN or self.told >= gathering.MOST_AT_ONCE

    def __bool__(self) -> bool:
        """Tell whether that is anything."""
        return bool(self.told or self.drawn or self.packed or self.ended)


# Whether lines wait to be drawn, also such as come back from a vendor.
_WAITS = """(drawn_line < read_lines OR EXISTS (
    SELECT FROM batch_parcels p WHERE p.batch_id = batches.id AND p.finished_at IS NULL AND p.state = 'returning'))"""
# What flies is counted in the rows alone; only those of which something may be over are looked for.
_LIVE = text(f"""
    WITH live AS MATERIALIZED (
        SELECT id, state, job_id, {_WAITS} AS waits,
               economy AND parceled_line < read_lines AS packs, expires_at <= now() AS is_late, f.flying,
               sum(f.flying) OVER (PARTITION BY account_id) < :window AS has_room
        FROM batches, LATERAL (SELECT drawn - succeeded - failed - canceled - expired AS flying) f
        WHERE finished_at IS NULL
    )
    SELECT id, CASE state
        WHEN 'validating' THEN is_late
            OR EXISTS (SELECT FROM jobs j WHERE j.id = l.job_id AND j.finished_at IS NOT NULL)
        WHEN 'canceling' THEN true
        ELSE packs OR (waits AND (has_room OR is_late))
            OR (NOT waits AND flying = 0
                AND NOT EXISTS (SELECT FROM batch_parcels p WHERE p.batch_id = l.id AND p.finished_at IS NULL))
            OR EXISTS (SELECT FROM batch_flights b JOIN jobs j ON j.id = b.job_id
                       WHERE b.batch_id = l.id AND j.finished_at IS NOT NULL)
        END
    FROM live l WHERE state = 'canceling' OR id <> ALL(CAST(:resting AS uuid[]))
    ORDER BY id
""")  # noqa: S608 (a constant of this module)


class Feeder:
    """Looks after all batches, each as often as it moves."""

    def __init__(self, ground: Ground) -> None:
        """Start with none known."""
        self._ground = ground
        self._clock = asyncio.get_running_loop().time
        #: For how long one is left alone that did not move, and until when (loop time).
        self.rests: dict[UUID, tuple[float, float]] = {}
        #: What has moved since its account was told, and whether it ended here.
        self._untold: dict[UUID, bool] = {}
        self._told_at = -inf

    async def round(self) -> float:
        """Look after every batch for which there may be something to do; returns in how many seconds to come again."""
        began = self._clock()
        resting = [batch_id for batch_id, (_, until) in self.rests.items() if until > began]
        given = {"resting": resting, "window": self._ground.settings.batch_window}
        found = await self._ground.database.ask(_LIVE, given)
        gate = asyncio.Semaphore(_AT_ONCE)
        moved = await asyncio.gather(*(self._visit(batch_id, gate) for batch_id, worth in found if worth))
        for batch_id, worth in found:
            if not worth:
                self._rest(batch_id)
        self.rests = {key: rest for key, rest in self.rests.items() if rest[1] > began - LONGEST_S}
        await self._tell_accounts()
        if any(moved):
            is_full = any(each.is_full for each in moved)
            return 0.0 if is_full else max(0.0, began + BUSY_S - self._clock())
        # What has just moved moves again long before the usual moment: only what rests long is waited for so long.
        soonest_s = min((until for _, until in self.rests.values() if until > began), default=inf) - self._clock()
        return max(BUSY_S, min(soonest_s, QUIET_S)) if found or resting or self._untold else NONE_S

    async def _visit(self, batch_id: UUID, gate: asyncio.Semaphore) -> Moved:
        async with gate:
            try:
                moved = await feed(self._ground, batch_id)
            except DatabaseUnavailable as error:
                log.warning("a batch cannot be fed now", batch=str(batch_id), reason=str(error))
                moved = Moved()
            except Exception:
                log.exception("a batch cannot be fed", batch=str(batch_id))
                moved = Moved()
        if moved:
            self.rests.pop(batch_id, None)
            self._untold[batch_id] = moved.ended
        else:
            self._rest(batch_id)
        return moved

    def _rest(self, batch_id: UUID) -> None:
        wait_s, _ = self.rests.get(batch_id, (BUSY_S / _GROWTH, 0.0))
        wait_s = min(LONGEST_S, wait_s * _GROWTH)
        self.rests[batch_id] = wait_s, self._clock() + wait_s

    async def _tell_accounts(self) -> None:
        """Tell how those stand that have moved; the last of it is told as well, however soon it came."""
        is_due = any(self._untold.values()) or self._clock() - self._told_at >= _TELL_EVERY_S
        if not self._untold or not is_due:
            return
        self._told_at = self._clock()
        async with self._ground.database.begin() as session:
            batches = list(await session.scalars(select(Batch).where(Batch.id.in_(self._untold))))
        try:
            async with asyncio.timeout(_PATIENCE_S):
                for batch in batches:
                    is_others = batch.finished_at is not None and not self._untold[batch.id]
                    if is_others or await telling.tell_account(self._ground, batch):
                        del self._untold[batch.id]
        except road.AWAY:  # what moves next tells of it as well, but for the end, after which nothing moves
            self._untold = {batch_id: True for batch_id, is_over in self._untold.items() if is_over}


class _Held(Struct, frozen=True):
    """A batch whose row nobody else writes until the transaction is over, and when that began."""

    session: AsyncSession
    batch: Batch
    now: datetime

    @property
    def is_late(self) -> bool:
        return self.batch.expires_at <= self.now


async def feed(ground: Ground, batch_id: UUID) -> Moved:
    """Gather what is over of a batch, draw what there is room for or give up what is left; end it with its last line.

    Nothing is done for one that somebody else feeds at this moment.
    """
    moved, drawn = Moved(), list[Drawn]()
    async with _locked(ground, batch_id) as held:
        if held is not None:
            moved.told = await gathering.gather(held.session, held.batch)
    async with _locked(ground, batch_id) as held:
        if held is None:
            return moved
        batch = held.batch
        if batch.state == "validating":
            moved.ended = await _give_up_reading(held)
        elif batch.state == "canceling" or held.is_late:
            moved.told += await _give_up(held)
        else:
            moved.packed = await _pack(held, ground.settings.parcel_lines)
            drawn = await _draw(held, ground.settings.batch_window)
            moved.drawn = len(drawn)
        if batch.finished_at is None and await _is_through(held):
            await _end(held, _last(batch))
            moved.ended = True
    await lifecycle.enqueue_drawn(ground, drawn)
    if batch.state == "canceling":
        await _stop(ground, batch_id)
    return moved


@asynccontextmanager
async def _locked(ground: Ground, batch_id: UUID) -> AsyncGenerator[_Held | None]:
    """Open a transaction with the lock on a batch; with none where somebody else has it, or the batch is over."""
    query = select(Batch, func.now()).where(Batch.id == batch_id, Batch.finished_at.is_(None))
    async with ground.database.begin() as session:
        found = (await session.execute(query.with_for_update(skip_locked=True, key_share=True))).one_or_none()
        yield None if found is None else _Held(session, *found)


async def _give_up(held: _Held) -> int:
    """Tell of the next lines that they will be no jobs."""
    batch = held.batch
    if batch.drawn_line >= batch.read_lines and not _packs(batch):
        return 0
    outcome = "canceled" if batch.state == "canceling" else "expired"
    return await gathering.give_up(held.session, batch, outcome)


def _packs(batch: Batch) -> bool:
    return batch.economy and batch.parceled_line < batch.read_lines


async def _pack(held: _Held, most: int) -> int:
    """Pack the next lines that are for vendors' own batches."""
    return await packing.pack(held.session, held.batch, most) if _packs(held.batch) else 0


# One at a time draws for an account, so that together they keep to its window.
_ALONE = text("SELECT pg_advisory_xact_lock(hashtextextended('draw ' || CAST(:account AS text), 0))")
_SHARES = text(f"""
    SELECT count(*) FILTER (WHERE draws), coalesce(sum(flying), 0), coalesce(sum(flying) FILTER (WHERE NOT draws), 0)
    FROM (SELECT drawn - succeeded - failed - canceled - expired AS flying,
                 state = 'running' AND {_WAITS} AS draws
          FROM batches WHERE account_id = :account AND finished_at IS NULL) b
""")  # noqa: S608 (a constant of this module)


async def _draw(held: _Held, window: int) -> list[Drawn]:
    """Draw as many lines as the batch's share of its account's window has room for."""
    session, batch = held.session, held.batch
    returning = await parcels.returning(session, batch.id)
    if batch.drawn_line >= batch.read_lines and not returning:
        return []
    await session.execute(_ALONE, {"account": str(batch.account_id)})
    sharers, flying, of_others = (await session.execute(_SHARES, {"account": batch.account_id})).one()
    share = max(1, (window - of_others) // max(1, sharers))
    own = batch.drawn - batch.succeeded - batch.failed - batch.canceled - batch.expired
    room = min(share - own, window - flying, _MOST_DRAWN)
    drawn = await parcels.draw(session, batch, returning, int(room)) if room > 0 else []
    if len(drawn) < room and batch.drawn_line < batch.read_lines:
        drawn += await lifecycle.draw(session, batch, int(room) - len(drawn))
    return drawn


async def _is_through(held: _Held) -> bool:
    batch = held.batch
    if batch.state == "validating" or batch.drawn_line < batch.read_lines or _packs(batch):
        return False
    if await parcels.any_left(held.session, batch.id):
        return False
    flights = select(BatchFlight.line).where(BatchFlight.batch_id == batch.id).limit(1)
    return await held.session.scalar(flights) is None


def _last(batch: Batch) -> str:
    if batch.state == "canceling":
        return "canceled"
    return "expired" if batch.expired else "completed"


async def _end(held: _Held, state: str, error: Document | None = None) -> None:
    """End a batch, and free what is left of its hold."""
    session, batch = held.session, held.batch
    batch.state, batch.finished_at, batch.error = state, held.now, error
    if batch.accepted_at is None:  # its reader has not had its input removed
        await inputs.forget(session, batch)
    await session.flush()
    await ledger.settle(session, {batch.id: {}})
    await telling.note_batch(session, batch)


async def _give_up_reading(held: _Held) -> bool:
    """End a batch that nobody reads to its end any more; returns whether it is one."""
    if held.is_late:
        while await _give_up(held):
            pass  # all at once: its reader could still refuse one of them
        await _end(held, "expired")
        return True
    query = select(Job.error).where(Job.id == held.batch.job_id, Job.state.not_in(LIVE))
    over = (await held.session.execute(query)).one_or_none()
    if over is None:
        return False
    await _end(held, "failed", over[0] or lifecycle.failure(ReadingBrokenOff()))
    return True


async def _stop(ground: Ground, batch_id: UUID) -> None:
    """Cancel the jobs of a batch, once each."""
    async with ground.database.begin() as session:
        query = select(BatchFlight.job_id).where(BatchFlight.batch_id == batch_id)
        flying = list(await session.scalars(query))
    await lifecycle.stop(ground, flying)
