"""What becomes of a delivery and of its endpoint: tried again, given up, given rest, switched off."""

import asyncio
from datetime import UTC, datetime

import pytest

from infra import ids
from infra.ground import Ground
from infra.models import Account
from infra.seal import Seal
from tests.support.hooks import (
    deliveries,
    delivering,
    do,
    endpoint,
    hook,
    hurry,
    loopback,
    next_in_s,
    spread_all,
    tell,
    until_over,
    until_tried,
)
from tests.support.receivers import FINE, Receiver, slowly
from tests.support.strangers import answer
from workers.webhooks import claiming, outcomes, schedule, sending

pytestmark = pytest.mark.reused

GONE = answer(b"gone", status="410 Gone")


async def test_an_endpoint_that_is_gone_is_disabled_and_what_waits_for_it_is_canceled(
    hooked: Ground, account: Account
) -> None:
    async with Receiver.serving(answer(status="500 Oops"), GONE) as receiver, delivering(hooked):
        kept = await hook(hooked, account.id, receiver.url)
        await tell(hooked, account.id)
        await until_tried(hooked, 1)
        await do(hooked, "UPDATE webhook_deliveries SET next_at = now() + interval '1 day'")
        await tell(hooked, account.id)
        waiting, gone = await until_over(hooked, 2)
        await tell(hooked, account.id)
        await spread_all(hooked)
        assert len(await deliveries(hooked)) == 2, "nobody is told any more"
    assert (waiting.state, gone.state, gone.status) == ("canceled", "failed", 410)
    row = await endpoint(hooked, kept)
    assert row.disabled_reason == "gone"
    assert row.disabled_at is not None


async def test_an_address_of_a_job_that_is_gone_ends_its_delivery_alone(hooked: Ground, account: Account) -> None:
    async with Receiver.serving(GONE, FINE) as receiver, delivering(hooked):
        await tell(hooked, account.id, url=receiver.url)
        await until_over(hooked, 1)
        await tell(hooked, account.id, url=receiver.url)
        first, second = await until_over(hooked, 2)
    assert (first.state, second.state) == ("failed", "delivered")


@pytest.mark.parametrize(
    ("status", "code", "throttled"),
    [
        *((each, None, 1) for each in (429, 502, 503, 504)),
        *((each, None, 0) for each in (200, 404, 500)),
        (None, "fetch_timed_out", 1),
        (None, "fetch_unreachable", 0),
    ],
)
def test_what_says_that_a_receiver_cannot_keep_up(status: int | None, code: str | None, throttled: int) -> None:
    delivery = claiming.Claimed(
        id=ids.new(), message_id=ids.new(), account_id=ids.new(), endpoint_id=None, url="", body="", tries=1, failures=0
    )
    tried = sending.Tried(delivery=delivery, at=datetime.now(UTC), took_ms=1, status=status, code=code)
    assert tried.throttled == bool(throttled)


async def test_an_endpoint_that_asks_for_less_is_left_alone_for_so_long(hooked: Ground, account: Account) -> None:
    busy = answer(b"busy", "Retry-After: 3600", status="429 Busy")
    async with Receiver.serving(busy, FINE) as receiver, delivering(hooked):
        kept = await hook(hooked, account.id, receiver.url)
        await tell(hooked, account.id)
        await until_tried(hooked, 1)
        assert 3590 <= await next_in_s(hooked) <= 3600
        await tell(hooked, account.id, times=5)
        await spread_all(hooked)
        await asyncio.sleep(0.3)  # some rounds
        waiting = await deliveries(hooked)
        assert [each.tries for each in waiting] == [1, 0, 0, 0, 0, 0], "waiting counts no try"
        row = await endpoint(hooked, kept)
        assert row.pauses == 1
        assert row.paused_until is not None
        await do(hooked, "UPDATE webhook_endpoints SET paused_until = now()")
        await until_over(hooked, 5)
        row = await endpoint(hooked, kept)
        assert (row.pauses, row.paused_until, row.failing_since) == (0, None, None), "the first success makes all good"


async def test_several_that_time_out_together_are_one_pause_and_then_one_is_tried_at_a_time(
    hooked: Ground, account: Account
) -> None:
    hooked = loopback(hooked, webhook_timeout_s=0.3)
    async with Receiver.serving(slowly()) as receiver, delivering(hooked):
        kept = await hook(hooked, account.id, receiver.url)
        await tell(hooked, account.id, times=20)
        await until_tried(hooked, claiming.MOST_OF_ONE)
        row = await endpoint(hooked, kept)
        assert (row.pauses, receiver.most_at_once) == (1, claiming.MOST_OF_ONE)
        await do(hooked, "UPDATE webhook_endpoints SET paused_until = now()")
        await until_tried(hooked, claiming.MOST_OF_ONE + 1)
        assert len(receiver.received) == claiming.MOST_OF_ONE + 1
        assert (await endpoint(hooked, kept)).pauses == 2


async def test_a_retry_after_is_a_day_at_most(hooked: Ground, account: Account) -> None:
    busy = answer(b"", "Retry-After: 99999999", status="429 Busy")
    async with Receiver.serving(busy) as receiver, delivering(hooked):
        await hook(hooked, account.id, receiver.url)
        await tell(hooked, account.id)
        await until_tried(hooked, 1)
    assert 86_390 <= await next_in_s(hooked) <= 86_400


async def test_an_endpoint_that_has_taken_nothing_for_five_days_is_disabled(hooked: Ground, account: Account) -> None:
    async with Receiver.serving(answer(status="500 Oops")) as receiver, delivering(hooked):
        kept = await hook(hooked, account.id, receiver.url)
        await tell(hooked, account.id)
        for n in range(1, schedule.LEAST_FAILURES):
            await until_tried(hooked, n)
            row = await endpoint(hooked, kept)
            assert row.failing_since is not None
            assert row.disabled_at is None, "it may be the first after a long silence"
            await do(hooked, "UPDATE webhook_endpoints SET failing_since = now() - interval '5 days 1 minute'")
            await hurry(hooked)
        (delivery,) = await until_over(hooked, 1)
    assert delivery.state == "canceled"
    assert (await endpoint(hooked, kept)).disabled_reason == "failing"


async def test_of_a_great_many_that_wait_for_five_days_one_is_enough_to_disable_it(
    hooked: Ground, account: Account
) -> None:
    kept = await hook(hooked, account.id, "https://hooks.example.com/x")
    await tell(hooked, account.id, times=3)
    await spread_all(hooked)
    await do(hooked, "UPDATE webhook_endpoints SET failing_since = now() - interval '6 days', pauses = 60")
    for age, reason in (("1 hour", None), ("2 days", "failing")):
        await do(hooked, f"UPDATE webhook_deliveries SET created_at = now() - interval '{age}'")
        (delivery,) = (await claiming.claim(hooked, Seal(hooked.settings.secret), [], 30)).deliveries
        await outcomes.write(hooked, [sending.Tried(delivery=delivery, at=datetime.now(UTC), took_ms=1, status=503)])
        assert (await endpoint(hooked, kept)).disabled_reason == reason
        await do(hooked, "UPDATE webhook_endpoints SET paused_until = NULL")
    assert {each.state for each in await deliveries(hooked)} == {"canceled"}


async def test_a_success_in_between_and_it_goes_on(hooked: Ground, account: Account) -> None:
    oops = answer(status="500 Oops")
    async with Receiver.serving(oops, FINE, oops) as receiver, delivering(hooked):
        kept = await hook(hooked, account.id, receiver.url)
        await tell(hooked, account.id)
        await until_tried(hooked, 1)
        await do(hooked, "UPDATE webhook_endpoints SET failing_since = now() - interval '6 days'")
        await hurry(hooked)
        await until_over(hooked, 1)
        await tell(hooked, account.id)
        for n in range(1, schedule.LEAST_FAILURES + 1):
            await until_tried(hooked, n + 2)
            await hurry(hooked)
    assert (await endpoint(hooked, kept)).disabled_at is None


async def test_what_somebody_else_claimed_since_is_not_written(hooked: Ground, account: Account) -> None:
    await hook(hooked, account.id, "https://hooks.example.com/x")
    await tell(hooked, account.id)
    await spread_all(hooked)
    seal = Seal(hooked.settings.secret)
    (lost,) = (await claiming.claim(hooked, seal, [], 8)).deliveries
    assert (await claiming.claim(hooked, seal, [], 8)).deliveries == (), "it is under way"
    await hurry(hooked)
    (ours,) = (await claiming.claim(hooked, seal, [], 8)).deliveries
    assert (lost.tries, ours.tries, lost.id, lost.body) == (1, 2, ours.id, ours.body)
    bad, good = (
        sending.Tried(delivery=each, at=datetime.now(UTC), took_ms=1, status=status)
        for each, status in ((lost, 500), (ours, 200))
    )
    assert await outcomes.write(hooked, [bad]) == [False]
    assert await outcomes.write(hooked, [good]) == [True]
    assert await outcomes.write(hooked, [good]) == [False], "once is enough"
    (delivery,) = await deliveries(hooked)
    assert (delivery.state, len(delivery.log)) == ("delivered", 1)


async def test_what_was_under_way_when_one_asked_for_less_is_no_further_pause(hooked: Ground, account: Account) -> None:
    kept = await hook(hooked, account.id, "https://hooks.example.com/x")
    await tell(hooked, account.id, times=3)
    await spread_all(hooked)
    claims = await claiming.claim(hooked, Seal(hooked.settings.secret), [], 30)
    for each in claims.deliveries:
        await outcomes.write(
            hooked, [sending.Tried(delivery=each, at=datetime.now(UTC), took_ms=1, status=429, retry_after_s=9.0)]
        )
    row = await endpoint(hooked, kept)
    assert (len(claims.deliveries), row.pauses) == (3, 1)
