"""What receivers get, and what is kept of what they answer: real servers, real deliveries."""

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

from infra import fetch
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
from workers.webhooks import claiming, schedule, secrets, sending

pytestmark = pytest.mark.reused

BUSY = answer(b"busy", status="503 Service Unavailable")


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
