"""What became of the calls of this process, counted: the one place where metrics of the gateway are read."""

from collections import Counter
from typing import Literal, NamedTuple

#: `tried` and `answered` of a door; `failed` with the fact's code; `resumed` after a break; `turned` to another answer;
#: `waited` for a door; `left` by whoever asked.
What = Literal["tried", "answered", "failed", "resumed", "turned", "waited", "left"]


class Count(NamedTuple):
    """What is counted apart; `code` is the fact's."""

    what: What
    model: str
    deployment: str
    code: str = ""


class Tally:
    """Counts that only grow."""

    def __init__(self) -> None:
        """Start at nothing."""
        self.counts: Counter[Count] = Counter()

    def add(self, what: What, model: str, deployment: str, code: str = "") -> None:
        """Count one."""
        self.counts[Count(what, model, deployment, code)] += 1

    def total(self, what: What) -> int:
        """Return how often something has happened, wherever it was."""
        return sum(count for key, count in self.counts.items() if key.what == what)
