"""Batches by hand: handed over as the API does it, read by their job, and looked at."""

import json
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import msgspec
from sqlalchemy import select, text

from infra import ids
from infra.ground import Ground
from infra.models import Account, Balance, Batch, BatchLine
from quotas import ledger
from tests.support.books import grant
from tests.support.lives import tools
from workers import files, lifecycle
from workers.batch.spec import BatchInput, ReadBatch
from workers.lifecycle import Submission, Submitted
from workers.perform import perform


def line(custom_id: str, content: str = "مرحبا", **facts: Any) -> dict[str, Any]:
    """Return a line of our own shape; `facts` are further members."""
    asked = {"messages": [{"role": "user", "content": content}], "max_output_tokens": 16}
    return {"custom_id": custom_id, "kind": "chat", "input": asked} | facts


def jsonl(*lines: Any) -> bytes:
    """Return lines as a file; bytes stand for themselves."""
    return b"".join(
        (it if isinstance(it, bytes) else json.dumps(it, ensure_ascii=False).encode()) + b"\n" for it in lines
    )


async def _once(data: bytes) -> AsyncIterator[bytes]:
    yield data


async def hand_over(ground: Ground, account: Account, data: bytes = b"", **facts: Any) -> UUID:
    """Put an upload into quarantine and write its batch; `facts` are columns of it. Returns its id."""
    batch_id = ids.new()
    columns: dict[str, Any] = {"mode": "each", "source": "upload", "size_bytes": len(data)} | facts
    if columns["source"] == "upload":
        key = files.quarantine_key(account.id, batch_id)
        await ground.storage.receive(key, _once(data), most_bytes=len(data))
    columns.setdefault("expires_at", datetime.now(UTC) + timedelta(days=1))
    async with ground.database.begin() as session:
        session.add(Batch(id=batch_id, account_id=account.id, **columns))
    return batch_id


async def submit(ground: Ground, account: Account, batch_id: UUID) -> UUID:
    """Submit the job that reads a batch; returns its id."""
    asked = Submission(account=account, request=ReadBatch(input=BatchInput(batch=batch_id)))
    (submitted,) = await lifecycle.admit(ground, [asked])
    assert isinstance(submitted, Submitted)
    await lifecycle.announce(ground, [submitted])
    async with ground.database.begin() as session:
        (await session.get_one(Batch, batch_id)).job_id = submitted.job.id
    return submitted.job.id


async def read(ground: Ground, account: Account, batch_id: UUID) -> Batch:
    """Have a batch read, and return how it stands then."""
    await perform(tools(ground), await submit(ground, account, batch_id))
    return await look(ground, batch_id)


async def read_all(ground: Ground, account: Account, data: bytes, **facts: Any) -> Batch:
    """Hand a batch over, have it read, and return how it stands then."""
    return await read(ground, account, await hand_over(ground, account, data, **facts))


async def look(ground: Ground, batch_id: UUID) -> Batch:
    """Return a batch's row."""
    async with ground.database.begin() as session:
        return await session.get_one(Batch, batch_id)


async def lines_of(ground: Ground, batch_id: UUID) -> list[BatchLine]:
    """Return the lines of a batch that can become jobs, in their order."""
    query = select(BatchLine).where(BatchLine.batch_id == batch_id).order_by(BatchLine.line)
    async with ground.database.begin() as session:
        return list(await session.scalars(query))


async def told_of(ground: Ground, batch_id: UUID) -> list[dict[str, Any]]:
    """Return the lines of a batch's results, in their order; fails unless they are as long as the batch says."""
    rows = text("SELECT told, results_end, errors_end FROM batch_results WHERE batch_id = :id ORDER BY results_end")
    async with ground.database.begin() as session:
        found = (await session.execute(rows, {"id": batch_id})).all()
        batch = await session.get_one(Batch, batch_id)
    whole = "".join(row.told for row in found)
    assert batch.results_bytes == len(whole.encode()) == (found[-1].results_end if found else 0)
    return [msgspec.json.decode(row.told) for row in found]


def reasons(told: Sequence[dict[str, Any]]) -> list[tuple[int, str | None, str]]:
    """Return of lines that were refused their number, custom_id and the code of the reason."""
    return [(it["line"], it["custom_id"], it["error"]["code"]) for it in told]


async def allow(ground: Ground, account: Account, units: int) -> None:
    """Make it that the account was granted so many chat tokens."""
    async with ground.database.begin() as session:
        await ledger.open_periods(session, [(account, "chat_tokens")])
    await grant(ground, units)


async def held_of(ground: Ground, account: Account) -> int:
    """Return how many chat tokens of the account are held."""
    query = select(Balance.held).where(Balance.account_id == account.id, Balance.meter == "chat_tokens")
    async with ground.database.begin() as session:
        return (await session.scalar(query)) or 0
