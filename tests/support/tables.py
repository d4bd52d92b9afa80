"""What the tables that others keep say of models: Pydantic's genai-prices, and the JSON file of LiteLLM."""

import json
from datetime import UTC, date, datetime
from decimal import Decimal
from functools import cache
from importlib import util
from pathlib import Path
from typing import Any

from genai_prices import Usage, calc_price

from providers.models import Model
from providers.types import Counted

#: Above so much input, some vendor charges another price.
BORDERS = (100_000, 200_000, 272_000)


def by_genai_prices(model: Model, counted: Counted, day: date) -> Decimal | None:
    """Return what Pydantic's table says, in dollars; None for a model that it does not know."""
    usage = Usage(
        input_tokens=counted.input_tokens,
        cache_read_tokens=counted.cached_tokens,
        cache_write_tokens=counted.written_tokens,
        cache_write_1h_tokens=counted.written_long_tokens,
        output_tokens=counted.output_tokens,
    )
    noon = datetime(day.year, day.month, day.day, 12, tzinfo=UTC)
    try:
        return calc_price(usage, model.name, provider_id=model.vendor, genai_request_timestamp=noon).total_price
    except LookupError:
        return None


@cache
def _litellm() -> dict[str, dict[str, Any]]:
    spec = util.find_spec("litellm")
    assert spec is not None
    assert spec.origin is not None
    table = Path(spec.origin).parent / "model_prices_and_context_window_backup.json"
    return json.loads(table.read_text(encoding="utf-8"), parse_float=Decimal)


def litellm(model: Model) -> dict[str, Any] | None:
    """Return what LiteLLM's table says of a model."""
    return _litellm().get(f"gemini/{model.name}" if model.vendor == "google" else model.name)


def by_litellm(model: Model, counted: Counted, _day: date) -> Decimal | None:
    """Return what LiteLLM's table says, in dollars; None for a model that it does not know.

    It is read as LiteLLM reads it: the highest border passed prices everything, and what has no price costs the input.
    """
    entry = litellm(model)
    if entry is None:
        return None
    passed = [border for border in BORDERS if counted.input_tokens > border and f"input_{_above(border)}" in entry]
    suffix = f"_above_{passed[-1] // 1000}k_tokens" if passed else ""

    def price(name: str) -> Decimal | None:
        found = entry.get(name + suffix, entry.get(name))
        return None if found is None else Decimal(found)

    plain = price("input_cost_per_token")
    output, thought = price("output_cost_per_token"), price("output_cost_per_reasoning_token")
    assert plain is not None
    assert output is not None
    read = price("cache_read_input_token_cost")
    written = price("cache_creation_input_token_cost")
    long = price("cache_creation_input_token_cost_above_1hr")
    fresh = counted.input_tokens - counted.cached_tokens - counted.written_tokens
    short = counted.written_tokens - counted.written_long_tokens
    return (
        fresh * plain
        + counted.cached_tokens * (plain if read is None else read)
        + short * (plain if written is None else written)
        + counted.written_long_tokens * (plain if long is None else long)
        + (counted.output_tokens - counted.reasoning_tokens) * output
        + counted.reasoning_tokens * (output if thought is None else thought)
    )


def _above(border: int) -> str:
    return f"cost_per_token_above_{border // 1000}k_tokens"
