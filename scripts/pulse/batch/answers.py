"""What the command reads of the API's answers about batches; members that it does not show are left out."""

import uuid
from datetime import datetime

from msgspec import Struct

from scripts.pulse.answers import Reason

_OVER = frozenset({"completed", "failed", "canceled", "expired"})


class Counts(Struct, frozen=True):
    """Lines of a batch, and what became of them; a rejected one never was a job."""

    lines: int
    rejected: int
    waiting: int
    running: int
    succeeded: int
    failed: int
    canceled: int
    expired: int

    @property
    def bad(self) -> int:
        """How many are over without a success."""
        return self.rejected + self.failed + self.canceled + self.expired

    @property
    def done(self) -> int:
        """How many are over."""
        return self.succeeded + self.bad


class Batch(Struct, frozen=True):
    """What the command shows of a batch; `read_bytes` of `size_bytes` are read while it is validated."""

    id: uuid.UUID
    state: str
    created_at: datetime
    counts: Counts
    mode: str = "each"
    accepted_at: datetime | None = None
    finished_at: datetime | None = None
    expires_at: datetime | None = None
    cancel_requested: bool = False
    size_bytes: int = 0
    read_bytes: int = 0
    charged: dict[str, int] | None = None
    error: Reason | None = None
    metadata: dict[str, object] = {}
    webhook: str | None = None
    retry_of: uuid.UUID | None = None
    input_file_id: uuid.UUID | None = None
    results_bytes: int = 0
    errors_bytes: int = 0

    @property
    def is_over(self) -> bool:
        """Whether nothing of it changes any more."""
        return self.state in _OVER

    @property
    def is_whole(self) -> bool:
        """Whether it is over and all of its lines succeeded."""
        return self.state == "completed" and self.counts.succeeded == self.counts.lines


class Batches(Struct, frozen=True):
    """Batches, newest first."""

    batches: list[Batch]
    next_cursor: str | None = None
