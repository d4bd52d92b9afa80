"""The spend cap: what an account's jobs may cost the operator at vendors in one day (UTC), in microdollars."""

from collections.abc import Mapping
from typing import Final

from infra.settings import Settings

METER: Final = "spend_microusd"
#: Picodollars, in which models tell their cost, in a unit of the meter.
PICODOLLARS: Final = 1_000_000


def caps(settings: Settings) -> Mapping[str, int]:
    """Return what an account is granted a day on meters that no plan speaks of; empty where nothing is capped."""
    return {METER: round(settings.account_day_usd * 1_000_000)} if settings.account_day_usd else {}
