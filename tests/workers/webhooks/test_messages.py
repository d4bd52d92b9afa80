"""What happens is written down where it happens, for those who listen, and once."""

from typing import Any, Literal

import msgspec
import pytest
from sqlalchemy import select

from infra import ids
from infra.ground import Ground
from infra.models import Account, WebhookMessage
from infra.settings import Settings
from quotas import ledger
from tests.support.chats import Client
from tests.support.hooks import deliveries, do, hook, spread_all
from tests.support.lives import asked, submit_all
from tests.support.uploads import decided, uploaded
from tests.support.work import work_off
from workers import kinds, lifecycle, pools
from workers.batch.spec import BatchInput, ReadBatch
from workers.lifecycle import Attempt, End, Submission, Submitted

pytestmark = pytest.mark.reused

HOOK = "https://hooks.example.com/told"


async def told(ground: Ground) -> list[tuple[str, Any, str | None]]:
    """Return all messages: type, subject and address."""
    async with ground.database.begin() as session:
        rows = await session.scalars(select(WebhookMessage).order_by(WebhookMessage.id))
        return [(row.type, row.subject_id, row.url) for row in rows]


async def running(ground: Ground, *submissions: Submission) -> list[Attempt]:
    """Submit jobs and claim them."""
    made = [each for each in await submit_all(ground, submissions) if isinstance(each, Submitted)]
    return [each for each in await lifecycle.claim(ground, [one.job.id for one in made]) if each is not None]


def over(attempt: Attempt, state: Literal["succeeded", "failed"] = "succeeded", **facts: Any) -> End:
    """Return a job's end."""
    return End(job_id=attempt.id, attempt=attempt.attempt, state=state, **facts)


def test_the_kinds_that_nobody_is_told_of_are_the_studios_own() -> None:
    assert set(pools.OWN) == kinds.OWN.keys()


async def test_the_end_of_a_job_is_told_once_with_what_its_row_says(ground: Ground, account: Account) -> None:
    await hook(ground, account.id, HOOK)
    (attempt,) = await running(ground, asked(account, webhook=HOOK + "/own", metadata={"order": "١٧"}))
    end = over(attempt, used={"chat_tokens": 3}, result={"text": "secret"})
    await lifecycle.finish(ground, [end])
    assert await lifecycle.finish(ground, [end]) == [None]
    assert await told(ground) == [("job.succeeded", attempt.id, HOOK + "/own")]
    await spread_all(ground)
    to_endpoint, own = sorted(await deliveries(ground), key=lambda each: each.url)
    assert (to_endpoint.url, own.url, to_endpoint.body) == (HOOK, HOOK + "/own", own.body)
    data = msgspec.json.decode(own.body)["data"]
    assert data == {
        "id": str(attempt.id),
        "kind": "chat",
        "state": "succeeded",
        "charged": {"chat_tokens": 3},
        "error": None,
        "metadata": {"order": "١٧"},
        "url": f"/v1/jobs/{attempt.id}",
    }
    assert "secret" not in own.body


async def test_without_anybody_who_listens_nothing_is_written(ground: Ground, account: Account) -> None:
    off = await hook(ground, account.id, HOOK)
    await do(
        ground, "UPDATE webhook_endpoints SET disabled_at = now(), disabled_reason = 'gone' WHERE id = :i", i=off.id
    )
    silent, spoken = await running(ground, asked(account), asked(account, webhook=HOOK))
    await lifecycle.finish(ground, [over(silent), over(spoken, "failed", error={"code": "x"})])
    assert await told(ground) == [("job.failed", spoken.id, HOOK)]


async def test_a_job_that_is_cancelled_or_expires_before_it_runs_is_told_of(ground: Ground, account: Account) -> None:
    await hook(ground, account.id, HOOK)
    one, other = await submit_all(ground, [asked(account), asked(account)])
    assert isinstance(one, Submitted)
    assert isinstance(other, Submitted)
    await lifecycle.cancel(ground, account.id, one.job.id)
    await do(ground, "UPDATE jobs SET start_by = now() - interval '1 minute' WHERE id = :i", i=other.job.id)
    assert await lifecycle.expire(ground) == 1
    assert await told(ground) == [("job.canceled", one.job.id, None), ("job.expired", other.job.id, None)]


async def test_jobs_of_a_batch_and_the_studios_own_are_not_told_of(ground: Ground, account: Account) -> None:
    await hook(ground, account.id, HOOK)
    reading = Submission(account=account, request=ReadBatch(input=BatchInput(batch=ids.new())))
    line, read, plain = await running(ground, asked(account), reading, asked(account))
    await do(ground, "UPDATE jobs SET batch_id = uuidv7() WHERE id = :i", i=line.id)
    await lifecycle.finish(ground, [over(each) for each in (line, read, plain)])
    assert await told(ground) == [("job.succeeded", plain.id, None)]


async def hold(ground: Ground, account: Account, **units: int) -> None:
    """Set units aside for a new job."""
    async with ground.database.begin() as session:
        drawing = await ledger.lock(session, [(account, meter) for meter in units])
        drawing.hold(account.id, ids.new(), units)
        await drawing.write(session)


async def test_a_quota_that_runs_out_is_told_once_a_threshold_and_period(ground: Ground, account: Account) -> None:
    await hold(ground, account, images=20)
    assert await told(ground) == [], "nobody listens"
    await hook(ground, account.id, HOOK)
    for units in (7, 1, 1):  # of 10: nothing yet, then 80 %, then nothing more
        await hold(ground, account, documents=units)
    await do(ground, "UPDATE balances SET held = held - 5 WHERE meter = 'documents'")  # jobs that took less
    for units in (4, 2):
        await hold(ground, account, documents=units)
    assert [type_ for type_, _, _ in await told(ground)] == ["quota.warned", "quota.stopped"]
    await do(ground, "UPDATE balances SET period_end = now() WHERE meter = 'documents'")
    await do(ground, "UPDATE balances SET period_start = period_start - interval '1 day' WHERE meter = 'documents'")
    await hold(ground, account, documents=10)
    again = await told(ground)
    assert [type_ for type_, _, _ in again] == ["quota.warned", "quota.stopped"] * 2
    assert again[0][1] == again[1][1] != again[2][1] == again[3][1]
    async with ground.database.begin() as session:
        first = (await session.scalars(select(WebhookMessage).order_by(WebhookMessage.id).limit(1))).one()
    assert first.data is not None
    assert first.data.pop("resets_at")
    assert first.data == {"meter": "documents", "limit": 10, "used": 0, "held": 8, "remaining": 2}


@pytest.mark.parametrize(("purpose", "state"), [("attachment", "ready"), ("photo", "rejected")])
async def test_the_verdict_on_a_file_is_told(
    client: Client, ground: Ground, settings: Settings, account: Account, purpose: str, state: str
) -> None:
    await hook(ground, account.id, HOOK, events=["file.*"])
    media_type = {"media_type": "image/png"} if state == "rejected" else {}
    file = await uploaded(client, "مرحبًا، هذا نص.".encode(), name="رسالة.txt", purpose=purpose, **media_type)
    await work_off(settings, "scan")
    shown = await decided(client, file)
    assert shown["state"] == state
    await spread_all(ground)
    (delivery,) = await deliveries(ground)
    assert delivery.type == f"file.{state}"
    for part in (f'"id":"{file["id"]}"', f'"state":"{state}"', '"name":"رسالة.txt"', f'"url":"/v1/files/{file["id"]}"'):
        assert part in delivery.body
    assert ('"error":null' in delivery.body) == (state == "ready")
