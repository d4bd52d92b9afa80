"""Objects that nobody may need: written down before they can be left behind, and removed when their time has come.

An asset is written down here before it is put into the store, and crossed out by the transaction that makes a file of
it. So whoever dies in between leaves nothing that is not known, and the store is never searched for what is lost.

Removing takes three steps, since a store may take long and no transaction waits for it: the row says that the object is
being removed, the object is removed, the row goes. While an object is being removed nobody can write it down again, so
nobody puts what is just about to go.
"""

from collections.abc import Sequence
from datetime import timedelta

import structlog
from msgspec import Struct
from sqlalchemy import ColumnElement, Select, delete, func, or_, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from infra.ground import Ground
from infra.models import Discard, Variant
from infra.storage import Area

log = structlog.stdlib.get_logger()

#: Longer than anything that is on its way into the store takes: a scan with its tries, or an upload that began in time.
ON_ITS_WAY = timedelta(hours=1)
NOW = timedelta(0)
#: How many are removed in one go.
MOST_AT_ONCE = 200
# Whoever removes is dead, if it has not come back by then: longer than a store may take for it.
_REMOVING = timedelta(minutes=10)
# One that cannot be removed is not in the way of the others.
_AGAIN = timedelta(minutes=5)
_MOST_FAILURES = 3


class Due(Struct, frozen=True):
    """An object whose time has come."""

    area: Area
    key: str


async def note(
    session: AsyncSession, area: Area, keys: Sequence[str], *, due: timedelta, until: timedelta | None = None
) -> bool:
    """Write objects down, to be removed from `due` on and, until `until`, once more; from now, by the database's clock.

    What is written down already stays so for the longer of the times. Returns False, where one is being removed.
    """
    if not keys:
        return True
    rows = [{"area": area, "key": key, "due": func.now() + due, "until": func.now() + (until or due)} for key in keys]
    noted = insert(Discard).values(sorted(rows, key=lambda row: str(row["key"])))  # one order, or two could deadlock
    longer = noted.on_conflict_do_update(
        index_elements=["area", "key"],
        set_={
            "due": func.greatest(Discard.due, noted.excluded.due),
            "until": func.greatest(Discard.until, noted.excluded.until),
        },
        where=Discard.removing_since.is_(None),
    ).returning(Discard.key)
    return len(set(await session.scalars(longer))) == len(set(keys))


async def cross_out(session: AsyncSession, keys: Sequence[str], *, area: Area = "assets") -> bool:
    """Take objects off the list, because they are needed; returns False where one is not there any more, or going."""
    mine = select(Discard.key).where(Discard.area == area, Discard.key.in_(keys), Discard.removing_since.is_(None))
    locked = set(await session.scalars(mine.order_by(Discard.key).with_for_update()))
    if locked != set(keys):
        return False
    await session.execute(delete(Discard).where(Discard.area == area, Discard.key.in_(keys)))
    return True


async def is_noted(session: AsyncSession, key: str, *, area: Area) -> bool:
    """Tell whether an object is on the list; whoever is about to cross it out is waited for."""
    return await session.scalar(_row(Due(area, key)).with_for_update()) is not None


async def clear(ground: Ground) -> int:
    """Remove what is due and not needed; returns how much was removed. What cannot be removed now is left for later."""
    stale = Discard.removing_since < func.now() - _REMOVING
    due = select(Discard.area, Discard.key).where(
        Discard.due <= func.now(), or_(Discard.removing_since.is_(None), stale)
    )
    async with ground.database.begin() as session:
        rows = (await session.execute(due.order_by(Discard.due).limit(MOST_AT_ONCE))).all()
    removed = 0
    failures: int = 0
    for area, key in rows:
        each = Due("assets" if area == "assets" else "quarantine", key)
        if failures >= _MOST_FAILURES:
            break
        if not await _begin(ground, each):
            continue
        try:
            await ground.storage.delete(each.area, each.key)
        except Exception as error:  # noqa: BLE001 (whatever it is, the others have their turn)
            log.warning("an object is not removed yet", area=each.area, key=each.key, reason=repr(error))
            failures += 1
            await _leave(ground, each)
        else:
            failures = 0
            removed += 1
            await _end(ground, each)
    return removed


async def _begin(ground: Ground, each: Due) -> bool:
    """Say that an object is being removed; False where it is needed after all, or somebody else was quicker."""
    async with ground.database.begin() as session:
        row = await session.scalar(_row(each).where(Discard.due <= func.now()).with_for_update())
        if row is None:
            return False
        now = await session.scalar(select(func.now()))
        assert now is not None
        if row.removing_since is not None and row.removing_since >= now - _REMOVING:
            return False
        if each.area == "assets" and await _is_needed(session, each.key):
            await session.delete(row)
            return False
        row.removing_since = now
        return True


async def _leave(ground: Ground, each: Due) -> None:
    async with ground.database.begin() as session:
        later = {"removing_since": None, "due": func.now() + _AGAIN}
        await session.execute(update(Discard).where(*_is(each)).values(**later))


async def _end(ground: Ground, each: Due) -> None:
    """Take a removed object off the list, or have it looked for again when its time is over."""
    async with ground.database.begin() as session:
        row = await session.scalar(_row(each).with_for_update())
        if row is None:
            return
        if row.until > row.due:
            row.due, row.removing_since = row.until, None
        else:
            await session.delete(row)


def _is(each: Due) -> tuple[ColumnElement[bool], ...]:
    return Discard.area == each.area, Discard.key == each.key


def _row(each: Due) -> Select[Discard]:
    return select(Discard).where(*_is(each))


async def _is_needed(session: AsyncSession, key: str) -> bool:
    account_id, _, sha256 = key.partition("/")
    named = select(Variant.file_id).where(Variant.account_id == account_id, Variant.sha256 == bytes.fromhex(sha256))
    return await session.scalar(named.limit(1)) is not None
