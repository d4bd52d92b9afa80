"""Who answers: the model that is named, or the one that suits; who in its place; and what is refused by its field."""

from pathlib import Path
from typing import Any

import msgspec
import pytest

from infra.errors import PulseError
from infra.settings import Settings
from providers.router import route
from tests.support.catalogs import three
from workers.chat.spec import Chat
from workers.request import Asking

PIXEL = "iVBORw0KGgoAAAAAAAAAAA=="
SEEN = [{"type": "text", "text": "ما هذه؟"}, {"type": "image", "data": PIXEL, "media_type": "image/png"}]
TOOLS = [{"name": "weather", "parameters": {"type": "object", "properties": {"city": {"type": "string"}}}}]
#: A model whose vendor charges for it, and which weighs less than the operator's own.
CHARGED = """
[models.charged]
vendor = "openai"
en = "Charged"
ar = "مدفوع"
context_tokens = 32_000
output_tokens = 8_000
tier = "medium"
auto = true
tokenizer = "bytes"
takes = ["temperature"]
weights = { input = 1, output = 1 }
price = { input = 0.10, output = 0.10 }
"""
FORM = {"type": "json_schema", "name": "answer", "schema": {"type": "object"}}


@pytest.fixture
def models(tmp_path: Path) -> Settings:
    """Settings with the models small, middle and great."""
    return three(Settings(), tmp_path)


def asking(models: Settings, plan: str = "pro") -> Asking:
    """Return who asks."""
    return Asking(settings=models, plan=plan)


def chat(content: Any = "مرحبا", **options: Any) -> Chat:
    """Return a chat as it is asked."""
    return msgspec.convert(
        {"kind": "chat", "input": {"messages": [{"role": "user", "content": content}], **options}}, Chat
    )


def resolved(request: Chat, who: Asking) -> Chat:
    """Check and resolve a request, as it is when it is submitted."""
    request.check(who.settings)
    return request.resolved(who)


def told(request: Chat, who: Asking) -> tuple[str, str, list[str]]:
    """Return the model that answers, the code of the reason, and the chain."""
    kept = resolved(request, who).input
    assert kept.routing is not None
    return kept.model, kept.routing.reason.code, kept.routing.chain


def refusal(request: Chat, who: Asking) -> PulseError:
    """Return the fact that refuses a request; both of its texts are filled."""
    with pytest.raises(PulseError) as refused:
        resolved(request, who)
    assert "{" not in refused.value.text("en") + refused.value.text("ar")
    return refused.value


def test_a_model_that_is_named_answers_and_then_those_that_go_on_for_it(models: Settings) -> None:
    assert told(chat(model="middle"), asking(models)) == ("middle", "asked", ["middle", "small", "great"])
    assert told(chat(model="middle"), asking(models, "free")) == ("middle", "asked", ["middle", "small"])


def test_an_alias_is_told_as_one(models: Settings) -> None:
    assert told(chat(model="smart"), asking(models)) == ("great", "alias", ["great"])


def test_those_who_go_on_can_do_what_is_needed(models: Settings) -> None:
    assert told(chat(SEEN, model="middle"), asking(models))[2] == ["middle", "great"]


def test_who_goes_on_can_be_said(models: Settings) -> None:
    assert told(chat(model="small", fallbacks=["smart", "small"]), asking(models))[2] == ["small", "great"]
    assert told(chat(model="middle", fallbacks=[]), asking(models))[2] == ["middle"]


def test_the_studio_chooses_by_what_is_said_and_says_why(models: Settings) -> None:
    words = chat("مرحبا")
    request = resolved(words, asking(models)).input
    assert request.routing is not None
    found = route.tier([route.Asked("user", "مرحبا")])
    assert (request.model, request.routing.asked, request.routing.tier) == ("small", "auto", found.tier)
    assert msgspec.to_builtins(request.routing.reason) == route.reason(found)


def test_the_studio_chooses_among_those_that_can(models: Settings) -> None:
    for needy in (chat(SEEN), chat(tools=TOOLS), chat(format=FORM)):
        assert told(needy, asking(models))[0] == "middle"


def test_what_is_too_long_for_all_is_refused_by_what_the_one_that_reads_most_may_read(models: Settings) -> None:
    error = refusal(chat("ب" * 200_000), asking(models, "free"))
    assert (error.code, error.facts["limit"]) == ("prompt_too_long", 32_000)
    assert told(chat("ب" * 30_000), asking(models))[0] in {"middle", "great"}, "small reads 8,000 tokens"


@pytest.mark.parametrize(
    ("content", "options", "field"),
    [
        (SEEN, {}, "input.messages[0].content[1]"),
        ("مرحبا", {"tools": TOOLS}, "input.tools"),
        ("مرحبا", {"format": FORM}, "input.format"),
    ],
    ids=["images", "tools", "form"],
)
def test_what_a_model_cannot_take_is_named_and_so_is_who_can(
    models: Settings, content: Any, options: dict[str, Any], field: str
) -> None:
    error = refusal(chat(content, model="small", **options), asking(models))
    assert (error.code, error.facts["field"], error.facts["able"]) == ("model_unfit", field, "middle, great")
    error = refusal(chat(content, model="middle", fallbacks=["small"], **options), asking(models))
    assert (error.code, error.facts["field"]) == ("model_unfit", "input.fallbacks[0]")


def test_where_no_model_can_it_is_said_so() -> None:
    local = Asking(settings=Settings(), plan="studio")
    for request in (chat(tools=TOOLS), chat(tools=TOOLS, model="smollm2-135m")):
        error = refusal(request, local)
        assert (error.code, error.facts) == ("no_model_can", {"field": "input.tools"})
    assert told(chat(), local)[0] == "smollm2-135m"


def test_a_model_of_a_higher_plan_is_refused(models: Settings) -> None:
    error = refusal(chat(model="smart"), asking(models, "free"))
    assert (error.code, error.status, error.facts["field"]) == ("model_not_in_plan", 403, "input.model")
    error = refusal(chat(fallbacks=["great"]), asking(models, "free"))
    assert (error.code, error.facts["field"]) == ("model_not_in_plan", "input.fallbacks[0]")


def test_nobody_goes_on_by_chance(models: Settings) -> None:
    error = refusal(chat(fallbacks=["small", "auto"]), asking(models))
    assert (error.code, error.facts["field"]) == ("invalid_value", "input.fallbacks[1]")


def test_how_a_model_was_chosen_cannot_be_said_by_others(models: Settings) -> None:
    kept = resolved(chat(), asking(models))
    assert refusal(kept, asking(models)).facts == {"field": "input.routing"}


def test_another_go_is_asked_as_the_first_was(models: Settings) -> None:
    kept = resolved(chat(), asking(models))
    again = kept.anew()
    assert (again.input.model, again.input.routing) == ("auto", None)
    assert resolved(again, asking(models)) == kept


def test_a_choice_of_the_studio_steps_down_until_nothing_is_cheaper(models: Settings) -> None:
    who = asking(models)
    asked = chat(tools=TOOLS)
    request = last = resolved(asked, who)
    seen = list[tuple[list[str], int]]()
    while request is not None:
        assert request.input.routing is not None
        seen.append((request.input.routing.chain, request.most(who)["chat_tokens"]))
        last, request = request, asked.cheaper(who, request, "chat_tokens")
    assert [chain for chain, _ in seen] == [["middle", "great"], ["middle"]], "small takes no tools"
    assert seen[0][1] > seen[1][1]
    assert last.input.routing is not None
    assert last.input.routing.reason.code == "quota"
    assert last.input.routing.asked == "auto"


def test_a_lesser_model_answers_in_the_end_where_it_can(models: Settings) -> None:
    who = asking(models)
    hard = "Prove step by step that there are infinitely many primes, then write a Python class that lists them. " * 3
    asked = chat(hard)
    request = resolved(asked, who)
    assert request.input.model != "small"
    costs = list[int]()
    while request is not None:
        costs.append(request.most(who)["chat_tokens"])
        last, request = request.input, asked.cheaper(who, request, "chat_tokens")
        assert last.model != "small" or request is None
    assert costs == sorted(set(costs), reverse=True), "each step costs less"
    assert len(costs) > 1


def test_what_was_asked_for_by_name_never_steps_down(models: Settings) -> None:
    who = asking(models)
    asked = chat(model="middle")
    assert asked.cheaper(who, resolved(asked, who), "chat_tokens") is None


def test_where_the_cap_of_the_cost_is_reached_what_costs_nothing_answers_though_it_weighs_more(
    models: Settings,
) -> None:
    with Path(models.models_file).open("a", encoding="utf-8") as file:
        file.write(CHARGED)
    settings = msgspec.structs.replace(models, openai_api_key="k", account_day_usd=1.0)
    who, asked = (
        asking(settings, "free"),
        chat("Summarise this letter in a paragraph of your own. " * 40, effort="none"),
    )
    request = resolved(asked, who)
    assert (request.input.model, request.most(who)["spend_microusd"] > 0) == ("charged", True)
    less = asked.cheaper(who, request, "spend_microusd")
    assert less is not None
    assert (less.input.model, less.most(who).get("spend_microusd")) == ("middle", None)
    assert less.most(who)["chat_tokens"] > request.most(who)["chat_tokens"]
    assert asked.cheaper(who, less, "spend_microusd") is None
    assert asked.cheaper(who, request, "chat_tokens") is None


def test_a_lesser_choice_has_a_cap_of_its_own_and_not_that_of_the_model_that_thinks(models: Settings) -> None:
    who = asking(models)
    asked = chat("Prove step by step that there are infinitely many primes. " * 3, effort="high", fallbacks=[])
    request = resolved(asked, who)
    assert (request.input.model, request.input.max_output_tokens) == ("great", 16_000)
    less = asked.cheaper(who, request, "chat_tokens")
    assert less is not None
    assert (less.input.model, less.input.max_output_tokens) == ("middle", 1024)
