"""What a vendor charges for tokens, to the picodollar: US dollars for a million tokens, as its price list has them."""

from decimal import Decimal

from msgspec import Struct

from infra.errors import PulseError
from providers.types import Counted

#: Picodollars (1e-12 USD) a token for each US dollar a million tokens.
PICO = 1_000_000


class UnknownPrice(PulseError):
    """It is not known what the model {model!r} of {vendor} costs; no such model is offered."""

    ar = "لا يُعرف سعر النموذج {model!r} لدى {vendor}، ولا يُعرض نموذج مجهول السعر."
    status = 500


class Price(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """US dollars for a million tokens; what is thought before an answer is output.

    `cached` is read from the vendor's cache; `written` to it, `written_long` for an hour or longer. What has no price
    of its own costs what stands before it: a vendor that does not charge for writing charges for the input.
    `batch_percent` of it is charged in the vendor's own batches.
    """

    input: Decimal
    output: Decimal
    cached: Decimal | None = None
    written: Decimal | None = None
    written_long: Decimal | None = None
    batch_percent: int = 50

    def __post_init__(self) -> None:
        """Refuse what no price list has: nothing or less, and fractions that no picodollar can hold."""
        for price in self.all().values():
            if price <= 0 or price * PICO % 1:
                raise ValueError(f"{price} is no price of a million tokens")
        if not 0 < self.batch_percent <= 100:
            raise ValueError(f"{self.batch_percent} is no percentage of a price")

    def all(self) -> dict[str, Decimal]:
        """Return the price of every sort of token."""
        written = self.input if self.written is None else self.written
        return {
            "input": self.input,
            "cached": self.input if self.cached is None else self.cached,
            "written": written,
            "written_long": written if self.written_long is None else self.written_long,
            "output": self.output,
        }

    def cost(self, counted: Counted) -> int:
        """Return what these tokens cost, in picodollars."""
        prices = self.all()
        return sum(int(prices[sort] * PICO) * tokens for sort, tokens in sorts(counted).items())

    def batch_cost(self, counted: Counted) -> int:
        """Return what these tokens cost in a batch of the vendor's, in picodollars."""
        return -(-self.cost(counted) * self.batch_percent // 100)


def sorts(counted: Counted) -> dict[str, int]:
    """Return the tokens by what they are charged as: each is of one sort, and those of the input add up to it."""
    short = max(0, counted.written_tokens - counted.written_long_tokens)
    fresh = counted.input_tokens - counted.cached_tokens - short - counted.written_long_tokens
    return {
        "input": max(0, fresh),
        "cached": counted.cached_tokens,
        "written": short,
        "written_long": counted.written_long_tokens,
        "output": counted.output_tokens,
    }
