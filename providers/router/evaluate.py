"""Say how well the router does on a file of twins: `python -m providers.router.evaluate FILE`.

Each line of the file is a JSON object with `id`, `tier` (simple, medium, complex or reasoning), `en` and `ar`. Told are
how often both languages get the same tier, how often each gets the labelled one, and which twins are parted; the last
line is one JSON object. A file that is none ends it with status 1 and the line named.
"""

import argparse
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec

from providers.catalog import Tier
from providers.router import route, twins
from providers.router.route import Asked
from providers.router.score import TIERS
from providers.router.twins import MalformedTwins, Twins


class Told(NamedTuple):
    """A pair of twins, and the tiers that the router gives them."""

    twins: Twins
    en: Tier
    ar: Tier


def tell(pairs: Sequence[Twins]) -> list[Told]:
    """Return the tier of each prompt."""
    return [Told(pair, _tier(pair.en), _tier(pair.ar)) for pair in pairs]


def _tier(text: str) -> Tier:
    return route.tier([Asked("user", text)]).tier


def figures(told: Sequence[Told]) -> dict[str, float]:
    """Return the number of pairs, and shares of 1: agreement of twins, and accuracy in each language."""
    count = len(told)
    return {
        "pairs": count,
        "agreement": round(sum(one.en == one.ar for one in told) / count, 4),
        "accuracy_en": round(sum(one.en == one.twins.tier for one in told) / count, 4),
        "accuracy_ar": round(sum(one.ar == one.twins.tier for one in told) / count, 4),
    }


def report(told: Sequence[Told]) -> str:
    """Return the figures, which tiers were taken for which, and the twins that were parted, as lines to read."""
    found = figures(told)
    lines = [f"{found['pairs']} pairs"]
    lines += [f"{name}: {100 * found[name]:.1f} %" for name in ("agreement", "accuracy_en", "accuracy_ar")]
    for language in ("en", "ar"):
        counts = Counter((one.twins.tier, one.en if language == "en" else one.ar) for one in told)
        lines += [
            "",
            f"{language}: labelled (down), told (across)",
            " " * 10 + "".join(f"{tier:>10}" for tier in TIERS),
        ]
        lines += [f"{tier:<10}" + "".join(f"{counts[tier, other]:>10}" for other in TIERS) for tier in TIERS]
    parted = [f"  {one.twins.id}: {one.en} in English, {one.ar} in Arabic" for one in told if one.en != one.ar]
    return "\n".join([*lines, "", f"parted twins: {len(parted)}", *parted])


def main(arguments: Sequence[str] | None = None) -> int:
    """Evaluate the named file; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m providers.router.evaluate", description=__doc__)
    parser.add_argument("file", type=Path)
    options = parser.parse_args(arguments)
    try:
        pairs = twins.read(options.file)
    except MalformedTwins as error:
        sys.stderr.write(f"{error}\n")
        return 1
    told = tell(pairs)
    sys.stdout.write(f"{report(told)}\n{msgspec.json.encode(figures(told)).decode()}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
