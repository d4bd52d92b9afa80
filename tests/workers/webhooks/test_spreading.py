"""Who is told of what: every message is handed over once, to those who want it, and never to anybody else."""

import asyncio
import json
from collections import Counter

import pytest
from sqlalchemy import select
from sqlalchemy.exc import IntegrityError

from infra import ids
from infra.ground import Ground
from infra.models import Account, WebhookDelivery, WebhookMessage
from quotas import accounts
from tests.support.hooks import deliveries, do, hook, spread_all, tell
from workers.webhooks import spreading

pytestmark = pytest.mark.reused

HOOK = "https://hooks.example.com/"


@pytest.mark.parametrize(
    ("events", "wanted"),
    [
        (["*"], {"job.failed", "file.ready", "batch.completed"}),
        (["job.*"], {"job.failed"}),
        (["file.ready", "batch.*"], {"file.ready", "batch.completed"}),
        (["job.succeeded", "file.rejected"], set[str]()),
        ([], set[str]()),
        (["job", "file.*.*", "ready", "*.ready"], set[str]()),
    ],
)
def test_events_are_named_whole_or_by_their_group_or_all(events: list[str], wanted: set[str]) -> None:
    assert {each for each in ("job.failed", "file.ready", "batch.completed") if spreading.wants(events, each)} == wanted


async def test_a_message_goes_to_each_endpoint_that_wants_it_and_to_its_own_address(
    ground: Ground, account: Account
) -> None:
    async with ground.database.begin() as session:
        other = await accounts.create(session, "omar@example.com")
    for name, events in (("all", ["*"]), ("files", ["file.*"]), ("jobs", ["job.*"])):
        await hook(ground, account.id, HOOK + name, events=events)
    off = await hook(ground, account.id, HOOK + "off")
    await do(
        ground, "UPDATE webhook_endpoints SET disabled_at = now(), disabled_reason = 'account' WHERE id = :i", i=off.id
    )
    await hook(ground, other.id, HOOK + "other")
    await tell(ground, account.id, url=HOOK + "own")
    await tell(ground, other.id)
    await spread_all(ground)
    *told, others = await deliveries(ground)
    assert (others.account_id, others.url) == (other.id, HOOK + "other")
    assert sorted(each.url.removeprefix(HOOK) for each in told) == ["all", "files", "own"]
    assert [each.endpoint_id is None for each in told] == [each.url == HOOK + "own" for each in told]
    assert len({(each.message_id, each.body) for each in told}) == 1
    assert {each.account_id for each in told} == {account.id}
    async with ground.database.begin() as session:
        (message,) = await session.scalars(select(WebhookMessage).where(WebhookMessage.account_id == account.id))
    assert message.spread_at is not None
    assert told[0].message_id == message.id


async def test_a_message_for_one_endpoint_goes_to_it_alone_whatever_it_wants(ground: Ground, account: Account) -> None:
    one = await hook(ground, account.id, HOOK + "one", events=["job.*"])
    await hook(ground, account.id, HOOK + "other")
    async with ground.database.begin() as session:
        session.add(
            WebhookMessage(
                id=ids.new(), account_id=account.id, type="webhook.test", data={"id": "x"}, endpoint_id=one.id
            )
        )
    await spread_all(ground)
    (told,) = await deliveries(ground)
    assert (told.endpoint_id, json.loads(told.body)["type"]) == (one.id, "webhook.test")


async def test_what_would_say_nothing_is_no_message(ground: Ground, account: Account) -> None:
    for type_, subject in (("file.ready", "uuidv7()"), ("job.failed", "NULL")):
        with pytest.raises(IntegrityError):
            await do(
                ground,
                "INSERT INTO webhook_messages (id, account_id, type, subject_id)"
                f" VALUES (uuidv7(), :account, '{type_}', {subject})",
                account=account.id,
            )


async def test_where_nobody_listens_nothing_is_written(ground: Ground, account: Account) -> None:
    await tell(ground, account.id)
    async with ground.database.begin() as session:
        assert (await session.scalars(select(WebhookMessage))).all() == []


async def test_many_processes_at_once_hand_each_message_over_once(ground: Ground, account: Account) -> None:
    await hook(ground, account.id, HOOK)
    await tell(ground, account.id, times=3 * spreading.MOST_AT_ONCE)
    await asyncio.gather(*(spread_all(ground) for _ in range(6)))
    told = Counter(each.message_id for each in await deliveries(ground))
    assert len(told) == 3 * spreading.MOST_AT_ONCE
    assert set(told.values()) == {1}


async def test_who_has_a_great_many_keeps_nobody_waiting(ground: Ground, account: Account) -> None:
    async with ground.database.begin() as session:
        other = await accounts.create(session, "omar@example.com")
    for each in (account, other):
        await hook(ground, each.id, HOOK)
    await tell(ground, account.id, times=2 * spreading.MOST_AT_ONCE)
    await tell(ground, other.id)
    assert await spreading.spread(ground) == spreading.MOST_AT_ONCE
    async with ground.database.begin() as session:
        query = select(WebhookDelivery).where(WebhookDelivery.account_id == other.id)
        assert len((await session.scalars(query)).all()) == 1
