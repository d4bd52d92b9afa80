"""One process serves ten thousand viewers at 20 KiB each on four connections to Redis, and each event exactly once.

Ours: `python -m api`; the textbook: `bench/textbook`, beside it on the same Valkey. Who speaks (as a worker does) and
who views are processes of their own. At the end viewers are dropped at random and the API is killed with `kill -9`.
"""

from bench.sse.rounds import run

__all__ = ["run"]
