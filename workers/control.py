"""The only writer of what operators want of the pools: kept in PostgreSQL, told to the workers through Redis.

A pause starts nothing new: what runs goes on, what is submitted waits. A drain takes no submissions: what waits and
runs is worked off. Slots and caps hold from the next claim on; what runs above a smaller number ends by itself.
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Literal

import msgspec
import structlog
from msgspec import UNSET, Struct, UnsetType
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from infra import redis as road
from infra.errors import PulseError
from infra.ground import Ground
from infra.models import PoolControl
from infra.overview import Control
from workers import pools

log = structlog.stdlib.get_logger()
_MOST_SLOTS = 10_000


class UnknownPool(PulseError):
    """There is no pool {value}; there are: {pools}."""

    ar = "لا توجد مجموعة عمال باسم {value}؛ الموجود: {pools}."
    status = 404


class KindNotInPool(PulseError):
    """The pool {pool} runs no kind {value}; it runs: {kinds}."""

    ar = "لا تنفّذ مجموعة العمال {pool} النوع {value}؛ وتنفّذ: {kinds}."
    status = 400


class InvalidNumber(PulseError):
    """{field} must be a whole number from {least} to {most}."""

    ar = "يجب أن تكون قيمة {field} عددًا صحيحًا من {least} إلى {most}."
    status = 400


class Change(Struct, frozen=True, kw_only=True):
    """What to change of a pool; None takes a number back to what its workers were started with."""

    mode: Literal["running", "paused", "draining"] | UnsetType = UNSET
    slots: int | UnsetType | None = UNSET
    account_cap: int | UnsetType | None = UNSET
    #: kind -> its cap; None takes one away, and kinds that are not named keep theirs.
    kind_caps: Mapping[str, int | None] = {}


async def find(session: AsyncSession) -> dict[str, PoolControl]:
    """Return what operators said of every pool."""
    said = {row.name: row for row in await session.scalars(select(PoolControl))}
    return {pool: said.get(pool) or _default(pool) for pool in pools.POOLS}


def _default(pool: str) -> PoolControl:
    return PoolControl(name=pool, paused=False, draining=False, kind_caps={}, updated_at=datetime.now(UTC))


async def change(ground: Ground, pool: str, wanted: Change) -> PoolControl:
    """Change what is wanted of a pool, and tell its workers; where Redis is away, the tender will.

    Raises `UnknownPool`, `KindNotInPool` or `InvalidNumber`; nothing is changed then.
    """
    _check(pool, wanted)
    async with ground.database.begin() as session:
        row = await session.scalar(select(PoolControl).where(PoolControl.name == pool).with_for_update())
        if row is None:
            row = _default(pool)
            session.add(row)
        if wanted.mode is not UNSET:
            row.paused, row.draining = wanted.mode == "paused", wanted.mode == "draining"
        if wanted.slots is not UNSET:
            row.slots = wanted.slots
        if wanted.account_cap is not UNSET:
            row.account_cap = wanted.account_cap
        caps = {**row.kind_caps, **wanted.kind_caps}
        row.kind_caps = {kind: cap for kind, cap in caps.items() if cap is not None}
        row.updated_at = datetime.now(UTC)
    try:
        await ground.overseer.control(pool, _control(row))
    except road.AWAY:
        log.warning("changed while Redis is away; the tender will tell the workers", pool=pool)
    return row


def known(pool: str) -> None:
    """Raise `UnknownPool` for a pool that the studio does not have."""
    if pool not in pools.POOLS:
        raise UnknownPool(field="pool", value=pool, pools=", ".join(pools.POOLS))


def _check(pool: str, wanted: Change) -> None:
    known(pool)
    numbers = {"slots": wanted.slots, "account_cap": wanted.account_cap}
    for kind, cap in wanted.kind_caps.items():
        if kind not in pools.POOLS[pool]:
            raise KindNotInPool(field="kind", value=kind, pool=pool, kinds=", ".join(pools.POOLS[pool]))
        numbers[f"kind_caps.{kind}"] = cap
    for field, number in numbers.items():
        if number is not UNSET and number is not None and not 0 <= number <= _MOST_SLOTS:
            raise InvalidNumber(field=field, least=0, most=_MOST_SLOTS)


def _control(row: PoolControl) -> Control:
    return Control(
        paused=row.paused,
        slots=row.slots,
        account_cap=row.account_cap,
        kind_caps=msgspec.convert(row.kind_caps, dict[str, int]),
    )


async def reconcile(ground: Ground) -> None:
    """Tell the workers of every pool what PostgreSQL says, where Redis says something else."""
    async with ground.database.begin() as session:
        wanted = await find(session)
    for pool, row in wanted.items():
        if await ground.overseer.controlled(pool) != _control(row):
            await ground.overseer.control(pool, _control(row))
