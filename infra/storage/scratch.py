"""Files on their way: written here from a stream, published or read by whoever asked, and gone afterwards.

A process that is killed leaves its own behind, under names that nobody looks up; `tidy` removes them by their age.
"""

import contextlib
import hashlib
import os
import time
from collections.abc import AsyncGenerator, AsyncIterable
from contextlib import asynccontextmanager
from itertools import takewhile
from pathlib import Path

from msgspec import Struct

from infra import ids
from infra.storage import UploadTooLarge
from infra.storage.threads import Threads

#: What is gathered from the network before a thread is asked to write it, and how much one of them reads at a time.
CHUNK_BYTES = 1024 * 1024


class Draft(Struct, frozen=True, kw_only=True):
    """A stream that has come to its end: where it lies, how long it was, and its SHA-256 in hexadecimal."""

    path: Path
    size_bytes: int
    sha256: str


class Scratch:
    """The folder of one store's files on their way."""

    def __init__(self, folder: Path, threads: Threads) -> None:
        """Use `folder`, which is made when it is first needed."""
        self._folder = folder
        self._threads = threads

    @asynccontextmanager
    async def written(self, chunks: AsyncIterable[bytes], *, most_bytes: int | None = None) -> AsyncGenerator[Draft]:
        """Write a stream, and give the file for the length of the block; in memory there is never more than a chunk.

        Raises `UploadTooLarge` once there are more than `most_bytes`, and whatever the chunks raise.
        """
        file = _File(self._folder / str(ids.new()))
        try:
            await self._threads.do(file.open)
            size_bytes, gathered = 0, bytearray()
            async for chunk in chunks:
                size_bytes += len(chunk)
                if most_bytes is not None and size_bytes > most_bytes:
                    raise UploadTooLarge(limit_bytes=most_bytes)
                gathered += chunk
                if len(gathered) >= CHUNK_BYTES:
                    await self._threads.do(file.write, gathered)
                    gathered = bytearray()
            await self._threads.do(file.write, gathered)
            yield Draft(path=file.path, size_bytes=size_bytes, sha256=file.hash.hexdigest())
        finally:
            await self._threads.do(file.discard)

    async def tidy(self, *, older_s: float) -> int:
        """Remove what nobody has written to for so long; returns how many."""
        return await self._threads.do(self._tidy, time.time() - older_s)

    def _tidy(self, before_s: float) -> int:
        removed = 0
        for path in self._folder.iterdir() if self._folder.is_dir() else ():
            with contextlib.suppress(FileNotFoundError):  # its writer has just removed it
                if path.stat().st_mtime < before_s:
                    path.unlink()
                    removed += 1
        return removed


class _File:
    """One file on its way, as the threads see it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.hash = hashlib.sha256()
        self._fd = -1

    def open(self) -> None:
        make(self.path.parent)
        self._fd = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)

    def write(self, data: bytearray) -> None:
        self.hash.update(data)
        rest = memoryview(data)
        while rest:
            rest = rest[os.write(self._fd, rest) :]

    def discard(self) -> None:
        if self._fd >= 0:
            with contextlib.suppress(OSError):
                os.close(self._fd)
            with contextlib.suppress(OSError):
                self.path.unlink()


def make(folder: Path) -> None:
    """Make a folder and those above it, for nobody else to look into, so that they outlast a loss of power."""
    missing = list(takewhile(lambda each: not each.is_dir(), (folder, *folder.parents)))
    for each in reversed(missing):
        with contextlib.suppress(FileExistsError):
            each.mkdir(mode=0o700)
        sync(each.parent)


def sync(path: Path) -> None:
    """Have a file, or the names in a folder, written to the disk."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
