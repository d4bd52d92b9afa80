"""Objects that nobody may need: written down before they can be left behind, and removed when their time has come.

An asset is written down here before it is put into the store, and crossed out by the transaction that makes a file of
it. So whoever dies in between leaves nothing that is not known, and the store is never searched for what is lost.
"""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from uuid import UUID

import structlog
from sqlalchemy import delete, func, select, text
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from infra.ground import Ground
from infra.models import Discard, Variant
from infra.storage import Area, StorageUnavailable

log = structlog.stdlib.get_logger()

#: Longer than anything that is on its way into the store takes: a scan with its tries, or an upload that began in time.
ON_ITS_WAY = timedelta(hours=1)
_AT_ONCE = 200

_LOCK = text("SELECT pg_advisory_xact_lock(hashtextextended(:key, 7))")


async def lock(session: AsyncSession, keys: Iterable[str]) -> None:
    """Keep the assets of these keys from being removed until the transaction ends."""
    for key in sorted(keys):
        await session.execute(_LOCK, {"key": key})


async def note(session: AsyncSession, area: Area, keys: Sequence[str], *, until: datetime) -> None:
    """Write objects down; one that is written down already stays so for the longer of the two times."""
    if keys:
        noted = insert(Discard).values([{"area": area, "key": key, "until": until} for key in keys])
        longer = func.greatest(Discard.until, noted.excluded.until)
        await session.execute(noted.on_conflict_do_update(index_elements=["area", "key"], set_={"until": longer}))


async def cross_out(session: AsyncSession, area: Area, keys: Sequence[str]) -> None:
    """Take objects off the list, because somebody needs them."""
    await session.execute(delete(Discard).where(Discard.area == area, Discard.key.in_(keys)))


async def clear(ground: Ground, keys: Sequence[str] | None = None) -> int:
    """Remove what is due (of the assets `keys`, where given) and not needed; returns how many were looked at.

    A store that is away is left: the tender comes again.
    """
    due = select(Discard.area, Discard.key).where(Discard.until <= func.now())
    if keys is not None:
        due = due.where(Discard.area == "assets", Discard.key.in_(keys))
    async with ground.database.begin() as session:
        found = (await session.execute(due.order_by(Discard.until).limit(_AT_ONCE))).all()
    for area, key in found:
        try:
            await _clear(ground, "assets" if area == "assets" else "quarantine", key)
        except StorageUnavailable:
            log.warning("an object is not removed yet: the store is away", area=area, key=key)
            break
    return len(found)


async def _clear(ground: Ground, area: Area, key: str) -> None:
    async with ground.database.begin() as session:
        await lock(session, [key])
        due = select(Discard).where(Discard.area == area, Discard.key == key, Discard.until <= func.now())
        discard = await session.scalar(due.with_for_update())
        if discard is None:
            return
        if area == "quarantine" or not await _is_needed(session, key):
            await ground.storage.delete(area, key)
        await session.delete(discard)


async def _is_needed(session: AsyncSession, key: str) -> bool:
    account_id, _, sha256 = key.partition("/")
    named = select(Variant.file_id).where(Variant.account_id == account_id, Variant.sha256 == bytes.fromhex(sha256))
    return await session.scalar(named.limit(1)) is not None


def now() -> datetime:
    """Return this moment: what is noted until now is removed at once."""
    return datetime.now(UTC)


async def forget(ground: Ground, account_id: UUID, file_id: UUID) -> None:
    """Remove a file's upload from quarantine, if the store can be reached; it is noted down in any case."""
    try:
        await ground.storage.delete("quarantine", f"{account_id}/{file_id}")
    except StorageUnavailable:
        log.warning("an upload is not removed yet: the store is away", file=str(file_id))
