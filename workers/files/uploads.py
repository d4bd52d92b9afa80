"""Uploads: announced with room held for them, signed for, brought to the scan or given up."""

import math
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from uuid import UUID

import msgspec
from msgspec import Struct
from sqlalchemy import delete, func, select
from sqlalchemy.ext.asyncio import AsyncSession

from infra import ids
from infra.errors import PulseError
from infra.ground import Ground
from infra.models import Account, Balance, File
from infra.storage import Expected, Form
from quotas import ledger
from workers import idempotency, lifecycle
from workers.files import announcement, discards, names, shelf
from workers.files.announcement import NOT_KNOWN_YET, Announcement
from workers.files.keys import quarantine_key
from workers.idempotency import Call, Kept
from workers.lifecycle import KEEP_KEYS

METER = "storage_bytes"
#: Where files are asked for, in the fingerprints of Idempotency-Keys.
ROUTE = "POST /v1/files"
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


class UploadExpired(PulseError):
    """The upload did not begin in time. Announce the file again."""

    ar = "لم يبدأ الرفع في الوقت المحدد. أعلن عن الملف من جديد."
    status = 410


class Announced(Struct, frozen=True, kw_only=True):
    """A file that may come now, how to upload it, how the storage meter stands, and what it crossed.

    `replayed` says that it was announced before, under the same Idempotency-Key; the form is there while it can serve.
    """

    file: File
    form: Form | None = None
    quota: dict[str, ledger.Standing]
    crossings: Sequence[ledger.Crossing] = ()
    replayed: bool = False


async def announce(ground: Ground, account: Account, asked: Announcement, *, key: str | None = None) -> Announced:
    """Hold room for a file and sign the form by which it is uploaded, once under a caller's Idempotency-Key.

    Raises what is wrong with the announcement, `QuotaExceeded`, `TooManyUploads`, `TooManyFiles` or
    `IdempotencyKeyReused`.
    """
    file = new(ground, account, asked)
    call = Call.of(account.id, key, lifecycle.fingerprint(ROUTE, asked))
    form = await _form(ground, file)  # a store that is away leaves nothing behind
    async with ground.database.begin() as session:
        begun = await begin(session, ground, account, file, call, keep=KEEP_KEYS)
        if isinstance(begun, Kept):
            begun.check(call)
            begun = await again(session, account.id, begun)
    if begun.replayed:
        form = await _form(ground, begun.file)
    return msgspec.structs.replace(begun, form=form)


def new(ground: Ground, account: Account, asked: Announcement) -> File:
    """Return the file that an announcement speaks of; raises what is wrong with that."""
    kept, media_type = announcement.checked(asked)
    now = datetime.now(UTC)
    return File(
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
        created_at=now,
        upload_until=now + timedelta(seconds=ground.settings.upload_s),
    )


async def _form(ground: Ground, file: File) -> Form | None:
    """Sign the form by which a file can be uploaded for as long as it is awaited; None where it is not."""
    seconds = math.ceil((file.upload_until - datetime.now(UTC)).total_seconds())
    if file.state != "uploading" or seconds <= 0:
        return None
    expected = Expected(size_bytes=file.size_bytes, media_type=file.media_type, sha256=file.declared_sha256.hex())
    return await ground.storage.form(quarantine_key(file.account_id, file.id), expected, seconds=seconds)


async def begin(
    session: AsyncSession, ground: Ground, account: Account, file: File, call: Call | None, *, keep: timedelta
) -> Announced | Kept:
    """Keep a new file, hold its room, and keep the call's key for so long; or return what is kept under that already.

    Raises `QuotaExceeded`, `TooManyUploads` or `TooManyFiles`.
    """
    if call is not None and (kept := await idempotency.find(session, call)) is not None:
        return kept
    # Whoever has the account's storage balance counts alone: two at once cannot both be the last that fits.
    drawing = await ledger.lock(session, [(account, METER)])
    await _check_room(session, ground, account.id)
    crossings = drawing.hold(account.id, file.id, {METER: file.size_bytes})
    await drawing.write(session)
    session.add(file)
    if call is not None:
        await idempotency.keep(session, call, file.id, keep=keep)
    return Announced(file=file, quota={METER: drawing.standing(account.id, METER)}, crossings=crossings)


async def again(session: AsyncSession, account_id: UUID, kept: Kept) -> Announced:
    """Return what was announced before, as it stands; raises `FileNotFound` where it was deleted since."""
    file = await shelf.get(session, account_id, kept.subject_id)
    pair = (account_id, METER)
    standings = await ledger.standings(session, [pair])
    # A threshold was crossed by the call in whose transaction the balance says so.
    moments = select(Balance.warned_at, Balance.stopped_at).where(
        Balance.account_id == account_id, Balance.meter == METER
    )
    warned_at, stopped_at = (await session.execute(moments)).one()
    crossings = [ledger.Crossing(METER, 80)] if warned_at == kept.created_at else []
    crossings += [ledger.Crossing(METER, 100)] if stopped_at == kept.created_at else []
    return Announced(file=file, quota={METER: standings[pair]}, crossings=crossings, replayed=True)


async def _check_room(session: AsyncSession, ground: Ground, account_id: UUID) -> None:
    there = File.state.not_in(("rejected", "expired"))
    counted = select(func.count(), func.count().filter(File.state == "uploading"))
    counted = counted.where(File.account_id == account_id, there)
    kept, pending = (await session.execute(counted)).one()
    if pending >= ground.settings.pending_uploads:
        raise TooManyUploads(limit=ground.settings.pending_uploads)
    if kept >= ground.settings.account_files:
        raise TooManyFiles(limit=ground.settings.account_files)


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
