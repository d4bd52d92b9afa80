"""`/v1/jobs/{id}/events`: what a job says, as Server-Sent Events that can be resumed after any id."""

from collections.abc import AsyncIterator
from functools import partial
from typing import Annotated, Any

from litestar import Request, Router, get
from litestar.di import NamedDependency
from litestar.params import FromPath, Parameter
from litestar.response import Stream

from api.paths import job_id
from infra.ground import Ground
from infra.models import Account
from infra.streams import START, Event, EventId, Hub, follow
from workers import events, jobs

_HEARTBEAT = b": \n\n"
_HEADERS = {
    "Cache-Control": "no-store",
    # nginx and its kin would gather the events otherwise.
    "X-Accel-Buffering": "no",
}


def _frame(event: Event) -> bytes:
    return b"id: %s\nevent: %s\ndata: %s\n\n" % (
        str(event.id).encode(),
        events.type_of(event.data).encode(),
        event.data,
    )


def _is_last(event: Event) -> bool:
    return events.type_of(event.data) in events.TERMINAL


async def _frames(followed: AsyncIterator[Event | None]) -> AsyncIterator[bytes]:
    # At once, so that the client knows that it is connected, and how soon to come back when it is not.
    yield b"retry: 1000\n\n"
    async for event in followed:
        yield _HEARTBEAT if event is None else _frame(event)


@get("/{id:str}/events", rate="stream", media_type="text/event-stream", summary="Follow a job")
async def stream(
    request: Request[Any, Any, Any],
    id: FromPath[str],  # noqa: A002 (the name in the path)
    account: NamedDependency[Account],
    ground: NamedDependency[Ground],
    hub: NamedDependency[Hub],
    after: Annotated[
        str | None, Parameter(description="Only what was said after this event id; `Last-Event-ID` wins.")
    ] = None,
) -> Stream:
    """Send what the job said and says, each event once and in order, until it is over.

    Leaving is not cancelling: the job goes on, and its events can be had again from any id.
    """
    last_seen = request.headers.get("last-event-id")
    start = START
    if last_seen:
        start = EventId.parse(last_seen, field="Last-Event-ID")
    elif after:
        start = EventId.parse(after, field="after")
    async with ground.database.begin() as session:
        job = await jobs.get(session, account.id, job_id(id))
    followed = follow(
        ground.streams,
        hub,
        job.id,
        start,
        heartbeat_s=ground.settings.heartbeat_s,
        is_last=_is_last,
        rest=partial(jobs.rest, ground, job.id),
    )
    return Stream(_frames(followed), media_type="text/event-stream", headers=_HEADERS)


def router() -> Router:
    """Return the routes."""
    return Router("/v1/jobs", route_handlers=[stream], tags=["jobs"], security=[{"apiKey": []}])
