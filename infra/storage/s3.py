"""A store in two S3 buckets, of AWS or of whoever speaks its wire: all that waits is done by a few threads.

What comes from the network, or has to be read as a file, lies on this machine's disk meanwhile and never in memory.
"""

import contextlib
import hashlib
from collections.abc import AsyncGenerator, AsyncIterable
from contextlib import aclosing, asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from infra.settings import Settings
from infra.storage import (
    Area,
    Expected,
    Form,
    Link,
    Received,
    StorageUnavailable,
    UploadReplayed,
    sha256_of,
)
from infra.storage.buckets import Buckets
from infra.storage.scratch import CHUNK_BYTES, Scratch
from infra.storage.threads import Threads

_THREADS = 8
_SIGNING_THREADS = 2
# Larger files go up in parts: one that fails on its way is sent again alone.
_PART_BYTES = 8 * CHUNK_BYTES
_MOST_IN_ONE_BYTES = 8 * _PART_BYTES


class S3Storage:
    """A store in the buckets of the settings."""

    def __init__(self, settings: Settings) -> None:
        """Prepare; the first use looks for credentials and connects."""
        self._threads = Threads(_THREADS)
        self._signing = Threads(_SIGNING_THREADS)  # its own: no link waits for a bucket that hangs
        self.buckets = Buckets(settings, connections=_THREADS)
        self._scratch = Scratch(settings.files / "tmp", self._threads)

    # In a thread, both: credentials may have to be fetched over the network, and again whenever they expire.
    async def form(self, key: str, expected: Expected, *, seconds: int) -> Form:
        """See `Storage.form`."""
        return await self._signing.do(self.buckets.form, key, expected, seconds)

    async def link(self, key: str, *, filename: str, media_type: str, seconds: int) -> Link:
        """See `Storage.link`."""
        return await self._signing.do(self.buckets.link, key, filename, media_type, seconds)

    async def receive(self, key: str, chunks: AsyncIterable[bytes], *, most_bytes: int) -> Received:
        """See `Storage.receive`."""
        if await self.size("quarantine", key) is not None:
            raise UploadReplayed
        async with self._scratch.written(chunks, most_bytes=most_bytes) as draft:
            if not await self._write("quarantine", key, draft.path, draft.sha256):
                raise UploadReplayed
            return Received(size_bytes=draft.size_bytes, sha256=draft.sha256)

    async def size(self, area: Area, key: str) -> int | None:
        """See `Storage.size`."""
        return await self._threads.do(self.buckets.size, self.buckets.at(area, key))

    @asynccontextmanager
    async def opened(self, area: Area, key: str) -> AsyncGenerator[Path]:
        """See `Storage.opened`: a copy of its own, removed after the block."""
        async with aclosing(self._content(area, key)) as content, self._scratch.written(content) as draft:
            yield draft.path

    async def put(self, area: Area, key: str, path: Path) -> None:
        """See `Storage.put`."""
        if await self.size(area, key) is not None:
            return
        actual, named = await self._threads.do(_sha256, path), sha256_of(key)
        if named not in {None, actual}:
            raise ValueError(f"{key} was to be written, and the bytes have the SHA-256 {actual}")
        await self._write(area, key, path, actual)

    async def delete(self, area: Area, key: str) -> None:
        """See `Storage.delete`."""
        await self._threads.do(self.buckets.delete, self.buckets.at(area, key))

    async def tidy(self, *, older_s: float) -> int:
        """See `Storage.tidy`: files on this machine, and uploads in parts that were not completed."""
        before = datetime.now(UTC) - timedelta(seconds=older_s)
        removed = await self._scratch.tidy(older_s=older_s)
        for bucket in self.buckets.names.values():
            removed += await self._threads.do(self.buckets.abort_older, bucket, before)
        return removed

    async def ping(self) -> None:
        """See `Storage.ping`."""
        for bucket in self.buckets.names.values():
            await self._threads.do(self.buckets.look, bucket)

    async def close(self) -> None:
        """See `Storage.close`."""
        self._threads.close()
        self._signing.close()
        self.buckets.close()

    async def _write(self, area: Area, key: str, path: Path, sha256: str) -> bool:
        """Write a file where nothing is; returns whether it did."""
        at = self.buckets.at(area, key)
        size_bytes = await self._threads.do(_size, path)
        if size_bytes <= _MOST_IN_ONE_BYTES:
            return await self._threads.do(self.buckets.put, at, path, sha256)
        upload = await self._threads.do(self.buckets.begin, at)
        try:
            parts = list[dict[str, Any]]()
            for number, start in enumerate(range(0, size_bytes, _PART_BYTES), 1):
                data = await self._threads.do(_part, path, start)
                parts.append(await self._threads.do(self.buckets.send, upload, number, data))
            return await self._threads.do(self.buckets.complete, upload, parts)
        finally:
            with contextlib.suppress(StorageUnavailable):  # `tidy` does it then
                await self._threads.do(self.buckets.abort, upload)

    async def _content(self, area: Area, key: str) -> AsyncGenerator[bytes]:
        body = await self._threads.do(self.buckets.open, self.buckets.at(area, key))
        try:
            while chunk := await self._threads.do(self.buckets.read, body, CHUNK_BYTES):
                yield chunk
        finally:
            body.close()


def connect(settings: Settings) -> S3Storage:
    """Return the store of the settings."""
    return S3Storage(settings)


def _size(path: Path) -> int:
    return path.stat().st_size


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _part(path: Path, start: int) -> bytes:
    with path.open("rb") as file:
        file.seek(start)
        return file.read(_PART_BYTES)
