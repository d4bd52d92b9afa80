"""Whoever dies while it feeds a batch leaves nothing that the next one does not go on with, and no unit lost."""

import asyncio
import subprocess
import sys
from collections.abc import Generator

import msgspec
import pytest
from sqlalchemy import select, text

from infra.ground import Ground
from infra.models import Account, Job
from infra.settings import ROOT, Settings
from tests.support.batches import assert_exact, batch_of, flights, land, look, put
from tests.support.pairs import pairs
from tests.support.process import environ
from workers import tend

_LINES, _WINDOW = 3, 2
_MOST_STEPS = 20


@pytest.fixture(autouse=True)
def kind() -> Generator[None]:
    """Let the kind that is asked for have a pool."""
    with pairs():
        yield


@pytest.mark.slow
@pytest.mark.parametrize(
    ("how", "end", "fewest"),
    [
        ("run", "completed", 14),
        ("cancel", "canceled", 12),
        pytest.param("close", "expired", 8, marks=pytest.mark.trial),
    ],
)
async def test_a_death_at_any_step_leaves_every_line_one_result(
    ground: Ground, settings: Settings, account: Account, how: str, end: str, fewest: int
) -> None:
    batches = [await put(ground, account, _LINES) for _ in range(_MOST_STEPS)]
    narrow = msgspec.structs.replace(settings, batch_window=_WINDOW * _MOST_STEPS)
    lived = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-m", "tests.support.feeding", how, *(str(batch.id) for batch in batches)],
        cwd=ROOT,
        env=environ(narrow),
        capture_output=True,
        text=True,
        check=False,
    )
    assert lived.returncode == 0, lived.stdout[-2000:] + lived.stderr[-4000:]
    steps = int(lived.stdout)
    assert steps > fewest
    await _repair(ground)
    async with asyncio.timeout(60):
        while any([(await batch_of(ground, batch.id)).finished_at is None for batch in batches]):
            await look(ground)
            for batch in batches:
                await land(ground, await flights(ground, batch.id))
    over = [await batch_of(ground, batch.id) for batch in batches]
    assert {batch.state for batch in over[:steps]} == {end}
    await assert_exact(ground)


async def _repair(ground: Ground) -> None:
    """Let the tender mend what the dead have left, and see that every job that lives waits on its queue."""
    async with ground.database.begin() as session:
        await session.execute(text("UPDATE jobs SET created_at = created_at - interval '1 hour'"))
        await session.execute(text("UPDATE jobs SET run_at = created_at"))
    await tend.reconcile(ground, {})
    async with ground.database.begin() as session:
        live = list(await session.scalars(select(Job.id).where(Job.finished_at.is_(None))))
    assert await ground.queue.lost("pair", live) == []
