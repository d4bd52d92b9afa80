"""One job in a worker's hands, by hand: taken, kept, given back, ended; and made old."""

from collections.abc import Sequence
from typing import Any, Literal
from uuid import UUID

import msgspec
from sqlalchemy import text

from infra.errors import PulseError
from infra.ground import Ground
from infra.models import Account, Job
from infra.settings import Settings
from providers.gateway import Gateway
from tests.support.chats import chat
from workers import kinds, lifecycle
from workers.context import Run
from workers.desk import Desk
from workers.lifecycle import Attempt, End, Ended, Kept, Return, Submission, Submitted
from workers.perform import Tools
from workers.request import Asking


def asked(account: Account, content: str = "hi", **facts: Any) -> Submission:
    """Return a submission of a small chat; `facts` are members of the request, or of the submission itself."""
    named = {key: facts.pop(key) for key in ("idempotency_key", "replay_of") if key in facts}
    request = msgspec.convert(chat(content, max_output_tokens=16) | facts, kinds.SPECS["chat"])
    return Submission(account=account, request=request, **named)


async def job_of(ground: Ground, job_id: UUID) -> Job:
    """Return a job's row."""
    async with ground.database.begin() as session:
        return await session.get_one(Job, job_id)


async def submit_all(ground: Ground, submissions: Sequence[Submission]) -> list[Submitted | PulseError]:
    """Admit jobs in one flush, and announce them."""
    answers = await lifecycle.admit(ground, submissions)
    await lifecycle.announce(ground, [answer for answer in answers if isinstance(answer, Submitted)])
    return answers


async def take(ground: Ground, job: dict[str, Any]) -> Attempt:
    """Claim a job that the API has shown."""
    (taken,) = await lifecycle.claim(ground, [UUID(job["id"])])
    assert taken is not None
    return taken


async def keep(ground: Ground, attempt: Attempt, **kept: Any) -> str:
    """Keep what an attempt has used and made."""
    (told,) = await lifecycle.keep(ground, [Kept(job_id=attempt.id, attempt=attempt.attempt, **kept)])
    return told


async def give_back(ground: Ground, attempt: Attempt, *, failed: bool = False, wait_s: float = 0) -> bool:
    """Give a job back to the queue."""
    back = Return(job_id=attempt.id, attempt=attempt.attempt, failed=failed, wait_s=wait_s)
    return (await lifecycle.give_back(ground, [back]))[0]


async def end(
    ground: Ground, attempt: Attempt, state: Literal["succeeded", "failed", "canceled"] = "succeeded", **facts: Any
) -> Ended | None:
    """End a job."""
    return (await lifecycle.finish(ground, [End(job_id=attempt.id, attempt=attempt.attempt, state=state, **facts)]))[0]


def run_of(ground: Ground, attempt: Attempt) -> Run:
    """Return what the room of an attempt is given; it asks no model."""
    return Run(attempt, ground, Gateway(ground.settings), Desk(ground).keep)


def tools(ground: Ground) -> Tools:
    """Return what a worker performs its jobs with."""
    return Tools(ground=ground, desk=Desk(ground), gateway=Gateway(ground.settings), runs={})


async def age(ground: Ground) -> None:
    """Make every job an hour old."""
    async with ground.database.begin() as session:
        await session.execute(
            text("UPDATE jobs SET created_at = created_at - interval '1 hour', run_at = run_at - interval '1 hour'")
        )


def asking(settings: Settings) -> Asking:
    """Return an account on the free plan that asks for something."""
    return Asking(settings=settings, plan="free")
