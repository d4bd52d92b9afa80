"""Where bytes are kept: one contract and two drivers, a local directory and S3.

There are two areas. `quarantine` takes what strangers upload: it can be written by a form that we signed and read by
nobody but a scan. `assets` has what a scan let through: it is written by us and read by a link that we signed.

Keys are `<account id>/<name>`, made by us and never by a caller: in quarantine the name is a file's id, in assets the
SHA-256 of the bytes in hexadecimal, so that equal bytes are one object.
"""

import importlib
import re
from collections.abc import AsyncIterable
from contextlib import AbstractAsyncContextManager
from datetime import datetime
from pathlib import Path
from typing import Literal, Protocol

from msgspec import Struct

from infra.errors import PulseError
from infra.settings import Settings

type Area = Literal["quarantine", "assets"]

_UUID = "[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"
_KEY = re.compile(f"{_UUID}/(?:{_UUID}|(?P<sha256>[0-9a-f]{{64}}))")


class ObjectNotFound(PulseError):
    """The store does not have these bytes any more."""

    ar = "لم تعد هذه البيانات موجودة في المخزن."
    status = 404


class StorageUnavailable(PulseError):
    """The file store cannot be reached or has no room right now. Please try again."""

    ar = "تعذّر الوصول إلى مخزن الملفات أو لا مساحة فيه الآن. حاول مرة أخرى."
    status = 503
    retryable = True
    patience = 2.0


class UploadTooLarge(PulseError):
    """More than the {limit_bytes} bytes that were declared were sent."""

    ar = "أُرسل أكثر من الحجم المصرّح به وهو {limit_bytes} بايت."
    status = 413


class UploadReplayed(PulseError):
    """The bytes were uploaded already, or are not awaited any more."""

    ar = "سبق رفع هذه البيانات، أو لم تعد منتظَرة."
    status = 409


class Expected(Struct, frozen=True, kw_only=True):
    """What an upload has to be: nothing else is taken. `sha256` is in hexadecimal."""

    size_bytes: int
    media_type: str
    sha256: str


class Form(Struct, frozen=True, kw_only=True):
    """How to upload: POST `fields` and then the bytes, as the field `file`, to `url` as multipart/form-data."""

    url: str
    fields: dict[str, str]
    expires_at: datetime


class Link(Struct, frozen=True, kw_only=True):
    """Where to download, for whoever has the link."""

    url: str
    expires_at: datetime


class Received(Struct, frozen=True, kw_only=True):
    """What came: how many bytes, and their SHA-256 in hexadecimal."""

    size_bytes: int
    sha256: str


class Storage(Protocol):
    """A store. Every coroutine raises `StorageUnavailable`; what is written is there whole or not at all.

    A key that is not of the one form that keys have is a bug of the caller's: `ValueError`.
    """

    async def form(self, key: str, expected: Expected, *, seconds: int) -> Form:
        """Sign a form by which `key` can be uploaded into quarantine, once, for so many seconds.

        S3's lets the same bytes be sent again in that time, and no others: their SHA-256 is signed.
        """
        ...

    async def link(self, key: str, *, filename: str, media_type: str, seconds: int) -> Link:
        """Sign a link to an asset, which is served as an attachment of this name and type, in ranges where asked."""
        ...

    async def receive(self, key: str, chunks: AsyncIterable[bytes], *, most_bytes: int) -> Received:
        """Write a stream into quarantine.

        Raises `UploadTooLarge` once it is longer than it may be, and `UploadReplayed` where the key has bytes already.
        What the chunks raise passes through; nothing is left of a stream that did not come to its end.
        """
        ...

    async def size(self, area: Area, key: str) -> int | None:
        """Return how many bytes an object has; None where there is none."""
        ...

    def opened(self, area: Area, key: str) -> AbstractAsyncContextManager[Path]:
        """Give the bytes as a local file, to be read and not written; raises `ObjectNotFound`."""
        ...

    async def put(self, area: Area, key: str, path: Path) -> None:
        """Write a local file; one that is there under the key stays as it is.

        Raises `ValueError` where the name is a SHA-256 and not that of the bytes.
        """
        ...

    async def delete(self, area: Area, key: str) -> None:
        """Remove an object; one that is not there is removed."""
        ...

    async def tidy(self, *, older_s: float) -> int:
        """Remove what broken-off writes have left and nobody has touched for so long; returns how many."""
        ...

    async def ping(self) -> None:
        """Raise `StorageUnavailable` where the store cannot be used."""
        ...

    async def close(self) -> None:
        """Close what is open."""
        ...


def sha256_of(key: str) -> str | None:
    """Return the SHA-256 that a key is named by, None where its name is an id; raises `ValueError` for what is none."""
    match = _KEY.fullmatch(key)
    if match is None:
        raise ValueError(f"{key!r} is no key of a store")
    return match["sha256"]


def connect(settings: Settings) -> Storage:
    """Return the store that the settings name; its driver is loaded only now, since boto3 is heavy."""
    driver = importlib.import_module("infra.storage.s3" if settings.s3_assets else "infra.storage.local")
    return driver.connect(settings)
