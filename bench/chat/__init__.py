"""A streamed chat through the whole studio beside LiteLLM's proxy: answers a second, first byte, CPU for each chunk.

Ours: API, a chat worker, PostgreSQL and Valkey; every answer is a job with a hold, an event log and a ledger entry.
LiteLLM: its proxy, one process, without a database or callbacks, which keeps nothing. Both ask the same upstream, a
process that speaks Chat Completions; the client, a process of its own, also asks the upstream itself.
"""

from bench.chat.rounds import run

__all__ = ["run"]
