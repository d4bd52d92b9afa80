"""How hard a text is: a weighted sum of its features for each tier, of which the largest decides.

The weights are fitted offline (`fit.py`) and kept beside this file, so that what speaks for a tier can be read there.
"""

from functools import cache
from math import exp
from pathlib import Path
from typing import NamedTuple

import msgspec

from providers.catalog import Tier
from providers.router.features import features

TIERS: tuple[Tier, ...] = ("simple", "medium", "complex", "reasoning")
WEIGHTS = Path(__file__).parent / "weights.json"
type Row = tuple[float, float, float, float]
_NOTHING: Row = (0.0, 0.0, 0.0, 0.0)


class Scored(NamedTuple):
    """A text's tier as its rank in `TIERS`, its place between 0 and 1 on that ladder, and what spoke for the tier."""

    rank: int
    score: float
    because: tuple[tuple[str, float], ...]


@cache
def weights() -> dict[str, Row]:
    """Return what each feature counts for each tier."""
    return msgspec.json.decode(WEIGHTS.read_bytes(), type=dict[str, Row])


def score(text: str) -> Scored:
    """Return how hard a text is."""
    found = features(text)
    table = weights()
    rows = [(name, value, table.get(name, _NOTHING)) for name, value in found.items()]
    sums = [sum(value * row[tier] for _name, value, row in rows) for tier in range(len(TIERS))]
    rank = max(range(len(TIERS)), key=lambda tier: sums[tier])
    shares = [exp(one - sums[rank]) for one in sums]
    place = sum(tier * share for tier, share in enumerate(shares)) / sum(shares) / (len(TIERS) - 1)
    spoke = tuple((name, value * (row[rank] - sum(row) / len(row))) for name, value, row in rows)
    return Scored(rank, round(place, 4), spoke)
