"""A batch can ask again for the failed lines of another one, which it copies with their numbers and custom_ids."""

from uuid import UUID

import msgspec
import pytest

from infra import ids
from infra.ground import Ground
from infra.models import Account, Batch
from tests.support import readings
from tests.support.books import assert_even
from tests.support.readings import jsonl, line
from workers.batches import copying, results, telling
from workers.batches.results import Outcome

_OUTCOMES: tuple[Outcome, ...] = ("succeeded", "failed", "canceled", "expired", "failed", "succeeded")


async def _over(ground: Ground, account: Account) -> UUID:
    """Return a batch of six lines and a seventh that is none, which ended as listed."""
    lines = [line(f"{n}", "س" * n, metadata={"n": str(n)}, timeout=n) for n in range(1, 7)]
    batch = await readings.read_all(ground, account, jsonl(*lines, b"x"))
    async with ground.database.begin() as session:
        kept = await session.get_one(Batch, batch.id, with_for_update=True)
        told = [
            telling.tell(n, f"{n}", "own", outcome, kind="chat", job_id=ids.new())
            for n, outcome in enumerate(_OUTCOMES, 1)
        ]
        await results.append(session, kept, [msgspec.structs.replace(it, is_kept=True) for it in told])
    return batch.id


async def test_what_failed_is_asked_again(ground: Ground, account: Account, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(copying, "_AT_ONCE", 2)
    old = await _over(ground, account)
    before = await readings.held_of(ground, account)
    batch_id = await readings.hand_over(ground, account, source="retry", source_id=old)
    batch = await readings.read(ground, account, batch_id)
    assert (batch.state, batch.lines, batch.rejected, batch.read_lines) == ("running", 4, 0, 5)
    copied = await readings.lines_of(ground, batch_id)
    assert [it.line for it in copied] == [2, 3, 4, 5]
    were = {it.line: it for it in await readings.lines_of(ground, old)}
    for it in copied:
        was = were[it.line]
        for name in ("custom_id", "form", "kind", "spec", "labels", "timeout_s", "units", "refused"):
            assert getattr(it, name) == getattr(was, name)
    needs = sum(it.units["chat_tokens"] for it in copied)
    assert (batch.needs, await readings.held_of(ground, account)) == ({"chat_tokens": needs}, before + needs)
    await assert_even(ground)


async def test_copying_goes_on_where_it_stopped(
    ground: Ground, account: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(copying, "_AT_ONCE", 2)
    old = await _over(ground, account)
    batch_id = await readings.hand_over(ground, account, source="retry", source_id=old)
    assert await copying.copy(ground, batch_id, 0) == (3, False)
    assert await copying.copy(ground, batch_id, 0) == (3, False), "whoever asks again is told where it stands"
    assert [it.line for it in await readings.lines_of(ground, batch_id)] == [2, 3]
    batch = await readings.read(ground, account, batch_id)
    assert (batch.state, batch.lines) == ("running", 4)
    assert [it.line for it in await readings.lines_of(ground, batch_id)] == [2, 3, 4, 5]


async def test_what_did_not_fit_before_fits_another_time(ground: Ground, account: Account) -> None:
    await readings.allow(ground, account, 0)
    old = await readings.read_all(ground, account, jsonl(line("a"), b"x", line("c")))
    assert old.rejected == 3
    await readings.allow(ground, account, 10_000)
    batch_id = await readings.hand_over(ground, account, source="retry", source_id=old.id, mode="all")
    batch = await readings.read(ground, account, batch_id)
    assert (batch.state, batch.lines, batch.rejected) == ("running", 2, 0)
    assert [(it.line, it.refused) for it in await readings.lines_of(ground, batch_id)] == [(1, False), (3, False)]
    await assert_even(ground)


async def test_where_nothing_can_be_asked_again_the_batch_fails(ground: Ground, account: Account) -> None:
    fine = await readings.read_all(ground, account, jsonl(line("a"), b"x"))
    for source_id in (fine.id, ids.new()):
        batch_id = await readings.hand_over(ground, account, source="retry", source_id=source_id)
        batch = await readings.read(ground, account, batch_id)
        assert batch.state == "failed"
        assert batch.error is not None
        assert batch.error["code"] == "no_valid_lines"
