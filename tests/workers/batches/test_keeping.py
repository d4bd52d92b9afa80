"""The lines and results of batches go when their days are over; that there was a batch stays."""

from collections.abc import Generator

import msgspec
import pytest
from sqlalchemy import text

from infra import ground as grounds
from infra.ground import Ground
from infra.models import Account, Batch
from infra.settings import Settings
from tests.support.batches import assert_exact, batch_of, feed_all, put, told
from tests.support.pairs import pairs
from workers.batches import keeping


@pytest.fixture(autouse=True)
def kind() -> Generator[None]:
    """Let the kind that is asked for have a pool."""
    with pairs():
        yield


async def kept(ground: Ground, batch: Batch) -> tuple[int, int]:
    """Return how many lines and results of a batch are kept."""
    async with ground.database.begin() as session:
        count = "SELECT (SELECT count(*) FROM batch_lines WHERE batch_id = :id)"
        lines = await session.scalar(text(count), {"id": batch.id})
    return lines or 0, len(await told(ground, batch.id))


async def test_only_what_ended_long_enough_ago_is_forgotten(
    settings: Settings, ground: Ground, account: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keeping, "_MOST_ROWS", 2)
    monkeypatch.setattr(keeping, "_MOST_AT_ONCE", 1)
    old, older, fresh = [await put(ground, account, lines) for lines in (5, 4, 3)]
    for batch in (old, older, fresh):
        await feed_all(ground, batch.id)
    running = await put(ground, account, 2)
    await assert_exact(ground)
    async with ground.database.begin() as session:
        aged = text("UPDATE batches SET finished_at = finished_at - interval '2 days' WHERE id = ANY(:ids)")
        await session.execute(aged, {"ids": [old.id, older.id]})
    async with grounds.opened(msgspec.structs.replace(settings, batch_keep_days=3)) as patient:
        assert await keeping.forget(patient) == 0
    async with grounds.opened(msgspec.structs.replace(settings, batch_keep_days=1)) as brief:
        assert await keeping.forget(brief) == 2
        assert await keeping.forget(brief) == 0, "they are not looked through again"
    assert [await kept(ground, batch) for batch in (old, older, fresh, running)] == [(0, 0), (0, 0), (3, 3), (2, 0)]
    over = await batch_of(ground, old.id)
    assert (over.state, over.succeeded) == ("completed", 5)
