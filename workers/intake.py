"""Brings uploads to their scan, and batches to their reading: the one place that knows both what came and the kinds of
jobs that look at it.
"""

from uuid import UUID

import structlog
from sqlalchemy import exists, select

from infra.errors import PulseError
from infra.ground import Ground
from infra.models import LIVE, Account, Batch, File, Job
from workers import files, lifecycle
from workers.batch.spec import BatchInput, ReadBatch
from workers.desk import Desk
from workers.lifecycle import Submission
from workers.scan.spec import Scan, ScanInput

log = structlog.stdlib.get_logger()

_AT_ONCE = 200


class ScanBrokenOff(PulseError):
    """The file's scan was cancelled. Upload the file again."""

    ar = "أُلغي فحص الملف. ارفعه من جديد."


async def complete(ground: Ground, desk: Desk, account: Account, file_id: UUID) -> File:
    """Take an upload as complete and have it scanned; asked again, the answer is how the file stands.

    Raises what `files.arrive` does.
    """
    file = await files.arrive(ground, account.id, file_id)
    if file.state == "scanning" and file.job_id is None:
        return await scan(ground, desk, account, file)
    return file


async def scan(ground: Ground, desk: Desk, account: Account, file: File) -> File:
    """Submit the scan of a file, once; where that cannot be done now, the tender will."""
    # No caller can send such a key: theirs are ASCII.
    asked = Submission(account=account, request=Scan(input=ScanInput(file=file.id)), idempotency_key=f"مسح:{file.id}")
    try:
        submitted = await desk.submit(asked)
    except PulseError as error:
        log.warning("a scan is not submitted yet", file=str(file.id), reason=error.code)
        return file
    async with ground.database.begin() as session:
        kept = await session.get(File, file.id, with_for_update=True)
        if kept is None:
            return file
        kept.job_id = submitted.job.id
        return kept


async def read(desk: Desk, account: Account, batch: Batch) -> None:
    """Submit the reading of a batch, under the id that the batch names; where that cannot be done, the tender will."""
    assert batch.job_id is not None, "every batch has one"
    asked = Submission(account=account, id=batch.job_id, request=ReadBatch(input=BatchInput(batch=batch.id)))
    try:
        await desk.submit(asked)
    except PulseError as error:
        log.warning("a reading is not submitted yet", batch=str(batch.id), reason=error.code)


async def submit_unread(ground: Ground, desk: Desk) -> None:
    """Submit the readings of batches that have none."""
    unread = select(Batch, Account).join(Account, Account.id == Batch.account_id)
    unread = unread.where(Batch.finished_at.is_(None), Batch.state == "validating")
    unread = unread.where(~exists().where(Job.id == Batch.job_id))
    async with ground.database.begin() as session:
        found = (await session.execute(unread.order_by(Batch.id).limit(_AT_ONCE))).all()
    for batch, account in found:
        await read(desk, account, batch)


async def tend(ground: Ground, desk: Desk) -> None:
    """Submit the scans that were not, reject what has no scan, give up late uploads, and clear up."""
    await submit_missing(ground, desk)
    await reject_broken(ground)
    await files.expire(ground)
    while await files.clear(ground) == files.MOST_AT_ONCE:
        pass


async def submit_missing(ground: Ground, desk: Desk) -> None:
    """Submit the scans of files that have come and have none."""
    waiting = select(File, Account).join(Account, Account.id == File.account_id)
    waiting = waiting.where(File.decided_at.is_(None), File.state == "scanning", File.job_id.is_(None))
    async with ground.database.begin() as session:
        found = (await session.execute(waiting.order_by(File.id).limit(_AT_ONCE))).all()
    for file, account in found:
        await scan(ground, desk, account, file)


async def reject_broken(ground: Ground) -> None:
    """Reject the files whose scan failed for good, or was cancelled: it has decided nothing."""
    broken = select(File.account_id, File.id, Job.error).join(Job, Job.id == File.job_id)
    broken = broken.where(File.decided_at.is_(None), File.state == "scanning", Job.state.not_in(LIVE))
    async with ground.database.begin() as session:
        found = (await session.execute(broken.order_by(File.id).limit(_AT_ONCE))).all()
    for account_id, file_id, error in found:
        await files.reject(ground, account_id, file_id, error or lifecycle.failure(ScanBrokenOff()))
