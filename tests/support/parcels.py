"""Batches some of whose lines are for vendors' own batches, and those who carry them."""

from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any
from uuid import UUID

import msgspec
from sqlalchemy import select, text, update

from infra import ground as grounds
from infra import ids
from infra.ground import Ground
from infra.models import Account, Batch, BatchFlight, BatchLine, BatchParcel, Document
from infra.settings import Settings
from quotas import ledger
from tests.support.batches import METER, USED, look
from tests.support.vendor_batches import VendorBatches
from workers import lifecycle
from workers.batches.carrying import Carrier
from workers.lifecycle import End

OPENAI, ANTHROPIC, OWN = "gpt-6-luna", "claude-haiku-5-5", "wire-1"
MOST = 500


def at(settings: Settings, upstream: VendorBatches, *, keys: str = "k", **facts: Any) -> Settings:
    """Return settings on which both vendors are that server, and nothing is waited for long."""
    return msgspec.structs.replace(
        settings,
        openai_base_url=f"{upstream.url}/v1",
        openai_api_key=keys,
        anthropic_base_url=f"{upstream.url}/anthropic",
        anthropic_api_key=keys,
        **{"parcel_poll_s": 0.01, "parcel_doubt_s": 300.0, "batch_window": 4} | facts,
    )


def spec(model: str, said: str) -> Document:
    """Return what is kept of a line that asks a model."""
    messages = [{"role": "user", "content": said}]
    return {"kind": "chat", "input": {"messages": messages, "model": model, "max_output_tokens": 50}}


async def put(ground: Ground, account: Account, *says: tuple[str, str], hours: float = 24, **facts: Any) -> Batch:
    """Keep a batch of lines that ask a model something each; those of the vendors may go to their batches."""
    batch_id = ids.new()
    async with ground.database.begin() as session:
        drawing = await ledger.lock(session, [(account, METER)])
        drawing.hold(account.id, batch_id, {METER: len(says) * MOST})
        await drawing.write(session)
        now = ids.created(batch_id)
        batch = Batch(
            id=batch_id,
            account_id=account.id,
            state="running",
            mode="each",
            source="upload",
            size_bytes=len(says),
            labels={},
            economy=True,
            job_id=ids.new(),
            accepted_at=now,
            expires_at=now + timedelta(hours=hours),
            read_lines=len(says),
            lines=len(says),
            needs={METER: len(says) * MOST},
            **facts,
        )
        session.add(batch)
        for number, (model, said) in enumerate(says, start=1):
            session.add(
                BatchLine(
                    batch_id=batch_id,
                    line=number,
                    custom_id=f"سطر-{number}",
                    form=("own", "openai", "anthropic")[number % 3],
                    kind="chat",
                    spec=spec(model, said),
                    units={METER: MOST},
                    model=None if model == OWN else model,
                )
            )
    return batch


async def parcels_of(ground: Ground, batch_id: UUID) -> list[BatchParcel]:
    """Return a batch's parcels."""
    async with ground.database.begin() as session:
        query = select(BatchParcel).where(BatchParcel.batch_id == batch_id).order_by(BatchParcel.model, BatchParcel.id)
        return list(await session.scalars(query))


async def hurry(ground: Ground, **facts: Any) -> None:
    """Let nobody have a parcel in hand any more, and let every one be due."""
    async with ground.database.begin() as session:
        await session.execute(text("UPDATE batch_parcels SET held_until = NULL, next_at = now()"))
        if facts:
            await session.execute(update(BatchParcel).where(BatchParcel.finished_at.is_(None)).values(**facts))


@asynccontextmanager
async def carrying(settings: Settings) -> AsyncGenerator[Carrier]:
    """Have a carrier for the length of a block."""
    async with grounds.opened(settings) as ground:
        carrier = Carrier(ground)
        try:
            yield carrier
        finally:
            await carrier.close()


async def carry_all(ground: Ground, carrier: Carrier, *, hurries: bool = True) -> None:
    """Feed all batches, carry their parcels and end their jobs until they are over."""
    for _ in range(60):
        if not await _are_left(ground):
            return
        await look(ground)
        if hurries:
            await hurry(ground)
        await carrier.round()
        async with ground.database.begin() as session:
            flying = list(await session.scalars(select(BatchFlight.job_id)))
        if flying:
            await land(ground, flying)
    left = text("SELECT to_jsonb(p) FROM batch_parcels p WHERE finished_at IS NULL")
    async with ground.database.begin() as session:
        raise AssertionError(f"these do not come to an end: {list(await session.scalars(left))}")


async def _are_left(ground: Ground) -> bool:
    async with ground.database.begin() as session:
        return await session.scalar(select(Batch.id).where(Batch.finished_at.is_(None)).limit(1)) is not None


async def land(ground: Ground, job_ids: Sequence[UUID]) -> None:
    """Take the jobs of our pools, and end them as chats."""
    usage = {"input_tokens": 3, "output_tokens": 4, "estimated": False}
    result: Document = {"text": "تم", "model": OWN, "finish_reason": "stop", "usage": usage}
    ends = [
        End(job_id=taken.id, attempt=taken.attempt, state="succeeded", used={METER: USED}, result=result)
        for taken in await lifecycle.claim(ground, job_ids)
        if taken is not None
    ]
    await lifecycle.finish(ground, ends)
