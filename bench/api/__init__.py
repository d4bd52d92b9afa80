"""Submissions a second: over five times a textbook's, and two fifths of what an endpoint does that keeps nothing.

Ours: `python -m api`, one process, with a key, an Idempotency-Key and rate limits on every request; the textbook:
`bench/textbook`, one process, with a key and an Idempotency-Key; the limit: a bare endpoint that keeps nothing. Same
PostgreSQL and Valkey, same machine, same run, interleaved; the client is a process of its own.
"""

from bench.api.rounds import run

__all__ = ["run"]
