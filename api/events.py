"""`/v1/jobs/{id}/events` and `/v1/events`: what a job says, and what concerns an account of all of its jobs.

Both are sent as Server-Sent Events or as NDJSON, whichever `Accept` wants, and can be resumed after any id.
"""

from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractAsyncContextManager
from functools import partial
from typing import Annotated, Any
from uuid import UUID

from litestar import Request, Response, Router, get
from litestar.di import NamedDependency
from litestar.params import FromPath, Parameter, QueryParameter

from api import paging
from api.given import key_of
from api.handover import Opened, Streaming
from api.paths import job_id
from api.viewers import Hold, Viewer
from infra import frames
from infra import streams as speech
from infra.decoding import UnknownKind
from infra.errors import PulseError
from infra.frames import Form
from infra.ground import Ground
from infra.hub import Hub
from infra.models import Account
from infra.streams import START, Event, EventId, InvalidEventId, Subject
from quotas.limits import OpenStreams
from workers import kinds
from workers.jobs import Owners

# At once, so that the client knows that it is connected, and (of SSE) how soon to come back when it is not.
_FIRST: dict[Form, bytes] = {"sse": b"retry: 1000\n\n", "ndjson": b"\n"}
_CONTENT_TYPES: dict[Form, bytes] = {"sse": b"text/event-stream; charset=utf-8", "ndjson": b"application/x-ndjson"}
_HEADERS = [
    (b"cache-control", b"no-store"),
    # nginx and its kin would gather the events otherwise.
    (b"x-accel-buffering", b"no"),
]
_MOST_ATTEMPTS = 1_000_000
_FORMS: tuple[Form, ...] = ("sse", "ndjson")


class NotAcceptable(PulseError):
    """This address answers with text/event-stream or application/x-ndjson."""

    ar = "يردّ هذا العنوان بصيغة text/event-stream أو application/x-ndjson فقط."
    status = 406


def _ranges(request: Request[Any, Any, Any]) -> dict[str, float]:
    """Return how much each media range of `Accept` is wanted (RFC 9110, 12.5.1)."""
    wanted: dict[str, float] = {}
    for choice in ",".join(request.headers.getall("accept", [])).split(","):
        name, *parameters = (part.strip().lower() for part in choice.split(";"))
        weights = [each.removeprefix("q=") for each in parameters if each.startswith("q=")]
        try:
            wanted[name] = float(weights[0]) if weights else 1.0
        except ValueError:
            continue
    wanted.pop("", None)
    return wanted


def form_of(request: Request[Any, Any, Any]) -> Form | None:
    """Return the form of a stream that `Accept` names, the one it wants more.

    None where it names neither, or wants a plain answer more.
    """
    wanted = _ranges(request)
    weights = {form: wanted.get(frames.MEDIA_TYPES[form], 0.0) for form in _FORMS}
    best = max(_FORMS, key=lambda form: weights[form])
    return best if weights[best] > 0 and weights[best] >= wanted.get("application/json", 0.0) else None


def _form(request: Request[Any, Any, Any]) -> Form:
    """Return in which form to answer where only a stream can; raises `NotAcceptable`."""
    wanted = _ranges(request)
    if not wanted:
        return "sse"

    def weight(form: Form) -> float:
        name = frames.MEDIA_TYPES[form]
        return next((wanted[each] for each in (name, f"{name.partition('/')[0]}/*", "*/*") if each in wanted), 0.0)

    best = max(_FORMS, key=weight)
    if weight(best) <= 0:
        raise NotAcceptable
    return best


def hold_of(request: Request[Any, Any, Any]) -> Hold:
    """Return how a stream hears that the key it was asked for with is not valid any more."""
    return partial(request.app.state.credentials.hold, key_of(request))


def stream(
    hub: Hub,
    hold: Hold,
    opening: AbstractAsyncContextManager[Any],
    job_id: UUID,
    start: EventId,
    form: Form,
    *,
    first: bytes = b"",
    status: int = 200,
    headers: Mapping[str, str] | None = None,
) -> Streaming:
    """Return the answer that sends what a job says after `start`; a route returns it as it is.

    `first` is sent before the first event. `hold` is given what ends the stream when its credentials do, `opening`
    counts the stream for its account.
    """
    more = [(name.lower().encode(), value.encode()) for name, value in (headers or {}).items()]
    viewer = Viewer(hub, start, form)
    return _answer(viewer, speech.job(job_id), form, hold, opening, first=first, status=status, headers=more)


def _answer(
    viewer: Viewer,
    subject: Subject,
    form: Form,
    hold: Hold,
    opening: AbstractAsyncContextManager[Any],
    *,
    first: bytes = b"",
    status: int = 200,
    headers: Iterable[tuple[bytes, bytes]] = (),
) -> Streaming:
    return Streaming(
        Opened(
            viewer,
            subject,
            hold,
            opening,
            first=first if first and form == "ndjson" else _FIRST[form] + first,
            status=status,
            headers=[(b"content-type", _CONTENT_TYPES[form]), *_HEADERS, *headers],
        )
    )


def _asked(request: Request[Any, Any, Any], after: str | None) -> tuple[EventId, str] | None:
    """Return after which event to begin and which field says so, where one does; raises `InvalidEventId`."""
    last_seen = request.headers.get("last-event-id")
    text, field = (last_seen, "Last-Event-ID") if last_seen else (after, "after")
    return (EventId.parse(text, field=field), field) if text else None


@get("/jobs/{id:str}/events", rate="stream", media_type="text/event-stream", summary="Follow a job")
async def follow_job(
    request: Request[Any, Any, Any],
    id: FromPath[str],  # noqa: A002 (the name in the path)
    account: NamedDependency[Account],
    hub: NamedDependency[Hub],
    owners: NamedDependency[Owners],
    streams: NamedDependency[OpenStreams],
    after: Annotated[
        str | None, Parameter(description="Only what was said after this event id; `Last-Event-ID` wins.")
    ] = None,
) -> Response[bytes]:
    """Send what the job said and says, each event once and in order, until it is over.

    Leaving is not cancelling: the job goes on, and its events can be had again from any id. With
    `Accept: application/x-ndjson` each event is a line of JSON, its id added.
    """
    form, (start, field) = _form(request), _asked(request, after) or (START, "")
    if start.attempt > _MOST_ATTEMPTS:  # an account's: its events have times in their ids
        raise InvalidEventId(field=field)
    wanted = job_id(id)
    await owners.check(account.id, wanted)
    return stream(hub, hold_of(request), streams.open(account.id), wanted, start, form)


@get("/events", rate="stream", media_type="text/event-stream", summary="Follow the account")
async def follow_account(
    request: Request[Any, Any, Any],
    account: NamedDependency[Account],
    ground: NamedDependency[Ground],
    hub: NamedDependency[Hub],
    streams: NamedDependency[OpenStreams],
    after: Annotated[
        str | None,
        Parameter(
            description="Only what was said after this event id, `0` for all that is kept; `Last-Event-ID` wins."
        ),
    ] = None,
    kind: Annotated[
        list[str] | None, Parameter(description="Only jobs of this kind; several repeat it, or stand apart by commas.")
    ] = None,
    in_batch: Annotated[str | None, QueryParameter(name="batch", description="Only jobs of this batch.")] = None,
) -> Response[bytes]:
    """Send how all jobs of the account fare: their states, progress, artifacts and warnings, but no text.

    It never ends by itself. Without an id it begins with what comes from now on, and tells at once after which id that
    is. Where events are not kept any more, `missed` stands in their place: list the jobs, and go on from there.
    """
    form, wants = _form(request), _wants(kind, in_batch)
    named = (START, "") if after == "0" and not request.headers.get("last-event-id") else _asked(request, after)
    asked = named[0] if named else None
    subject, first, start = speech.account(account.id), b"", asked
    if asked != START:
        newest = await ground.streams.newest(subject)
        if asked is None or asked > newest:  # ahead: Redis has lost its events, or its clock was another
            first = (frames.MISSED[form] if asked else b"") + frames.passed(form, newest)
            start = newest
    viewer, opening = Viewer(hub, start or START, form, wants), streams.open(account.id)
    return _answer(viewer, subject, form, hold_of(request), opening, first=first)


def _wants(kind: list[str] | None, batch: str | None) -> Callable[[Event], bool] | None:
    """Return what chooses among an account's events; None takes all. Raises `UnknownKind` or `InvalidBatchId`."""
    known = sorted(kinds.SPECS | kinds.OWN)
    wanted = {name.strip() for each in kind or () for name in each.split(",") if name.strip()}
    for name in sorted(wanted):
        if name not in known:
            raise UnknownKind(field="kind", value=name, known=", ".join(known))
    if (asked := paging.batch_of(batch)) is None and not wanted:
        return None
    of = None if asked is None else str(asked)
    # What is nobody's is about the stream itself.
    return lambda event: not event.whose or ((not wanted or event.kind in wanted) and (of is None or event.batch == of))


def router() -> Router:
    """Return the routes."""
    return Router("/v1", route_handlers=[follow_job, follow_account], tags=["jobs"], security=[{"apiKey": []}])
