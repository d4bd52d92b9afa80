"""Files that come whole, with their announcement: their size is a bound, and their SHA-256 is known at the end."""

import asyncio
import hashlib
from collections.abc import AsyncIterable
from contextlib import suppress

import msgspec
from msgspec import Struct

from infra.errors import PulseError
from infra.ground import Ground
from infra.models import Account, File
from infra.storage import Received
from infra.whole import whole
from workers import idempotency, lifecycle
from workers.files import shelf, uploads
from workers.files.announcement import Announcement
from workers.files.keys import quarantine_key
from workers.files.shelf import FileNotFound
from workers.files.uploads import Announced, UploadExpired
from workers.idempotency import IN_FLIGHT, Call, Kept, RequestInFlight

#: After this an upload is broken off; one that began in time is over before its row is.
LONGEST_UPLOAD_S = 55 * 60.0


class _Said(Struct, frozen=True, kw_only=True):
    """What is said of a file that comes whole, as its fingerprint knows it: not how large its form is."""

    purpose: str
    folder: str
    name: str
    media_type: str | None


class EmptyFile(PulseError):
    """{field} is empty."""

    ar = "{field} فارغ."
    status = 400


async def receive(
    ground: Ground, account: Account, asked: Announcement, chunks: AsyncIterable[bytes], *, key: str | None = None
) -> Announced:
    """Take a file whose bytes come with its announcement, once under a caller's Idempotency-Key.

    Returns it with its scan still to be asked for. Whatever breaks the stream off leaves nothing, no key either.
    Raises as `announce`, and `RequestInFlight`, `EmptyFile` or `UploadExpired`.
    """
    file = uploads.new(ground, account, asked)
    call = Call.of(account.id, key, _print(asked))
    async with ground.database.begin() as session:
        begun = await uploads.begin(session, ground, account, file, call, keep=IN_FLIGHT)
    if isinstance(begun, Kept):
        assert call is not None, "only under a key something can be kept"
        return await _again(ground, call, begun, chunks)
    return msgspec.structs.replace(begun, file=await _take(ground, file, call, chunks, most_bytes=asked.size_bytes))


def _print(asked: Announcement) -> bytes:
    """Return the fingerprint of what is said of a file; that of the whole call has the bytes' SHA-256 behind it."""
    said = _Said(purpose=asked.purpose, folder=asked.folder, name=asked.name, media_type=asked.media_type)
    return lifecycle.fingerprint(f"{uploads.ROUTE} multipart", said)


async def _again(ground: Ground, call: Call, kept: Kept, chunks: AsyncIterable[bytes]) -> Announced:
    """Return the file that a call has made before, if its bytes are the same as well."""
    if kept.fingerprint == call.fingerprint:
        raise RequestInFlight
    sha256 = hashlib.sha256()
    async for chunk in chunks:
        sha256.update(chunk)
    kept.check(_whole(call, sha256.digest()))
    async with ground.database.begin() as session:
        return await uploads.again(session, call.account_id, kept)


def _whole(call: Call, sha256: bytes) -> Call:
    return Call(account_id=call.account_id, key=call.key, fingerprint=call.fingerprint + sha256)


async def _take(
    ground: Ground, file: File, call: Call | None, chunks: AsyncIterable[bytes], *, most_bytes: int
) -> File:
    key = quarantine_key(file.account_id, file.id)
    try:
        async with asyncio.timeout(LONGEST_UPLOAD_S), idempotency.in_flight(ground, call, file.id):
            received = await ground.storage.receive(key, chunks, most_bytes=most_bytes)
        return await _received(ground, file, call, received)
    except TimeoutError as error:
        await _give_up(ground, file, call)
        raise UploadExpired from error
    except BaseException:
        await whole(_give_up(ground, file, call))
        raise


async def _received(ground: Ground, announced: File, call: Call | None, received: Received) -> File:
    async with ground.database.begin() as session:
        file = await shelf.get(session, announced.account_id, announced.id, lock=True)
        if received.size_bytes == 0:
            raise EmptyFile(field="file")
        if file.state != "uploading":  # it took so long that it was given up
            raise UploadExpired
        file.size_bytes, file.declared_sha256 = received.size_bytes, bytes.fromhex(received.sha256)
        file.state = "scanning"
        if call is not None:
            await idempotency.complete(session, _whole(call, file.declared_sha256), file.id)
        return file


async def _give_up(ground: Ground, file: File, call: Call | None) -> None:
    async with ground.database.begin() as session:
        if call is not None:
            await idempotency.forget(session, call, file.id)
        with suppress(FileNotFound):  # its account was quicker
            await shelf.remove(session, ground, file.account_id, file.id)
