"""Endpoints as their account keeps them: made with a secret of their own, changed, switched off and on, and deleted."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Annotated, Literal
from uuid import UUID

from msgspec import UNSET, Meta, Struct, UnsetType
from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from infra import fetch, ids
from infra.errors import PulseError
from infra.ground import Ground
from infra.models import WebhookEndpoint
from infra.seal import Seal
from infra.settings import Settings
from workers import idempotency, lifecycle
from workers.idempotency import Call
from workers.request import FragmentNotAllowed
from workers.webhooks import secrets, selection, waiting
from workers.webhooks.secrets import Shown

_ROUTE = "POST /v1/webhooks"

_Url = Annotated[str, Meta(max_length=2048, description="An address of yours, beginning https://")]
_Event = Annotated[str, Meta(max_length=64)]
_Events = Annotated[
    tuple[_Event, ...],
    Meta(min_length=1, max_length=64, description="Types of events, groups of them (`job.*`), or `*`."),
]
_Description = Annotated[str, Meta(max_length=200, description="For yourself.")]


# 409 and no 429: waiting does not help, and a client that tries again by itself should not.
class TooManyWebhooks(PulseError):
    """You keep {limit} webhook endpoints, which is the most. Delete some of them first."""

    ar = "لديك {limit} من عناوين الخطافات (webhooks) وهو الحد الأقصى. احذف بعضها أولًا."
    status = 409


class WebhookNotFound(PulseError):
    """There is no such webhook endpoint."""

    ar = "لا يوجد عنوان خطاف (webhook) بهذا المعرّف."
    status = 404


class WebhookDisabled(PulseError):
    """This webhook endpoint is disabled ({reason}). Enable it first."""

    ar = "عنوان الخطاف (webhook) هذا معطّل ({reason}). فعّله أولًا."
    status = 409


class NewEndpoint(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An address that is to be told of events."""

    url: _Url
    events: _Events = (selection.ALL,)
    description: _Description = ""
    signature: Annotated[
        Literal["hmac", "ed25519"], Meta(description="How what it gets is signed, as Standard Webhooks has it.")
    ] = "hmac"


class EndpointChange(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is to change of an endpoint."""

    url: _Url | UnsetType = UNSET
    events: _Events | UnsetType = UNSET
    description: _Description | UnsetType = UNSET
    enabled: (
        Annotated[bool, Meta(description="Off: what waits for it is canceled. On: it is told again, as if new.")]
        | UnsetType
    ) = UNSET


class Made(Struct, frozen=True, kw_only=True):
    """An endpoint and what signs for it; `replayed`: it was made before, under the same Idempotency-Key."""

    endpoint: WebhookEndpoint
    secret: Shown
    replayed: bool = False


async def create(ground: Ground, account_id: UUID, asked: NewEndpoint, *, key: str | None = None) -> Made:
    """Make an endpoint with a secret of its own, once under a caller's Idempotency-Key.

    Raises `UnknownEvent`, what is wrong with the address, `TooManyWebhooks` or `IdempotencyKeyReused`.
    """
    settings, seal = ground.settings, Seal(ground.settings.secret)
    events = selection.checked(asked.events, field="events")
    _check_url(settings, asked.url)
    call = Call.of(account_id, key, lifecycle.fingerprint(_ROUTE, asked))
    async with ground.database.begin() as session:
        if call is not None and (kept := await idempotency.find(session, call)) is not None:
            kept.check(call)
            endpoint = await get(session, account_id, kept.subject_id)
            shown = await secrets.shown(session, seal, account_id, endpoint.id)
            return Made(endpoint=endpoint, secret=shown[0], replayed=True)
        await _check_room(session, settings, account_id)
        endpoint = WebhookEndpoint(
            id=ids.new(),
            account_id=account_id,
            url=asked.url,
            description=asked.description,
            events=events,
            signature=asked.signature,
        )
        session.add(endpoint)
        await session.flush()
        secret = await secrets.make(session, seal, account_id, endpoint.id, endpoint.signature)
        if call is not None:
            await idempotency.keep(session, call, endpoint.id)
    return Made(endpoint=endpoint, secret=secret)


def _check_url(settings: Settings, url: str) -> None:
    if "#" in url:
        raise FragmentNotAllowed(field="url")
    fetch.check(url, fetch.webhooks(settings), field="url")


async def _check_room(session: AsyncSession, settings: Settings, account_id: UUID) -> None:
    """Raise `TooManyWebhooks` where another one is too many; nobody else adds one before this transaction ends."""
    await secrets.lock(session, account_id)
    count = select(func.count()).select_from(WebhookEndpoint).where(WebhookEndpoint.account_id == account_id)
    if (await session.scalar(count) or 0) >= settings.account_webhooks:
        raise TooManyWebhooks(limit=settings.account_webhooks)


async def get(session: AsyncSession, account_id: UUID, endpoint_id: UUID, *, lock: bool = False) -> WebhookEndpoint:
    """Return the account's endpoint. Raises `WebhookNotFound`, also for somebody else's."""
    query = select(WebhookEndpoint).where(WebhookEndpoint.id == endpoint_id, WebhookEndpoint.account_id == account_id)
    endpoint = await session.scalar(query.with_for_update(key_share=True) if lock else query)
    if endpoint is None:
        raise WebhookNotFound
    return endpoint


async def get_enabled(session: AsyncSession, account_id: UUID, endpoint_id: UUID) -> WebhookEndpoint:
    """Return the account's endpoint, locked, when it is told of anything; raises `WebhookDisabled` where it is not."""
    endpoint = await get(session, account_id, endpoint_id, lock=True)
    if endpoint.disabled_at is not None:
        raise WebhookDisabled(reason=endpoint.disabled_reason)
    return endpoint


async def page(
    session: AsyncSession, account_id: UUID, *, before: UUID | None, limit: int
) -> Sequence[WebhookEndpoint]:
    """Return at most `limit` of the account's endpoints, newest first, older than `before`."""
    query = select(WebhookEndpoint).where(WebhookEndpoint.account_id == account_id)
    if before is not None:
        query = query.where(WebhookEndpoint.id < before)
    return (await session.scalars(query.order_by(WebhookEndpoint.id.desc()).limit(limit))).all()


async def change(ground: Ground, account_id: UUID, endpoint_id: UUID, asked: EndpointChange) -> WebhookEndpoint:
    """Change an endpoint. What waits for it goes to its new address, or nowhere where it is switched off.

    Raises `WebhookNotFound`, `UnknownEvent` and what is wrong with the address.
    """
    events = None if asked.events is UNSET else selection.checked(asked.events, field="events")
    if asked.url is not UNSET:
        _check_url(ground.settings, asked.url)
    async with ground.database.begin() as session:
        endpoint = await get(session, account_id, endpoint_id, lock=True)
        if events is not None:
            endpoint.events = events
        if asked.description is not UNSET:
            endpoint.description = asked.description
        if asked.url is not UNSET and asked.url != endpoint.url:
            endpoint.url = asked.url
            _begin_anew(endpoint)
            await waiting.move(session, endpoint_id, asked.url)
        if asked.enabled is True:
            endpoint.disabled_at = endpoint.disabled_reason = None
            _begin_anew(endpoint)
        if asked.enabled is False and endpoint.disabled_at is None:
            endpoint.disabled_at, endpoint.disabled_reason = datetime.now(UTC), "account"
            await waiting.cancel(session, [endpoint_id])
    return endpoint


def _begin_anew(endpoint: WebhookEndpoint) -> None:
    """Hold nothing against an endpoint of what it answered until now, or another server at its address of before."""
    endpoint.failing_since = endpoint.paused_until = None
    endpoint.pauses = 0


async def delete(ground: Ground, account_id: UUID, endpoint_id: UUID) -> None:
    """Delete an endpoint and its secrets. What waits for it is canceled; the log of its deliveries stays."""
    async with ground.database.begin() as session:
        endpoint = await get(session, account_id, endpoint_id, lock=True)
        await waiting.cancel(session, [endpoint_id])
        await session.delete(endpoint)
