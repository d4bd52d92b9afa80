"""Runs the rounds of `bench lifecycle`: each peer's no-op, then our whole jobs, then all of it again."""

import asyncio
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Generator
from contextlib import contextmanager
from datetime import datetime

import msgspec
from sqlalchemy import func, select, text

from bench.lifecycle import noop
from bench.queue import field
from bench.queue.contender import Contender
from bench.queue.figures import OURS
from bench.queue.server import Valkey
from infra import embedded, ground, schema, telemetry
from infra.ground import Ground
from infra.models import Account, Job
from infra.settings import ROOT, Settings, variable
from quotas import accounts, audit, ledger

_ACCOUNTS = 50
_SLOTS = 100
_CALLERS = 200
_PATIENCE_S = 300.0


class Whole(msgspec.Struct, frozen=True, kw_only=True):
    """What one round of ours found out."""

    jobs_per_s: float
    worker_cpu_us: float
    client_cpu_us: float


def run(*, quick: bool) -> dict[str, object]:
    """Return the medians of jobs a second, and what a whole job costs in CPU."""
    rounds, jobs = (1, 2_000) if quick else (5, 20_000)
    peers = {name: peer for name, peer in field.contenders().items() if name != OURS}
    for peer in peers.values():
        peer.prepare()
    ours: list[Whole] = []
    theirs: dict[str, list[float]] = {name: [] for name in peers}
    with Valkey() as valkey:
        for number in range(rounds):
            print(f"round {number + 1} of {rounds}", file=sys.stderr, flush=True)
            for name, peer in peers.items():
                theirs[name].append(_noops_per_s(peer, valkey, jobs if name != "arq" else jobs // 5))
            ours.append(_whole(jobs))
        persistence = valkey.describe()
    best = [max(found) for found in zip(*theirs.values(), strict=True)]
    ratios = [one.jobs_per_s / most for one, most in zip(ours, best, strict=True)]
    return {
        "jobs_per_s": {
            OURS: round(statistics.median(one.jobs_per_s for one in ours)),
            "best_peer_noop": round(statistics.median(best)),
        },
        "ratio": round(statistics.median(ratios), 2),
        "peers_noop_per_s": {name: round(statistics.median(found)) for name, found in theirs.items()},
        "cpu_us_per_job": {
            "worker": round(statistics.median(one.worker_cpu_us for one in ours)),
            "client": round(statistics.median(one.client_cpu_us for one in ours)),
        },
        "persistence": f"PostgreSQL fsync on, synchronous_commit on; {persistence}",
        "rounds": rounds,
        "jobs": jobs,
    }


def _noops_per_s(peer: Contender, valkey: Valkey, jobs: int) -> float:
    valkey.clear()
    peer.enqueue(valkey, jobs, bulk=True)
    return jobs / peer.drain(valkey, jobs, _SLOTS).seconds


def _whole(jobs: int) -> Whole:
    with tempfile.TemporaryDirectory(prefix="pulse-bench-") as folder:
        settings = Settings(env="test", home=folder, log_level="error")
        telemetry.configure(settings, "bench")
        with embedded.Servers(settings):
            schema.migrate(settings)
            settings = msgspec.structs.replace(
                settings,
                database_url=embedded.database_url(settings),
                redis_url=embedded.redis_url(settings),
            )
            asyncio.run(_make_accounts(settings))
            with _process(settings, "work", _SLOTS) as worker:
                time.sleep(2)  # until it waits for jobs
                with _process(settings, "submit", jobs, _CALLERS) as client:
                    client_cpu_s = _cpu_s(client)
                seconds = asyncio.run(_settled(settings, jobs))
                worker.send_signal(signal.SIGTERM)
                worker_cpu_s = _cpu_s(worker)
    return Whole(
        jobs_per_s=jobs / seconds, worker_cpu_us=worker_cpu_s / jobs * 1e6, client_cpu_us=client_cpu_s / jobs * 1e6
    )


@contextmanager
def _process(settings: Settings, *role: object) -> Generator["subprocess.Popen[str]"]:
    given = {variable(name): str(value) for name, value in msgspec.structs.asdict(settings).items() if value != ""}
    command = [sys.executable, "-m", "bench.lifecycle.process", *map(str, role)]
    process = subprocess.Popen(command, cwd=ROOT, env=os.environ | given, stdout=subprocess.PIPE, text=True)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def _cpu_s(process: "subprocess.Popen[str]") -> float:
    said, _ = process.communicate(timeout=_PATIENCE_S)
    return json.loads(said.splitlines()[-1])["cpu_s"]


async def _make_accounts(settings: Settings) -> None:
    async with ground.opened(settings) as opened, opened.database.begin() as session:
        for number in range(_ACCOUNTS):
            account = await accounts.create(session, f"bench-{number}@example.com")
            account.plan = "studio"
        await session.flush()
        # The first period was opened on the default plan; the bench asks for more than that.
        await session.execute(text("DELETE FROM ledger_entries"))
        await session.execute(text("DELETE FROM balances"))
        for account in list(await session.scalars(select(Account))):
            await ledger.lock(session, [(account, noop.METER)])


async def _settled(settings: Settings, jobs: int) -> float:
    """Wait until every job is over; return the seconds from the first submission to the last end, if all is right."""
    async with ground.opened(settings) as opened, asyncio.timeout(_PATIENCE_S):
        while await _count(opened, Job.finished_at.is_(None)):  # noqa: ASYNC110 (it is another process that ends them)
            await asyncio.sleep(0.02)
        async with opened.database.begin() as session:
            row = (await session.execute(select(func.min(Job.created_at), func.max(Job.finished_at)))).one()
            wrong = await audit.disagreements(session)
            told = await opened.streams.read((await session.scalars(select(Job.id).limit(1))).one())
        charged = Job.charged[noop.METER].as_integer() == noop.USED
        right = await _count(opened, (Job.state == "succeeded") & charged)
    if wrong or right != jobs or len(told) != 4:
        raise RuntimeError(f"{right} of {jobs} jobs are right, {len(told)} events of 4, the books say {wrong}")
    began, ended = row[0], row[1]
    assert isinstance(began, datetime)
    assert isinstance(ended, datetime)
    return (ended - began).total_seconds()


async def _count(opened: Ground, which: object) -> int:
    async with opened.database.begin() as session:
        return await session.scalar(select(func.count()).select_from(Job).where(which)) or 0  # type: ignore[arg-type]
