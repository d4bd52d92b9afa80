"""When a worker has to stop a job that is to be over at a moment: told by two clocks, of which one may be wrong."""

from datetime import UTC, datetime

from workers.lifecycle import Attempt


def wait_s(job: Attempt, asked_s: float) -> float | None:
    """Return in how many seconds the job is to be cancelled; None where it never is. It was asked for `asked_s` ago.

    Since then the database has said how long that is. How long ago, this machine's own clock tells, which is believed
    as far as that can be true.
    """
    if job.cancel_by is None or job.cancel_in_s is None:
        return None
    by_clock_s = (job.cancel_by - datetime.now(UTC)).total_seconds()
    return min(max(by_clock_s, job.cancel_in_s - asked_s), job.cancel_in_s)
