"""Verdicts: a scanned file is kept or rejected, once; whoever comes second finds it decided."""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

import structlog
from msgspec import Struct
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from infra.ground import Ground
from infra.models import Document, File, Variant
from quotas import ledger
from workers.files import discards
from workers.files.keys import asset_key, quarantine_key
from workers.files.uploads import METER
from workers.webhooks import messages

log = structlog.stdlib.get_logger()

_AGAIN_S = 0.5


class Part(Struct, frozen=True, kw_only=True):
    """One object that a file is to consist of: where it lies now, and what it is. `sha256` is in hexadecimal."""

    name: str
    path: Path
    sha256: str
    size_bytes: int
    media_type: str
    width: int | None = None
    height: int | None = None


async def undecided(ground: Ground, account_id: UUID, file_id: UUID) -> File | None:
    """Return a file that waits for its verdict; None when it has one, or was deleted."""
    query = select(File).where(File.id == file_id, File.account_id == account_id, File.state == "scanning")
    async with ground.database.begin() as session:
        return await session.scalar(query)


async def keep(ground: Ground, file: File, parts: Sequence[Part], facts: Document) -> str:
    """Put the parts of a file into the store and make it ready, with the room that it takes settled.

    Returns the state that the file is in then: another verdict may have come first, or the file be gone ("deleted").
    """
    keys = {asset_key(file.account_id, part.sha256): part for part in parts}
    while True:
        async with ground.database.begin() as session:
            noted = await discards.note(session, "assets", list(keys), due=discards.ON_ITS_WAY)
        if noted:
            for key, part in keys.items():
                await ground.storage.put("assets", key, part.path)
            async with ground.database.begin() as session:
                state = await _kept(session, file, parts, facts, list(keys))
            if state is not None:
                await _forget(ground, file.account_id, file.id)
                return state
        # Equal bytes are just being removed, or were just kept for another file: in a moment it is decided.
        log.info("an asset is put again", file=str(file.id))
        await asyncio.sleep(_AGAIN_S)


async def _kept(
    session: AsyncSession, asked: File, parts: Sequence[Part], facts: Document, keys: Sequence[str]
) -> str | None:
    """None: somebody else has crossed an object out meanwhile, so nothing has kept it from being removed since."""
    file = await session.get(File, asked.id, with_for_update=True, populate_existing=True)
    if file is None or file.state != "scanning":
        return "deleted" if file is None else file.state
    if not await discards.cross_out(session, keys):
        return None
    original = next(part for part in parts if part.name == "original")
    file.state, file.decided_at, file.facts = "ready", datetime.now(UTC), facts
    file.sha256, file.size_bytes = bytes.fromhex(original.sha256), original.size_bytes
    file.media_type = original.media_type
    session.add_all(
        Variant(
            file_id=file.id,
            name=part.name,
            account_id=file.account_id,
            sha256=bytes.fromhex(part.sha256),
            media_type=part.media_type,
            size_bytes=part.size_bytes,
            width=part.width,
            height=part.height,
        )
        for part in parts
    )
    await session.flush()
    await _leave_quarantine(session, file)
    await ledger.settle(session, {file.id: {METER: original.size_bytes}})
    await _tell(session, file)
    return "ready"


async def reject(ground: Ground, account_id: UUID, file_id: UUID, error: Document) -> str:
    """Reject a file for a reason, `{code, en, ar}`, and free the room; returns the state that it is in then.

    The tender removes its upload.
    """
    async with ground.database.begin() as session:
        file = await session.get(File, file_id, with_for_update=True)
        if file is None or file.account_id != account_id or file.state != "scanning":
            return "deleted" if file is None else file.state
        file.state, file.decided_at, file.error = "rejected", datetime.now(UTC), error
        await _leave_quarantine(session, file)
        await ledger.settle(session, {file.id: {}})
        await _tell(session, file)
    return "rejected"


async def _tell(session: AsyncSession, file: File) -> None:
    data: Document = {
        "id": str(file.id),
        "state": file.state,
        "purpose": file.purpose,
        "name": file.name,
        "media_type": file.media_type,
        "size_bytes": file.size_bytes,
        "error": file.error,
        "url": f"/v1/files/{file.id}",
    }
    await messages.note(session, file.account_id, f"file.{file.state}", file.id, data)


async def _leave_quarantine(session: AsyncSession, file: File) -> None:
    """Have the upload removed now and once more when none can be under way: a form of S3 can be sent twice."""
    window = max(file.upload_until - datetime.now(UTC), discards.NOW) + discards.ON_ITS_WAY
    key = quarantine_key(file.account_id, file.id)
    await discards.note(session, "quarantine", [key], due=discards.NOW, until=window)


async def _forget(ground: Ground, account_id: UUID, file_id: UUID) -> None:
    """Remove an upload at once, if that can be done; it is written down in any case."""
    try:
        await ground.storage.delete("quarantine", quarantine_key(account_id, file_id))
    except Exception as error:  # noqa: BLE001 (the verdict stands, whatever the store says)
        log.warning("an upload is not removed yet", file=str(file_id), reason=repr(error))
