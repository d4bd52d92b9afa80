"""A worker is five times the best peer's and twenty times arq's, starts a job within 2 ms, and loses none when killed.

Peers: arq, SAQ, taskiq and streaQ, each in its own environment, on the same Valkey with its file of persistence on.
"""

from bench.queue.rounds import run

__all__ = ["run"]
