"""`/v1/files`: announce or upload, complete, look, list, search, rename, delete, download."""

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from litestar import Request, Response, Router, delete, get, patch, post
from litestar.di import NamedDependency
from litestar.params import FromPath, Parameter, QueryParameter
from msgspec import UNSET, Struct, UnsetType
from sqlalchemy.ext.asyncio import AsyncSession

from api import body, multipart, paging, problems
from api.multipart import Posted
from infra.errors import PulseError
from infra.ground import Ground
from infra.models import FILE_STATES, Account, File
from infra.storage import Form, Link
from quotas.ledger import Standing
from workers import files, intake
from workers.desk import Desk
from workers.files import NOT_KNOWN_YET, Announced, Announcement, FileNotFound, Folder, Wanted, media_type_of

# How soon it is worth asking for a file again that is not decided yet, in seconds.
_RETRY_AFTER_S = "1"


class LengthRequired(PulseError):
    """Send the header Content-Length: room is held before the file is read."""

    ar = "أرسل الترويسة Content-Length: تُحجز المساحة قبل قراءة الملف."
    status = 411


class NothingToChange(PulseError):
    """Name what is to change: name, folder, or both."""

    ar = "اذكر ما تريد تغييره: name أو folder أو كليهما."
    status = 400


class DirectUploadTooLarge(PulseError):
    """A file in one request may have {limit_bytes} bytes at most. Announce it first, with JSON, and then upload it."""

    ar = "الحد الأقصى لملف يُرسل في طلب واحد {limit_bytes} بايت. أعلن عنه أولًا بصيغة JSON ثم ارفعه."
    status = 413


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


class Change(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is to change of a file."""

    name: str | UnsetType = UNSET
    folder: str | UnsetType = UNSET


class Move(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A folder that is to be called `to`, with all that is below it."""

    folder: str
    to: str


class _Facts(Struct, kw_only=True):
    """What a scan found; a later build may have found more."""

    width: int | None = None
    height: int | None = None
    duration_s: float | None = None
    frames: int | None = None
    pages: int | None = None
    lines: int | None = None
    blurhash: str | None = None


def file_id(text: str) -> UUID:
    """Read a file's id from a path; one that is none is a file that does not exist."""
    try:
        return UUID(text)
    except ValueError:
        raise FileNotFound from None


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


def _announced(
    request: Request[Any, Any, Any], announced: Announced, file: File, form: Form | None
) -> Response[AnnouncedAnswer]:
    upload = None
    if form is not None:
        upload = Upload(method="POST", url=form.url, fields=form.fields, expires_at=form.expires_at)
    told = AnnouncedAnswer(
        file=answer(request, file),
        upload=upload,
        quota=announced.quota,
        warnings=[f"quota_{crossing.percent}" for crossing in announced.crossings],
    )
    return Response(told, headers={"Location": told.file.urls.self})


@post(
    "/",
    status_code=201,
    request_max_body_size=None,
    rate="submit",
    exception_handlers={PulseError: multipart.refuse},
    summary="Announce or upload a file",
)
async def create(
    request: Request[Any, Any, Any],
    account: NamedDependency[Account],
    ground: NamedDependency[Ground],
    desk: NamedDependency[Desk],
) -> Response[AnnouncedAnswer]:
    """Hold room for a file and sign the form by which it is uploaded (JSON), or take a small one whole (a form).

    The form is multipart/form-data: `purpose`, and `folder`, `name` and `media_type` where wanted, before the part
    `file`.
    """
    if request.content_type[0] != "multipart/form-data":
        limit = ground.settings.body_limit_bytes
        announced = await files.announce(ground, account, await body.read_as(request, Announcement, most_bytes=limit))
        return _announced(request, announced, announced.file, announced.form)
    bound = _length(request, ground.settings.direct_upload_bytes)
    posted = await multipart.read(request)
    announced = await files.receive(ground, account, _posted(posted, bound), posted.file)
    file = await intake.scan(ground, desk, account, announced.file)
    return _announced(request, announced, file, None)


def _posted(posted: Posted, bound: int) -> Announcement:
    """Return what a form says of its file, whose size is at most `bound`."""
    fields = dict(posted.fields)
    name = fields.pop("name", "") or posted.filename or ""
    purpose = fields.pop("purpose", "")
    folder, media_type = fields.pop("folder", ""), fields.pop("media_type", "")
    if unknown := next(iter(fields), None):
        raise body.UnknownField(field=unknown)
    for field, value in (("purpose", purpose), ("name", name)):
        if not value:
            raise body.MissingField(field=field)
    return Announcement(
        name=name,
        purpose=purpose,
        folder=folder,
        media_type=media_type or media_type_of(name) or posted.media_type,
        size_bytes=bound,
        sha256=NOT_KNOWN_YET,
    )


def _length(request: Request[Any, Any, Any], limit: int) -> int:
    """Return a bound on the file's bytes: the whole request's."""
    told = request.headers.get("content-length", "")
    if not (told.isascii() and told.isdigit() and len(told) < 16):
        raise LengthRequired
    if int(told) > limit:
        raise DirectUploadTooLarge(limit_bytes=limit)
    return int(told)


@post("/{id:str}/complete", status_code=202, summary="Say that a file is uploaded")
async def complete(
    request: Request[Any, Any, Any],
    id: FromPath[str],  # noqa: A002 (the name in the path)
    account: NamedDependency[Account],
    ground: NamedDependency[Ground],
    desk: NamedDependency[Desk],
) -> Response[FileAnswer]:
    """Have the uploaded file scanned. Asked again, the answer is how the file stands."""
    file = await intake.complete(ground, desk, account, file_id(id))
    async with ground.database.begin() as session:
        return await _shown(request, session, file)


@get("/{id:str}", summary="Get a file")
async def show(
    request: Request[Any, Any, Any],
    id: FromPath[str],  # noqa: A002 (the name in the path)
    account: NamedDependency[Account],
    ground: NamedDependency[Ground],
) -> Response[FileAnswer]:
    """Return the file with its state and, once it is decided on, what was found in it or why it was rejected."""
    async with ground.database.begin() as session:
        return await _shown(request, session, await files.get(session, account.id, file_id(id)))


async def _shown(request: Request[Any, Any, Any], session: AsyncSession, file: File) -> Response[FileAnswer]:
    variants = await files.variants(session, [file.id])
    headers = {} if file.decided_at is not None else {"Retry-After": _RETRY_AFTER_S}
    return Response(answer(request, file, variants[file.id]), headers=headers)


@get("/", summary="List files")
async def page(
    request: Request[Any, Any, Any],
    account: NamedDependency[Account],
    ground: NamedDependency[Ground],
    cursor: Annotated[str | None, Parameter(description="`next_cursor` of the page before.")] = None,
    limit: Annotated[str, Parameter(description="Files a page, 1 to 100.")] = "20",
    only_state: Annotated[str | None, QueryParameter(name="state", description="Only files in this state.")] = None,
    purpose: Annotated[str | None, Parameter(description="Only files for this purpose.")] = None,
    folder: Annotated[str | None, Parameter(description="Only files right in this folder; empty is the top.")] = None,
    q: Annotated[
        str | None, Parameter(description="Only files with these words in their name or folder, however written.")
    ] = None,
) -> FilesAnswer:
    """Return the account's files, newest first."""
    most = paging.limit_of(limit)
    if purpose is not None:
        files.check_purpose(purpose)
    wanted = Wanted(state=paging.state_of(only_state, FILE_STATES), purpose=purpose, folder=folder, text=q)
    async with ground.database.begin() as session:
        found = await files.page(session, account.id, wanted, before=paging.before(cursor), limit=most + 1)
        shown = found[:most]
        variants = await files.variants(session, [file.id for file in shown])
    more = len(found) > len(shown)
    return FilesAnswer(
        files=[answer(request, file, variants[file.id]) for file in shown],
        next_cursor=str(shown[-1].id) if more else None,
    )


@get("/folders", summary="List folders")
async def folders(account: NamedDependency[Account], ground: NamedDependency[Ground]) -> FoldersAnswer:
    """Return the folders in which the account's files lie."""
    async with ground.database.begin() as session:
        return FoldersAnswer(folders=await files.folders(session, account.id))


@patch("/folders", summary="Move a folder")
async def move(
    request: Request[Any, Any, Any], account: NamedDependency[Account], ground: NamedDependency[Ground]
) -> MovedAnswer:
    """Give a folder, with all that is below it, another path."""
    asked = await body.read_as(request, Move, most_bytes=ground.settings.body_limit_bytes)
    async with ground.database.begin() as session:
        return MovedAnswer(moved=await files.move(session, account.id, asked.folder, asked.to))


@patch("/{id:str}", summary="Rename or move a file")
async def change(
    request: Request[Any, Any, Any],
    id: FromPath[str],  # noqa: A002 (the name in the path)
    account: NamedDependency[Account],
    ground: NamedDependency[Ground],
) -> Response[FileAnswer]:
    """Give a file another name, another folder, or both."""
    asked = await body.read_as(request, Change, most_bytes=ground.settings.body_limit_bytes)
    name = None if asked.name is UNSET else asked.name
    folder = None if asked.folder is UNSET else asked.folder
    if name is None and folder is None:
        raise NothingToChange
    async with ground.database.begin() as session:
        file = await files.rename(session, account.id, file_id(id), name=name, folder=folder)
        return await _shown(request, session, file)


@delete("/{id:str}", summary="Delete a file")
async def remove(
    id: FromPath[str],  # noqa: A002 (the name in the path)
    account: NamedDependency[Account],
    ground: NamedDependency[Ground],
) -> None:
    """Delete a file in whatever state it is. The room that it took is free at once."""
    await files.delete(ground, account.id, file_id(id))


@get(["/{id:str}/content", "/{id:str}/thumbnail", "/{id:str}/poster"], status_code=307, summary="Download a file")
async def content(
    request: Request[Any, Any, Any],
    id: FromPath[str],  # noqa: A002 (the name in the path)
    account: NamedDependency[Account],
    ground: NamedDependency[Ground],
) -> Response[str]:
    """Lead to a signed link, which serves the bytes, in ranges where asked, as an attachment."""
    last = request.url.path.rpartition("/")[2]
    link = await files.link(ground, account.id, file_id(id), "original" if last == "content" else last)
    # Not a Redirect: that would quote again what is quoted and signed.
    headers = {"Location": link.url, "Cache-Control": "no-store"}
    return Response("", headers=headers, media_type="text/plain")


@get("/{id:str}/link", summary="Link to a file")
async def link(
    id: FromPath[str],  # noqa: A002 (the name in the path)
    account: NamedDependency[Account],
    ground: NamedDependency[Ground],
    variant: Annotated[str, Parameter(description="`original`, `thumbnail` or `poster`.")] = "original",
) -> Link:
    """Return a signed link that anybody can open until it expires."""
    return await files.link(ground, account.id, file_id(id), variant)


def router() -> Router:
    """Return the routes."""
    return Router(
        "/v1/files",
        route_handlers=[create, complete, show, page, folders, move, change, remove, content, link],
        tags=["files"],
        security=[{"apiKey": []}],
    )
