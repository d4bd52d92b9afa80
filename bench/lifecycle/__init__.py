"""A whole metered job, with its hold, events, result and charge, costs no more than the best peer's empty one.

Ours: submitted, held in PostgreSQL (fsync on), queued, claimed, run, told in three events, settled, its result kept;
from the first submission to the last settled job, with the client in a second process. The peers: a no-op job without a
database, taken from a full queue. All on the same machine, interleaved, one worker process each.
"""

from bench.lifecycle.rounds import run

__all__ = ["run"]
