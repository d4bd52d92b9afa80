"""A hundred thousand requests are handed over in one call, accepted in seconds and flat memory, and all of them run.

One HTTP call brings the file; the batch pool reads it, the tender feeds it to one worker, all of them real processes on
PostgreSQL (fsync on) and Valkey. Each job works for 50 ms, a hundred at a time. Meanwhile the batch's own account and
another one submit interactive jobs, one after the other: each should start within the time that one slot takes for one
job. Memory is what each process has for itself (the kernel's RssAnon), at its most, above what it was before the call.
"""

from bench.batch.rounds import run

__all__ = ["run"]
