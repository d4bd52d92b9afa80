"""Uploads: announced with room held for them, signed for, brought to the scan or given up."""

import asyncio
from collections.abc import AsyncIterable, Sequence
from datetime import UTC, datetime, timedelta
from uuid import UUID

from msgspec import Struct
from sqlalchemy import delete, func, select
from sqlalchemy.ext.asyncio import AsyncSession

from infra import ids
from infra.errors import PulseError
from infra.ground import Ground
from infra.models import Account, File
from infra.storage import Expected, Form, Received
from infra.whole import whole
from quotas import ledger
from workers.files import announcement, discards, names, shelf
from workers.files.announcement import NOT_KNOWN_YET, Announcement
from workers.files.keys import quarantine_key

METER = "storage_bytes"
#: After this an upload is broken off; one that began in time is over before its row is.
LONGEST_UPLOAD_S = 55 * 60.0
_AT_ONCE = 200
_KEEP_REASONS = timedelta(days=7)


class TooManyUploads(PulseError):
    """You have announced {limit} uploads that have not come yet. Finish or delete some of them first."""

    ar = "أعلنت عن {limit} عمليات رفع لم تصل بعد. أكمل بعضها أو احذفه أولًا."
    status = 429


class TooManyFiles(PulseError):
    """You keep {limit} files, which is the most. Delete some of them first."""

    ar = "لديك {limit} ملف وهو الحد الأقصى. احذف بعضها أولًا."
    status = 409


class UploadMissing(PulseError):
    """Nothing has been uploaded for this file yet."""

    ar = "لم يُرفع شيء لهذا الملف بعد."
    status = 409


class EmptyFile(PulseError):
    """{field} is empty."""

    ar = "{field} فارغ."
    status = 400


class UploadExpired(PulseError):
    """The upload did not begin in time. Announce the file again."""

    ar = "لم يبدأ الرفع في الوقت المحدد. أعلن عن الملف من جديد."
    status = 410


class Announced(Struct, frozen=True, kw_only=True):
    """A file that may come now, how to upload it, how the storage meter stands, and what it crossed."""

    file: File
    form: Form
    quota: dict[str, ledger.Standing]
    crossings: Sequence[ledger.Crossing] = ()


async def announce(ground: Ground, account: Account, asked: Announcement) -> Announced:
    """Hold room for a file and sign the form by which it is uploaded.

    Raises what is wrong with the announcement, `QuotaExceeded`, `TooManyUploads` or `TooManyFiles`.
    """
    kept, media_type = announcement.checked(asked)
    until = datetime.now(UTC) + timedelta(seconds=ground.settings.upload_s)
    file = File(
        id=ids.new(),
        account_id=account.id,
        purpose=kept.purpose,
        name=kept.name,
        folder=kept.folder,
        searched=names.searched(f"{kept.folder}/{kept.name}"),
        state="uploading",
        media_type=media_type,
        size_bytes=kept.size_bytes,
        declared_sha256=bytes.fromhex(kept.sha256),
        facts={},
        created_at=datetime.now(UTC),
        upload_until=until,
    )
    key = quarantine_key(account.id, file.id)
    expected = Expected(size_bytes=kept.size_bytes, media_type=media_type, sha256=kept.sha256)
    form = await ground.storage.form(key, expected, seconds=ground.settings.upload_s)
    async with ground.database.begin() as session:
        # Whoever has the account's storage balance counts alone: two at once cannot both be the last that fits.
        drawing = await ledger.lock(session, [(account, METER)])
        await _check_room(session, ground, account.id)
        crossings = drawing.hold(account.id, file.id, {METER: kept.size_bytes})
        await drawing.write(session)
        session.add(file)
    quota = {METER: drawing.standing(account.id, METER)}
    return Announced(file=file, form=form, quota=quota, crossings=crossings)


async def _check_room(session: AsyncSession, ground: Ground, account_id: UUID) -> None:
    there = File.state.not_in(("rejected", "expired"))
    counted = select(func.count(), func.count().filter(File.state == "uploading"))
    counted = counted.where(File.account_id == account_id, there)
    kept, pending = (await session.execute(counted)).one()
    if pending >= ground.settings.pending_uploads:
        raise TooManyUploads(limit=ground.settings.pending_uploads)
    if kept >= ground.settings.account_files:
        raise TooManyFiles(limit=ground.settings.account_files)


async def receive(ground: Ground, account: Account, asked: Announcement, chunks: AsyncIterable[bytes]) -> Announced:
    """Take a file whose bytes come with its announcement, whose size is a bound and whose SHA-256 is not known yet.

    Returns it with its scan still to be asked for. Whatever breaks the stream off leaves nothing.
    """
    announced = await announce(ground, account, asked)
    file = announced.file
    key = quarantine_key(account.id, file.id)
    try:
        async with asyncio.timeout(LONGEST_UPLOAD_S):
            received = await ground.storage.receive(key, chunks, most_bytes=asked.size_bytes)
        file = await _received(ground, account.id, file.id, received)
    except TimeoutError as error:
        await shelf.delete(ground, account.id, file.id)
        raise UploadExpired from error
    except BaseException:
        await whole(shelf.delete(ground, account.id, file.id))
        raise
    return Announced(file=file, form=announced.form, quota=announced.quota, crossings=announced.crossings)


async def _received(ground: Ground, account_id: UUID, file_id: UUID, received: Received) -> File:
    async with ground.database.begin() as session:
        file = await shelf.get(session, account_id, file_id, lock=True)
        if received.size_bytes == 0:
            raise EmptyFile(field="file")
        if file.state != "uploading":  # it took so long that it was given up
            raise UploadExpired
        file.size_bytes, file.declared_sha256 = received.size_bytes, bytes.fromhex(received.sha256)
        file.state = "scanning"
        return file


async def arrive(ground: Ground, account_id: UUID, file_id: UUID) -> File:
    """Take an upload as complete, from when on it is scanned. A file that is further already is returned as it is.

    Raises `FileNotFound`, `UploadMissing` and `UploadExpired`.
    """
    async with ground.database.begin() as session:
        file = await shelf.get(session, account_id, file_id)
    if file.state != "uploading":
        return file
    if file.declared_sha256 == bytes.fromhex(NOT_KNOWN_YET):  # it comes in one request, which completes it
        raise UploadMissing
    if await ground.storage.size("quarantine", quarantine_key(account_id, file_id)) is None:
        raise UploadExpired if file.upload_until < datetime.now(UTC) else UploadMissing
    async with ground.database.begin() as session:
        file = await shelf.get(session, account_id, file_id, lock=True)
        if file.state == "uploading":
            file.state = "scanning"
    return file


async def is_awaited(ground: Ground, key: str) -> bool:
    """Tell whether the upload of a key of the quarantine is still to come: a form serves once."""
    account_id, _, file_id = key.partition("/")
    asked = select(File.id).where(File.id == file_id, File.account_id == account_id, File.state == "uploading")
    async with ground.database.begin() as session:
        return await session.scalar(asked) is not None


async def expire(ground: Ground) -> int:
    """Give up the uploads that were announced and did not come, and free the room; returns how many.

    One that began at the last moment may be under way for long, so the row waits for longer than its form.
    """
    late = select(File).where(
        File.decided_at.is_(None), File.state == "uploading", File.upload_until < func.now() - discards.ON_ITS_WAY
    )
    async with ground.database.begin() as session:
        found = list(await session.scalars(late.order_by(File.id).limit(_AT_ONCE).with_for_update(skip_locked=True)))
        for file in found:
            file.state, file.decided_at = "expired", datetime.now(UTC)
        await session.flush()
        await ledger.settle(session, {file.id: {} for file in found})
        keys = [quarantine_key(file.account_id, file.id) for file in found]
        await discards.note(session, "quarantine", keys, due=discards.NOW, until=discards.ON_ITS_WAY)
    return len(found)


async def forget(ground: Ground) -> None:
    """Delete the rows of files that were rejected or expired a week ago."""
    old = File.decided_at < func.now() - _KEEP_REASONS
    async with ground.database.begin() as session:
        await session.execute(delete(File).where(File.state.in_(("rejected", "expired")), old))
