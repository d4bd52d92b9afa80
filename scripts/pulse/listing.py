"""How jobs are listed, so that they fit a terminal of 80 columns with their whole ids."""

from datetime import datetime, timedelta

from rich.table import Table
from rich.text import Text

from scripts.pulse.answers import Job
from scripts.pulse.screen import harmless

#: How the states of jobs look.
STYLES = {"succeeded": "green", "failed": "red", "running": "cyan", "canceled": "yellow", "expired": "yellow"}


def table(jobs: list[Job], now: datetime) -> Table:
    """Return a table of jobs: how old they are at `now`, how long they took, and what they were charged."""
    table = Table(box=None, pad_edge=False)
    for name in ("id", "kind", "state"):
        table.add_column(name, no_wrap=True)
    for name in ("age", "took", "units"):
        table.add_column(name, justify="right", no_wrap=True)
    for job in jobs:
        took = (job.finished_at or now) - job.started_at if job.started_at else None
        charged = " + ".join(f"{amount:,}" for amount in (job.charged or {}).values())
        state = Text(job.state, style=STYLES.get(job.state, ""))
        table.add_row(str(job.id), harmless(job.kind), state, _seconds(now - job.created_at), _seconds(took), charged)
    return table


def _seconds(length: timedelta | None) -> str:
    return span(None if length is None else length.total_seconds())


def span(seconds: float | None) -> str:
    """Return a length of time in two figures and a unit, the way a person says it."""
    if seconds is None:
        return ""
    seconds = max(seconds, 0)
    if seconds < 100:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    for unit, length in (("min", 60), ("h", 3600)):
        if seconds < length * 100:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds / 86_400:.0f} d"
