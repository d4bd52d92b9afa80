"""Decides who takes part in `bench queue`."""

import importlib
import importlib.util
from functools import partial

from bench.queue import environments
from bench.queue.contender import Contender
from bench.queue.figures import OURS
from bench.queue.peer import Peer

PEERS = ("arq", "saq", "taskiq", "streaq")


def contenders() -> dict[str, Contender]:
    """Return everyone by name, ours first if it is there: the `contender()` of `bench/queue/pulse.py`."""
    field: dict[str, Contender] = {}
    if importlib.util.find_spec(f"bench.queue.{OURS}"):
        field[OURS] = importlib.import_module(f"bench.queue.{OURS}").contender()
    for name in PEERS:
        field[name] = Peer(name, environments.PEERS / f"{name}.py", partial(environments.python, name))
    return field
