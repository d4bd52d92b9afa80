"""Files as their account sees them: found, listed, searched, renamed, deleted, and linked to once they are ready."""

from collections.abc import Sequence
from datetime import timedelta
from uuid import UUID

from msgspec import Struct
from sqlalchemy import false, func, or_, select
from sqlalchemy.ext.asyncio import AsyncSession

from infra.errors import PulseError
from infra.ground import Ground
from infra.models import File, Variant
from infra.storage import Link
from quotas import ledger
from workers.files import discards, names
from workers.files.keys import asset_key, quarantine_key
from workers.media import ENDINGS, named

_VARIANTS = ("original", "thumbnail", "poster")
_LONGEST_SEARCH = 200
_MOST_WORDS = 16


class FileNotFound(PulseError):
    """There is no such file."""

    ar = "لا يوجد ملف بهذا المعرّف."
    status = 404


class FileNotReady(PulseError):
    """The file cannot be read: it is {state}."""

    ar = "لا يمكن قراءة الملف: حالته {state}."
    status = 409


class VariantNotFound(PulseError):
    """This file has no {variant}."""

    ar = "ليس لهذا الملف {variant}."
    status = 404


class FolderNotFound(PulseError):
    """{field}: there is no folder {value!r}."""

    ar = "{field}: لا يوجد مجلد باسم {value!r}."
    status = 404


class InvalidSearch(PulseError):
    """{field} may have {limit} characters and {words} words at most, and no U+0000."""

    ar = "الحد الأقصى لطول {field} هو {limit} محرفًا و{words} كلمة، ومن دون U+0000."
    status = 400


class FolderInsideItself(PulseError):
    """{field}: a folder cannot be moved into itself."""

    ar = "{field}: لا يمكن نقل مجلد إلى داخل نفسه."
    status = 400


class Folder(Struct, frozen=True, kw_only=True):
    """A folder that has files: how many lie right in it, and their bytes."""

    folder: str
    files: int
    size_bytes: int


class Wanted(Struct, frozen=True, kw_only=True):
    """Which of an account's files to list; what is None does not choose. `folder` means right in it."""

    state: str | None = None
    purpose: str | None = None
    folder: str | None = None
    text: str | None = None


async def get(session: AsyncSession, account_id: UUID, file_id: UUID, *, lock: bool = False) -> File:
    """Return the account's file. Raises `FileNotFound`, also for somebody else's."""
    query = select(File).where(File.id == file_id, File.account_id == account_id)
    file = await session.scalar(query.with_for_update() if lock else query)
    if file is None:
        raise FileNotFound
    return file


async def variants(session: AsyncSession, file_ids: Sequence[UUID]) -> dict[UUID, list[str]]:
    """Return what each of these files can be seen as, beside itself."""
    found: dict[UUID, list[str]] = {file_id: [] for file_id in file_ids}
    query = select(Variant.file_id, Variant.name).where(Variant.file_id.in_(file_ids), Variant.name != "original")
    for file_id, name in await session.execute(query.order_by(Variant.name.desc())):
        found[file_id].append(name)
    return found


async def page(
    session: AsyncSession, account_id: UUID, wanted: Wanted, *, before: UUID | None, limit: int
) -> list[File]:
    """Return at most `limit` of the account's files, newest first, older than `before`."""
    query = select(File).where(File.account_id == account_id)
    if before is not None:
        query = query.where(File.id < before)
    if wanted.state is not None:
        query = query.where(File.state == wanted.state)
    if wanted.purpose is not None:
        query = query.where(File.purpose == wanted.purpose)
    if wanted.folder is not None:
        query = query.where(File.folder == names.checked_folder(wanted.folder, field="folder"))
    if wanted.text is not None:
        words = _words(wanted.text)
        query = query.where(*(File.searched.contains(word, autoescape=True) for word in words) if words else [false()])
    return list(await session.scalars(query.order_by(File.id.desc()).limit(limit)))


def _words(text: str) -> set[str]:
    """Return what has to be in a name; raises `InvalidSearch`."""
    words = set(names.searched(text).split())
    if len(text) > _LONGEST_SEARCH or len(words) > _MOST_WORDS or "\0" in text:
        raise InvalidSearch(field="q", limit=_LONGEST_SEARCH, words=_MOST_WORDS)
    return words


async def folders(session: AsyncSession, account_id: UUID) -> list[Folder]:
    """Return the folders in which the account's files lie, by name; the top is empty."""
    query = select(File.folder, func.count(), func.sum(File.size_bytes)).where(
        File.account_id == account_id, File.state.not_in(("rejected", "expired"))
    )
    rows = await session.execute(query.group_by(File.folder).order_by(File.folder))
    return [Folder(folder=folder, files=count, size_bytes=int(size)) for folder, count, size in rows]


async def rename(
    session: AsyncSession, account_id: UUID, file_id: UUID, *, name: str | None, folder: str | None
) -> File:
    """Give a file another name, another folder, or both."""
    file = await get(session, account_id, file_id, lock=True)
    if name is not None:
        file.name = names.checked(name, field="name")
    if folder is not None:
        file.folder = names.checked_folder(folder, field="folder")
    file.searched = names.searched(f"{file.folder}/{file.name}")
    return file


async def move(session: AsyncSession, account_id: UUID, folder: str, to: str) -> int:
    """Move a folder with all that is below it; returns how many files went along."""
    folder, to = names.checked_folder(folder, field="folder"), names.checked_folder(to, field="to")
    if not folder:
        raise FolderNotFound(field="folder", value="")
    if to == folder or to.startswith(f"{folder}/"):
        raise FolderInsideItself(field="to")
    inside = or_(File.folder == folder, File.folder.startswith(f"{folder}/", autoescape=True))
    query = select(File).where(File.account_id == account_id, inside).order_by(File.id)
    found = list(await session.scalars(query.with_for_update()))
    if not found:
        raise FolderNotFound(field="folder", value=folder)
    moved: dict[str, str] = {}
    for file in found:
        if file.folder not in moved:
            rest = file.folder.removeprefix(folder).strip("/")
            moved[file.folder] = names.checked_folder(f"{to}/{rest}", field="to")
        file.folder = moved[file.folder]
        file.searched = names.searched(f"{file.folder}/{file.name}")
    return len(found)


async def delete(ground: Ground, account_id: UUID, file_id: UUID) -> None:
    """Delete a file in whatever state it is: its room is free at once; the tender removes what nobody else needs."""
    async with ground.database.begin() as session:
        await remove(session, ground, account_id, file_id)


async def remove(session: AsyncSession, ground: Ground, account_id: UUID, file_id: UUID) -> None:
    """Delete a file inside the caller's transaction."""
    file = await get(session, account_id, file_id, lock=True)
    query = select(Variant.sha256).where(Variant.file_id == file_id).distinct()
    keys = [asset_key(account_id, sha256.hex()) for sha256 in await session.scalars(query)]
    await discards.note(session, "assets", keys, due=discards.NOW)
    if file.decided_at is None:
        # An upload under way could still bring it back.
        window = timedelta(seconds=ground.settings.upload_s) + discards.ON_ITS_WAY
        upload = quarantine_key(account_id, file_id)
        await discards.note(session, "quarantine", [upload], due=discards.NOW, until=window)
        await ledger.settle(session, {file_id: {}})
    await session.delete(file)
    await session.flush()
    await ledger.release(session, [file_id])


async def link(ground: Ground, account_id: UUID, file_id: UUID, name: str) -> Link:
    """Sign a link to a ready file (`original`) or to a picture of it.

    Raises `FileNotFound`, `FileNotReady` and `VariantNotFound`.
    """
    if name not in _VARIANTS:
        raise VariantNotFound(variant=name)
    async with ground.database.begin() as session:
        file = await get(session, account_id, file_id)
        variant = await session.get(Variant, (file_id, name))
    if file.state != "ready":
        raise FileNotReady(state=file.state)
    if variant is None:
        raise VariantNotFound(variant=name)
    stem = file.name.rpartition(".")[0] or file.name
    filename = file.name if name == "original" else f"{stem} ({name}){ENDINGS[variant.media_type][0]}"
    return await ground.storage.link(
        asset_key(account_id, variant.sha256.hex()),
        filename=named(filename, variant.media_type),
        media_type=variant.media_type,
        seconds=ground.settings.link_s,
    )
