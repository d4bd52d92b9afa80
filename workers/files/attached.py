"""Files as requests name them: what is known of them when it is asked, and their bytes when it is made."""

import asyncio
from collections.abc import Mapping, Sequence
from uuid import UUID

from sqlalchemy import text

from infra.errors import PulseError
from infra.ground import Ground
from infra.storage import ObjectNotFound
from infra.whole import whole
from workers.files.keys import asset_key
from workers.request import Attached


class AttachmentGone(PulseError):
    """The file {file_id}, which the job was to read, is not there any more."""

    ar = "لم يعد الملف {file_id} الذي كانت المهمة ستقرؤه موجودًا."


_LOOK_UP = text("""
    SELECT id, account_id, name, state, media_type, size_bytes, facts -> 'pages' FROM files
    WHERE id = ANY(CAST(:ids AS uuid[]))
""")
_PLACES = text("""
    SELECT f.id, f.name, f.media_type, f.size_bytes, f.facts -> 'pages', v.sha256
    FROM files f JOIN file_variants v ON v.file_id = f.id AND v.name = 'original'
    WHERE f.id = ANY(CAST(:ids AS uuid[])) AND f.account_id = :account AND f.state = 'ready'
""")


async def look_up(ground: Ground, wanted: Sequence[tuple[UUID, Sequence[UUID]]]) -> list[Mapping[UUID, Attached]]:
    """Return for each account what of the files that it names is known; not there are those that are not its own."""
    ids = {file_id for _, file_ids in wanted for file_id in file_ids}
    found: dict[tuple[UUID, UUID], Attached] = {}
    for file_id, account_id, name, state, media_type, size_bytes, pages in await ground.database.ask(
        _LOOK_UP, {"ids": list(ids)}
    ):
        found[account_id, file_id] = _attached(file_id, name, state, media_type, size_bytes, pages)
    return [
        {file_id: found[account_id, file_id] for file_id in file_ids if (account_id, file_id) in found}
        for account_id, file_ids in wanted
    ]


async def load(ground: Ground, account_id: UUID, file_ids: Sequence[UUID]) -> dict[UUID, tuple[Attached, bytes]]:
    """Return files of an account with their bytes.

    Raises `AttachmentGone` for one that was deleted meanwhile, and `StorageUnavailable`.
    """
    if not file_ids:
        return {}
    rows = await ground.database.ask(_PLACES, {"ids": list(set(file_ids)), "account": account_id})
    loaded: dict[UUID, tuple[Attached, bytes]] = {}
    for file_id, name, media_type, size_bytes, pages, sha256 in rows:
        known = _attached(file_id, name, "ready", media_type, size_bytes, pages)
        loaded[file_id] = known, await _bytes(ground, file_id, asset_key(account_id, sha256.hex()))
    for file_id in file_ids:
        if file_id not in loaded:
            raise AttachmentGone(file_id=file_id)
    return loaded


async def _bytes(ground: Ground, file_id: UUID, key: str) -> bytes:
    try:
        async with ground.storage.opened("assets", key) as path:
            return await whole(asyncio.to_thread(path.read_bytes))
    except ObjectNotFound as error:
        raise AttachmentGone(file_id=file_id) from error


def _attached(file_id: UUID, name: str, state: str, media_type: str, size_bytes: int, pages: object) -> Attached:
    counted = pages if isinstance(pages, int) else None
    return Attached(id=file_id, name=name, state=state, media_type=media_type, size_bytes=size_bytes, pages=counted)
