"""The only writer of job state: admit, draw, claim, keep, give back, finish, cancel, expire.

Each works for many jobs at once and is one transaction in which the jobs' rows and their units move together; the
queue and the streams hear of it after the commit, and what they miss `workers/tend.py` repairs. `attempt` is the
fencing token: whoever ends a job, or keeps something for it, must name the attempt that runs it.

Locks are taken in one order: the batch, then jobs by id, then names (`names.py`), then balances by id
(`quotas/ledger.py`), then the rest.
"""

from workers.lifecycle.admission import admit, admit_ready
from workers.lifecycle.announcement import announce, enqueue, enqueue_drawn
from workers.lifecycle.attempts import Attempt, Kept, Return, claim, give_back, keep
from workers.lifecycle.backlog import Backlog, TooManyQueued
from workers.lifecycle.call import PoolDraining
from workers.lifecycle.drawing import Drawn, draw, draw_named
from workers.lifecycle.ends import End, Ended, JobAbandoned, cancel, close, failure, finish, finish_in
from workers.lifecycle.moments import cancel_late, expire, next_cancel_s
from workers.lifecycle.names import KEEP_KEYS, IdempotencyKeyReused, fingerprint, forget_keys
from workers.lifecycle.stopping import stop
from workers.lifecycle.submissions import Admitted, Ready, Submission, Submitted, cheaper, prepare

__all__ = [
    "KEEP_KEYS",
    "Admitted",
    "Attempt",
    "Backlog",
    "Drawn",
    "End",
    "Ended",
    "IdempotencyKeyReused",
    "JobAbandoned",
    "Kept",
    "PoolDraining",
    "Ready",
    "Return",
    "Submission",
    "Submitted",
    "TooManyQueued",
    "admit",
    "admit_ready",
    "announce",
    "cancel",
    "cancel_late",
    "cheaper",
    "claim",
    "close",
    "draw",
    "draw_named",
    "enqueue",
    "enqueue_drawn",
    "expire",
    "failure",
    "fingerprint",
    "finish",
    "finish_in",
    "forget_keys",
    "give_back",
    "keep",
    "next_cancel_s",
    "prepare",
    "stop",
]
