"""How the studio's pools stand, as an operator sees them: gathered from both servers, and drawn."""

import time
from typing import Literal

from msgspec import Struct
from rich.console import Group as Lines
from rich.table import Table
from rich.text import Text

from infra.ground import Ground
from infra.overview import Overview
from scripts.pulse.listing import span
from workers import control, pools

_STYLES = {"paused": "yellow", "draining": "yellow", "no workers": "red"}


class Worker(Struct, frozen=True, kw_only=True):
    """One living worker process."""

    host: str
    pid: int
    slots: int
    running: int
    up_s: float
    stopping: bool


class Pool(Struct, frozen=True, kw_only=True):
    """One pool; jobs done, failed and returned to the queue are those of the last minute."""

    name: str
    mode: Literal["running", "paused", "draining"]
    waiting: int
    lanes: dict[str, int]
    deferred: int
    oldest_s: float | None
    running: int
    slots: int
    done: float
    failed: float
    returned: float
    account_cap: int | None
    kind_caps: dict[str, int]
    slots_wanted: int | None
    workers: list[Worker]


async def look(ground: Ground) -> list[Pool]:
    """Return how every pool stands."""
    async with ground.database.begin() as session:
        wanted = await control.find(session)
    return [_pool(row, await ground.overseer.overview(name, pools.POOLS[name])) for name, row in wanted.items()]


def _pool(row: control.PoolControl, seen: Overview) -> Pool:
    now = time.time()
    return Pool(
        name=row.name,
        mode="paused" if row.paused else "draining" if row.draining else "running",
        waiting=seen.waiting,
        lanes={**seen.lanes},
        deferred=seen.deferred,
        oldest_s=seen.oldest_s,
        running=seen.running,
        slots=seen.slots,
        done=round(seen.done, 1),
        failed=round(seen.failed, 1),
        returned=round(seen.returned, 1),
        account_cap=row.account_cap,
        kind_caps=dict(row.kind_caps),
        slots_wanted=row.slots,
        workers=[
            Worker(
                host=worker.host,
                pid=worker.pid,
                slots=worker.slots,
                running=worker.running,
                up_s=round(now - worker.born_s, 1),
                stopping=worker.stopping,
            )
            for worker in seen.workers
        ],
    )


def table(found: list[Pool]) -> Table:
    """Return all pools as a table that fits 80 columns."""
    table = Table(box=None, pad_edge=False, caption="done and failed: jobs in the last minute", caption_justify="left")
    for name in ("pool", "state"):
        table.add_column(name, no_wrap=True)
    for name in ("waits", "batch", "later", "oldest", "running", "done", "failed", "workers"):
        table.add_column(name, justify="right", no_wrap=True)
    for pool in found:
        state = pool.mode if pool.workers else "no workers"
        table.add_row(
            pool.name,
            Text(state, style=_STYLES.get(state, "green")),
            f"{pool.waiting:,}",
            f"{pool.lanes['batch']:,}",
            f"{pool.deferred:,}",
            span(pool.oldest_s),
            f"{pool.running:,}/{pool.slots:,}",
            f"{pool.done:,.0f}",
            f"{pool.failed:,.0f}",
            str(len(pool.workers)),
        )
    return table


def sheet(pool: Pool) -> Lines:
    """Return one pool with its caps and its workers."""
    wanted = [f"slots {pool.slots_wanted}"] if pool.slots_wanted is not None else []
    wanted += [f"account cap {pool.account_cap}"] if pool.account_cap is not None else []
    wanted += [f"at most {cap} {kind} jobs" for kind, cap in pool.kind_caps.items()]
    workers = Table(box=None, pad_edge=False)
    for name in ("worker", "running", "up", ""):
        workers.add_column(name, no_wrap=True)
    for worker in pool.workers:
        where = f"{worker.host} {worker.pid}"
        workers.add_row(
            where, f"{worker.running}/{worker.slots}", span(worker.up_s), "stopping" if worker.stopping else ""
        )
    said = Text.assemble(("set here  ", "bold"), ", ".join(wanted) or "nothing: as its workers were started")
    return Lines(table([pool]), Text(), said, Text(), workers)
