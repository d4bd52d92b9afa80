"""Batches: the only writer of many jobs that were handed over in one call.

    validating -> running -> completed | expired
    validating -> failed
    any of the first -> canceling -> canceled

While it is validated the job that reads it writes the row (`reading`), and after that the tender alone (`feeding`),
always under the lock on it. Locks are taken in one order: the batch, jobs by id, names, balances by id.
"""
