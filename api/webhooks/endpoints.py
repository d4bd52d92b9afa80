"""`/v1/webhooks`: make, look, list, change, delete, and what there is to be told of."""

from typing import Annotated, Any

from litestar import Request, delete, get, patch, post
from litestar.di import NamedDependency
from litestar.openapi import ResponseSpec
from litestar.params import FromPath, Parameter
from litestar.types import ASGIApp

from api import answers, body, idempotency, paging, problems
from api.paths import webhook_id
from api.webhooks import words
from api.webhooks.answers import (
    SECRET,
    EndpointAnswer,
    EndpointsAnswer,
    Event,
    EventsAnswer,
    MadeAnswer,
    endpoint,
    made,
)
from infra.ground import Ground
from infra.models import Account
from workers.webhooks import endpoints, selection
from workers.webhooks.endpoints import EndpointChange, NewEndpoint

_MADE = ResponseSpec(MadeAnswer, generate_examples=False, description="The endpoint, and what verifies its messages.")
_ENDPOINT = ResponseSpec(EndpointAnswer, generate_examples=False, description="The endpoint.")
_ENDPOINTS = ResponseSpec(EndpointsAnswer, generate_examples=False, description="A page of endpoints.")
_EVENTS = ResponseSpec(EventsAnswer, generate_examples=False, description="The types of events.")


@post("/", status_code=201, rate="submit", responses={201: _MADE}, summary="Add a webhook endpoint")
async def create(
    request: Request[Any, Any, Any], account: NamedDependency[Account], ground: NamedDependency[Ground]
) -> ASGIApp:
    """Have an address told of events. The answer has what verifies the signatures; it can be asked for again.

    `Idempotency-Key` makes it safe to ask again.
    """
    key = idempotency.key_of(request)
    asked = await body.read_as(request, NewEndpoint, most_bytes=ground.settings.body_limit_bytes)
    new = await endpoints.create(ground, account.id, asked, key=key)
    told = made(request, new.endpoint, new.secret)
    headers = {"Location": told.urls.self, **SECRET} | (idempotency.REPLAYED if new.replayed else {})
    return answers.send(told, status_code=201, headers=headers)


@get("/{id:str}", responses={200: _ENDPOINT, 304: answers.KNOWN}, summary="Get a webhook endpoint")
async def show(
    request: Request[Any, Any, Any],
    id: FromPath[str],  # noqa: A002 (the name in the path)
    account: NamedDependency[Account],
    ground: NamedDependency[Ground],
) -> ASGIApp:
    """Return the endpoint, and where it is told of nothing, why."""
    async with ground.database.begin() as session:
        kept = await endpoints.get(session, account.id, webhook_id(id))
    return answers.send_new(request, answers.encode(endpoint(request, kept)))


@get("/", responses={200: _ENDPOINTS, 304: answers.KNOWN}, summary="List webhook endpoints")
async def page(
    request: Request[Any, Any, Any],
    account: NamedDependency[Account],
    ground: NamedDependency[Ground],
    cursor: Annotated[str | None, Parameter(description="`next_cursor` of the page before.")] = None,
    limit: Annotated[str, Parameter(description="Endpoints a page, 1 to 100.")] = "20",
) -> ASGIApp:
    """Return the account's endpoints, newest first."""
    most = paging.limit_of(limit)
    async with ground.database.begin() as session:
        found = await endpoints.page(session, account.id, before=paging.before(cursor), limit=most + 1)
    shown, next_cursor = paging.cut(found, most)
    told = EndpointsAnswer(webhooks=[endpoint(request, each) for each in shown], next_cursor=next_cursor)
    return answers.send_new(request, answers.encode(told))


@patch("/{id:str}", responses={200: _ENDPOINT}, summary="Change a webhook endpoint")
async def change(
    request: Request[Any, Any, Any],
    id: FromPath[str],  # noqa: A002 (the name in the path)
    account: NamedDependency[Account],
    ground: NamedDependency[Ground],
) -> ASGIApp:
    """Give an endpoint another address, other events, another description; switch it off, or on again.

    Switched off, what waits for it is canceled; `recover` sends that again.
    """
    asked = await body.read_as(request, EndpointChange, most_bytes=ground.settings.body_limit_bytes)
    kept = await endpoints.change(ground, account.id, webhook_id(id), asked)
    return answers.send(endpoint(request, kept), headers={})


@delete("/{id:str}", summary="Delete a webhook endpoint")
async def remove(
    id: FromPath[str],  # noqa: A002 (the name in the path)
    account: NamedDependency[Account],
    ground: NamedDependency[Ground],
) -> None:
    """Delete an endpoint and its secrets. What waits for it is canceled; the log of its deliveries stays."""
    await endpoints.delete(ground, account.id, webhook_id(id))


@get("/events", responses={200: _EVENTS, 304: answers.KNOWN}, summary="List the types of events")
async def events(request: Request[Any, Any, Any], account: NamedDependency[Account]) -> ASGIApp:  # noqa: ARG001 (a key)
    """Return every type of event, with what it means in the language of the request."""
    language = problems.language(request)
    told = [Event(type=each, description=words.text(words.EVENTS, each, language)) for each in words.EVENTS]
    return answers.send_new(request, answers.encode(EventsAnswer(events=told, groups=list(selection.GROUPS))))
