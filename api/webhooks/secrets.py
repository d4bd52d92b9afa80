"""`/v1/webhooks/{id}/secret` and `/v1/webhooks/secret`: what signs, shown and rotated."""

from datetime import timedelta
from typing import Annotated, Any
from uuid import UUID

from litestar import Request, get, post
from litestar.di import NamedDependency
from litestar.openapi import ResponseSpec
from litestar.params import FromPath
from litestar.types import ASGIApp
from msgspec import Meta, Struct

from api import answers, body, durations, idempotency
from api.paths import webhook_id
from api.webhooks.answers import SECRET, RotatedAnswer, SecretsAnswer
from api.webhooks.answers import secret as told
from infra.errors import PulseError
from infra.ground import Ground
from infra.models import Account
from workers.webhooks import rotation

_LONGEST_S = 7 * 86_400


class InvalidOverlap(PulseError):
    """{field} must be a length of time from 0 seconds to 7 days, such as 24h."""

    ar = "يجب أن تكون قيمة {field} مدة من 0 ثانية إلى 7 أيام، مثل 24h."
    status = 400


class Rotation(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How a secret gives way to a new one."""

    overlap: Annotated[
        str,
        Meta(max_length=64, description="For so long the old one signs as well: `90s`, `1h30m`, `7d` at most; `0`."),
    ] = "24h"


_SECRETS = ResponseSpec(SecretsAnswer, generate_examples=False, description="What signs.")
_ROTATED = ResponseSpec(RotatedAnswer, generate_examples=False, description="The new secret.")


@get("/{id:str}/secret", responses={200: _SECRETS}, summary="Get an endpoint's secrets")
async def secret(
    id: FromPath[str],  # noqa: A002 (the name in the path)
    account: NamedDependency[Account],
    ground: NamedDependency[Ground],
) -> ASGIApp:
    """Return all that sign for an endpoint now, newest first, and when they stop."""
    return await _show(ground, account.id, webhook_id(id))


@get("/secret", responses={200: _SECRETS}, summary="Get the account's own secrets")
async def own_secret(account: NamedDependency[Account], ground: NamedDependency[Ground]) -> ASGIApp:
    """Return all that sign for addresses given with jobs and batches. The first one is made when it is asked for."""
    return await _show(ground, account.id, None)


@post("/{id:str}/rotate", status_code=201, rate="submit", responses={201: _ROTATED}, summary="Rotate a secret")
async def rotate(
    request: Request[Any, Any, Any],
    id: FromPath[str],  # noqa: A002 (the name in the path)
    account: NamedDependency[Account],
    ground: NamedDependency[Ground],
) -> ASGIApp:
    """Make an endpoint's new secret. The old one signs as well for `overlap`, so that the receiver can change over."""
    return await _rotate(request, ground, account.id, webhook_id(id))


@post("/secret/rotate", status_code=201, rate="submit", responses={201: _ROTATED}, summary="Rotate the account's own")
async def rotate_own(
    request: Request[Any, Any, Any], account: NamedDependency[Account], ground: NamedDependency[Ground]
) -> ASGIApp:
    """Make the account's own new secret. The old one signs as well for `overlap`."""
    return await _rotate(request, ground, account.id, None)


async def _show(ground: Ground, account_id: UUID, endpoint_id: UUID | None) -> ASGIApp:
    shown = await rotation.show(ground, account_id, endpoint_id)
    return answers.send(SecretsAnswer(secrets=[told(each) for each in shown]), headers=SECRET)


async def _rotate(
    request: Request[Any, Any, Any], ground: Ground, account_id: UUID, endpoint_id: UUID | None
) -> ASGIApp:
    key = idempotency.key_of(request)
    asked = await body.read_if_any(request, Rotation, most_bytes=ground.settings.body_limit_bytes)
    rotated = await rotation.rotate(ground, account_id, endpoint_id, _overlap(asked.overlap), key=key)
    newest, *older = rotated.secrets
    until = max((each.expires_at for each in older if each.expires_at is not None), default=None)
    headers = SECRET | (idempotency.REPLAYED if rotated.replayed else {})
    return answers.send(RotatedAnswer(secret=told(newest), old_until=until), status_code=201, headers=headers)


def _overlap(text: str) -> timedelta:
    seconds = durations.seconds(text)
    if seconds is None or seconds > _LONGEST_S:
        raise InvalidOverlap(field="overlap")
    return timedelta(seconds=seconds)
