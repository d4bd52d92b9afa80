"""What an answer costs where others' gateways charged another sum, and that what is held is never less."""

import random

import msgspec
import pytest

from infra.settings import Settings
from providers import catalog
from providers.catalog import Model
from providers.types import Counted
from workers.chat import costs

SETTINGS = Settings(openai_api_key="k", anthropic_api_key="k", google_api_key="k", account_day_usd=1000.0)
CHARGED = [model for model in catalog.offered(SETTINGS).values() if model.price is not None]


def test_the_output_is_charged_whole_however_it_is_broken_down() -> None:
    """Others charged what was thought alone, of 977 tokens 768: BerriAI/litellm #18599."""
    for model in CHARGED:
        thought = Counted(input_tokens=0, output_tokens=977, reasoning_tokens=768)
        plain = Counted(input_tokens=0, output_tokens=977)
        assert costs.used(SETTINGS, model, thought) == costs.used(SETTINGS, model, plain)
        assert costs.used(SETTINGS, model, plain)["chat_tokens"] == 977 * model.weights.output


def test_what_was_cached_costs_what_the_price_list_says() -> None:
    """Others charged it in full, of Claude (BerriAI/litellm #11789) and of Gemini (#16341)."""
    for model in CHARGED:
        fresh = Counted(input_tokens=2459, output_tokens=23)
        cached = msgspec.structs.replace(fresh, cached_tokens=2455)
        full, read = (costs.used(SETTINGS, model, counted) for counted in (fresh, cached))
        assert model.price is not None
        if model.price.cached is not None:
            assert read["spend_microusd"] < full["spend_microusd"] * 0.6, model.id
        less = 2455 * (model.weights.input - model.weights.cached)
        assert full["chat_tokens"] - read["chat_tokens"] == less


@pytest.mark.parametrize("model", CHARGED, ids=lambda model: model.id)
def test_whatever_a_vendor_counts_within_the_bound_costs_no_more_than_is_held(model: Model) -> None:
    dice = random.Random(model.id)
    borders = [step.above for step in model.steps if step.above is not None]
    for _ in range(200):
        given = dice.choice(
            [dice.randint(1, model.context_tokens), *(border + dice.randint(-2, 2) for border in borders)]
        )
        made = dice.randint(1, model.output_tokens)
        held = costs.most(SETTINGS, model, input_tokens=given, output_tokens=made)
        counted_in = given - dice.randint(0, min(given, 5))
        cached = dice.randint(0, counted_in)
        written = dice.randint(0, counted_in - cached)
        counted = Counted(
            input_tokens=counted_in,
            cached_tokens=cached,
            written_tokens=written,
            output_tokens=dice.randint(0, made),
        )
        for batch in (False, True):
            used = costs.used(SETTINGS, model, counted, batch=batch)
            assert all(units <= held[meter] for meter, units in used.items()), (given, counted, used, held)
