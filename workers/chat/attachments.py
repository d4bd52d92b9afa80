"""What a conversation brings beside words: whether its pictures and files may be read, and what they are."""

import base64
import binascii
from collections.abc import Mapping, Sequence
from typing import Final
from uuid import UUID

from infra.errors import PulseError
from workers.chat.parts import FilePart, ImagePart, Message, placed
from workers.media import TEXTS
from workers.request import Attached

_MIB: Final = 1024**2
PICTURES: Final = ("image/png", "image/jpeg", "image/webp", "image/gif")
PDF: Final = "application/pdf"
PAPERS: Final = (PDF, *TEXTS)
#: What vendors take at least: of one picture, one file, and all of a conversation.
_IMAGE_BYTES: Final = 5 * _MIB
_FILE_BYTES: Final = 10 * _MIB
_ALL_BYTES: Final = 18 * _MIB
#: What pictures begin with.
_MARKS: Final = {
    "image/png": (b"\x89PNG\r\n\x1a\n",),
    "image/jpeg": (b"\xff\xd8\xff",),
    "image/webp": (b"RIFF",),
    "image/gif": (b"GIF87a", b"GIF89a"),
}


class AttachmentNotFound(PulseError):
    """{field}: you have no file with this id."""

    ar = "{field}: ليس لديك ملف بهذا المعرّف."
    status = 400


class AttachmentNotReady(PulseError):
    """{field}: the file cannot be read: it is {state}."""

    ar = "{field}: لا يمكن قراءة الملف: حالته {state}."
    status = 400


class AttachmentType(PulseError):
    """{field}: a file of the type {media_type} cannot be read here; these can: {allowed}."""

    ar = "{field}: لا يمكن هنا قراءة ملف من النوع {media_type}. الأنواع المتاحة: {allowed}."
    status = 400


class AttachmentTooLarge(PulseError):
    """{field}: this has {size_bytes} bytes; there may be {limit_bytes} at most."""

    ar = "{field}: الحجم {size_bytes} بايت، والحد الأقصى {limit_bytes} بايت."
    status = 400


class InvalidImage(PulseError):
    """{field} must be a picture of the type {media_type}, in base64."""

    ar = "يجب أن يكون {field} صورة من النوع {media_type} بترميز base64."
    status = 400


def ids(messages: Sequence[Message]) -> list[UUID]:
    """Return the files that a conversation names, each once."""
    named = (part.file_id for _, _, part in placed(messages) if isinstance(part, ImagePart | FilePart))
    return list(dict.fromkeys(file_id for file_id in named if file_id is not None))


def check(messages: Sequence[Message], files: Mapping[UUID, Attached]) -> None:
    """Raise for the first picture or file that cannot be read here, by its field's path."""
    total = 0
    for field, _, part in placed(messages):
        match part:
            case ImagePart(file_id=None):
                size_bytes = len(picture(part, field=field))
                _check_size(f"{field}.data", size_bytes, _IMAGE_BYTES)
            case ImagePart(file_id=UUID() as file_id):
                size_bytes = _check_file(f"{field}.file_id", files.get(file_id), PICTURES, _IMAGE_BYTES)
            case FilePart(file_id=file_id):
                size_bytes = _check_file(f"{field}.file_id", files.get(file_id), PAPERS, _FILE_BYTES)
            case _:
                continue
        total += size_bytes
        if total > _ALL_BYTES:
            raise AttachmentTooLarge(field="input.messages", size_bytes=total, limit_bytes=_ALL_BYTES)


def _check_file(field: str, file: Attached | None, allowed: Sequence[str], most_bytes: int) -> int:
    if file is None:
        raise AttachmentNotFound(field=field)
    if file.state != "ready":
        raise AttachmentNotReady(field=field, state=file.state)
    if file.media_type not in allowed:
        raise AttachmentType(field=field, media_type=file.media_type, allowed=", ".join(allowed))
    _check_size(field, file.size_bytes, most_bytes)
    return file.size_bytes


def _check_size(field: str, size_bytes: int, most_bytes: int) -> None:
    if size_bytes > most_bytes:
        raise AttachmentTooLarge(field=field, size_bytes=size_bytes, limit_bytes=most_bytes)


def picture(part: ImagePart, *, field: str) -> bytes:
    """Return the bytes of a picture that came in the request; raises `InvalidImage` where they are none."""
    media_type = part.media_type or ""
    try:
        data = base64.b64decode(part.data or "", validate=True)
    except (binascii.Error, ValueError):
        raise InvalidImage(field=f"{field}.data", media_type=media_type) from None
    if not data.startswith(_MARKS.get(media_type, ())):
        raise InvalidImage(field=f"{field}.data", media_type=media_type)
    return data
