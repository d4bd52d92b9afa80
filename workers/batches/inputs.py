"""Where a batch's input lies: its own upload in quarantine, or a file of the account's; it goes when it was read."""

import os
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from infra.ground import Ground
from infra.models import Batch, File
from infra.storage import Area, ObjectNotFound, StorageUnavailable
from workers.batches.refusals import BatchInputMissing
from workers.files import discards
from workers.files.keys import asset_key, quarantine_key


async def place(ground: Ground, batch: Batch) -> tuple[Area, str]:
    """Return where a batch's input lies in the store; raises `BatchInputMissing` where its file was deleted."""
    if batch.source == "upload":
        return "quarantine", quarantine_key(batch.account_id, batch.id)
    query = select(File.sha256).where(File.id == batch.source_id, File.account_id == batch.account_id)
    async with ground.database.begin() as session:
        sha256 = await session.scalar(query.where(File.state == "ready"))
    if sha256 is None:
        raise BatchInputMissing
    return "assets", asset_key(batch.account_id, sha256.hex())


@asynccontextmanager
async def opened(ground: Ground, area: Area, key: str) -> AsyncGenerator[int]:
    """Open an input; gives its file descriptor. Raises `BatchInputMissing`, and `StorageUnavailable`."""
    try:
        async with ground.storage.opened(area, key) as path:
            fd = _open(path)
            try:
                yield fd
            finally:
                os.close(fd)
    except ObjectNotFound as error:
        raise BatchInputMissing from error


def _open(path: Path) -> int:
    try:
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError as error:
        raise BatchInputMissing from error
    except OSError as error:
        raise StorageUnavailable from error


async def forget(session: AsyncSession, batch: Batch) -> None:
    """Have a batch's own upload removed, with the transaction in which it is not needed any more."""
    if batch.source == "upload":
        await discards.note(session, "quarantine", [quarantine_key(batch.account_id, batch.id)], due=discards.NOW)
