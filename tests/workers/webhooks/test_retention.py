"""What is kept of webhooks, and for how long."""

from datetime import UTC, datetime, timedelta
from uuid import UUID

import msgspec
import pytest
from sqlalchemy import func, select

from infra import ids
from infra.ground import Ground
from infra.models import Account, WebhookDelivery, WebhookMessage, WebhookSecret
from tests.support.hooks import do, hook
from workers.webhooks import retention

pytestmark = pytest.mark.reused


def made(days_ago: float) -> UUID:
    """Return an id as it was made then."""
    at_ms = int((datetime.now(UTC) - timedelta(days=days_ago)).timestamp() * 1000)
    return UUID(int=at_ms << 80 | ids.new().int & (1 << 80) - 1)


async def test_what_is_older_than_the_setting_goes_and_what_is_still_to_be_delivered_stays(
    ground: Ground, account: Account
) -> None:
    settings = msgspec.structs.replace(ground.settings, webhook_keep_days=3)
    ground = msgspec.structs.replace(ground, settings=settings)
    kept = await hook(ground, account.id, "https://hooks.example.com/")
    await do(ground, "UPDATE webhook_secrets SET expires_at = now() - interval '4 days'")
    old, waiting, young = made(3.1), made(3.2), made(2.9)
    async with ground.database.begin() as session:
        session.add_all(
            WebhookMessage(id=each, account_id=account.id, type="file.ready", data={}) for each in (old, young)
        )
        for each in (old, waiting, young):
            over = None if each == waiting else datetime.now(UTC)
            session.add(
                WebhookDelivery(
                    id=each,
                    message_id=each,
                    account_id=account.id,
                    endpoint_id=kept.id,
                    type="file.ready",
                    url="",
                    body="",
                    state="delivered" if over else "pending",
                    next_at=datetime.now(UTC),
                    finished_at=over,
                )
            )
    assert await retention.forget(ground) == 3
    async with ground.database.begin() as session:
        assert list(await session.scalars(select(WebhookMessage.id))) == [young]
        assert set(await session.scalars(select(WebhookDelivery.id))) == {waiting, young}
        assert await session.scalar(select(func.count()).select_from(WebhookSecret)) == 0
    assert await retention.forget(ground) == 0
