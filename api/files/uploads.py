"""A file that comes: announced (JSON), or whole in one request (a form)."""

from typing import Any

from litestar import Request, post
from litestar.di import NamedDependency
from litestar.openapi import ResponseSpec
from litestar.types import ASGIApp

from api import answers, body, idempotency, multipart
from api.files.answers import AnnouncedAnswer, announced
from api.multipart import Posted
from infra import decoding
from infra.errors import PulseError
from infra.ground import Ground
from infra.models import Account
from workers import files, intake
from workers.desk import Desk
from workers.files import NOT_KNOWN_YET, Announcement, media_type_of

_ANNOUNCED = ResponseSpec(AnnouncedAnswer, generate_examples=False, description="The file is awaited, or came.")


class LengthRequired(PulseError):
    """Send the header Content-Length: room is held before the file is read."""

    ar = "أرسل الترويسة Content-Length: تُحجز المساحة قبل قراءة الملف."
    status = 411


class DirectUploadTooLarge(PulseError):
    """A file in one request may have {limit_bytes} bytes at most. Announce it first, with JSON, and then upload it."""

    ar = "الحد الأقصى لملف يُرسل في طلب واحد {limit_bytes} بايت. أعلن عنه أولًا بصيغة JSON ثم ارفعه."
    status = 413


@post(
    "/",
    status_code=201,
    request_max_body_size=None,
    rate="submit",
    exception_handlers=multipart.REFUSALS,
    responses={201: _ANNOUNCED},
    summary="Announce or upload a file",
)
async def create(
    request: Request[Any, Any, Any],
    account: NamedDependency[Account],
    ground: NamedDependency[Ground],
    desk: NamedDependency[Desk],
) -> ASGIApp:
    """Hold room for a file and sign the form by which it is uploaded (JSON), or take a small one whole (a form).

    The form is multipart/form-data: `purpose`, and `folder`, `name` and `media_type` where wanted, before the part
    `file`. `Idempotency-Key` makes it safe to ask again.
    """
    key = idempotency.key_of(request)
    if request.content_type[0] != "multipart/form-data":
        asked = await body.read_as(request, Announcement, most_bytes=ground.settings.body_limit_bytes)
        told = await files.announce(ground, account, asked, key=key)
        return _tell(told, announced(request, told, told.file, told.form))
    bound = _length(request, ground.settings.direct_upload_bytes)
    posted = await multipart.read(request)
    told = await files.receive(ground, account, _posted(posted, bound), posted.file, key=key)
    file = told.file
    if file.state == "scanning" and file.job_id is None:
        file = await intake.scan(ground, desk, account, file)
    return _tell(told, announced(request, told, file, None))


def _tell(told: files.Announced, answer: AnnouncedAnswer) -> ASGIApp:
    headers = {"Location": answer.file.urls.self} | (idempotency.REPLAYED if told.replayed else {})
    return answers.send(answer, status_code=201, headers=headers)


def _posted(posted: Posted, bound: int) -> Announcement:
    """Return what a form says of its file, whose size is at most `bound`."""
    fields = dict(posted.fields)
    name = fields.pop("name", "") or posted.filename or ""
    purpose = fields.pop("purpose", "")
    folder, media_type = fields.pop("folder", ""), fields.pop("media_type", "")
    if unknown := next(iter(fields), None):
        raise decoding.UnknownField(field=unknown)
    for field, value in (("purpose", purpose), ("name", name)):
        if not value:
            raise decoding.MissingField(field=field)
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
