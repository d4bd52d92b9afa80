"""What is told of files: the shapes, and how they are made of what is kept."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from litestar import Request
from msgspec import Struct

from api import problems
from infra.models import File
from infra.storage import Form
from quotas.ledger import Standing
from workers.files import Announced, Folder

# How soon it is worth asking for a file again that is not decided yet, in seconds.
_RETRY_AFTER_S = "1"


class FileUrls(Struct, frozen=True, kw_only=True):
    """Where to go on with a file; what there is not yet is null."""

    self: str
    complete: str
    content: str
    link: str
    thumbnail: str | None
    poster: str | None
    events: str | None


class FileAnswer(Struct, frozen=True, kw_only=True):
    """A file. `sha256` is of what is served, so it is there once the file is `ready`; `job_id` is its scan.

    Pixels count after the picture was turned upright; `lines` and `pages` are there where the type has such.
    """

    id: UUID
    name: str
    folder: str
    purpose: str
    state: str
    media_type: str
    size_bytes: int
    declared_sha256: str
    sha256: str | None
    error: problems.Reason | None
    width: int | None
    height: int | None
    duration_s: float | None
    frames: int | None
    pages: int | None
    lines: int | None
    blurhash: str | None
    variants: list[str]
    job_id: UUID | None
    created_at: datetime
    upload_until: datetime
    decided_at: datetime | None
    urls: FileUrls


class Upload(Struct, frozen=True, kw_only=True):
    """How to upload: `fields` in their order and then the bytes as the field `file`, as multipart/form-data."""

    method: Literal["POST"]
    url: str
    fields: dict[str, str]
    expires_at: datetime


class AnnouncedAnswer(Struct, frozen=True, kw_only=True):
    """A file that may come, or came with the request; how the storage meter stands, and which thresholds it crossed."""

    file: FileAnswer
    upload: Upload | None
    quota: dict[str, Standing]
    warnings: list[str]


class FilesAnswer(Struct, frozen=True, kw_only=True):
    """Files, newest first; `next_cursor` asks for the ones after them, none when these were the last."""

    files: list[FileAnswer]
    next_cursor: str | None


class FoldersAnswer(Struct, frozen=True, kw_only=True):
    """The folders that have files, by name; the top is empty."""

    folders: list[Folder]


class MovedAnswer(Struct, frozen=True, kw_only=True):
    """How many files went along."""

    moved: int


class _Facts(Struct, kw_only=True):
    """What a scan found; a later build may have found more."""

    width: int | None = None
    height: int | None = None
    duration_s: float | None = None
    frames: int | None = None
    pages: int | None = None
    lines: int | None = None
    blurhash: str | None = None


def answer(request: Request[Any, Any, Any], file: File, variants: Sequence[str] = ()) -> FileAnswer:
    """Return the file as its account sees it."""
    path = f"/v1/files/{file.id}"
    facts = _Facts(**{name: file.facts.get(name) for name in _Facts.__struct_fields__})
    return FileAnswer(
        id=file.id,
        name=file.name,
        folder=file.folder,
        purpose=file.purpose,
        state=file.state,
        media_type=file.media_type,
        size_bytes=file.size_bytes,
        declared_sha256=file.declared_sha256.hex(),
        sha256=file.sha256.hex() if file.sha256 is not None else None,
        error=problems.reason(request, file.error),
        width=facts.width,
        height=facts.height,
        duration_s=facts.duration_s,
        frames=facts.frames,
        pages=facts.pages,
        lines=facts.lines,
        blurhash=facts.blurhash,
        variants=list(variants),
        job_id=file.job_id,
        created_at=file.created_at,
        upload_until=file.upload_until,
        decided_at=file.decided_at,
        urls=FileUrls(
            self=path,
            complete=f"{path}/complete",
            content=f"{path}/content",
            link=f"{path}/link",
            thumbnail=f"{path}/thumbnail" if "thumbnail" in variants else None,
            poster=f"{path}/poster" if "poster" in variants else None,
            events=f"/v1/jobs/{file.job_id}/events" if file.job_id is not None else None,
        ),
    )


def announced(request: Request[Any, Any, Any], told: Announced, file: File, form: Form | None) -> AnnouncedAnswer:
    """Return what is told of a file that may come (by `form`) or came."""
    upload = None
    if form is not None:
        upload = Upload(method="POST", url=form.url, fields=form.fields, expires_at=form.expires_at)
    return AnnouncedAnswer(
        file=answer(request, file),
        upload=upload,
        quota=told.quota,
        warnings=[f"quota_{crossing.percent}" for crossing in told.crossings],
    )


def polite(file: File) -> dict[str, str]:
    """Return the header that tells when to look again at a file that is not decided yet."""
    return {} if file.decided_at is not None else {"Retry-After": _RETRY_AFTER_S}
