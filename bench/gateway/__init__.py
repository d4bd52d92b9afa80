"""The gateway adds at most 5 ms to a call and relays at least 5,000 chunks a second in one process.

The openai SDK alone and the gateway (with its doors in a real Valkey) ask the same upstream, a process that only sends
what it has ready; both in one process, in turn. A call is a short answer, one at a time and twenty at a time; the relay
is long answers, twenty at a time. Beside them stand the gateway without Redis and the adapter alone. On a machine that
is busy otherwise, what counts is the CPU time: `chunks_per_cpu_s` is what one core of its own would relay.
"""

from bench.gateway.rounds import run

__all__ = ["run"]
