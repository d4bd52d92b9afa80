"""Dead letters: failed jobs with their reasons, and another go at them: a new job, held and charged anew."""

from uuid import UUID

import msgspec
from msgspec import Struct
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import defer

from infra.errors import PulseError
from infra.ground import Ground
from infra.models import Account, Job
from workers import jobs, kinds
from workers.desk import Desk
from workers.lifecycle import Submission, Submitted


class JobNotFailed(PulseError):
    """Only a failed job can be given another go; this one is {state}."""

    ar = "لا تُعاد إلا المهمة التي فشلت؛ وهذه حالتها {state}."
    status = 409


class RequestOutdated(PulseError):
    """This studio does not take such a {kind} request any more."""

    ar = "لم يعد هذا الاستوديو يقبل طلبًا كهذا من نوع {kind}."
    status = 409


class Which(Struct, frozen=True, kw_only=True):
    """Which dead letters are meant: of a kind, with an error's code, of an account; all where nothing is said."""

    kind: str | None = None
    code: str | None = None
    account_id: UUID | None = None


async def letters(session: AsyncSession, which: Which, *, limit: int, before: UUID | None = None) -> list[Job]:
    """Return at most `limit` failed jobs that were given no other go, newest first, older than `before`."""
    query = select(Job).options(defer(Job.transcript)).where(Job.error.is_not(None), Job.replayed_as.is_(None))
    if which.kind is not None:
        query = query.where(Job.kind == which.kind)
    if which.code is not None:
        query = query.where(Job.error["code"].astext == which.code)
    if which.account_id is not None:
        query = query.where(Job.account_id == which.account_id)
    if before is not None:
        query = query.where(Job.id < before)
    return list(await session.scalars(query.order_by(Job.id.desc()).limit(limit)))


async def replay(ground: Ground, desk: Desk, account: Account, job_id: UUID, *, key: str | None = None) -> Submitted:
    """Give the account's failed job another go; asked again, the answer is the job that was made then.

    `key` is the caller's Idempotency-Key.

    Raises `JobNotFound`, `JobNotFailed`, and what a submission raises.
    """
    async with ground.database.begin() as session:
        failed = await jobs.get(session, account.id, job_id)
    if failed.state != "failed":
        raise JobNotFailed(state=failed.state)
    try:
        again = kinds.read(failed.kind, failed.spec).anew()
    except (KeyError, msgspec.ValidationError):
        raise RequestOutdated(kind=failed.kind) from None
    again.metadata, again.unique_key = failed.labels, failed.unique_key
    again.timeout, again.webhook = failed.timeout_s, failed.webhook
    again.priority = "batch" if failed.lane == "batch" else "interactive"
    return await desk.submit(Submission(account=account, request=again, replay_of=failed.id, idempotency_key=key))
