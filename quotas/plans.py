"""What a plan grants: the meters and plans of `plans.toml`, validated, and the month that a moment falls into."""

import calendar
import tomllib
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path

import msgspec
from msgspec import Struct


class Meter(Struct, frozen=True, forbid_unknown_fields=True):
    """Something that is counted; `resets` tells a flow (per period) from a level (kept now).

    A `daily` one is granted by the operator's own cap, for a day at a time (UTC), and not by plans.
    """

    resets: bool
    en: str
    ar: str
    daily: bool = False


class Plan(Struct, frozen=True, forbid_unknown_fields=True):
    """Units per meter and period; a meter that is not named is not granted."""

    en: str
    ar: str
    units: dict[str, int]


class Plans(Struct, frozen=True, forbid_unknown_fields=True):
    """Everything that `plans.toml` says."""

    default: str
    meters: dict[str, Meter]
    plans: dict[str, Plan]

    def __post_init__(self) -> None:
        """Refuse a plan that grants a meter which is unknown or not for plans, or a negative number of units."""
        if self.default not in self.plans:
            raise ValueError(f"the default plan {self.default!r} is not among the plans")
        for code, plan in self.plans.items():
            for meter, units in plan.units.items():
                if meter not in self.planned or units < 0:
                    raise ValueError(f"plan {code!r} grants {units} of {meter!r}")

    @property
    def planned(self) -> list[str]:
        """The meters that plans grant."""
        return [code for code, meter in self.meters.items() if not meter.daily]


def read(text: str) -> Plans:
    """Return the plans that `text` (TOML) describes; raises `msgspec.ValidationError` where it is wrong."""
    return msgspec.convert(tomllib.loads(text), Plans)


@cache
def load() -> Plans:
    """Return the plans of `plans.toml`."""
    return read((Path(__file__).parent / "plans.toml").read_text(encoding="utf-8"))


def month_of(moment: datetime, anchor: datetime) -> tuple[datetime, datetime]:
    """Return the start and end of the month around `moment` in the calendar that begins at `anchor`.

    An anchor on a day that a month lacks counts as that month's last day: from January 31st to February 28th.
    """
    months = (moment.year - anchor.year) * 12 + moment.month - anchor.month
    if _months_after(anchor, months) > moment:
        months -= 1
    return _months_after(anchor, months), _months_after(anchor, months + 1)


def day_of(moment: datetime) -> tuple[datetime, datetime]:
    """Return the start and end of the day around `moment`, in UTC."""
    start = moment.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    return start, start + timedelta(days=1)


def _months_after(anchor: datetime, months: int) -> datetime:
    years, month = divmod(anchor.month - 1 + months, 12)
    year, month = anchor.year + years, month + 1
    return anchor.replace(year=year, month=month, day=min(anchor.day, calendar.monthrange(year, month)[1]))
