"""What is said of a file before it is uploaded, and whether that is taken."""

import re
from typing import Annotated

from msgspec import Meta, Struct

from infra.errors import PulseError
from workers.files import names
from workers.media import PURPOSES, media_type_of

_SHA256 = re.compile(r"[0-9a-f]{64}")
#: The hash of a file that comes together with its announcement.
NOT_KNOWN_YET = "0" * 64


class UnknownPurpose(PulseError):
    """{field}: there is no purpose {value!r}; there are: {known}."""

    ar = "{field}: لا يوجد غرض باسم {value!r}. الأغراض المتاحة: {known}."
    status = 400


class TypeNotTaken(PulseError):
    """{field}: files for {purpose} cannot be {value!r}; they can be: {known}."""

    ar = "{field}: لا يمكن أن يكون الملف لغرض {purpose} من نوع {value!r}. الأنواع المقبولة: {known}."
    status = 415


class InvalidSha256(PulseError):
    """{field} must be the SHA-256 of the bytes: 64 digits 0-9 a-f."""

    ar = "يجب أن يكون {field} بصمة SHA-256 للبيانات، أي 64 خانة من 0-9 و a-f."
    status = 400


class FileTooLarge(PulseError):
    """{field}: files for {purpose} may have {limit_bytes} bytes at most."""

    ar = "{field}: الحد الأقصى لملفات {purpose} هو {limit_bytes} بايت."
    status = 413


class Announcement(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A file that is to be uploaded."""

    name: str
    purpose: Annotated[str, Meta(max_length=64, description=f"One of: {', '.join(PURPOSES)}.")]
    size_bytes: Annotated[int, Meta(ge=1, le=2**53)]
    sha256: Annotated[str, Meta(max_length=128, description="Of the bytes that will be sent, in hexadecimal.")]
    media_type: (
        Annotated[str, Meta(max_length=128, description="Where it is left out, the name's ending decides.")] | None
    ) = None
    folder: Annotated[str, Meta(description="Names with / between them; empty is the top.")] = ""


def checked(asked: Announcement) -> tuple[Announcement, str]:
    """Return the announcement as it is kept, and its media type; raises the fact that keeps it from being taken."""
    media_type = typed(asked.purpose, asked.name, asked.media_type)
    if not _SHA256.fullmatch(asked.sha256):
        raise InvalidSha256(field="sha256")
    limit = PURPOSES[asked.purpose].most_bytes
    if asked.size_bytes > limit:
        raise FileTooLarge(field="size_bytes", purpose=asked.purpose, limit_bytes=limit)
    kept = Announcement(
        name=names.checked(asked.name, field="name"),
        purpose=asked.purpose,
        size_bytes=asked.size_bytes,
        sha256=asked.sha256,
        media_type=media_type,
        folder=names.checked_folder(asked.folder, field="folder"),
    )
    return kept, media_type


def check_purpose(purpose: str) -> None:
    """Raise `UnknownPurpose` where there is no such purpose."""
    if purpose not in PURPOSES:
        raise UnknownPurpose(field="purpose", value=purpose, known=", ".join(PURPOSES))


def typed(purpose: str, name: str, media_type: str | None) -> str:
    """Return the media type that a file will have; raises `UnknownPurpose` or `TypeNotTaken`."""
    check_purpose(purpose)
    taken = PURPOSES[purpose].media_types
    # `text/plain; charset=utf-8` is text/plain: there is only one charset that is taken.
    found = (media_type or media_type_of(name) or "").partition(";")[0].strip().lower()
    if found not in taken:
        shown = found or name.rpartition(".")[2][:32]
        field = "media_type" if media_type else "name"
        raise TypeNotTaken(field=field, purpose=purpose, value=shown, known=", ".join(taken))
    return found
