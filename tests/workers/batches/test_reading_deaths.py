"""Whoever dies while it reads a batch, holds what it costs or accepts it, leaves every line exactly once."""

import asyncio
import itertools
import subprocess
import sys
from pathlib import Path
from typing import Any
from uuid import UUID

import msgspec
import pytest
from sqlalchemy import func, select, text

from infra import ids
from infra.ground import Ground
from infra.models import Hold, Job
from infra.settings import ROOT, Settings
from quotas import accounts, ledger
from tests.support import process, readings
from tests.support.books import assert_even, grant
from tests.support.lives import tools
from tests.support.readings import jsonl, line
from workers.perform import perform

# Of a batch that does not fit: enough for some of its lines.
_GRANTED = 9_000
_LARGE, _SMALL = 95, 35
# So many more steps there may be than there are known to be.
_SPARE = 12


def _input(count: int) -> bytes:
    """Return so many lines: some blank, some wrong, some with another one's custom_id, and requests of all sizes."""

    def asked(number: int) -> Any:
        if number % 50 == 0:
            return b""
        if number % 13 == 0:
            return b'{"custom_id": "' + b"\xff" * number + b'"}'
        if number % 17 == 0:
            return line(f"{number - 16}")
        return line(f"{number}", "سطر " * (number % 23 + 1))

    return jsonl(*(asked(number) for number in range(1, count + 1)))


async def _hand_over(ground: Ground, *counts: int) -> list[UUID]:
    """Hand batches over of so many lines, each of an account of its own; returns their ids."""

    async def one(count: int) -> UUID:
        async with ground.database.begin() as session:
            account = await accounts.create(session, f"{ids.new()}@example.com")
            await ledger.open_periods(session, [(account, "chat_tokens")])
        batch_id = await readings.hand_over(ground, account, _input(count))
        await readings.submit(ground, account, batch_id)
        return batch_id

    handed: list[UUID] = []
    for some in itertools.batched(counts, 8):
        handed += await asyncio.gather(*map(one, some))
    await grant(ground, _GRANTED)
    return handed


async def _state(ground: Ground, batch_id: UUID) -> dict[str, Any]:
    """Return all that a batch has come to, but for its ids and moments."""
    batch = await readings.look(ground, batch_id)
    told = await readings.told_of(ground, batch_id)
    async with ground.database.begin() as session:
        query = select(Hold.meter, Hold.units, Hold.drawn, Hold.state).where(Hold.holder_id == batch_id)
        holds = [tuple(row) for row in await session.execute(query)]
        notes = text("SELECT count(*) FROM webhook_messages WHERE subject_id = :id")
        noted = await session.scalar(notes, {"id": batch_id})
    names = ("state", "read_bytes", "read_lines", "fitted_line", "lines", "rejected", "needs", "results_bytes")
    return {
        "batch": {name: getattr(batch, name) for name in (*names, "errors_bytes", "error")},
        "lines": [(it.line, it.custom_id, it.refused, it.units) for it in await readings.lines_of(ground, batch_id)],
        "told": sorted((it["line"], it["error"]["code"]) for it in told),
        "holds": holds,
        "noted": noted,
    }


def _assert_once(state: dict[str, Any], data: bytes) -> None:
    """Fail unless every line that is not blank stands in one place, and what is held is what fitting lines need."""
    fitting = {number: units["chat_tokens"] for number, _, refused, units in state["lines"] if not refused}
    refused = [number for number, _ in state["told"]]
    numbers = [number for number, raw in enumerate(data.split(b"\n")[:-1], 1) if raw]
    assert sorted([*fitting, *refused]) == numbers
    ((_, units, drawn, held),) = state["holds"]
    assert (units - drawn, held, state["noted"]) == (sum(fitting.values()), "held", 0)
    assert {code for _, code in state["told"]} <= {"line_not_utf8", "duplicate_custom_id", "quota_exceeded"}


async def _undisturbed(ground: Ground) -> dict[int, dict[str, Any]]:
    """Return what a large and a small batch come to where nobody dies, by how long their input is."""
    handed = await _hand_over(ground, _LARGE, _SMALL)
    for job_id in await _jobs(ground, handed):
        await perform(tools(ground), job_id)
    large, small = [await _state(ground, batch_id) for batch_id in handed]
    _assert_once(large, _input(_LARGE))
    _assert_once(small, _input(_SMALL))
    assert large["batch"]["state"] == small["batch"]["state"] == "running"
    assert "quota_exceeded" in dict(large["told"]).values()
    assert "quota_exceeded" not in dict(small["told"]).values()
    return {len(_input(_LARGE)): large, len(_input(_SMALL)): small}


async def _jobs(ground: Ground, handed: list[UUID]) -> list[UUID]:
    """Return the jobs that read batches."""
    return [job_id for batch_id in handed if (job_id := (await readings.look(ground, batch_id)).job_id)]


async def _assert_as_undisturbed(ground: Ground, handed: list[UUID], undisturbed: dict[int, dict[str, Any]]) -> None:
    for batch_id in handed:
        batch = await readings.look(ground, batch_id)
        assert await _state(ground, batch_id) == undisturbed[batch.size_bytes]
    await assert_even(ground)


@pytest.mark.slow
@pytest.mark.parametrize(("lines", "fewest"), [(_LARGE, 18), pytest.param(_SMALL, 12, marks=pytest.mark.trial)])
async def test_a_death_at_any_step_of_the_reading_leaves_every_line_once(
    ground: Ground, settings: Settings, lines: int, fewest: int
) -> None:
    undisturbed = await _undisturbed(ground)
    handed = await _hand_over(ground, *[lines] * (fewest + _SPARE))
    jobs = await _jobs(ground, handed)
    done = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-m", "tests.support.felled", "steps", *map(str, jobs)],
        cwd=ROOT,
        env=process.environ(settings),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    steps = int(done.stdout.split()[-1])
    assert steps > fewest
    for job_id in jobs[:steps]:
        await perform(tools(ground), job_id)
    await _assert_as_undisturbed(ground, handed[:steps], undisturbed)


@pytest.mark.slow
@pytest.mark.parametrize("deaths", [4, pytest.param(50, marks=pytest.mark.trial)])
async def test_a_worker_that_is_killed_while_it_reads_leaves_every_line_once(
    settings: Settings, ground: Ground, tmp_path: Path, deaths: int
) -> None:
    undisturbed = await _undisturbed(ground)
    quick, log = msgspec.structs.replace(settings, lease_s=2.0), tmp_path / "log"
    handed = await _hand_over(ground, *[_LARGE, _LARGE, _SMALL] * (2 * deaths))
    command = ("tests.support.felled", "whenever", str(deaths), "6")
    with process.started(*command, env=process.environ(quick), log=log) as reader:
        async with asyncio.timeout(600):
            while await _unread(ground):
                assert reader.poll() is None, log.read_text()
                await asyncio.sleep(0.1)
    async with ground.database.begin() as session:
        again = await session.scalar(select(func.count()).select_from(Job).where(Job.attempt > 1))
    assert again, "some died in the middle of it"
    await _assert_as_undisturbed(ground, handed, undisturbed)


async def _unread(ground: Ground) -> int:
    async with ground.database.begin() as session:
        unfinished = select(func.count()).select_from(Job).where(Job.finished_at.is_(None))
        return (await session.scalar(unfinished)) or 0
