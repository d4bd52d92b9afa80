"""Fit the weights of `score.py` to files of twins: `python -m providers.router.fit FILE... [--across N]`.

A multinomial logistic regression in plain Python, the same at every run. Besides the labels it is held to two things:
twins are to get equal sums, and each row stands again with some of its concepts left out, so that no weight relies on
one word being known. `--across N` fits N times without an Nth of the twins and says how well that part is told.
"""

import argparse
import sys
import zlib
from collections.abc import Sequence
from math import exp
from pathlib import Path
from typing import NamedTuple

import msgspec

from providers.router import twins
from providers.router.features import features
from providers.router.score import TIERS, WEIGHTS
from providers.router.twins import Twins

_ROUNDS = 300
_STEP = 0.5
_KEEP = 0.9
_SHRINK = 1.2  # of the squares of the weights, per row
_TWIN = 0.5  # of the squared difference of twins' sums
_COPIES = 2
_LEFT_OUT_PERCENT = 20
type Columns = list[tuple[int, float]]


class Row(NamedTuple):
    """One prompt: its features by column, and its tier's rank."""

    columns: Columns
    rank: int
    weight: float


class Data(NamedTuple):
    """What is fitted: the names of the columns, the prompts, and by how much twins differ, by column."""

    names: list[str]
    rows: list[Row]
    between: list[Columns]


def fit(pairs: Sequence[Twins]) -> dict[str, tuple[float, ...]]:
    """Return the weights by feature that tell these twins' tiers."""
    data = _data(pairs)
    count = len(TIERS)
    table = [[0.0] * count for _name in data.names]
    moving = [[0.0] * count for _name in data.names]
    total = sum(row.weight for row in data.rows)
    for _round in range(_ROUNDS):
        slope = _slope(data, table)
        for at, row in enumerate(table):
            for tier in range(count):
                pull = slope[at][tier] + _SHRINK * row[tier]
                moving[at][tier] = _KEEP * moving[at][tier] - _STEP / total * pull
                row[tier] += moving[at][tier]
    return {name: tuple(round(one, 3) for one in row) for name, row in sorted(zip(data.names, table, strict=True))}


def _data(pairs: Sequence[Twins]) -> Data:
    found = [(pair, features(pair.en), features(pair.ar)) for pair in pairs]
    names = sorted({name for _pair, en, ar in found for name in (*en, *ar)})
    place = {name: at for at, name in enumerate(names)}
    rows: list[Row] = []
    between: list[Columns] = []
    for pair, en, ar in found:
        rank = TIERS.index(pair.tier)
        for side, values in (("en", en), ("ar", ar)):
            for copy in range(_COPIES + 1):
                kept = {
                    name: one for name, one in values.items() if not _left_out(f"{pair.id}{side}{copy}", name, copy)
                }
                rows.append(Row([(place[name], one) for name, one in kept.items()], rank, 1 / (_COPIES + 1)))
        gaps = ((name, en.get(name, 0.0) - ar.get(name, 0.0)) for name in {*en, *ar})
        between.append(sorted((place[name], gap) for name, gap in gaps if gap))
    return Data(names, rows, between)


def _left_out(row: str, name: str, copy: int) -> bool:
    """Leave concepts out by a checksum: as good as chance, and the same at every run."""
    chosen = zlib.crc32(f"{row}/{name}".encode()) % 100 < _LEFT_OUT_PERCENT
    return copy > 0 and chosen and name.startswith(("has:", "asks:", "often:"))


def _slope(data: Data, table: list[list[float]]) -> list[list[float]]:
    slope = [[0.0] * len(TIERS) for _name in table]
    for row in data.rows:
        sums = _sums(row.columns, table)
        highest = max(sums)
        shares = [exp(one - highest) for one in sums]
        whole = sum(shares)
        pulls = [row.weight * (share / whole - (tier == row.rank)) for tier, share in enumerate(shares)]
        _add(slope, row.columns, pulls)
    for gaps in data.between:
        _add(slope, gaps, [_TWIN * one for one in _sums(gaps, table)])
    return slope


def _sums(columns: Columns, table: list[list[float]]) -> list[float]:
    a = b = c = d = 0.0
    for at, value in columns:
        row = table[at]
        a += value * row[0]
        b += value * row[1]
        c += value * row[2]
        d += value * row[3]
    return [a, b, c, d]


def _add(slope: list[list[float]], columns: Columns, pulls: list[float]) -> None:
    for at, value in columns:
        row = slope[at]
        for tier, pull in enumerate(pulls):
            row[tier] += value * pull


def told(weights: dict[str, tuple[float, ...]], text: str) -> int:
    """Return the rank of the tier that these weights give a text."""
    rows = [(value, weights[name]) for name, value in features(text).items() if name in weights]
    return max(range(len(TIERS)), key=lambda tier: sum(value * row[tier] for value, row in rows))


def across(pairs: Sequence[Twins], parts: int) -> tuple[float, float, float]:
    """Return agreement and accuracy in English and Arabic of twins that the weights were fitted without."""
    same = en = ar = 0
    for part in range(parts):
        weights = fit([pair for at, pair in enumerate(pairs) if at % parts != part])
        for pair in pairs[part::parts]:
            rank, ranks = TIERS.index(pair.tier), (told(weights, pair.en), told(weights, pair.ar))
            same += ranks[0] == ranks[1]
            en += ranks[0] == rank
            ar += ranks[1] == rank
    return same / len(pairs), en / len(pairs), ar / len(pairs)


def main(arguments: Sequence[str] | None = None) -> None:
    """Write the weights, or with `--across` only say how well they generalise."""
    parser = argparse.ArgumentParser(prog="python -m providers.router.fit", description=__doc__)
    parser.add_argument("files", nargs="+", type=Path)
    parser.add_argument("--across", type=int, default=0, metavar="N")
    parser.add_argument("--all", action="store_true", help="fit to the twins of the part `kept` as well")
    options = parser.parse_args(arguments)
    pairs = [pair for file in options.files for pair in twins.read(file) if options.all or pair.part != "kept"]
    if options.across:
        same, en, ar = across(pairs, options.across)
        sys.stdout.write(f"agreement {same:.3f}, accuracy in English {en:.3f}, in Arabic {ar:.3f}\n")
        return
    lines = [f"{msgspec.json.encode(name).decode()}: {list(row)}" for name, row in fit(pairs).items() if any(row)]
    WEIGHTS.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")


if __name__ == "__main__":
    main()
