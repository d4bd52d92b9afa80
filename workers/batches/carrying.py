"""Carries parcels to their vendors, and brings back what the vendors made of them.

    packed -> sending -> sent -> landing -> over
    any of them -> returning -> over          the vendor does not make them: they are drawn for our own pools
    any of them -> over                       the batch was cancelled, or its window closed

Any number may carry. Whoever takes a parcel in hand has it for so long that the others take him for dead after that,
and writes what he is about to do before he does it. So one that may be at its vendor already (`sending`) is looked for
there until it is found, or cannot come any more; only then is it sent again.
"""

import asyncio
import random
from collections.abc import AsyncGenerator, Awaitable, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

import msgspec
import structlog
from msgspec import Struct
from sqlalchemy import func, or_, select, text
from sqlalchemy.ext.asyncio import AsyncSession

from infra import backoff
from infra.database import DatabaseUnavailable
from infra.ground import Ground
from infra.models import Batch, BatchParcel
from infra.redaction import Redactor
from providers import batches, catalog
from providers.batches import Answer, Ask, Batches, BatchInDoubt, Doors, Mark
from providers.types import AnswerLost, ChatCall, ProviderError, ProviderMisconfigured, ProviderTimedOut
from workers import lifecycle
from workers.batches import parcels
from workers.batches.parcels import Made
from workers.chat import apart
from workers.chat.spec import Chat

log = structlog.stdlib.get_logger()

# For how long a parcel is in the hands of who took it, and how long a call to a vendor may take, which is less.
_TURN: Final = timedelta(seconds=180)
_CALL_S: Final = 80.0
# When it is looked after again where that could not be done to its end, for whatever reason.
_AGAIN: Final = timedelta(seconds=30)
# So many at a time.
_AT_ONCE: Final = 4
# So many does each of those look after in a round: with short polls one is always due again.
_MOST_A_ROUND: Final = 16
_LINES_AT_ONCE: Final = 500
# The first looks at a batch come soon, the others less and less often.
_FIRST_LOOK_S: Final = 5.0
_SLOWER: Final = 1.5
_RETRY_BASE_S, _RETRY_MOST_S = 5.0, 300.0
# After that nothing will come any more of what the vendor does not tell of; and after a cancel or the window's end.
_LOST_AFTER: Final = timedelta(seconds=batches.WINDOW_S, hours=2)
_PATIENCE: Final = timedelta(hours=1)


class TakenOver(Exception):
    """Somebody else has the parcel in hand by now."""


class Parcel(Struct, frozen=True, kw_only=True):
    """A parcel in hand: what its row said when it was taken; `turn` is the fencing token."""

    id: UUID
    batch_id: UUID
    turn: int
    state: str
    model: str
    lines: int
    deployment: str | None
    upstream_id: str | None
    is_sure: bool
    strangers: Sequence[str]
    sent_at: datetime | None
    canceled_at: datetime | None
    tries: int
    created_at: datetime
    now: datetime
    #: Its batch is being cancelled, or late.
    is_unwanted: bool
    batch_expires_at: datetime
    cancel_requested_at: datetime | None

    @property
    def name(self) -> str:
        """By what its vendor knows it."""
        return self.id.hex

    @property
    def is_lost(self) -> bool:
        """Whether nothing of what its vendor has not told will come any more, or be waited for."""
        unwanted_since = min(self.batch_expires_at, self.cancel_requested_at or self.batch_expires_at)
        return self.now - self.created_at > _LOST_AFTER or self.now - unwanted_since > _PATIENCE


# One that returns is the feeder's, unless it is not wanted any more; what is not wanted any more does not wait.
_TAKE = text("""
    WITH due AS MATERIALIZED (
        SELECT p.id FROM batch_parcels p JOIN batches b ON b.id = p.batch_id
        CROSS JOIN LATERAL (SELECT b.state = 'canceling' OR b.expires_at <= now() AS is_unwanted) u
        WHERE p.finished_at IS NULL AND coalesce(p.held_until <= now(), true)
              AND CASE WHEN u.is_unwanted AND p.state IN ('packed', 'returning') THEN true
                       WHEN u.is_unwanted AND p.state = 'sent' AND p.is_sure AND p.canceled_at IS NULL AND p.tries = 0
                       THEN true
                       ELSE p.state <> 'returning' AND p.next_at <= now() END
        ORDER BY p.next_at LIMIT 1 FOR UPDATE OF p SKIP LOCKED
    ), taking AS (
        UPDATE batch_parcels p
        SET turn = p.turn + 1, next_at = now() + CAST(:again AS interval), held_until = now() + CAST(:turn AS interval)
        FROM due WHERE p.id = due.id
        RETURNING p.*
    )
    SELECT t.id, t.batch_id, t.turn, t.state, t.model, t.lines, t.deployment, t.upstream_id, t.is_sure, t.strangers,
           t.sent_at, t.canceled_at, t.tries, t.created_at, now() AS now,
           b.state = 'canceling' OR b.expires_at <= now() AS is_unwanted, b.expires_at AS batch_expires_at,
           b.cancel_requested_at
    FROM taking t JOIN batches b ON b.id = t.batch_id
""")

_PUT_DOWN = text("UPDATE batch_parcels SET held_until = NULL WHERE id = :id AND turn = :turn")


class Carrier:
    """Looks after the parcels of all batches."""

    def __init__(self, ground: Ground) -> None:
        """Open no door yet."""
        self._ground = ground
        self._doors = Doors(ground.settings)
        self._redactor = Redactor(ground.settings.secrets)

    async def round(self) -> int:
        """Look after the parcels that are due; returns how many times that was."""
        carried = await asyncio.gather(*(self._carry_all() for _ in range(_AT_ONCE)))
        return sum(carried)

    async def close(self) -> None:
        """Close every vendor's connections."""
        await self._doors.close()

    async def _carry_all(self) -> int:
        for carried in range(_MOST_A_ROUND):
            if not await self.carry():
                return carried
        return _MOST_A_ROUND

    async def carry(self) -> bool:
        """Take a parcel in hand that is due, and do what is next; returns whether there was one."""
        rows = await self._ground.database.ask(_TAKE, {"turn": _TURN, "again": _AGAIN})
        if not rows:
            return False
        names = Parcel.__struct_fields__
        parcel = msgspec.convert(dict(zip(names, rows[0], strict=True)), Parcel)
        try:
            await self._step(parcel)
        except (TakenOver, DatabaseUnavailable) as error:
            log.warning("a parcel is left as it is", parcel=parcel.name, reason=repr(error))
        except ProviderError as error:
            await self._failed(parcel, error)
        except Exception:
            log.exception("a parcel cannot be carried", parcel=parcel.name)
        await self._ground.database.ask(_PUT_DOWN, {"id": parcel.id, "turn": parcel.turn})
        return True

    async def _step(self, parcel: Parcel) -> None:
        if parcel.state in {"packed", "returning"} and parcel.is_unwanted:
            await self._give_up(parcel)
            return
        door = self._door(parcel)
        if (door is None and parcel.state == "packed") or (parcel.is_lost and parcel.state != "landing"):
            await self._undone(parcel)
            return
        if door is None:  # through another one nothing is seen of it, which would be taken for that it is not there
            raise ProviderMisconfigured
        match parcel.state:
            case "packed":
                await self._send(parcel)
            case "sending":
                await self._look_for(parcel, door)
            case "sent":
                await self._look_at(parcel, door)
            case _ if catalog.known(self._ground.settings, parcel.model) is None:  # nobody can tell what it costs
                await self._undone(parcel)
            case _:
                await self._land(parcel, door)

    def _door(self, parcel: Parcel) -> Batches | None:
        """Return the door that a parcel went through, or any where it went through none; None where it is no more.

        What takes the place of a model that was shut down meanwhile is for our own pools to ask.
        """
        if parcel.state == "packed":
            model = catalog.offered(self._ground.settings).get(parcel.model)
            open_ = [] if model is None else self._doors.of(model)
        else:
            open_ = [each for each in self._doors.all() if each.name == parcel.deployment]
        return self._doors.behind(open_[0]) if open_ else None

    @property
    def _soon_s(self) -> float:
        return min(_FIRST_LOOK_S, self._ground.settings.parcel_poll_s)

    async def _send(self, parcel: Parcel) -> None:
        """Hand a parcel over: before anything goes up it is written that it may be there."""
        model = catalog.resolve(self._ground.settings, parcel.model, field="model")
        open_ = self._doors.of(model)
        (chosen,) = random.choices(open_, [each.weight for each in open_])  # noqa: S311 (no secret)
        door = self._doors.behind(chosen)
        async with self._held(parcel) as (session, _, row):
            asked = await parcels.lines(session, row, most=parcel.lines)
        asks = [Ask(custom_id=f"{parcel.name}-{line}", call=self._call(spec)) for line, _, spec in asked]
        if not await self._is_let_in(parcel, chosen.name):
            return
        try:
            uploaded = await _in_time(door.upload(parcel.name, asks))
            upstream_id = await _in_time(door.submit(parcel.name, uploaded), late=BatchInDoubt)
        except BatchInDoubt:
            await self._keep(parcel, next_s=self._soon_s, tries=parcel.tries + 1, reason="batch_in_doubt")
            return
        except ProviderError:
            await self._keep(parcel, state="packed")
            raise
        log.info("a vendor has a parcel", parcel=parcel.name, upstream=upstream_id, lines=parcel.lines)
        await self._keep(parcel, state="sent", next_s=self._soon_s, upstream_id=upstream_id, is_sure=True, tries=0)

    def _call(self, spec: Mapping[str, Any]) -> ChatCall:
        return apart.call(self._ground.settings, msgspec.convert(spec, Chat))

    async def _is_let_in(self, parcel: Parcel, deployment: str) -> bool:
        """Write that a parcel is about to go through a door; one at a time does: of two that were in doubt, which of
        their vendor's batches is whose could not be told.
        """
        async with self._held(parcel) as (session, _, row):
            await session.execute(_ALONE, {"door": deployment})
            others = select(BatchParcel.id).where(
                BatchParcel.state == "sending", BatchParcel.deployment == deployment, BatchParcel.finished_at.is_(None)
            )
            now = await _now(session)
            if await session.scalar(others.limit(1)) is not None:
                row.next_at = now + timedelta(seconds=self._soon_s)
                return False
            row.state, row.deployment, row.sent_at, row.held_until = "sending", deployment, now, now + _TURN
        return True

    async def _look_for(self, parcel: Parcel, door: Batches) -> None:
        """Look whether a parcel is at its vendor of which that is not known."""
        assert parcel.sent_at is not None, "written with the state"
        async with self._ground.database.begin() as session:
            taken = select(BatchParcel.upstream_id).where(
                BatchParcel.deployment == parcel.deployment,
                BatchParcel.upstream_id.is_not(None),
                or_(BatchParcel.finished_at.is_(None), BatchParcel.sent_at > parcel.sent_at - _LOST_AFTER),
            )
            others = [each for each in await session.scalars(taken) if each is not None]
        mark = Mark(
            name=parcel.name,
            requests=parcel.lines,
            sent_at=parcel.sent_at,
            others=[*others, *parcel.strangers],
        )
        found = await _in_time(door.find(mark))
        if found is not None:
            next_s = self._soon_s
            await self._keep(parcel, state="sent", next_s=next_s, upstream_id=found.id, is_sure=found.is_sure, tries=0)
        elif parcel.now - parcel.sent_at < timedelta(seconds=self._ground.settings.parcel_doubt_s):
            await self._keep(parcel, next_s=self._soon_s)
        else:
            await self._keep(parcel, state="packed", next_s=0)

    async def _look_at(self, parcel: Parcel, door: Batches) -> None:
        """Look whether a vendor is ready with a parcel; have it stopped where nobody wants it any more."""
        assert parcel.upstream_id is not None, "written with the state"
        if parcel.is_unwanted and parcel.is_sure and parcel.canceled_at is None:
            await _in_time(door.cancel(parcel.upstream_id))
            await self._keep(parcel, next_s=self._soon_s, canceled_at=parcel.now, tries=0)
            return
        if await _in_time(door.is_over(parcel.upstream_id)):
            await self._keep(parcel, state="landing", next_s=0, tries=0)
            return
        waited_s = (parcel.now - (parcel.sent_at or parcel.now)).total_seconds()
        next_s = self._soon_s if parcel.is_unwanted else max(_FIRST_LOOK_S, waited_s * (_SLOWER - 1))
        await self._keep(parcel, next_s=min(self._ground.settings.parcel_poll_s, next_s), tries=0)

    async def _land(self, parcel: Parcel, door: Batches) -> None:
        """Keep what a vendor has made of a parcel; the rest is for our own pools, where it is still wanted."""
        assert parcel.upstream_id is not None, "written with the state"
        some, ours, strange = list[Answer](), 0, 0
        async for answer in door.answers(parcel.upstream_id):
            is_ours = _line(answer, parcel) is not None
            ours, strange = ours + is_ours, strange + (not is_ours)
            some += [answer] if is_ours else []
            if len(some) == _LINES_AT_ONCE:
                await self._keep_answers(parcel, some)
                some = []
        if strange and not ours:
            await self._is_strange(parcel)
            return
        await self._keep_answers(parcel, some)
        await self._undone(parcel)

    async def _is_strange(self, parcel: Parcel) -> None:
        """Look again for one that was taken for another: this batch is not ours."""
        strangers = [*parcel.strangers, str(parcel.upstream_id)]
        await self._keep(parcel, state="sending", next_s=0, upstream_id=None, is_sure=True, strangers=strangers)

    async def _keep_answers(self, parcel: Parcel, answers: Sequence[Answer]) -> None:
        """Make of answers what their lines come to, in one transaction; of those that are none, nothing."""
        made_of = [answer for answer in answers if answer.outcome in {"succeeded", "refused"}]
        told = {line: answer for answer in made_of if (line := _line(answer, parcel)) is not None}
        if not told:
            return
        async with self._held(parcel) as (session, batch, row):
            asked = await parcels.lines(session, row, most=len(told), named=list(told))
            made = {line: self._made(spec, told[line]) for line, _, spec in asked}
            await parcels.land(session, batch, row, made)
            row.held_until = await _now(session) + _TURN

    def _made(self, spec: Mapping[str, Any], answer: Answer) -> Made:
        if answer.error is not None:  # a vendor may repeat in it the key that it was given
            return Made(error=self._redactor.values(lifecycle.failure(answer.error)))
        made = apart.made(self._ground.settings, msgspec.convert(spec, Chat), answer.said)
        result, used = made.result, made.used
        return Made(result=result, used=used)

    async def _undone(self, parcel: Parcel) -> None:
        """Give what nothing has become of to our own pools, or give it up where nobody wants it any more."""
        if parcel.is_unwanted:
            await self._give_up(parcel)
            return
        async with self._held(parcel) as (session, _, row):
            if await parcels.lines(session, row, most=1):
                row.state, row.tries = "returning", 0
            else:
                await parcels.end(session, row)

    async def _give_up(self, parcel: Parcel) -> None:
        is_over = False
        while not is_over:
            async with self._held(parcel) as (session, batch, row):
                outcome = "canceled" if batch.state == "canceling" else "expired"
                is_over = await parcels.give_up(session, batch, row, outcome)

    async def _failed(self, parcel: Parcel, error: ProviderError) -> None:
        """Come again later after a failure; what its vendor will not take goes to our own pools."""
        log.warning("a vendor's batch has failed", parcel=parcel.name, state=parcel.state, reason=error.code)
        tries = parcel.tries + 1
        gives_up = not error.retryable or tries >= self._ground.settings.parcel_tries
        try:
            if isinstance(error, AnswerLost) or parcel.is_lost or (parcel.state == "packed" and gives_up):
                await self._undone(parcel)
                return
            wait_s = backoff.wait_s(tries, base_s=_RETRY_BASE_S, most_s=_RETRY_MOST_S)
            await self._keep(parcel, next_s=max(wait_s, error.retry_after_s or 0.0), tries=tries, reason=error.code)
        except (TakenOver, DatabaseUnavailable) as late:
            log.warning("a parcel is left as it is", parcel=parcel.name, reason=repr(late))

    async def _keep(self, parcel: Parcel, *, next_s: float | None = None, **facts: Any) -> None:
        """Write what has become of a parcel, and in how many seconds it is to be looked after again."""
        async with self._held(parcel, with_batch=False) as (session, _, row):
            for name, value in facts.items():
                setattr(row, name, value)
            if next_s is not None:
                row.next_at = await _now(session) + timedelta(seconds=next_s)

    @asynccontextmanager
    async def _held(
        self, parcel: Parcel, *, with_batch: bool = True
    ) -> AsyncGenerator[tuple[AsyncSession, Batch, BatchParcel]]:
        """Open a transaction with the locks on a parcel and its batch; raises `TakenOver`."""
        async with self._ground.database.begin() as session:
            query = select(Batch).where(Batch.id == parcel.batch_id)
            batch = (await session.scalars(query.with_for_update(key_share=True) if with_batch else query)).one()
            row = await session.scalar(
                select(BatchParcel)
                .where(BatchParcel.id == parcel.id, BatchParcel.turn == parcel.turn)
                .with_for_update()
            )
            if row is None or row.state == "over":
                raise TakenOver
            yield session, batch, row


# Of one door, until the transaction ends.
_ALONE = text("SELECT pg_advisory_xact_lock(hashtextextended('parcels ' || CAST(:door AS text), 0))")


async def _now(session: AsyncSession) -> datetime:
    return (await session.scalars(select(func.clock_timestamp()))).one()


async def _in_time[T](call: Awaitable[T], *, late: type[Exception] = ProviderTimedOut) -> T:
    """Return what a call to a vendor does; raises `late` where it takes too long."""
    try:
        async with asyncio.timeout(_CALL_S):
            return await call
    except TimeoutError as error:
        raise late from error


def _line(answer: Answer, parcel: Parcel) -> int | None:
    """Return the line that an answer is for; None where it is for none of this parcel's."""
    name, _, line = answer.custom_id.rpartition("-")
    return int(line) if name == parcel.name and line.isdecimal() else None
