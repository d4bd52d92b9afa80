"""Ours, among the contenders of `bench queue`: the same orders as for its peers, in the project's own environment."""

import sys
from pathlib import Path

from bench.queue.figures import OURS
from bench.queue.peer import Peer


def contender() -> Peer:
    """Return it."""
    return Peer(OURS, Path(__file__).with_name("adapter.py"), lambda: Path(sys.executable))
