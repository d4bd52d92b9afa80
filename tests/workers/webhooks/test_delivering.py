"""What receivers get, and what becomes of it by what they answer: real servers, real deliveries."""

import asyncio
import base64
import json
import time
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
from standardwebhooks.webhooks import Webhook, WebhookVerificationError
from structlog.testing import capture_logs

from infra import fetch, ids
from infra.fetch import Fetcher
from infra.ground import Ground
from infra.models import Account
from infra.seal import Seal
from quotas import accounts
from tests.support.hooks import (
    Hook,
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
    tries,
    until_over,
    until_tried,
)
from tests.support.receivers import FINE, Receiver, slowly
from tests.support.strangers import answer
from tests.workers.webhooks.test_signing import verify_ed25519
from workers.webhooks import claiming, outcomes, schedule, secrets, sending

pytestmark = pytest.mark.reused

BUSY = answer(b"busy", status="503 Service Unavailable")
GONE = answer(b"gone", status="410 Gone")


def verify(kept: Hook, received: Any) -> Any:
    """Return the payload, if the receivers' library takes it."""
    return Webhook(kept.secret.secret).verify(received.body, received.headers)


async def test_an_endpoint_gets_what_happened_signed_within_a_moment(hooked: Ground, account: Account) -> None:
    async with Receiver.serving() as receiver, delivering(hooked):
        kept = await hook(hooked, account.id, receiver.url)
        await tell(hooked, account.id)
        (received,) = await receiver.got(1)
        (delivery,) = await until_over(hooked, 1)
    payload = verify(kept, received)
    assert (payload["type"], payload["data"]) == ("file.ready", {"n": 0})
    assert abs(datetime.fromisoformat(payload["timestamp"]) - datetime.now(UTC)) < timedelta(minutes=1)
    assert received.headers["content-type"] == "application/json"
    assert received.id == f"msg_{delivery.message_id.hex}"
    assert (delivery.state, delivery.status, delivery.tries) == ("delivered", 204, 1)
    (entry,) = tries(delivery)
    assert entry.keys() == {"at", "status", "took_ms", "code", "answer"}
    assert (entry["status"], entry["code"], entry["answer"]) == (204, None, "")


async def test_ed25519_is_verified_by_the_public_key_alone(hooked: Ground, account: Account) -> None:
    async with Receiver.serving() as receiver, delivering(hooked):
        kept = await hook(hooked, account.id, receiver.url, signature="ed25519")
        await tell(hooked, account.id)
        (received,) = await receiver.got(1)
    public = kept.secret.public_key
    assert public is not None
    assert verify_ed25519(public, received.headers, received.body)
    assert not verify_ed25519(public, received.headers, received.body + b" ")


async def test_an_address_given_with_a_job_is_signed_by_the_accounts_own_secret(
    hooked: Ground, account: Account
) -> None:
    async with Receiver.serving() as receiver, delivering(hooked):
        await tell(hooked, account.id, times=3, url=receiver.url)
        received = await receiver.got(3)
    async with hooked.database.begin() as session:
        (own,) = await secrets.shown(session, Seal(hooked.settings.secret), account.id, None)
    assert sorted(Webhook(own.secret).verify(each.body, each.headers)["data"]["n"] for each in received) == [0, 1, 2]


async def test_after_hours_of_failures_it_still_verifies_for_each_try_has_its_own_time(
    hooked: Ground, account: Account
) -> None:
    now = [time.time() - 7 * 3600]
    async with Receiver.serving(answer(b"not now", status="500 Oops"), FINE) as receiver:
        async with delivering(hooked, clock=lambda: now[0]):
            kept = await hook(hooked, account.id, receiver.url)
            await tell(hooked, account.id)
            await until_tried(hooked, 1)
            now[0] = time.time()
            await hurry(hooked)
            (delivery,) = await until_over(hooked, 1)
        first, second = receiver.received
    with pytest.raises(WebhookVerificationError, match="too old"):
        verify(kept, first)
    assert verify(kept, second)["type"] == "file.ready"
    assert (first.id, first.body) == (second.id, second.body)
    assert [entry["status"] for entry in tries(delivery)] == [500, 204]
    assert tries(delivery)[0]["answer"] == "not now"


async def test_while_a_secret_is_changed_both_verify_and_then_the_new_one_alone(
    hooked: Ground, account: Account
) -> None:
    async with Receiver.serving() as receiver, delivering(hooked):
        old = await hook(hooked, account.id, receiver.url)
        async with hooked.database.begin() as session:
            seal = Seal(hooked.settings.secret)
            shown = await secrets.rotate(session, seal, account.id, old.id, "hmac", overlap=timedelta(hours=1))
        new = Hook(old.id, shown)
        await tell(hooked, account.id)
        (meanwhile,) = await receiver.got(1)
        assert verify(old, meanwhile) == verify(new, meanwhile)
        await do(hooked, "UPDATE webhook_secrets SET expires_at = now() WHERE expires_at IS NOT NULL")
        await tell(hooked, account.id)
        _, after = await receiver.got(2)
    assert verify(new, after)
    with pytest.raises(WebhookVerificationError, match="No matching signature"):
        verify(old, after)


async def test_the_whole_schedule_is_kept_and_then_it_is_given_up(hooked: Ground, account: Account) -> None:
    waits: list[float] = []
    async with Receiver.serving(answer(status="500 Oops")) as receiver, delivering(hooked):
        await hook(hooked, account.id, receiver.url)
        await tell(hooked, account.id)
        for n in range(1, len(schedule.WAITS_S)):
            await until_tried(hooked, n)
            waits.append(await next_in_s(hooked))
            await hurry(hooked)
        (delivery,) = await until_over(hooked, 1)
        received = receiver.received
    for wait, usual in zip(waits, schedule.WAITS_S[1:], strict=True):
        assert usual * (1 - schedule.JITTER) - 3 <= wait <= usual * (1 + schedule.JITTER)
    assert (delivery.state, delivery.tries, len(delivery.log)) == ("failed", 10, 10)
    assert len({each.id for each in received}) == len({each.body for each in received}) == 1


async def _drip(writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\n\r\nslowly")
    await writer.drain()
    await asyncio.sleep(60)


async def _flood(writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
    while True:
        writer.write(b"x" * 65_536)
        await writer.drain()


# By the name of the case: what a receiver does, and then the delivery's state, HTTP status, code, and what is kept.
ANSWERS: dict[str, tuple[Any, str, int | None, str | None, str]] = {
    "fine": (answer(b"\xff\0fine", status="201 Created"), "delivered", 201, None, "\ufffd\ufffdfine"),
    "slow body": (_drip, "delivered", 200, None, "slowly"),
    "endless body": (_flood, "delivered", 200, None, "x" * 1024),
    "404": (answer(b"no", status="404 Not Found"), "pending", 404, None, "no"),
    "redirect": (answer(b"", "Location: /elsewhere", status="307 Moved"), "pending", None, "fetch_redirected", ""),
    "no answer": (slowly(), "pending", None, "fetch_timed_out", ""),
    "no http": (b"no HTTP at all\r\n\r\n", "pending", None, "fetch_broken", ""),
    "no such year": (
        answer(b"", "Retry-After: Thu, 26 Nov 99999999999 12:01:00 GMT", status="500 Oops"),
        *("pending", 500, None, ""),
    ),
}


async def test_the_head_of_an_answer_says_what_becomes_of_a_delivery(hooked: Ground, account: Account) -> None:
    async with AsyncExitStack() as stack:
        serving = {
            name: await stack.enter_async_context(Receiver.serving(script, FINE))
            for name, (script, *_) in ANSWERS.items()
        }
        for receiver in serving.values():
            await hook(hooked, account.id, receiver.url)
        async with delivering(hooked):
            await tell(hooked, account.id)
            found = {each.url: each for each in await until_tried(hooked, len(ANSWERS))}
        for name, receiver in serving.items():
            delivery = found[receiver.url]
            (entry,) = tries(delivery)
            told = (delivery.state, delivery.status, entry["code"], entry["answer"])
            _, state, status, code, kept = ANSWERS[name]
            assert told == (state, status, code, kept), name
            assert entry["status"] == status
            assert [each.path for each in receiver.received] == ["/told"], name


async def test_whatever_breaks_on_the_way_is_a_failed_try(hooked: Ground, account: Account) -> None:
    async def broken(host: str) -> list[str]:
        raise LookupError(host)

    await hook(hooked, account.id, "https://hooks.example.com/x")
    await tell(hooked, account.id)
    await spread_all(hooked)
    claims = await claiming.claim(hooked, Seal(hooked.settings.secret), [], 8)
    (delivery,) = claims.deliveries
    async with Fetcher(fetch.webhooks(hooked.settings), resolve=broken) as fetcher:
        tried = await sending.send(fetcher, delivery, claims.keys[delivery.target], within_s=1.0, clock=time.time)
    assert (tried.status, tried.code) == (None, "fetch_broken")


async def test_where_nobody_listens_it_is_tried_again(hooked: Ground, account: Account) -> None:
    async with Receiver.serving() as receiver:
        url = receiver.url
    async with delivering(hooked):
        await hook(hooked, account.id, url)
        await tell(hooked, account.id)
        (delivery,) = await until_tried(hooked, 1)
    assert (delivery.state, tries(delivery)[0]["code"]) == ("pending", "fetch_unreachable")


async def test_in_production_nothing_is_sent_inside_however_the_address_came_here(
    hooked: Ground, account: Account
) -> None:
    settings = msgspec.structs.replace(hooked.settings, env="production", fetch_allow="")
    closed = msgspec.structs.replace(hooked, settings=settings)
    hosts = ("127.0.0.1", "10.1.2.3", "[::1]", "[::ffff:10.1.2.3]", "localhost", "169.254.169.254")
    for host in hosts:
        await hook(closed, account.id, f"https://{host}/x")
    await tell(closed, account.id)
    async with delivering(closed):
        tried = await until_tried(closed, len(hosts))
    assert {tries(each)[0]["code"] for each in tried} == {"address_not_allowed", "host_not_allowed"}
    assert {each.status for each in tried} == {None}


async def test_plain_http_is_not_spoken_in_production(hooked: Ground, account: Account) -> None:
    closed = msgspec.structs.replace(hooked, settings=msgspec.structs.replace(hooked.settings, env="production"))
    async with Receiver.serving() as receiver, delivering(closed):
        await hook(closed, account.id, receiver.url)
        await tell(closed, account.id)
        (delivery,) = await until_tried(closed, 1)
        assert receiver.received == []
    assert tries(delivery)[0]["code"] == "scheme_not_allowed"


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


async def test_no_secret_is_told_to_anybody_and_nothing_is_sent_unsigned(hooked: Ground, account: Account) -> None:
    with capture_logs() as lines:
        async with Receiver.serving(BUSY, FINE) as receiver, delivering(hooked):
            kept = [
                await hook(hooked, account.id, receiver.url, signature=each, events=("file.*",))
                for each in ("hmac", "ed25519")
            ]
            broken = await hook(hooked, account.id, receiver.url, events=("batch.*",))
            await do(hooked, "UPDATE webhook_secrets SET sealed = '\\x0100' WHERE endpoint_id = :id", id=broken.id)
            await tell(hooked, account.id, times=3)
            await tell(hooked, account.id, type_="batch.failed")
            await until_tried(hooked, 4)
            unsigned = [each for each in await deliveries(hooked) if each.endpoint_id == broken.id]
        told = json.dumps([lines, [[each.log, each.body] for each in await deliveries(hooked)]], default=str)
        told += repr([each.headers for each in receiver.received]) + repr(kept)
    for each in kept:
        raw = each.secret.secret.partition("_")[2]
        assert raw not in told
        assert repr(base64.b64decode(raw))[2:-1] not in told
    assert [tries(each)[0]["code"] for each in unsigned] == ["seal_broken"]
    assert all(each.headers["webhook-signature"] for each in receiver.received)
    assert (await endpoint(hooked, broken)).failing_since is None, "it is no fault of the endpoint's"


async def test_a_slow_endpoint_with_a_great_many_keeps_nobody_else_waiting(hooked: Ground, account: Account) -> None:
    async with hooked.database.begin() as session:
        other = await accounts.create(session, "omar@example.com")
    async with Receiver.serving(slowly(after_s=0.4)) as slow, Receiver.serving() as quick, delivering(hooked):
        await hook(hooked, account.id, slow.url)
        await hook(hooked, other.id, quick.url)
        await tell(hooked, account.id, times=300)
        await slow.got(1)
        await tell(hooked, other.id)
        await quick.got(1)
        assert len(slow.received) < 5 * claiming.MOST_OF_ONE
        assert slow.most_at_once <= claiming.MOST_OF_ONE
        await do(hooked, "DELETE FROM webhook_endpoints WHERE url = :url", url=slow.url)
        await until_over(hooked, 300)
    assert {each.state for each in await deliveries(hooked)} == {"canceled", "delivered"}
