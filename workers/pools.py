"""Which kinds each pool runs: a pool is a queue and the worker processes that serve it."""

#: pool -> the kinds it runs; one line of the Procfile each.
POOLS: dict[str, tuple[str, ...]] = {"chat": ("chat",), "scan": ("scan",), "batch": ("batch",)}
#: The kinds that only the studio itself submits: nobody is told of their ends.
OWN = ("scan", "batch")
#: pool -> what its spare children have loaded before a job needs one (`workers/craft/child.py`).
PRELOADS: dict[str, tuple[str, ...]] = {"scan": ("workers.scan.examine",)}


def of(kind: str) -> str:
    """Return the pool that runs a kind; raises `KeyError` for a kind that this build does not know."""
    for pool, kinds in POOLS.items():
        if kind in kinds:
            return pool
    raise KeyError(kind)
