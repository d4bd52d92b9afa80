"""Batches as the job that reads them leaves them: accepted, with their lines and one hold; and what became of them."""

import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Literal
from uuid import UUID

from sqlalchemy import select, text, update

from infra import ids
from infra.ground import Ground
from infra.models import Account, Batch, BatchFlight, Document, Job
from quotas import ledger
from tests.support.books import assert_even
from workers import lifecycle
from workers.batches import results, telling
from workers.batches.feeding import Feeder
from workers.lifecycle import End

METER = "chat_tokens"
#: What each line may cost, and what its job is charged.
MOST, USED = 10, 7

_PUT = text("""
    INSERT INTO batch_lines (batch_id, line, custom_id, form, kind, spec, labels, timeout_s, units, refused)
    SELECT :batch, n, 'سطر-' || n, :form, :kind, CAST(:spec AS jsonb), CAST(:labels AS jsonb), 60,
           jsonb_build_object('chat_tokens', CAST(:most AS integer)), n = ANY(CAST(:refused AS integer[]))
    FROM generate_series(1, CAST(:lines AS integer)) n
""")


async def put(
    ground: Ground,
    account: Account,
    lines: int,
    *,
    form: str = "own",
    kind: str = "pair",
    spec: Document | None = None,
    most: int = MOST,
    state: str = "running",
    refused: Sequence[int] = (),
    hours: float = 1,
    **facts: Any,
) -> Batch:
    """Keep a batch of so many equal lines, of which the `refused` ones did not fit the quota."""
    batch_id, kept = ids.new(), lines - len(refused)
    async with ground.database.begin() as session:
        drawing = await ledger.lock(session, [(account, METER)])
        drawing.hold(account.id, batch_id, {METER: kept * most})
        await drawing.write(session)
        now = ids.created(batch_id)
        columns: Document = {"labels": Document(), "job_id": ids.new(), "accepted_at": now} | facts
        batch = Batch(
            id=batch_id,
            account_id=account.id,
            state=state,
            mode="each",
            source="upload",
            size_bytes=lines,
            expires_at=now + timedelta(hours=hours),
            read_lines=lines,
            lines=lines,
            needs={METER: kept * most},
            **columns,
        )
        session.add(batch)
        given = {"batch": batch_id, "form": form, "kind": kind, "most": most, "lines": lines, "refused": list(refused)}
        asked = spec or {"kind": kind, "input": {"most": {METER: MOST}, "text": ""}}
        labels = json.dumps({"of": "a batch"})
        await session.execute(_PUT, given | {"spec": json.dumps(asked), "labels": labels})
        refusal = {"code": "quota_exceeded", "en": "It does not fit.", "ar": "لا يتسع."}
        await results.append(
            session, batch, [telling.tell(n, f"سطر-{n}", form, "rejected", error=refusal) for n in refused]
        )
    return batch


async def batch_of(ground: Ground, batch_id: UUID) -> Batch:
    """Return a batch's row."""
    async with ground.database.begin() as session:
        return await session.get_one(Batch, batch_id)


async def _change(ground: Ground, batch_id: UUID, **facts: Any) -> None:
    """Write a batch's row as its account's wish, or the time, would."""
    async with ground.database.begin() as session:
        await session.execute(update(Batch).where(Batch.id == batch_id).values(**facts))


async def cancel(ground: Ground, batch_id: UUID) -> None:
    """Ask for a batch to be cancelled."""
    await _change(ground, batch_id, state="canceling", cancel_requested_at=datetime.now(UTC))


async def close_window(ground: Ground, batch_id: UUID) -> None:
    """Let a batch's time be over, and that of its jobs."""
    past = datetime.now(UTC) - timedelta(seconds=1)
    await _change(ground, batch_id, expires_at=past)
    async with ground.database.begin() as session:
        await session.execute(
            update(Job).where(Job.batch_id == batch_id, Job.finished_at.is_(None)).values(start_by=past, cancel_by=past)
        )


async def flights(ground: Ground, batch_id: UUID) -> list[UUID]:
    """Return the jobs of the lines that are jobs now, in the order of the lines."""
    query = select(BatchFlight.job_id).where(BatchFlight.batch_id == batch_id).order_by(BatchFlight.line)
    async with ground.database.begin() as session:
        return list(await session.scalars(query))


async def land(ground: Ground, job_ids: Sequence[UUID], state: Literal["succeeded", "failed"] = "succeeded") -> None:
    """Take jobs and end them."""
    error = {"code": "noise", "en": "It failed.", "ar": "فشلت."} if state == "failed" else None
    ends = [
        End(
            job_id=taken.id,
            attempt=taken.attempt,
            state=state,
            used={METER: USED} if state == "succeeded" else {},
            result={"text": "تم", "of": str(taken.id)} if state == "succeeded" else None,
            error=error,
        )
        for taken in await lifecycle.claim(ground, job_ids)
        if taken is not None
    ]
    await lifecycle.finish(ground, ends)


async def look(ground: Ground) -> None:
    """Look after every batch once, as somebody who comes new."""
    await Feeder(ground).round()


async def feed_all(ground: Ground, batch_id: UUID, *, most_rounds: int = 200) -> Batch:
    """Feed a batch and end its jobs until it is over."""
    for _ in range(most_rounds):
        await look(ground)
        batch = await batch_of(ground, batch_id)
        if batch.finished_at is not None:
            return batch
        await land(ground, await flights(ground, batch_id))
    raise AssertionError("it does not come to its end")


async def told(ground: Ground, batch_id: UUID, *, errors: bool = False) -> list[dict[str, Any]]:
    """Return the results of a batch, or those of them that are no success, as a reader gets them."""
    which = "AND is_error" if errors else ""
    query = f"SELECT told FROM batch_results WHERE batch_id = :id {which} ORDER BY results_end"
    async with ground.database.begin() as session:
        lines = list(await session.scalars(text(query), {"id": batch_id}))
    assert all(line.endswith("\n") and line.count("\n") == 1 for line in lines)
    return [json.loads(line) for line in lines]


_WRONG = text("""
    SELECT format('batch %s: %s', b.id, said) FROM batches b,
    LATERAL (SELECT count(*) AS many, count(DISTINCT line) AS lines, count(*) FILTER (WHERE is_error) AS errors,
                    coalesce(sum(octet_length(told)), 0) AS bytes,
                    coalesce(sum(octet_length(told)) FILTER (WHERE is_error), 0) AS error_bytes,
                    coalesce(max(results_end), 0) AS results_end,
                    coalesce(max(errors_end) FILTER (WHERE is_error), 0) AS errors_end
             FROM batch_results r WHERE r.batch_id = b.id) r,
    LATERAL (SELECT count(*) AS many FROM batch_flights f WHERE f.batch_id = b.id) f,
    LATERAL (VALUES
        (r.many <> r.lines, 'a line has two results'),
        (r.many <> b.rejected + b.succeeded + b.failed + b.canceled + b.expired, 'its counts are not its results'),
        (r.errors <> r.many - b.succeeded, 'its errors are not those of its results'),
        (r.bytes <> b.results_bytes OR r.results_end <> b.results_bytes, 'its results are not as long as it says'),
        (r.error_bytes <> b.errors_bytes OR r.errors_end <> b.errors_bytes, 'its errors are not as long as it says'),
        (f.many <> b.drawn - b.succeeded - b.failed - b.canceled - b.expired, 'it has other flights than it says'),
        (b.finished_at IS NOT NULL AND f.many > 0, 'it is over, and lines fly'),
        (b.finished_at IS NOT NULL AND b.state <> 'failed' AND r.many <> b.lines, 'it is over, and not all was told')
    ) AS w(is_so, said) WHERE is_so
    UNION ALL
    SELECT format('batch %s: charged %s, its jobs %s', b.id, b.charged, j.charged)
    FROM batches b, LATERAL (
        SELECT coalesce(sum((j.charged ->> 'chat_tokens')::bigint), 0) AS charged FROM jobs j WHERE j.batch_id = b.id
    ) j
    WHERE b.finished_at IS NOT NULL AND coalesce((b.charged ->> 'chat_tokens')::bigint, 0) <> j.charged
    UNION ALL
    SELECT format('batch %s: %s jobs, of which %s were told', b.id, j.many, r.many)
    FROM batches b, LATERAL (SELECT count(*) AS many FROM jobs j WHERE j.batch_id = b.id) j,
    LATERAL (SELECT count(DISTINCT told::jsonb ->> 'job_id') AS many FROM batch_results r WHERE r.batch_id = b.id) r
    WHERE b.finished_at IS NOT NULL AND j.many <> r.many
          AND NOT EXISTS (SELECT FROM batch_lines l WHERE l.batch_id = b.id AND l.form <> 'own')
""")


async def assert_exact(ground: Ground) -> None:
    """Fail unless every batch's counts, lengths and charges are those of its lines, and the books agree."""
    async with ground.database.begin() as session:
        assert list(await session.scalars(_WRONG)) == []
    await assert_even(ground)
