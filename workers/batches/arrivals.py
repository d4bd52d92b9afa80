"""Batches that come: with their lines, which lie in quarantine until they are read, or as a file that is there already.

The lines of an upload are written down as what nobody may need (`workers/files/discards.py`) before the first of them
is stored, and crossed out by the transaction that makes a batch of them: whatever dies in between leaves nothing.
"""

import asyncio
import hashlib
from collections.abc import AsyncGenerator, AsyncIterable, Callable
from contextlib import aclosing
from uuid import UUID

import structlog

from infra import ids
from infra.errors import PulseError
from infra.ground import Ground
from infra.models import Account, Batch, File
from infra.storage import Received, StorageUnavailable
from infra.whole import whole
from workers import files, idempotency, lifecycle
from workers.batches import rows, shelf
from workers.batches.rows import ROUTE, Made, NewBatch
from workers.files import LONGEST_UPLOAD_S, FileNotFound, discards, quarantine_key
from workers.files.direct import EmptyFile
from workers.files.shelf import FileNotReady
from workers.idempotency import IN_FLIGHT, Call, Kept, RequestInFlight

log = structlog.stdlib.get_logger()

# What stands under a key while its call is under way: what is asked is known when all of it has come.
_UNDER_WAY = lifecycle.fingerprint(f"{ROUTE} under way", None)


class BatchTooLarge(PulseError):
    """{field}: a batch may have {limit_bytes} bytes at most."""

    ar = "{field}: الحد الأقصى لحجم الدفعة هو {limit_bytes} بايت."
    status = 413


class BatchTooSlow(PulseError):
    """The lines of the batch did not all come in time. Hand it over again."""

    ar = "لم تصل أسطر الدفعة كلها في الوقت المحدد. أرسلها من جديد."
    status = 408


class FileOfAnotherPurpose(PulseError):
    """{field}: the file was uploaded for {purpose}; the file of a batch is uploaded with the purpose batch."""

    ar = "{field}: رُفع هذا الملف لغرض {purpose}، أما ملف الدفعة فيُرفع لغرض batch."
    status = 400


async def create(
    ground: Ground, account: Account, asked: NewBatch, *, file_id: UUID, field: str, key: str | None = None
) -> Made:
    """Make a batch of a ready file, once under a caller's Idempotency-Key; `field` is where the file is named.

    Raises `FileNotFound`, `FileNotReady`, `FileOfAnotherPurpose`, `BatchTooLarge`, `TooManyBatches`,
    `IdempotencyKeyReused`, `RequestInFlight`, and what `NewBatch.check` does.
    """
    asked.check(ground.settings)
    call = Call.of(account.id, key, lifecycle.fingerprint(ROUTE, asked))
    async with ground.database.begin() as session:
        if call is not None and (kept := await idempotency.find(session, call)) is not None:
            _check(kept, call)
            return Made(batch=await shelf.get(session, account.id, kept.subject_id), replayed=True)
        try:
            file = await files.get(session, account.id, file_id)
        except FileNotFound:
            raise FileNotFound(field=field) from None
        _check_file(ground, file, field)
        size_bytes, batch_id = file.size_bytes, ids.new()
        batch = await rows.add(
            session, ground, account, asked, batch_id=batch_id, source="file", source_id=file_id, size_bytes=size_bytes
        )
        if call is not None:
            await idempotency.keep(session, call, batch.id)
        return Made(batch=batch)


def _check_file(ground: Ground, file: File, field: str) -> None:
    if file.purpose != "batch":
        raise FileOfAnotherPurpose(field=field, purpose=file.purpose)
    if file.state != "ready":
        raise FileNotReady(field=field, state=file.state)
    if file.size_bytes > ground.settings.batch_bytes:
        raise BatchTooLarge(field=field, limit_bytes=ground.settings.batch_bytes)


async def receive(
    ground: Ground,
    account: Account,
    lines: AsyncGenerator[bytes],
    asked: Callable[[], NewBatch],
    *,
    field: str,
    key: str | None = None,
) -> Made:
    """Make a batch of the lines that come, once under a caller's Idempotency-Key.

    `asked` is called when the last of them has come, and may raise what is wrong with it; `field` is where they come
    from. Whatever breaks the stream off leaves nothing, no key either. Raises as `create`, `RequestInFlight` at once
    where such a call is under way, `EmptyFile`, and `BatchTooSlow`.
    """
    batch_id = ids.new()
    call = Call.of(account.id, key, _UNDER_WAY)
    async with aclosing(lines):
        bounded = _bounded(lines, ground.settings.batch_bytes, field)
        if (kept := await _begin(ground, account, batch_id, call)) is not None:
            assert call is not None, "only under a key something can be kept"
            return await _again(ground, call, kept, bounded, asked)
        return await _take(ground, account, batch_id, call, bounded, asked, field)


async def _begin(ground: Ground, account: Account, batch_id: UUID, call: Call | None) -> Kept | None:
    """Write down that lines are to come; or return what is kept under the call's key already."""
    async with ground.database.begin() as session:
        if call is not None and (kept := await idempotency.find(session, call)) is not None:
            return kept
        upload = quarantine_key(account.id, batch_id)
        await discards.note(session, "quarantine", [upload], due=discards.ON_ITS_WAY)
        await rows.check_room(session, ground, account.id)
        if call is not None:
            await idempotency.keep(session, call, batch_id, keep=IN_FLIGHT)
        return None


async def _bounded(lines: AsyncIterable[bytes], most_bytes: int, field: str) -> AsyncGenerator[bytes]:
    size_bytes = 0
    async for piece in lines:
        size_bytes += len(piece)
        if size_bytes > most_bytes:
            raise BatchTooLarge(field=field, limit_bytes=most_bytes)
        yield piece


async def _again(
    ground: Ground, call: Call, kept: Kept, lines: AsyncIterable[bytes], asked: Callable[[], NewBatch]
) -> Made:
    """Return the batch that a call has made before, if its lines and what is asked of them are the same."""
    if kept.fingerprint == _UNDER_WAY:
        raise RequestInFlight
    sha256 = hashlib.sha256()
    try:
        async with asyncio.timeout(LONGEST_UPLOAD_S):
            async for piece in lines:
                sha256.update(piece)
    except TimeoutError as error:
        raise BatchTooSlow from error
    kept.check(_whole(call, asked(), sha256.digest()))
    async with ground.database.begin() as session:
        return Made(batch=await shelf.get(session, call.account_id, kept.subject_id), replayed=True)


def _check(kept: Kept, call: Call) -> None:
    if kept.fingerprint == _UNDER_WAY:
        raise RequestInFlight
    kept.check(call)


def _whole(call: Call, asked: NewBatch, sha256: bytes) -> Call:
    return Call(account_id=call.account_id, key=call.key, fingerprint=lifecycle.fingerprint(ROUTE, asked) + sha256)


async def _take(
    ground: Ground,
    account: Account,
    batch_id: UUID,
    call: Call | None,
    lines: AsyncIterable[bytes],
    asked: Callable[[], NewBatch],
    field: str,
) -> Made:
    upload = quarantine_key(account.id, batch_id)
    try:
        async with asyncio.timeout(LONGEST_UPLOAD_S), idempotency.in_flight(ground, call, batch_id):
            received = await ground.storage.receive(upload, lines, most_bytes=ground.settings.batch_bytes)
        return Made(batch=await _received(ground, account, batch_id, call, received, asked, field))
    except TimeoutError as error:
        await _give_up(ground, account, batch_id, call)
        raise BatchTooSlow from error
    except BaseException:
        await whole(_give_up(ground, account, batch_id, call))
        raise


async def _received(
    ground: Ground,
    account: Account,
    batch_id: UUID,
    call: Call | None,
    received: Received,
    said: Callable[[], NewBatch],
    field: str,
) -> Batch:
    asked = said()
    if received.size_bytes == 0:
        raise EmptyFile(field=field)
    upload, size_bytes = quarantine_key(account.id, batch_id), received.size_bytes
    async with ground.database.begin() as session:
        if call is not None:
            await idempotency.complete(session, _whole(call, asked, bytes.fromhex(received.sha256)), batch_id)
        if not await discards.cross_out(session, [upload], area="quarantine"):  # it took so long that it was given up
            raise BatchTooSlow
        return await rows.add(
            session, ground, account, asked, batch_id=batch_id, source="upload", size_bytes=size_bytes
        )


async def _give_up(ground: Ground, account: Account, batch_id: UUID, call: Call | None) -> None:
    """Leave nothing of an upload; what cannot be removed now is, when what is written down of it is due."""
    upload = quarantine_key(account.id, batch_id)
    async with ground.database.begin() as session:
        if not await discards.is_noted(session, upload, area="quarantine"):
            if await session.get(Batch, batch_id) is not None:  # it was made, and only the answer to that was lost
                return
            await discards.note(session, "quarantine", [upload], due=discards.NOW)
        if call is not None:
            await idempotency.forget(session, call, batch_id)
    try:
        await ground.storage.delete("quarantine", upload)
    except StorageUnavailable:
        log.warning("the lines of a batch that is none are not removed yet", key=upload)
        return
    async with ground.database.begin() as session:
        await discards.cross_out(session, [upload], area="quarantine")
