"""What is told of webhooks: the shapes, and how they are made of what is kept."""

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import msgspec
from litestar import Request
from msgspec import Struct

from api import problems
from api.webhooks import words
from infra.models import WebhookDelivery, WebhookEndpoint
from workers.webhooks import signing
from workers.webhooks.secrets import Shown

#: Of what has a secret in it: nobody may keep it on the way.
SECRET = {"Cache-Control": "no-store"}


class EndpointUrls(Struct, frozen=True, kw_only=True):
    """Where to go on with an endpoint."""

    self: str
    secret: str
    rotate: str
    test: str
    deliveries: str
    recover: str


class Disabled(Struct, frozen=True, kw_only=True):
    """Since when an endpoint is told of nothing, and why: `account`, `gone` or `failing`."""

    at: datetime
    code: str
    detail: str


class EndpointAnswer(Struct, frozen=True, kw_only=True):
    """An endpoint. `failing_since`: no delivery was taken since; `paused_until`: it asked for nothing before then."""

    id: UUID
    url: str
    events: list[str]
    description: str
    signature: str
    enabled: bool
    disabled: Disabled | None
    failing_since: datetime | None
    paused_until: datetime | None
    created_at: datetime
    urls: EndpointUrls


class SecretAnswer(Struct, frozen=True, kw_only=True):
    """What signs. `hmac`: `secret` (`whsec_...`) is what you verify with; `ed25519`: `public_key` (`whpk_...`) is."""

    signature: str
    secret: str | None
    public_key: str | None
    created_at: datetime
    expires_at: datetime | None


class MadeAnswer(EndpointAnswer, frozen=True, kw_only=True):
    """A new endpoint, with what verifies the messages that it gets."""

    secret: str | None
    public_key: str | None


class SecretsAnswer(Struct, frozen=True, kw_only=True):
    """All that sign now, newest first. Every message has a signature of each."""

    secrets: list[SecretAnswer]


class RotatedAnswer(Struct, frozen=True, kw_only=True):
    """The new secret, and until when those before it sign as well; null where they have stopped."""

    secret: SecretAnswer
    old_until: datetime | None


class EndpointsAnswer(Struct, frozen=True, kw_only=True):
    """Endpoints, newest first; `next_cursor` asks for the ones after them, none when these were the last."""

    webhooks: list[EndpointAnswer]
    next_cursor: str | None


class Event(Struct, frozen=True, kw_only=True):
    """A type of events, and what it means."""

    type: str
    description: str


class EventsAnswer(Struct, frozen=True, kw_only=True):
    """What an endpoint can be told of: types, and the groups that stand for several."""

    events: list[Event]
    groups: list[str]


class TestAnswer(Struct, frozen=True, kw_only=True):
    """The message that is on its way, and where its delivery is found once it is."""

    message: str
    type: str
    deliveries: str


class DeliveryUrls(Struct, frozen=True, kw_only=True):
    """Where to go on with a delivery."""

    self: str
    replay: str


class DeliveryAnswer(Struct, frozen=True, kw_only=True):
    """A message to one address. `message` is its `webhook-id`; `status` is the HTTP status of the last answer.

    `endpoint_id` is its endpoint, null for an address that was given with a job or a batch; `next_at` is when it is
    tried next.
    """

    id: UUID
    message: str
    type: str
    endpoint_id: UUID | None
    url: str
    state: str
    tries: int
    status: int | None
    next_at: datetime | None
    replay_of: UUID | None
    created_at: datetime
    finished_at: datetime | None
    urls: DeliveryUrls


class Try(Struct, frozen=True, kw_only=True):
    """One try: the `status` that came, or the `code` of why none did; `answer` is the beginning of the answer."""

    at: datetime
    status: int | None = None
    took_ms: float | None = None
    code: str | None = None
    answer: str | None = None


class LoggedAnswer(DeliveryAnswer, frozen=True, kw_only=True):
    """A delivery with all its tries, oldest first. `body` is what is sent, to the byte: the signatures are of it."""

    body: str
    log: list[Try]


class DeliveriesAnswer(Struct, frozen=True, kw_only=True):
    """Deliveries, newest first; `next_cursor` asks for the ones after them, none when these were the last."""

    deliveries: list[DeliveryAnswer]
    next_cursor: str | None


class RecoveredAnswer(Struct, frozen=True, kw_only=True):
    """How many messages are sent again; where there are `more`, ask again."""

    recovered: int
    more: bool


def endpoint(request: Request[Any, Any, Any], kept: WebhookEndpoint) -> EndpointAnswer:
    """Return the endpoint as its account sees it."""
    path = f"/v1/webhooks/{kept.id}"
    return EndpointAnswer(
        id=kept.id,
        url=kept.url,
        events=kept.events,
        description=kept.description,
        signature=kept.signature,
        enabled=kept.disabled_at is None,
        disabled=_disabled(request, kept),
        failing_since=kept.failing_since,
        paused_until=kept.paused_until if kept.paused_until and kept.paused_until > datetime.now(UTC) else None,
        created_at=kept.created_at,
        urls=EndpointUrls(
            self=path,
            secret=f"{path}/secret",
            rotate=f"{path}/rotate",
            test=f"{path}/test",
            deliveries=f"{path}/deliveries",
            recover=f"{path}/recover",
        ),
    )


def _disabled(request: Request[Any, Any, Any], kept: WebhookEndpoint) -> Disabled | None:
    if kept.disabled_at is None or kept.disabled_reason is None:
        return None
    said = words.text(words.REASONS, kept.disabled_reason, problems.language(request))
    return Disabled(at=kept.disabled_at, code=kept.disabled_reason, detail=said)


def made(request: Request[Any, Any, Any], kept: WebhookEndpoint, shown: Shown) -> MadeAnswer:
    """Return a new endpoint as its account sees it."""
    told, key = endpoint(request, kept), secret(shown)
    return MadeAnswer(**msgspec.structs.asdict(told), secret=key.secret, public_key=key.public_key)


def secret(shown: Shown) -> SecretAnswer:
    """Return a secret as its account sees it: of a pair of keys, only the one that verifies."""
    return SecretAnswer(
        signature=shown.signature,
        secret=shown.secret if shown.public_key is None else None,
        public_key=shown.public_key,
        created_at=shown.created_at,
        expires_at=shown.expires_at,
    )


def delivery(kept: WebhookDelivery) -> DeliveryAnswer:
    """Return the delivery as its account sees it, without its body and log."""
    path = f"/v1/webhooks/deliveries/{kept.id}"
    return DeliveryAnswer(
        id=kept.id,
        message=signing.name_of(kept.message_id),
        type=kept.type,
        endpoint_id=kept.endpoint_id,
        url=kept.url,
        state=kept.state,
        tries=kept.tries,
        status=kept.status,
        next_at=kept.next_at if kept.state == "pending" else None,
        replay_of=kept.replay_of,
        created_at=kept.created_at,
        finished_at=kept.finished_at,
        urls=DeliveryUrls(self=path, replay=f"{path}/replay"),
    )


def logged(kept: WebhookDelivery) -> LoggedAnswer:
    """Return the delivery with everything that is kept of it."""
    log = msgspec.convert(kept.log, list[Try])
    return LoggedAnswer(**msgspec.structs.asdict(delivery(kept)), body=kept.body, log=log)
