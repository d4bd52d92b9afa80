"""A store in a directory of this machine, with the signed forms and links that S3 would give.

    quarantine/<account id>/<file id>     assets/<account id>/<sha256>     tmp/<what is on its way>

An object is written under tmp, and then gets its name by a hard link: that is there at once or not at all, and never
takes the place of another. What the forms and links allow is enforced in `api/storage.py`, which serves them.
"""

import contextlib
import os
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Mapping
from contextlib import aclosing, asynccontextmanager
from io import FileIO
from pathlib import Path

from infra.errors import PulseError
from infra.settings import Settings
from infra.storage import Area, Expected, Form, Link, ObjectNotFound, Received, UploadReplayed, sha256_of
from infra.storage.scratch import CHUNK_BYTES, Draft, Scratch, make, sync
from infra.storage.signing import Admission, Shown, Signer
from infra.storage.threads import Threads

_THREADS = 8
# One read of a download: small enough that a hundred slow clients cost little.
_READ_BYTES = 256 * 1024


class UploadIncomplete(PulseError):
    """{actual_bytes} bytes came and not the {declared_bytes} that were declared."""

    ar = "وصل {actual_bytes} بايت وليس {declared_bytes} كما صُرّح به."
    status = 400


class UploadHashWrong(PulseError):
    """The SHA-256 of the bytes is not the declared one: they were changed or damaged on the way."""

    ar = "بصمة البيانات (SHA-256) ليست المصرّح بها: تغيّرت أو تلفت في الطريق."
    status = 400


class Reading:
    """An object that is open; it can be read to its end even if it is deleted meanwhile."""

    def __init__(self, threads: Threads, path: Path) -> None:
        """Read what lies at `path`, once it is open."""
        self._threads = threads
        self._path = path
        self._fd = -1

    async def open(self) -> None:
        """Open it; raises `ObjectNotFound`."""
        await self._threads.do(self._open)
        if self._fd < 0:
            raise ObjectNotFound

    def close(self) -> None:
        """Close it."""
        if self._fd >= 0:
            os.close(self._fd)

    def _open(self) -> None:
        with contextlib.suppress(FileNotFoundError):
            self._fd = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)

    async def chunks(self, start: int, length: int) -> AsyncIterator[bytes]:
        """Yield so many bytes from a place on, or what there is of them."""
        end = start + length
        while start < end and (chunk := await self._read(start, min(_READ_BYTES, end - start))):
            start += len(chunk)
            yield chunk

    async def _read(self, start: int, length: int) -> bytes:
        return await self._threads.do(os.pread, self._fd, length, start)


class LocalStorage:
    """A store in `folder`, whose forms and links lead to the API at `address`."""

    def __init__(self, folder: Path, *, address: str, secret: str) -> None:
        """Prepare; the folder is made when something is first written."""
        self._folder = folder
        self._address = f"{address}/storage"
        self._threads = Threads(_THREADS)
        self._scratch = Scratch(folder / "tmp", self._threads)
        self._signer = Signer(secret)
        self._coming = set[str]()

    async def form(self, key: str, expected: Expected, *, seconds: int) -> Form:
        """See `Storage.form`."""
        fields, expires_at = self._signer.form(key, expected, seconds=seconds)
        return Form(url=f"{self._address}/quarantine", fields=fields, expires_at=expires_at)

    async def link(self, key: str, *, filename: str, media_type: str, seconds: int) -> Link:
        """See `Storage.link`."""
        link, expires_at = self._signer.link(key, filename=filename, media_type=media_type, seconds=seconds)
        return Link(url=f"{self._address}/assets/{link}", expires_at=expires_at)

    def admit(self, fields: Mapping[str, str]) -> Admission:
        """Return what a form lets in; raises as `Signer.admit`."""
        return self._signer.admit(fields)

    def show(self, key: str, query: bytes) -> Shown:
        """Return what a link shows; raises as `Signer.show`."""
        return self._signer.show(key, query)

    async def take(self, admission: Admission, chunks: AsyncIterable[bytes]) -> Received:
        """Write an upload into quarantine, if it is to the byte what was declared.

        Raises `UploadTooLarge` at the first byte too many, `UploadIncomplete`, `UploadHashWrong`, `UploadReplayed`.
        """
        return await self._receive(admission.key, chunks, admission.expected.size_bytes, admission.expected)

    async def receive(self, key: str, chunks: AsyncIterable[bytes], *, most_bytes: int) -> Received:
        """See `Storage.receive`."""
        return await self._receive(key, chunks, most_bytes, None)

    async def _receive(
        self, key: str, chunks: AsyncIterable[bytes], most_bytes: int, expected: Expected | None
    ) -> Received:
        # One at a time: a form that is sent a hundred times at once must not fill the disk meanwhile.
        if key in self._coming or await self.size("quarantine", key) is not None:
            raise UploadReplayed
        self._coming.add(key)
        try:
            return await self._received(key, chunks, most_bytes, expected)
        finally:
            self._coming.discard(key)

    async def _received(
        self, key: str, chunks: AsyncIterable[bytes], most_bytes: int, expected: Expected | None
    ) -> Received:
        async with self._scratch.written(chunks, most_bytes=most_bytes) as draft:
            if expected is not None:
                _compare(draft, expected)
            if not await self._threads.do(_publish, draft.path, self._path("quarantine", key)):
                raise UploadReplayed
            return Received(size_bytes=draft.size_bytes, sha256=draft.sha256)

    async def size(self, area: Area, key: str) -> int | None:
        """See `Storage.size`."""
        return await self._threads.do(_size, self._path(area, key))

    @asynccontextmanager
    async def opened(self, area: Area, key: str) -> AsyncGenerator[Path]:
        """See `Storage.opened`."""
        if await self.size(area, key) is None:
            raise ObjectNotFound
        yield self._path(area, key)

    @asynccontextmanager
    async def reading(self, key: str) -> AsyncGenerator[Reading]:
        """Open an asset to be read in chunks; raises `ObjectNotFound`."""
        reading = Reading(self._threads, self._path("assets", key))
        try:
            await reading.open()
            yield reading
        finally:
            reading.close()

    async def put(self, area: Area, key: str, path: Path) -> None:
        """See `Storage.put`."""
        if await self.size(area, key) is not None:
            return
        async with aclosing(self._content(path)) as content, self._scratch.written(content) as draft:
            if sha256_of(key) not in {None, draft.sha256}:
                raise ValueError(f"{key} was to be written, and the bytes have the SHA-256 {draft.sha256}")
            await self._threads.do(_publish, draft.path, self._path(area, key))

    async def delete(self, area: Area, key: str) -> None:
        """See `Storage.delete`."""
        await self._threads.do(_remove, self._path(area, key))

    async def tidy(self, *, older_s: float) -> int:
        """See `Storage.tidy`."""
        return await self._scratch.tidy(older_s=older_s)

    async def ping(self) -> None:
        """See `Storage.ping`: writes a byte, since a disk that is full or read-only can still be looked at."""
        async with self._scratch.written(_a_byte()):
            pass

    async def close(self) -> None:
        """See `Storage.close`."""
        self._threads.close()

    def _path(self, area: Area, key: str) -> Path:
        sha256_of(key)
        return self._folder / area / key

    async def _content(self, path: Path) -> AsyncGenerator[bytes]:
        with await self._threads.do(_open, path) as file:
            while chunk := await self._threads.do(file.read, CHUNK_BYTES):
                yield chunk


def connect(settings: Settings) -> LocalStorage:
    """Return the store of the settings."""
    return LocalStorage(settings.files, address=settings.address, secret=settings.secret)


async def _a_byte() -> AsyncIterator[bytes]:
    yield b"."


def _compare(draft: Draft, expected: Expected) -> None:
    if draft.size_bytes != expected.size_bytes:
        raise UploadIncomplete(actual_bytes=draft.size_bytes, declared_bytes=expected.size_bytes)
    if draft.sha256 != expected.sha256:
        raise UploadHashWrong


def _publish(draft: Path, path: Path) -> bool:
    """Give a file that is written its name, if nothing has it; returns whether it has it now."""
    make(path.parent)
    sync(draft)
    try:
        os.link(draft, path)
    except FileExistsError:
        return False
    sync(path.parent)
    return True


def _size(path: Path) -> int | None:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return None


def _open(path: Path) -> FileIO:
    return path.open("rb", buffering=0)


def _remove(path: Path) -> None:
    try:
        path.unlink()
    except FileNotFoundError:
        return
    sync(path.parent)
