"""`/v1/files`: complete, look, list, search, rename, delete, download."""

from typing import Annotated, Any

from litestar import Request, Response, delete, get, patch, post
from litestar.di import NamedDependency
from litestar.openapi import ResponseSpec
from litestar.params import FromPath, Parameter, QueryParameter
from litestar.types import ASGIApp
from msgspec import UNSET, Struct, UnsetType
from sqlalchemy.ext.asyncio import AsyncSession

from api import answers, body, paging
from api.files.answers import FileAnswer, FilesAnswer, FoldersAnswer, MovedAnswer, answer, polite
from api.paths import file_id
from infra.errors import PulseError
from infra.ground import Ground
from infra.models import FILE_STATES, Account, File
from infra.storage import Link
from workers import files, intake
from workers.desk import Desk
from workers.files import Wanted


class NothingToChange(PulseError):
    """Name what is to change: name, folder, or both."""

    ar = "اذكر ما تريد تغييره: name أو folder أو كليهما."
    status = 400


class Change(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is to change of a file."""

    name: str | UnsetType = UNSET
    folder: str | UnsetType = UNSET


class Move(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A folder that is to be called `to`, with all that is below it."""

    folder: str
    to: str


_FILE = ResponseSpec(FileAnswer, generate_examples=False, description="The file.")
_FILES = ResponseSpec(FilesAnswer, generate_examples=False, description="A page of files.")


@post("/{id:str}/complete", status_code=202, responses={202: _FILE}, summary="Say that a file is uploaded")
async def complete(
    request: Request[Any, Any, Any],
    id: FromPath[str],  # noqa: A002 (the name in the path)
    account: NamedDependency[Account],
    ground: NamedDependency[Ground],
    desk: NamedDependency[Desk],
) -> ASGIApp:
    """Have the uploaded file scanned. Asked again, the answer is how the file stands."""
    file = await intake.complete(ground, desk, account, file_id(id))
    async with ground.database.begin() as session:
        return answers.send(await _told(request, session, file), status_code=202, headers=polite(file))


@get("/{id:str}", responses={200: _FILE, 304: answers.KNOWN}, summary="Get a file")
async def show(
    request: Request[Any, Any, Any],
    id: FromPath[str],  # noqa: A002 (the name in the path)
    account: NamedDependency[Account],
    ground: NamedDependency[Ground],
) -> ASGIApp:
    """Return the file with its state and, once it is decided on, what was found in it or why it was rejected."""
    async with ground.database.begin() as session:
        file = await files.get(session, account.id, file_id(id))
        told = await _told(request, session, file)
    return answers.send_new(request, answers.encode(told), headers=polite(file))


async def _told(request: Request[Any, Any, Any], session: AsyncSession, file: File) -> FileAnswer:
    variants = await files.variants(session, [file.id])
    return answer(request, file, variants[file.id])


@get("/", responses={200: _FILES, 304: answers.KNOWN}, summary="List files")
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
) -> ASGIApp:
    """Return the account's files, newest first."""
    most = paging.limit_of(limit)
    if purpose is not None:
        files.check_purpose(purpose)
    wanted = Wanted(state=paging.state_of(only_state, FILE_STATES), purpose=purpose, folder=folder, text=q)
    async with ground.database.begin() as session:
        found = await files.page(session, account.id, wanted, before=paging.before(cursor), limit=most + 1)
        shown, next_cursor = paging.cut(found, most)
        variants = await files.variants(session, [file.id for file in shown])
    told = FilesAnswer(files=[answer(request, file, variants[file.id]) for file in shown], next_cursor=next_cursor)
    return answers.send_new(request, answers.encode(told))


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


@patch("/{id:str}", responses={200: _FILE}, summary="Rename or move a file")
async def change(
    request: Request[Any, Any, Any],
    id: FromPath[str],  # noqa: A002 (the name in the path)
    account: NamedDependency[Account],
    ground: NamedDependency[Ground],
) -> ASGIApp:
    """Give a file another name, another folder, or both."""
    asked = await body.read_as(request, Change, most_bytes=ground.settings.body_limit_bytes)
    name = None if asked.name is UNSET else asked.name
    folder = None if asked.folder is UNSET else asked.folder
    if name is None and folder is None:
        raise NothingToChange
    async with ground.database.begin() as session:
        file = await files.rename(session, account.id, file_id(id), name=name, folder=folder)
        return answers.send(await _told(request, session, file), headers=polite(file))


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
