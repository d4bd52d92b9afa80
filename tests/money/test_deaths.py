"""An API that is killed at any moment loses no unit, runs no job for nothing, and makes no job twice.

The worst moment is the one after an admission's commit: the units are held, and nobody has heard of the job.
"""

import asyncio
import itertools
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx2
import pytest
from sqlalchemy import func, select

from infra.ground import Ground
from infra.models import Account, IdempotencyKey, Job
from infra.settings import Settings
from tests.support import process
from tests.support.books import assert_charged_once, assert_even, balance_of
from tests.support.chats import Client, chat
from tests.support.lives import age
from tests.support.load import persist
from tests.support.work import work_off, working
from workers import tend

_CLIENTS = 12
_COST = 11 + 7 * 5  # what the vendor of the tests counts, weighed


async def _submit(client: Client, numbers: "itertools.count[int]", told: dict[str, str], over: asyncio.Event) -> None:
    """Submit one job after another under keys of their own, each until the API has answered."""
    while not over.is_set():
        key = f"k{next(numbers)}"
        body: dict[str, Any] = chat(key, max_output_tokens=16)
        answer = await persist(client, "POST", "/v1/jobs", json=body, headers={"Idempotency-Key": key})
        assert answer.status_code == 202, answer.text
        told[key] = answer.json()["job"]["id"]


async def _assert_one_job_a_key(client: Client, ground: Ground, told: dict[str, str]) -> None:
    """Fail unless a client that asks again gets the job that it was told of, and there is no other."""
    async with ground.database.begin() as session:
        rows = await session.execute(select(IdempotencyKey.key, IdempotencyKey.subject_id))
        kept = {row.key: row.subject_id for row in rows}
        jobs = await session.scalar(select(func.count()).select_from(Job))
    assert kept == {key: UUID(job_id) for key, job_id in told.items()}
    assert jobs == len(told)
    for key in list(told)[::7]:
        body = chat(key, max_output_tokens=16)
        answer = await persist(client, "POST", "/v1/jobs", json=body, headers={"Idempotency-Key": key})
        assert (answer.json()["job"]["id"], answer.headers["idempotent-replayed"]) == (told[key], "true")


async def _unheard(ground: Ground) -> list[UUID]:
    """Return the jobs that wait and that the queue does not know."""
    async with ground.database.begin() as session:
        waiting = list(await session.scalars(select(Job.id).where(Job.state == "queued")))
    return await ground.queue.lost("chat", waiting)


async def _run_all(ground: Ground, settings: Settings) -> None:
    """Have the tender queue what nobody heard of, and workers do everything."""
    async with asyncio.timeout(120):
        while True:
            await age(ground)
            await tend.reconcile(ground, {})
            await work_off(settings)
            async with ground.database.begin() as session:
                if not await session.scalar(select(func.count()).where(Job.finished_at.is_(None))):
                    return


@pytest.mark.slow
@pytest.mark.parametrize("how", ["committed", "whenever"])
@pytest.mark.parametrize("deaths", [3, pytest.param(100, marks=pytest.mark.trial)])
async def test_an_api_that_is_killed_loses_no_unit_and_runs_no_job_for_nothing(
    settings: Settings, ground: Ground, account: Account, key: str, tmp_path: Path, how: str, deaths: int
) -> None:
    log, over, told = tmp_path / "log", asyncio.Event(), dict[str, str]()
    numbers = itertools.count()
    command = ("tests.support.doomed", how, str(deaths), "7")
    with process.started(*command, env=process.environ(settings), log=log) as api:
        base = f"http://127.0.0.1:{settings.port}"
        async with (
            working(settings),
            httpx2.AsyncClient(base_url=base, headers={"Authorization": f"Bearer {key}"}, timeout=20) as client,
            asyncio.timeout(600),
        ):
            clients = [asyncio.create_task(_submit(client, numbers, told, over)) for _ in range(_CLIENTS)]
            while "lives" not in log.read_text().split():
                assert api.poll() is None, log.read_text()
                await asyncio.sleep(0.05)
            over.set()
            await asyncio.gather(*clients)
            await _assert_one_job_a_key(client, ground, told)
    assert how != "committed" or len(await _unheard(ground)) >= deaths, "each has left a job that nobody heard of"
    await _run_all(ground, settings)
    async with ground.database.begin() as session:
        states = await session.execute(select(Job.state, func.count()).group_by(Job.state))
        assert [tuple(row) for row in states] == [("succeeded", len(told))]
    await assert_charged_once(ground)
    assert (await balance_of(ground, account)).used == len(told) * _COST
    await assert_even(ground)
