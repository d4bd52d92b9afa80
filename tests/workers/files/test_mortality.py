"""Whoever dies between two steps of a file's life leaves nothing that the tender does not clear, and no unit lost."""

import asyncio
import subprocess
import sys

import msgspec
import pytest
from sqlalchemy import text

from infra.ground import Ground
from infra.models import Account
from infra.settings import ROOT, Settings
from tests.support.books import assert_even, balance_of
from tests.support.process import environ
from tests.support.work import work_off
from workers import files, intake, tend
from workers.desk import Desk

# Two transactions' ends for each of some ten transactions, and the calls to the store.
_FEWEST_STEPS = 25


async def _lives(settings: Settings, account: Account) -> int:
    """Let one process after another live and die; returns how many steps a whole life has."""
    done = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-m", "tests.support.mortal", str(account.id)],
        cwd=ROOT,
        env=environ(settings),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    return int(done.stdout.split()[-1])


async def _age(ground: Ground) -> None:
    async with ground.database.begin() as session:
        await session.execute(text("UPDATE files SET upload_until = upload_until - interval '1 day'"))
        await session.execute(
            text("UPDATE discards SET due = due - interval '1 day', until = until - interval '1 day'")
        )


async def _objects(ground: Ground) -> set[str]:
    folder = ground.settings.files
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


async def _delete_some(ground: Ground, account: Account) -> None:
    """Delete every other file whose scan has died: what it had put into the store already, nobody will need."""
    async with ground.database.begin() as session:
        scanning = list(await session.scalars(text("SELECT id FROM files WHERE state = 'scanning' ORDER BY id")))
    for file_id in scanning[::2]:
        await files.delete(ground, account.id, file_id)


@pytest.mark.slow
async def test_a_death_at_any_step_leaves_no_orphan_and_loses_no_unit(
    ground: Ground, settings: Settings, account: Account
) -> None:
    quick = msgspec.structs.replace(settings, lease_s=2.0)
    assert await _lives(quick, account) > _FEWEST_STEPS
    await _delete_some(ground, account)
    desk = Desk(ground)
    async with asyncio.timeout(60):
        while True:
            await _age(ground)
            missing: tend.Missing = {}
            await tend.reconcile(ground, missing)
            await intake.tend(ground, desk)
            await work_off(quick, "scan")
            async with ground.database.begin() as session:
                undecided = await session.scalar(text("SELECT count(*) FROM files WHERE decided_at IS NULL"))
                left = await session.scalar(text("SELECT count(*) FROM discards"))
            if not undecided and not left:
                break
            await asyncio.sleep(0.2)
    await ground.storage.tidy(older_s=0)
    async with ground.database.begin() as session:
        named = await session.scalars(
            text("SELECT DISTINCT account_id || '/' || encode(sha256, 'hex') FROM file_variants")
        )
        wanted = {f"assets/{key}" for key in named}
        ready = await session.scalar(
            text("SELECT coalesce(sum(size_bytes), 0)::bigint FROM files WHERE state = 'ready'")
        )
    assert await _objects(ground) == wanted
    assert wanted, "some died after their file was ready"
    balance = await balance_of(ground, account, "storage_bytes")
    assert (balance.held, balance.used + balance.overage) == (0, ready)
    await assert_even(ground)
