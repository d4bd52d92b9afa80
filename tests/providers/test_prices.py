"""Prices: those of two tables that others keep, over generated usages; and what makes no price."""

import random
from collections.abc import Callable, Iterator
from datetime import date
from decimal import Decimal

import msgspec
import pytest

from infra.settings import Settings
from providers import catalog, weights
from providers.models import Model
from providers.prices import Price, UnknownPrice
from providers.types import Counted
from tests.support import tables

# Tables change with time, as prices do: this is the day that both were read for.
DAY = date(2026, 11, 26)
_PICO = Decimal(10) ** 12
_EACH = 40

Table = Callable[[Model, Counted, date], Decimal | None]


def priced() -> list[Model]:
    """Return every model that somebody sends a bill for."""
    return [model for model in catalog.load(Settings()).models.values() if model.price is not None]


def usages(model: Model) -> Iterator[Counted]:
    """Yield usages of a model: cached, written, thought, and with an input on both sides of every border it can have.

    What its vendor never reports is never in them: only Anthropic writes for an hour, and Google for nothing.
    """
    dice = random.Random(model.id)
    borders = [border for border in tables.BORDERS if border < model.context_tokens]
    sizes = [border + off for border in borders for off in (-1, 0, 1)]
    sizes += [0, 1, *(dice.randint(2, model.context_tokens - 1) for _ in range(_EACH - len(sizes)))]
    for size in sizes:
        cached = dice.choice((0, size, dice.randint(0, size)))
        written = 0 if model.vendor == "google" else dice.choice((0, dice.randint(0, size - cached)))
        output = dice.randint(0, model.output_tokens)
        yield Counted(
            input_tokens=size,
            cached_tokens=cached,
            written_tokens=written,
            written_long_tokens=dice.randint(0, written) if model.vendor == "anthropic" else 0,
            output_tokens=output,
            reasoning_tokens=dice.choice((0, dice.randint(0, output))),
        )


@pytest.mark.parametrize("table", [tables.by_genai_prices, tables.by_litellm])
def test_prices_are_those_of_a_table_that_others_keep_to_the_picodollar(table: Table) -> None:
    compared, models = 0, set[str]()
    for model in priced():
        for counted in usages(model):
            theirs = table(model, counted, DAY)
            if theirs is not None:
                assert Decimal(model.cost(counted, on=DAY)) / _PICO == theirs, (model.id, counted)
                compared += 1
                models.add(model.id)
    assert compared >= 500
    assert {model.id for model in priced()} == models, "the table knows every model"


@pytest.mark.parametrize("model", [model for model in priced() if model.vendor != "google"], ids=lambda each: each.id)
def test_a_vendors_batch_costs_half(model: Model) -> None:
    entry = tables.litellm(model) or {}
    for counted in usages(model):
        whole, batch = model.cost(counted, on=DAY), model.cost(counted, on=DAY, batch=True)
        assert batch == -(-whole // 2)
    for name in ("input_cost_per_token", "output_cost_per_token"):
        if f"{name}_batches" in entry:
            assert Decimal(entry[f"{name}_batches"]) * 2 == Decimal(entry[name])


def test_the_tables_differ_on_long_inputs_of_sonnet_4_5_and_its_context_decides() -> None:
    """Pydantic's has a price above 200,000 tokens, which were to be had for a time; LiteLLM's has none, as we."""
    model = catalog.load(Settings()).models["claude-sonnet-4-5"]
    counted = Counted(input_tokens=200_001, output_tokens=0)
    theirs, others = tables.by_genai_prices(model, counted, DAY), tables.by_litellm(model, counted, DAY)
    assert theirs is not None
    assert theirs == 2 * (others or 0)
    assert Decimal(model.cost(counted, on=DAY)) / _PICO == others
    assert model.context_tokens == 200_000


def test_the_tables_differ_on_what_gpt_writes_for_long_and_no_gpt_reports_it() -> None:
    """LiteLLM's doubles what is written for over 12 hours; Pydantic's prices it as any writing, as we."""
    model = catalog.load(Settings()).models["gpt-6-luna"]
    counted = Counted(input_tokens=1000, written_tokens=1000, written_long_tokens=1000, output_tokens=0)
    assert Decimal(model.cost(counted, on=DAY)) / _PICO == tables.by_genai_prices(model, counted, DAY)
    assert "cache_creation_input_token_cost_above_12hr" in (tables.litellm(model) or {})


def test_a_price_that_a_vendor_has_announced_holds_from_its_day_on() -> None:
    model = catalog.load(Settings()).models["gemini-3.8-flash"]
    counted = Counted(input_tokens=1_000_000, output_tokens=0)
    assert model.cost(counted, on=date(2026, 12, 31)) == 750_000_000_000
    assert model.cost(counted, on=date(2027, 1, 1)) == 1_500_000_000_000
    assert (model.units(counted, on=DAY), model.units(counted, on=date(2027, 1, 1))) == (8_000_000, 15_000_000)


@pytest.mark.parametrize("day", [DAY, date(2026, 12, 1), date(2027, 1, 1)])
def test_no_usage_of_any_model_is_sold_under_its_price(day: date) -> None:
    unit = int(weights.UNIT * _PICO / 1_000_000)
    for model in priced():
        for counted in usages(model):
            assert model.units(counted, on=day) * unit >= model.cost(counted, on=day), (model.id, counted)


@pytest.mark.parametrize("model", priced(), ids=lambda each: each.id)
def test_no_usage_of_a_vendor_costs_more_than_the_most_that_was_foreseen(model: Model) -> None:
    """But what was written for an hour, which no adapter asks for."""
    for counted in usages(model):
        plain = msgspec.structs.replace(counted, written_long_tokens=0)
        sizes = {"input_tokens": counted.input_tokens, "output_tokens": counted.output_tokens}
        assert model.units(plain, on=DAY) <= model.most_units(**sizes, on=DAY)
        assert model.cost(plain, on=DAY) <= model.most_cost(**sizes, on=DAY)


def test_a_vendors_model_without_a_price_is_refused_and_not_given_away() -> None:
    entry = 'vendor = "{}"\nen = "X"\nar = "س"\ncontext_tokens = 10\noutput_tokens = 5\ntier = "simple"\n'
    with pytest.raises(UnknownPrice) as refused:
        catalog.read(_file("gpt-9", entry.format("openai")))
    assert refused.value.facts == {"model": "gpt-9", "vendor": "openai"}
    assert catalog.read(_file("own", entry.format("compatible"))).models["own"].price is None


@pytest.mark.parametrize("price", ["0", "-1", "0.00000001", "0.0"])
def test_what_is_no_price_is_refused(price: str) -> None:
    with pytest.raises(ValueError, match="no price"):
        Price(input=Decimal(price), output=Decimal(1))


def test_a_weight_under_the_price_is_refused_naming_it() -> None:
    entry = (
        'vendor = "openai"\nen = "X"\nar = "س"\ncontext_tokens = 10\noutput_tokens = 5\ntier = "simple"\n'
        "price = { input = 0.10, output = 0.51 }\nweights = { output = 5 }\n"
    )
    with pytest.raises(ValueError, match="a token of the output weighs 5 and costs 6") as refused:
        catalog.read(_file("gpt-9", entry))
    assert "gpt-9" in str(refused.value) or "[...]" in str(refused.value)
    assert catalog.read(_file("gpt-9", entry.replace("0.51", "0.50"))).models["gpt-9"].weights.output == 5


def _file(name: str, entry: str) -> str:
    return f"defaults = []\n[aliases]\n[estimates]\n[models.{name}]\n{entry}"
