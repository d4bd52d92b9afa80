"""Files that an account has already, put there without a scan."""

import hashlib
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

from infra import ids
from infra.ground import Ground
from infra.models import Account, File, Variant
from workers.files import names
from workers.files.keys import asset_key


async def shelve(
    ground: Ground,
    account: Account,
    data: bytes,
    media_type: str,
    *,
    name: str = "file",
    state: str = "ready",
    **facts: Any,
) -> UUID:
    """Put a file on an account's shelf, in the store too where it is ready; returns its id."""
    digest, now = hashlib.sha256(data), datetime.now(UTC)
    is_ready = state == "ready"
    file = File(
        id=ids.new(),
        account_id=account.id,
        purpose="attachment",
        name=name,
        searched=names.searched(f"/{name}"),
        state=state,
        media_type=media_type,
        size_bytes=len(data),
        declared_sha256=digest.digest(),
        sha256=digest.digest() if is_ready else None,
        facts=facts,
        upload_until=now,
        decided_at=None if state in {"uploading", "scanning"} else now,
    )
    async with ground.database.begin() as session:
        session.add(file)
        await session.flush()
        file_id = file.id
        if is_ready:
            part = {"account_id": account.id, "sha256": digest.digest(), "media_type": media_type}
            session.add(Variant(file_id=file_id, name="original", size_bytes=len(data), **part))
    if is_ready:
        await _keep(ground, asset_key(account.id, digest.hexdigest()), data)
    return file_id


async def _keep(ground: Ground, key: str, data: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "object"
        path.write_bytes(data)
        await ground.storage.put("assets", key, path)
