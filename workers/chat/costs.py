"""What an answer costs, in units per meter: its tokens as the model weighs them, and the money where that is capped.

The two are held together when a job is admitted and settled together at its end, so no number of jobs at once can
cost more than the cap.
"""

from collections.abc import Sequence

from infra.settings import Settings
from providers.catalog import Model
from providers.types import Counted
from quotas import spend


def used(settings: Settings, model: Model, counted: Counted) -> dict[str, int]:
    """Return what these tokens of a model cost."""
    return _metered(settings, model.units(counted), model.cost(counted))


def most(settings: Settings, chain: Sequence[Model], *, input_tokens: int, output_tokens: int) -> dict[str, int]:
    """Return the most that an answer can cost which may come from any model of a chain, each meter at the dearest."""
    units = max(model.most_units(input_tokens=input_tokens, output_tokens=output_tokens) for model in chain)
    cost = max(model.most_cost(input_tokens=input_tokens, output_tokens=output_tokens) for model in chain)
    return _metered(settings, units, cost)


def _metered(settings: Settings, units: int, picodollars: int) -> dict[str, int]:
    found = {"chat_tokens": units}
    if settings.account_day_usd and picodollars:
        found[spend.METER] = -(-picodollars // spend.PICODOLLARS)
    return found
