"""Reads a multipart/form-data body as it comes: the small fields, then the file, which is never gathered in memory.

    posted = await multipart.read(request)
    await storage.receive(key, posted.file, most_bytes=...)

The file is the part named `file`, and the last one. The app's limit of a request body is not asked here: what stands
around the file has one of its own, and the file that of whoever reads it. A route that takes forms answers errors by
`exception_handlers={PulseError: multipart.refuse}`.
"""

import asyncio
import re
from collections.abc import AsyncGenerator, Iterator, Mapping
from typing import Any

from litestar import Request, Response
from litestar.background_tasks import BackgroundTask
from litestar.types import Receive
from msgspec import Struct
from multipart import MultipartError, MultipartSegment, ParserLimitReached, PushMultipartParser

from api import idempotency, problems
from infra.decoding import InvalidText, MissingField, TooLong
from infra.errors import PulseError
from workers.idempotency import RequestInFlight

_FILE = "file"
_MOST_FIELDS = 32
_MOST_NAME_CHARACTERS = 100
_MOST_FIELD_BYTES = 16_384
_MOST_HEADER_BYTES = 4_096
_MOST_HEADERS = 8
# All that is not the file: fields, headers, boundaries, and what stands before the first and after the last of them.
_MOST_AROUND_BYTES = 131_072
# RFC 2046, 5.1.1.
_BOUNDARY = re.compile(r"[0-9A-Za-z'()+_,\-./:=? ]{0,69}[0-9A-Za-z'()+_,\-./:=?]")
_SILENCE_S = 60.0
_DRAINED_BYTES = 16 * 1024 * 1024
_DRAINED_S = 10.0


class FormRequired(PulseError):
    """The body must be a form, with Content-Type: multipart/form-data."""

    ar = "يجب أن يكون الطلب نموذجًا مع الترويسة Content-Type: multipart/form-data."
    status = 415


class BoundaryMissing(PulseError):
    """Content-Type: multipart/form-data needs a valid boundary."""

    ar = "تحتاج الترويسة Content-Type: multipart/form-data إلى فاصل boundary صالح."
    status = 400


class BoundaryNotFound(PulseError):
    """The form does not begin with the boundary that its Content-Type names."""

    ar = "لا يبدأ النموذج بالفاصل boundary المذكور في Content-Type."
    status = 400


class BrokenPart(PulseError):
    """Part {part} of the form has a broken header or boundary; each needs a Content-Disposition with its name."""

    ar = "في الجزء {part} من النموذج ترويسة أو فاصل غير صالح، ويحتاج كل جزء إلى Content-Disposition فيها اسمه."
    status = 400


class PartHeaderTooLarge(PulseError):
    """The header of part {part} of the form is too large: {limit_bytes} bytes a line and {limit_lines} lines fit."""

    ar = "ترويسة الجزء {part} من النموذج كبيرة جدًا: الحد الأقصى {limit_bytes} بايت للسطر و{limit_lines} أسطر."
    status = 400


class TruncatedForm(PulseError):
    """The form broke off before its end."""

    ar = "انقطع النموذج قبل نهايته."
    status = 400


class RepeatedField(PulseError):
    """{field} is in the form more than once."""

    ar = "الحقل {field} مكرر في النموذج."
    status = 400


class TooManyFields(PulseError):
    """The form may have {limit} fields before the file at most."""

    ar = "الحد الأقصى لعدد الحقول قبل الملف هو {limit}."
    status = 400


class PartAfterFile(PulseError):
    """The file must be the last part of the form."""

    ar = "يجب أن يكون الملف آخر جزء في النموذج."
    status = 400


class FormTooLarge(PulseError):
    """All that is not the file may have {limit_bytes} bytes in the form at most."""

    ar = "الحد الأقصى لما ليس ملفًا في النموذج هو {limit_bytes} بايت."
    status = 413


class UploadStalled(PulseError):
    """Nothing came for {seconds:g} seconds."""

    ar = "لم يصل شيء خلال {seconds:g} ثانية."
    status = 408


class Posted(Struct, frozen=True, kw_only=True):
    """A form whose file is about to come: it can be read once, and only then is it known that the form is whole."""

    fields: Mapping[str, str]
    filename: str | None
    media_type: str | None
    file: AsyncGenerator[bytes]


async def read(request: Request[Any, Any, Any]) -> Posted:
    """Return a form as soon as its file begins. Reading the file, too, raises what is wrong with the form."""
    media_type, options = request.content_type
    if media_type != "multipart/form-data":
        raise FormRequired
    if not _BOUNDARY.fullmatch(boundary := options.get("boundary", "")):
        raise BoundaryMissing
    return await _Parts(request.receive, boundary).posted()


def refuse(request: Request[Any, Any, Any], error: PulseError) -> Response[bytes]:
    """Answer an error at once, then take a little more of what is being sent.

    Most clients look for an answer when they have sent all, and one whose connection is closed before may never see it.
    """
    response = problems.respond(request, error)
    response.background = BackgroundTask(_drain, request.receive)
    return response


def _refuse_in_flight(request: Request[Any, Any, Any], error: PulseError) -> Response[bytes]:
    return idempotency.come_back(refuse(request, error))


#: How a route that takes forms under an Idempotency-Key answers errors.
REFUSALS: dict[int | type[Exception], Any] = {RequestInFlight: _refuse_in_flight, PulseError: refuse}


async def _drain(receive: Receive) -> None:
    left = _DRAINED_BYTES
    try:
        async with asyncio.timeout(_DRAINED_S):
            while left > 0:
                message: Any = await receive()
                left -= len(message.get("body", b""))
                if not message.get("more_body", False):
                    return
    except TimeoutError:
        return


class _Parts:
    """What the parser makes of a body: a segment where a part begins, bytes, and None where it ends."""

    def __init__(self, receive: Receive, boundary: str) -> None:
        self._receive = receive
        self._first = b"--" + boundary.encode()
        self._parser = PushMultipartParser(boundary, max_header_size=_MOST_HEADER_BYTES, max_header_count=_MOST_HEADERS)
        self._events: Iterator[MultipartSegment | bytes | None] = iter(())
        self._parts = 0
        self._received = 0
        self._of_the_file = 0
        self._is_over = False

    async def posted(self) -> Posted:
        """Read the fields, up to where the file begins."""
        fields = dict[str, str]()
        await self._begin()
        while (segment := await self._segment()) is not None:
            name = segment.name or ""
            if name == _FILE:
                return Posted(
                    fields=fields, filename=segment.filename, media_type=segment.content_type, file=self._file()
                )
            if not name:
                raise BrokenPart(part=self._parts)
            if len(name) > _MOST_NAME_CHARACTERS:
                raise TooLong(field=name[:_MOST_NAME_CHARACTERS], limit=_MOST_NAME_CHARACTERS, unit="characters")
            if name in fields:
                raise RepeatedField(field=name)
            if len(fields) == _MOST_FIELDS:
                raise TooManyFields(limit=_MOST_FIELDS)
            fields[name] = await self._text(name)
        raise MissingField(field=_FILE)

    async def _file(self) -> AsyncGenerator[bytes]:
        while (data := await self._data()) is not None:
            self._of_the_file += len(data)
            yield data
        if await self._segment() is not None:
            raise PartAfterFile

    async def _text(self, name: str) -> str:
        value = bytearray()
        while (data := await self._data()) is not None:
            value += data
            if len(value) > _MOST_FIELD_BYTES:
                raise TooLong(field=name, limit=_MOST_FIELD_BYTES, unit="bytes")
        try:
            text = value.decode()
        except UnicodeDecodeError:
            raise InvalidText(field=name) from None
        if "\0" in text:
            raise InvalidText(field=name)
        return text

    async def _segment(self) -> MultipartSegment | None:
        """Return the beginning of the next part; None where the form is over and so is the body."""
        event = await self._next()
        assert event is None or isinstance(event, MultipartSegment)
        return event

    async def _data(self) -> bytes | None:
        """Return the next bytes of a part; None where it is over."""
        event = await self._next()
        assert not isinstance(event, MultipartSegment)
        return event

    async def _next(self) -> MultipartSegment | bytes | None:
        while True:
            try:
                for event in self._events:
                    self._parts += isinstance(event, MultipartSegment)
                    return event
            except MultipartError as error:
                raise self._fact(error) from error
            if self._is_over:
                self._end()
                return None
            self._parse(await self._chunk())

    async def _begin(self) -> None:
        """Read until it is seen whether this is the form that it was said to be: what else comes is not walked."""
        head = b""
        while len(head) < len(self._first) and not self._is_over:
            head += await self._chunk()
        if not head.startswith(self._first):
            raise BoundaryNotFound
        self._parse(head)

    def _parse(self, chunk: bytes) -> None:
        if chunk:  # for the parser an empty one is the end
            self._events = iter(self._parser.parse(chunk))

    def _end(self) -> None:
        try:
            self._parser.close()
        except MultipartError:
            raise TruncatedForm from None

    def _fact(self, error: MultipartError) -> PulseError:
        part = self._parts + 1
        if isinstance(error, ParserLimitReached):
            return PartHeaderTooLarge(part=part, limit_bytes=_MOST_HEADER_BYTES, limit_lines=_MOST_HEADERS)
        return BrokenPart(part=part)

    async def _chunk(self) -> bytes:
        """Return what came next; it can be nothing, and is when the body is over."""
        if self._received - self._of_the_file > _MOST_AROUND_BYTES:
            raise FormTooLarge(limit_bytes=_MOST_AROUND_BYTES)
        try:
            async with asyncio.timeout(_SILENCE_S):
                message: Any = await self._receive()
        except TimeoutError:
            raise UploadStalled(seconds=_SILENCE_S) from None
        if message["type"] != "http.request":
            raise TruncatedForm
        self._is_over = not message.get("more_body", False)
        self._received += len(message["body"])
        return message["body"]
