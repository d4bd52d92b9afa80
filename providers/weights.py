"""How many units of `chat_tokens` a token weighs, and that no model is sold under its price."""

from decimal import Decimal

from msgspec import Struct

from providers import prices
from providers.prices import PICO, Price
from providers.types import Counted

#: What a unit may cost the studio at most, in US dollars for a million: the input of the cheapest model, so that its
#: tokens weigh 1. A grant of 500,000 units is at most 5 cents.
UNIT = Decimal("0.10")


class Weights(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How many units of `chat_tokens` a token of each sort counts."""

    input: int = 1
    cached: int = 1
    written: int = 1
    written_long: int = 1
    output: int = 1

    def __post_init__(self) -> None:
        """Refuse tokens that weigh nothing."""
        for sort in self.__struct_fields__:
            if getattr(self, sort) < 1:
                raise ValueError(f"a token of the {sort} weighs 1 at least")

    def units(self, counted: Counted) -> int:
        """Return what these tokens count."""
        return sum(getattr(self, sort) * tokens for sort, tokens in prices.sorts(counted).items())

    def check(self, price: Price) -> None:
        """Raise `ValueError` naming the sort of token that would be sold for less than it costs."""
        for sort, least in least_weights(price).items():
            if getattr(self, sort) < least:
                raise ValueError(f"a token of the {sort} weighs {getattr(self, sort)} and costs {least}")


def least_weights(price: Price) -> dict[str, int]:
    """Return the least weights at which nothing is sold under this price."""
    return {sort: -(-int(one * PICO) // int(UNIT * PICO)) for sort, one in price.all().items()}
