"""A job's events from the call that submits it."""

from collections.abc import AsyncIterator, Callable, Mapping
from functools import partial
from typing import Any, Literal
from uuid import UUID

from litestar import Request
from litestar.response import Stream
from litestar.types import ASGIApp

from infra.ground import Ground
from infra.streams import Event, EventId, Hub, follow
from workers import events, jobs

type Form = Literal["sse", "ndjson"]
_FORMS: dict[str, Form] = {"text/event-stream": "sse", "application/x-ndjson": "ndjson"}
_TYPES = {form: media_type for media_type, form in _FORMS.items()}


def form_of(request: Request[Any, Any, Any]) -> Form | None:
    """Return the form of stream that the caller accepts, if any."""
    for choice in request.headers.get("accept", "").split(","):
        if form := _FORMS.get(choice.partition(";")[0].strip().lower()):
            return form
    return None


def stream(
    ground: Ground,
    hub: Hub,
    _hold: Callable[[Callable[[], None]], Callable[[], None]],
    job_id: UUID,
    start: EventId,
    form: Form,
    *,
    first: bytes = b"",
    status: int = 200,
    headers: Mapping[str, str],
) -> ASGIApp:
    """Return an answer that begins with `first` and goes on with what a job says after `start`."""
    followed = follow(
        ground.streams,
        hub,
        job_id,
        start,
        heartbeat_s=ground.settings.heartbeat_s,
        is_last=lambda event: events.type_of(event.data) in events.TERMINAL,
        rest=partial(jobs.rest, ground, job_id),
    )
    answer = Stream(_frames(followed, form, first), status_code=status, media_type=_TYPES[form], headers=dict(headers))
    return answer.to_asgi_response(app=None, request=None)  # type: ignore[arg-type]


async def _frames(followed: AsyncIterator[Event | None], form: Form, first: bytes) -> AsyncIterator[bytes]:
    yield first
    async for event in followed:
        if form == "ndjson":
            yield b"\n" if event is None else event.data + b"\n"
        elif event is not None:
            kind = events.type_of(event.data).encode()
            yield b"id: %s\nevent: %s\ndata: %s\n\n" % (str(event.id).encode(), kind, event.data)
