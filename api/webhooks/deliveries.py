"""`/v1/webhooks/.../deliveries`: what was sent and how it fared; tests, replays, and all that failed once more."""

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

from litestar import Request, get, post
from litestar.di import NamedDependency
from litestar.openapi import ResponseSpec
from litestar.params import FromPath, Parameter, QueryParameter
from litestar.types import ASGIApp
from msgspec import Meta, Struct

from api import answers, body, idempotency, paging
from api.paths import delivery_id, webhook_id
from api.webhooks.answers import (
    DeliveriesAnswer,
    DeliveryAnswer,
    LoggedAnswer,
    RecoveredAnswer,
    TestAnswer,
    delivery,
    logged,
)
from infra.errors import PulseError
from infra.ground import Ground
from infra.models import DELIVERY_STATES, Account, WebhookDelivery
from workers.webhooks import deliveries, endpoints, selection, signing
from workers.webhooks.deliveries import Wanted


class InvalidEndpointId(PulseError):
    """{field}: this is not the id of a webhook endpoint."""

    ar = "{field}: هذا ليس معرّف عنوان خطاف (webhook)."
    status = 400


class InvalidMessageId(PulseError):
    """{field}: this is not the id of a message, such as msg_01a2075b24bc7086a60afa7cb0b60f29."""

    ar = "{field}: هذا ليس معرّف رسالة، مثل ‎msg_01a2075b24bc7086a60afa7cb0b60f29."
    status = 400


class Recovery(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """From when on what was not delivered is sent again."""

    since: Annotated[
        datetime, Meta(tz=True, description="When the first of them was made, such as 2026-12-01T06:00:00Z.")
    ]


_DELIVERIES = ResponseSpec(DeliveriesAnswer, generate_examples=False, description="A page of deliveries.")
_LOGGED = ResponseSpec(LoggedAnswer, generate_examples=False, description="The delivery and its tries.")
_DELIVERY = ResponseSpec(DeliveryAnswer, generate_examples=False, description="The new delivery.")
_TEST = ResponseSpec(TestAnswer, generate_examples=False, description="The message is on its way.")
_RECOVERED = ResponseSpec(RecoveredAnswer, generate_examples=False, description="They are on their way.")

_Cursor = Annotated[str | None, Parameter(description="`next_cursor` of the page before.")]
_Limit = Annotated[str, Parameter(description="Deliveries a page, 1 to 100.")]
_State = Annotated[str | None, QueryParameter(name="state", description="Only deliveries in this state.")]
_Type = Annotated[
    str | None, QueryParameter(name="type", description="Only of events of this type or group (`job.*`).")
]
_Message = Annotated[str | None, Parameter(description="Only those of the message with this `webhook-id`.")]


@get("/deliveries", responses={200: _DELIVERIES, 304: answers.KNOWN}, summary="List all deliveries")
async def page(
    request: Request[Any, Any, Any],
    account: NamedDependency[Account],
    ground: NamedDependency[Ground],
    endpoint: Annotated[
        str | None, Parameter(description="Only those to the endpoint with this id, which may be deleted by now.")
    ] = None,
    cursor: _Cursor = None,
    limit: _Limit = "20",
    only_state: _State = None,
    only_type: _Type = None,
    message: _Message = None,
) -> ASGIApp:
    """Return the account's deliveries to all of its addresses, newest first."""
    most, before = paging.limit_of(limit), paging.before(cursor)
    wanted = _wanted(_endpoint_of(endpoint), only_state, only_type, message)
    async with ground.database.begin() as session:
        found = await deliveries.page(session, account.id, wanted, before=before, limit=most + 1)
    return _page(request, found, most)


@get("/{id:str}/deliveries", responses={200: _DELIVERIES, 304: answers.KNOWN}, summary="List an endpoint's deliveries")
async def log(
    request: Request[Any, Any, Any],
    id: FromPath[str],  # noqa: A002 (the name in the path)
    account: NamedDependency[Account],
    ground: NamedDependency[Ground],
    cursor: _Cursor = None,
    limit: _Limit = "20",
    only_state: _State = None,
    only_type: _Type = None,
    message: _Message = None,
) -> ASGIApp:
    """Return the deliveries to an endpoint, newest first."""
    most, before, asked = paging.limit_of(limit), paging.before(cursor), webhook_id(id)
    wanted = _wanted(asked, only_state, only_type, message)
    async with ground.database.begin() as session:
        await endpoints.get(session, account.id, asked)
        found = await deliveries.page(session, account.id, wanted, before=before, limit=most + 1)
    return _page(request, found, most)


def _page(request: Request[Any, Any, Any], found: Sequence[WebhookDelivery], most: int) -> ASGIApp:
    shown, next_cursor = paging.cut(found, most)
    told = DeliveriesAnswer(deliveries=[delivery(each) for each in shown], next_cursor=next_cursor)
    return answers.send_new(request, answers.encode(told))


def _wanted(endpoint: UUID | None, state: str | None, event: str | None, message: str | None) -> Wanted:
    return Wanted(
        endpoint_id=endpoint,
        state=paging.state_of(state, DELIVERY_STATES),
        type=selection.check(event, field="type") if event is not None else None,
        message_id=_message_of(message),
    )


def _endpoint_of(text: str | None) -> UUID | None:
    try:
        return UUID(text) if text is not None else None
    except ValueError:
        raise InvalidEndpointId(field="endpoint") from None


def _message_of(text: str | None) -> UUID | None:
    try:
        return signing.message_of(text) if text is not None else None
    except ValueError:
        raise InvalidMessageId(field="message") from None


@get("/deliveries/{id:str}", responses={200: _LOGGED, 304: answers.KNOWN}, summary="Get a delivery")
async def show_delivery(
    request: Request[Any, Any, Any],
    id: FromPath[str],  # noqa: A002 (the name in the path)
    account: NamedDependency[Account],
    ground: NamedDependency[Ground],
) -> ASGIApp:
    """Return the delivery with what is sent, and a log of its tries."""
    async with ground.database.begin() as session:
        kept = await deliveries.get(session, account.id, delivery_id(id))
    return answers.send_new(request, answers.encode(logged(kept)))


@post(
    "/deliveries/{id:str}/replay",
    status_code=202,
    rate="webhook",
    responses={202: _DELIVERY},
    summary="Send a delivery again",
)
async def replay(
    request: Request[Any, Any, Any],
    id: FromPath[str],  # noqa: A002 (the name in the path)
    account: NamedDependency[Account],
    ground: NamedDependency[Ground],
) -> ASGIApp:
    """Send the same message to the same address again, at once, as a new delivery. `Idempotency-Key` is taken.

    One that still waits for its next try is canceled in favour of the new one.
    """
    key = idempotency.key_of(request)
    new = await deliveries.replay(ground, account.id, delivery_id(id), key=key)
    told = delivery(new.delivery)
    headers = {"Location": told.urls.self} | (idempotency.REPLAYED if new.replayed else {})
    return answers.send(told, status_code=202, headers=headers)


@post(
    "/{id:str}/recover", status_code=202, rate="webhook", responses={202: _RECOVERED}, summary="Send what failed again"
)
async def recover(
    request: Request[Any, Any, Any],
    id: FromPath[str],  # noqa: A002 (the name in the path)
    account: NamedDependency[Account],
    ground: NamedDependency[Ground],
) -> ASGIApp:
    """Send again, at once, what was to be delivered to an endpoint since then and was not; 1,000 messages at most.

    What was canceled because the endpoint was switched off is among it. Asking again sends nothing twice.
    """
    asked = await body.read_as(request, Recovery, most_bytes=ground.settings.body_limit_bytes)
    done = await deliveries.recover(ground, account.id, webhook_id(id), asked.since)
    told = RecoveredAnswer(recovered=done.recovered, more=done.more)
    return answers.send(told, status_code=202, headers={})


@post("/{id:str}/test", status_code=202, rate="webhook", responses={202: _TEST}, summary="Try an endpoint out")
async def try_out(
    request: Request[Any, Any, Any],
    id: FromPath[str],  # noqa: A002 (the name in the path)
    account: NamedDependency[Account],
    ground: NamedDependency[Ground],
) -> ASGIApp:
    """Send a `webhook.test` to an endpoint alone, whatever events it asks for. `Idempotency-Key` is taken."""
    key, asked = idempotency.key_of(request), webhook_id(id)
    sent = await deliveries.try_out(ground, account.id, asked, key=key)
    name = signing.name_of(sent.message_id)
    told = TestAnswer(message=name, type=deliveries.TEST, deliveries=f"/v1/webhooks/{asked}/deliveries?message={name}")
    headers = {"Location": told.deliveries} | (idempotency.REPLAYED if sent.replayed else {})
    return answers.send(told, status_code=202, headers=headers)
