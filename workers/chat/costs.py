"""What an answer costs, in units per meter: its tokens as the model weighs them, and the money where that is capped.

The two are held together when a job is admitted and settled together at its end, so no number of jobs at once can
cost more than the cap.
"""

from collections.abc import Iterable, Mapping

from infra.settings import Settings
from providers.catalog import Model
from providers.types import Counted
from quotas import spend


def used(settings: Settings, model: Model, counted: Counted, *, batch: bool = False) -> dict[str, int]:
    """Return what these tokens of a model cost, in a `batch` of its vendor's where they were made there."""
    units = model.batch_units(counted) if batch else model.units(counted)
    money = model.cost(counted, batch=batch) if settings.account_day_usd else 0
    return {"chat_tokens": units} | _spent(money)


def most(settings: Settings, model: Model, *, input_tokens: int, output_tokens: int) -> dict[str, int]:
    """Return the most that so many tokens of a model can cost."""
    units = model.most_units(input_tokens=input_tokens, output_tokens=output_tokens)
    money = model.most_cost(input_tokens=input_tokens, output_tokens=output_tokens) if settings.account_day_usd else 0
    return {"chat_tokens": units} | _spent(money)


def dearest(costs: Iterable[Mapping[str, int]]) -> dict[str, int]:
    """Return the most of each meter: what an answer can cost that may come from any model of a chain."""
    found: dict[str, int] = {}
    for cost in costs:
        found |= {meter: max(units, found.get(meter, 0)) for meter, units in cost.items()}
    return found


def _spent(picodollars: int) -> dict[str, int]:
    return {spend.METER: -(-picodollars // spend.PICODOLLARS)} if picodollars else {}
