"""What a line of a batch asks for: decoded from any of three shapes, checked, resolved and costed, or refused.

own        {"custom_id", "kind", "input", "metadata"?, "timeout"?}
openai     {"custom_id", "method": "POST", "url": "/v1/chat/completions", "body": {...}}, or "/v1/jobs" and an own body
anthropic  {"custom_id", "params": {...}}
"""

import json
import re
from collections.abc import Callable, Mapping
from typing import Any, Final, Literal, cast
from uuid import UUID

import msgspec
from msgspec import Raw, Struct

from infra.decoding import (
    InvalidText,
    InvalidValue,
    Kinds,
    MalformedJson,
    MissingField,
    TooLong,
    TooShort,
    WrongType,
    decode,
)
from infra.errors import PulseError
from infra.models import Document
from workers import lifecycle
from workers.batches.refusals import (
    ControlCharacters,
    FieldOfBatch,
    LineCutShort,
    LineHasNul,
    LineNotAnObject,
    LineNotUtf8,
    LineTooLong,
)
from workers.chat import anthropic, openai
from workers.chat.spec import Chat
from workers.request import Asking, Attached, Request

type Form = Literal["own", "openai", "anthropic"]

LONGEST_CUSTOM_ID: Final = 256
_CONTROLS: Final = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_UNFIT: Final = re.compile(r"[\x00\ud800-\udfff]")
_CHAT_URL: Final = "/v1/chat/completions"
_JOBS_URL: Final = "/v1/jobs"
_COMMON: Final = frozenset(Request.__struct_fields__)
_NOT_THERE: Final = Raw(b"")


class Line(Struct, frozen=True, kw_only=True):
    """A line that can become a job: its number, what is kept of it (`spec` and `labels` are JSON), units per meter.

    `model` is the one whose vendor's own batches it may go to.
    """

    line: int
    custom_id: str
    form: Form
    kind: str
    spec: bytes
    labels: bytes | None
    timeout_s: int | None
    units: dict[str, int]
    model: str | None = None


class Refusal(Struct, frozen=True, kw_only=True):
    """A line that is no request, and why (`{code, en, ar}`); `custom_id` and `form` as far as they could be read.

    `is_kept` says that its request was right, and is kept: it did not fit the quota.
    """

    line: int
    error: Document
    custom_id: str | None = None
    form: str = "own"
    is_kept: bool = False


class Waiting(Struct, frozen=True, kw_only=True):
    """A line that was decoded and names files, which are to be looked up before it is resolved.

    What is wrong with it is named from the line's own top: what stands in a member of it by that `place`; what a
    vendor's shape has at its top stands in `ours` after it was read.
    """

    line: int
    custom_id: str
    form: Form
    request: Request
    place: str = ""
    ours: str = ""


class _Outline(Struct):
    """The members by which shapes are told apart, and those that no line may have."""

    custom_id: Raw = _NOT_THERE
    kind: Raw = _NOT_THERE
    method: Raw = _NOT_THERE
    url: Raw = _NOT_THERE
    body: Raw = _NOT_THERE
    params: Raw = _NOT_THERE
    priority: Raw = _NOT_THERE
    run_at: Raw = _NOT_THERE
    start_deadline: Raw = _NOT_THERE
    unique_key: Raw = _NOT_THERE
    webhook: Raw = _NOT_THERE

    @property
    def form(self) -> Form:
        if len(self.kind):
            return "own"
        if len(self.body) or len(self.method) or len(self.url):
            return "openai"
        return "anthropic" if len(self.params) else "own"

    def check_own(self) -> None:
        for field in ("priority", "run_at", "start_deadline", "unique_key", "webhook"):
            if len(getattr(self, field)):
                raise FieldOfBatch(field=field)


class _OpenAi(Struct, forbid_unknown_fields=True):
    custom_id: Raw
    method: Literal["POST"]
    url: str
    body: Raw


class _Anthropic(Struct, forbid_unknown_fields=True):
    custom_id: Raw
    params: Raw


_outline: Final = msgspec.json.Decoder(_Outline).decode
_openai: Final = msgspec.json.Decoder(_OpenAi).decode
_anthropic: Final = msgspec.json.Decoder(_Anthropic).decode
_string: Final = msgspec.json.Decoder(str).decode


class Reader:
    """Reads lines as requests of the kinds in `specs`, resolved and costed for who asks."""

    def __init__(self, specs: Mapping[str, type[Request]], asking: Asking, *, economy: bool = False) -> None:
        """Prepare to read any number of lines; `economy` lets them go to vendors' own batches."""
        self._asking = asking
        self._economy = economy
        self._most_bytes = asking.settings.body_limit_bytes
        self._requests = Kinds(specs)
        self._lines = Kinds({kind: _with_custom_id(kind, spec) for kind, spec in specs.items()})

    def too_long(self, number: int) -> Refusal:
        """Return what is told of a line that is longer than any request may be."""
        return Refusal(line=number, error=lifecycle.failure(LineTooLong(limit_bytes=self._most_bytes)))

    def read(self, number: int, raw: bytes, *, is_open: bool = False) -> Line | Refusal | Waiting:
        """Return what a line asks for, or the one fact for which it is refused; what names files waits for `finish`.

        `is_open` says that the input ended before the line did: one that breaks off was cut short.
        """
        if len(raw) > self._most_bytes:
            return self.too_long(number)
        outline, custom_id, form = None, None, "own"
        try:
            _check_text(raw, is_open=is_open)
            outline = _outlined(raw, is_open=is_open)
            form = outline.form
            custom_id = _custom_id(outline)
            found = self._decoded(number, custom_id, raw, outline, form)
        except PulseError as error:
            if custom_id is None:
                custom_id = _unfit(raw, error) if outline is None else _readable(outline.custom_id)
            return Refusal(line=number, custom_id=custom_id, form=form, error=lifecycle.failure(error))
        return found if found.request.file_ids() else self.finish(found, {})

    def finish(self, waiting: Waiting, files: Mapping[UUID, Attached]) -> Line | Refusal:
        """Return what a decoded line asks for, now that its files are known, or the one fact that refuses it."""
        asking = msgspec.structs.replace(self._asking, files=files) if files else self._asking
        request = waiting.request

        def resolve() -> Line:
            request.check(asking.settings)
            return self._line(waiting, request.resolved(asking), asking)

        try:
            return _inside(waiting.place, resolve, ours=waiting.ours, asked=request) if waiting.place else resolve()
        except PulseError as error:
            told = lifecycle.failure(error)
            return Refusal(line=waiting.line, custom_id=waiting.custom_id, form=waiting.form, error=told)

    def _decoded(self, number: int, custom_id: str, raw: bytes, outline: _Outline, form: Form) -> Waiting:
        if form == "own":
            outline.check_own()
            return Waiting(line=number, custom_id=custom_id, form=form, request=self._lines.decode(raw))
        if form == "anthropic":
            place, ours, body = "params", "input.", bytes(decode(raw, _anthropic).params)
            request = _inside(place, lambda: anthropic.request(body), ours=ours)
        else:
            asked = decode(raw, _openai)
            if asked.url not in {_CHAT_URL, _JOBS_URL}:
                raise InvalidValue(field="url", value=asked.url)
            place, ours, body = "body", "input." if asked.url == _CHAT_URL else "", bytes(asked.body)
            request = _inside(place, lambda: self._of_url(asked.url, body), ours=ours)
        return Waiting(line=number, custom_id=custom_id, form=form, request=request, place=place, ours=ours)

    def _of_url(self, url: str, body: bytes) -> Request:
        if url == _CHAT_URL:
            return openai.request(body)
        decode(body, _outline).check_own()
        return self._requests.decode(body)

    def _line(self, read: Waiting, request: Request, asking: Asking) -> Line:
        units = {meter: amount for meter, amount in request.most(asking).items() if amount > 0}
        return Line(
            line=read.line,
            custom_id=read.custom_id,
            form=read.form,
            kind=request.kind,
            spec=_spec(request),
            labels=msgspec.json.encode(request.metadata) if request.metadata else None,
            timeout_s=request.timeout,
            units=units,
            model=request.apart(self._asking) if self._economy else None,
        )


def _inside[T](place: str, read: Callable[[], T], *, ours: str = "", asked: Request | None = None) -> T:
    """Return what `read` does, and name the fields of what is wrong from the line's own top.

    What a vendor's shape has at its top stands in `ours` after it was read as what was `asked`.
    """
    try:
        return read()
    except PulseError as error:
        if "field" not in error.facts:
            raise
        field = str(error.facts["field"])
        if place == "params" and isinstance(asked, Chat):
            field = anthropic.theirs(field, asked)
        field = field.removeprefix(ours)
        raise type(error)(**error.facts | {"field": place if field == "body" else f"{place}.{field}"}) from None


def _with_custom_id(kind: str, spec: type[Request]) -> type[Request]:
    """Return the shape of a kind's request that has a `custom_id` beside all else."""
    config: Any = {"bases": (spec,), "tag_field": "kind", "tag": kind, "kw_only": True, "forbid_unknown_fields": True}
    return cast("type[Request]", msgspec.defstruct(spec.__name__, [("custom_id", str)], **config))


def _spec(request: Request) -> bytes:
    """Return what a job's row keeps of a request, as `lifecycle.prepare` makes it: what all kinds take stands apart."""
    own = {name: getattr(request, name) for name in request.__struct_fields__ if name not in _COMMON}
    own.pop("custom_id", None)
    return msgspec.json.encode({"kind": request.kind} | own)


def _check_text(raw: bytes, *, is_open: bool) -> None:
    try:
        raw.decode()
    except UnicodeDecodeError as error:
        if is_open and error.reason == "unexpected end of data":
            raise LineCutShort from None
        raise LineNotUtf8(position=error.start) from None
    if (nul := raw.find(0)) >= 0:
        raise LineHasNul(position=nul)


def _outlined(raw: bytes, *, is_open: bool) -> _Outline:
    try:
        return _outline(raw)  # what in it is no text is named where all of it is read
    except (msgspec.DecodeError, RecursionError):
        pass
    try:
        return decode(raw, _outline)
    except WrongType:
        raise LineNotAnObject from None
    except MalformedJson:
        if is_open and _breaks_off(raw):
            raise LineCutShort from None
        raise


def _breaks_off(raw: bytes) -> bool:
    """Whether only its end is missing from this JSON."""
    try:
        msgspec.json.decode(raw)
    except msgspec.DecodeError as error:
        return "truncated" in str(error)
    except RecursionError:
        return False
    return False


def _custom_id(outline: _Outline) -> str:
    if not len(outline.custom_id):
        raise MissingField(field="custom_id")
    try:
        custom_id = _string(outline.custom_id)
    except msgspec.ValidationError:
        raise WrongType(field="custom_id", expected="str") from None
    if not custom_id:
        raise TooShort(field="custom_id", limit=1, unit="characters")
    if len(custom_id) > LONGEST_CUSTOM_ID:
        raise TooLong(field="custom_id", limit=LONGEST_CUSTOM_ID, unit="characters")
    if _CONTROLS.search(custom_id):
        raise ControlCharacters(field="custom_id")
    return custom_id


def _unfit(raw: bytes, error: PulseError) -> str | None:
    """Return the custom_id of a line that has half of a surrogate pair somewhere: the standard library reads it."""
    if not isinstance(error, InvalidText):
        return None
    line: Any = json.loads(raw)
    custom_id: Any = cast("dict[str, Any]", line).get("custom_id") if isinstance(line, dict) else None
    is_text = isinstance(custom_id, str) and not _UNFIT.search(custom_id)
    return custom_id[:LONGEST_CUSTOM_ID] if is_text else None


def _readable(raw: Raw) -> str | None:
    """Return a custom_id that is refused for itself, as far as it can be told: no database keeps a NUL."""
    try:
        custom_id = _string(raw)
    except msgspec.DecodeError:
        return None
    return None if "\0" in custom_id else custom_id[:LONGEST_CUSTOM_ID]
