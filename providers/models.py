"""What is known of a chat model, and what may be asked of it: the shape of an entry in `models.toml`."""

from datetime import UTC, date, datetime
from itertools import pairwise
from typing import Final, Literal

from msgspec import Struct

from providers import types
from providers.deployments import Vendor
from providers.prices import Price, UnknownPrice
from providers.weights import Weights

#: What a model is good for at most, the least demanding first.
Tier = Literal["simple", "medium", "complex", "reasoning"]
#: The plans in their order: whoever is on a higher one may use what a lower one may.
Plan = Literal["free", "pro", "studio"]
TIERS: Final[tuple[Tier, ...]] = ("simple", "medium", "complex", "reasoning")
PLANS: Final[tuple[Plan, ...]] = ("free", "pro", "studio")
# These run on the operator's own hardware, which sends no bill for tokens.
_FREE: Final[tuple[Vendor, ...]] = ("compatible", "local")


class Needs(Struct, frozen=True, kw_only=True):
    """What a request needs a model to take; tokens as they are estimated."""

    images: bool = False
    files: bool = False
    tools: bool = False
    form: bool = False
    input_tokens: int = 0
    output_tokens: int = 0


class Takes(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a model takes beside words: pictures, files, tools, a form of the answer, effort, a temperature."""

    images: bool = False
    files: bool = False
    tools: bool = False
    form: bool = False
    effort: bool = False
    temperature: bool = False


class Step(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What all tokens of a request cost and weigh: of one with more input than `above`, or from a day (UTC) on."""

    above: int | None = None
    since: date | None = None
    price: Price
    weights: Weights

    def holds(self, input_tokens: int, on: date) -> bool:
        """Tell whether it holds for so much input on that day."""
        return (self.above is None or input_tokens > self.above) and (self.since is None or on >= self.since)


class Model(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A chat model.

    A bound of its tokens is above the estimate by `margin_percent` where all is ASCII, and by `margin_other_percent`
    where nothing is; `margin_verified` says whether these were measured against the vendor's own count. From `shutdown`
    on it answers no more, and `replaced_by` answers in its place.
    """

    id: str = ""
    vendor: Vendor
    #: What the vendor calls it; its id where empty.
    vendor_id: str = ""
    en: str
    ar: str
    context_tokens: int
    output_tokens: int
    tier: Tier
    #: Whether `auto` may choose it.
    auto: bool = False
    speed: Literal["fast", "steady", "slow"] = "steady"
    tokenizer: Literal["o200k", "other", "bytes"] = "other"
    margin_percent: int = 0
    margin_other_percent: int = 0
    margin_verified: bool = False
    #: What a picture and a page of a PDF are held at.
    picture_tokens: int = 4_096
    page_tokens: int = 4_096
    takes: Takes = Takes()
    #: Whether its vendor goes on with an answer when nobody listens.
    resumable: bool = False
    plan: Plan = "free"
    weights: Weights = Weights()
    #: None on the operator's own hardware alone.
    price: Price | None = None
    #: Where price and weights change; the last one that holds is the one that counts.
    steps: tuple[Step, ...] = ()
    fallbacks: tuple[str, ...] = ()
    released: date | None = None
    deprecated: date | None = None
    shutdown: date | None = None
    replaced_by: str | None = None

    def __post_init__(self) -> None:
        """Refuse an entry that contradicts itself, or would be sold under its price."""
        if self.output_tokens > self.context_tokens:
            raise ValueError("an answer is longer than the context")
        if self.price is None and self.steps:
            raise ValueError("a price that changes is known before it does")
        for one, other in pairwise((each.above or 0, each.since or date.min) for each in self.steps):
            if one >= other:
                raise ValueError("the steps of a price stand in their order")
        if self.price is not None:
            self.weights.check(self.price)
        for step in self.steps:
            step.weights.check(step.price)

    @property
    def name(self) -> str:
        """What its vendor calls it."""
        return self.vendor_id or self.id

    @property
    def temperature(self) -> bool:
        """Whether it takes a temperature."""
        return self.takes.temperature

    def units(self, counted: types.Counted, *, on: date | None = None) -> int:
        """Return what these tokens cost, in units of `chat_tokens`, on that day (UTC, today by default)."""
        step = self._step(counted, on)
        return (self.weights if step is None else step.weights).units(counted)

    def batch_units(self, counted: types.Counted, *, on: date | None = None) -> int:
        """Return what these tokens cost in a batch of its vendor's, in units of `chat_tokens`."""
        percent = 100 if self.price is None else self.price.batch_percent
        return -(-self.units(counted, on=on) * percent // 100)

    def most_units(self, *, input_tokens: int, output_tokens: int, on: date | None = None) -> int:
        """Return the most units that so many tokens can cost: a vendor may write to its cache what it is sent."""
        return max(self.units(each, on=on) for each in _fates(input_tokens, output_tokens))

    def most_cost(self, *, input_tokens: int, output_tokens: int, on: date | None = None) -> int:
        """Return the most that its vendor can charge for so many tokens, in picodollars."""
        return max(self.cost(each, on=on) for each in _fates(input_tokens, output_tokens))

    def cost(self, counted: types.Counted, *, on: date | None = None, batch: bool = False) -> int:
        """Return what its vendor charges for these tokens, in picodollars; 0 on the operator's own hardware.

        `on` is the day (UTC), today by default. `batch`: in a batch of the vendor's.
        """
        step = self._step(counted, on)
        price = self.price if step is None else step.price
        if price is None:
            return 0
        return price.batch_cost(counted) if batch else price.cost(counted)

    def weighs(self, on: date) -> Weights:
        """Return what its tokens weigh on that day, where no border of its input is passed."""
        step = self._step(types.Counted(input_tokens=0, output_tokens=0), on)
        return self.weights if step is None else step.weights

    def must_be_priced(self) -> None:
        """Raise `UnknownPrice` where its vendor charges and it is not known what."""
        if self.price is None and self.vendor not in _FREE:
            raise UnknownPrice(model=self.id, vendor=self.vendor)

    def is_alive(self, on: date) -> bool:
        """Tell whether it answers on that day."""
        return (self.released is None or self.released <= on) and (self.shutdown is None or on < self.shutdown)

    def is_for(self, plan: str | None) -> bool:
        """Tell whether who is on this plan may use it; None is anybody. A plan that is not known is the least."""
        rank = 0 if plan not in PLANS else PLANS.index(plan)
        return plan is None or PLANS.index(self.plan) <= rank

    def lacks(self, needs: Needs) -> str | None:
        """Return what it does not take of what is needed: a field of `Takes`, or `context`."""
        for what in ("images", "files", "tools", "form"):
            if getattr(needs, what) and not getattr(self.takes, what):
                return what
        return "context" if needs.input_tokens + needs.output_tokens > self.context_tokens else None

    def _step(self, counted: types.Counted, on: date | None) -> Step | None:
        day = on or today()
        return next((step for step in reversed(self.steps) if step.holds(counted.input_tokens, day)), None)


def _fates(input_tokens: int, output_tokens: int) -> tuple[types.Counted, types.Counted]:
    """Return what so much input is charged as at the dearest: as input, or as written to a cache."""
    plain = types.Counted(input_tokens=input_tokens, output_tokens=output_tokens)
    written = types.Counted(input_tokens=input_tokens, written_tokens=input_tokens, output_tokens=output_tokens)
    return plain, written


def today() -> date:
    """Return the day in UTC, by which vendors' dates are read."""
    return datetime.now(UTC).date()
