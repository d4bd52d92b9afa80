"""What PostgreSQL would say of the jobs: a few lines of plain Python that do as `workers/lifecycle.py` does."""

from typing import Literal
from uuid import UUID

from msgspec import Struct

from infra.queue import Lane
from tests.simulation.laws import Law


class Row(Struct):
    """A job's row. `attempt` is its fencing token; `seen_at_ms` is when it was last put off or put in."""

    id: UUID
    account: UUID
    kind: str
    lane: Lane
    run_at_ms: int
    state: Literal["queued", "running", "over"] = "queued"
    attempt: int = 0
    unwanted: bool = False
    ends: int = 0

    @property
    def live(self) -> bool:
        """Whether it has still to be run, or is running."""
        return self.state != "over"


class Truth:
    """The table of jobs."""

    def __init__(self) -> None:
        """Begin empty."""
        self.rows: dict[str, Row] = {}

    def submit(self, account: UUID, kind: str, lane: Lane, run_at_ms: int) -> Row:
        """Admit a job."""
        row = Row(UUID(int=(0xA << 96) + len(self.rows)), account, kind, lane, run_at_ms)
        self.rows[str(row.id)] = row
        return row

    def live(self) -> list[Row]:
        """Return the jobs that are not over."""
        return [row for row in self.rows.values() if row.live]

    def claim(self, job_id: str) -> int:
        """Take a job for a new attempt and return that, or 0 when it is over, or not wanted any more and ended here."""
        row = self.rows[job_id]
        if not row.live:
            return 0
        if row.unwanted:
            self.abandon(row)
            return 0
        Law.ENDED_ONCE.holds(row.ends == 0, row)
        row.state, row.attempt = "running", row.attempt + 1
        return row.attempt

    def abandon(self, row: Row) -> None:
        """End a job that nobody runs, under the next fencing token."""
        row.attempt += 1
        self._end(row)

    def put_off(self, job_id: str, attempt: int, run_at_ms: int) -> bool:
        """Give a job back for later; False when this attempt has it no longer."""
        row = self.rows[job_id]
        if not self._has(row, attempt):
            return False
        row.state, row.run_at_ms = "queued", run_at_ms
        return True

    def finish(self, job_id: str, attempt: int) -> None:
        """End a job, if this attempt still has it."""
        row = self.rows[job_id]
        if self._has(row, attempt):
            self._end(row)

    def cancel(self, job_id: str) -> bool:
        """Stop a job that is not over; True when it waited, and ended now."""
        row = self.rows[job_id]
        row.unwanted = row.unwanted or row.live
        waited = row.state == "queued"
        if waited:
            self._end(row)
        return waited

    @staticmethod
    def _has(row: Row, attempt: int) -> bool:
        return row.state == "running" and row.attempt == attempt

    @staticmethod
    def _end(row: Row) -> None:
        row.state, row.ends = "over", row.ends + 1
        Law.ENDED_ONCE.holds(row.ends == 1, row)
