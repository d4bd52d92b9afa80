"""The catalog: what is offered to whom, what names mean, who goes on for whom, and a file that makes no sense."""

from itertools import pairwise
from pathlib import Path

import pytest

from infra.settings import Settings
from providers import catalog
from providers.catalog import InvalidCatalog, ModelNotInPlan, Needs, UnknownModel
from providers.types import Counted
from tests.support import tables

LOCAL = Settings()
KEYS = Settings(openai_api_key="k", anthropic_api_key="k", google_api_key="k")
ONE = [Settings(openai_api_key="k"), Settings(anthropic_api_key="k"), Settings(google_api_key="k")]
OWN = Settings(compatible_url="http://x", compatible_models="qwen, llama")


def ids(models: list[catalog.Model]) -> list[str]:
    """Return the ids of models."""
    return [model.id for model in models]


def test_the_local_model_is_offered_only_where_no_other_is_set() -> None:
    assert list(catalog.offered(LOCAL)) == [catalog.LOCAL]
    assert list(catalog.offered(OWN)) == ["qwen", "llama"]
    assert catalog.LOCAL not in catalog.offered(KEYS)


def test_a_model_that_ones_own_server_offers_is_that_servers_whatever_its_name() -> None:
    settings = Settings(openai_api_key="k", compatible_url="http://x", compatible_models="gpt-4o")
    found = catalog.offered(settings)
    assert (found["gpt-4o"].vendor, found["gpt-6-luna"].vendor) == ("compatible", "openai")
    assert catalog.resolve(settings, "gpt-4o", field="model").cost(Counted(input_tokens=10, output_tokens=10)) == 0


@pytest.mark.parametrize(
    ("settings", "default"),
    [
        (LOCAL, catalog.LOCAL),
        (OWN, "qwen"),
        (KEYS, "gpt-6-luna"),
        (Settings(anthropic_api_key="k"), "claude-haiku-5-5"),
        (Settings(google_api_key="k"), "gemini-3.5-flash-lite"),
        (Settings(google_api_key="k", compatible_url="http://x", compatible_models="qwen"), "qwen"),
    ],
)
def test_auto_is_the_default_model_of_what_there_is(settings: Settings, default: str) -> None:
    assert catalog.resolve(settings, "auto", field="model").id == next(iter(catalog.offered(settings))) == default


@pytest.mark.parametrize("alias", ["fast", "smart", "deep"])
@pytest.mark.parametrize("settings", [LOCAL, KEYS, *ONE])
def test_the_names_that_stay_mean_a_model_whatever_vendor_there_is(settings: Settings, alias: str) -> None:
    assert catalog.resolve(settings, alias, field="model").id in catalog.offered(settings)


def test_an_alias_means_the_first_that_is_offered() -> None:
    both = Settings(anthropic_api_key="k", google_api_key="k")
    assert catalog.resolve(KEYS, "smart", field="model").id == "gpt-6.1-terra"
    assert catalog.resolve(both, "smart", field="model").id == "claude-sonnet-5-5"
    with pytest.raises(UnknownModel):
        catalog.resolve(both, "gpt-sol-latest", field="model")


def test_a_model_that_is_not_offered_is_refused_with_those_that_are() -> None:
    with pytest.raises(UnknownModel) as refused:
        catalog.resolve(OWN, "gpt-6-luna", field="input.model")
    assert refused.value.facts == {"field": "input.model", "model": "gpt-6-luna", "known": "auto, qwen, llama"}


@pytest.mark.parametrize(("plan", "allowed"), [("free", 0), ("pro", 1), ("studio", 2), ("unheard-of", 0)])
def test_a_plan_has_what_lower_ones_have(plan: str, allowed: int) -> None:
    for rank, model in enumerate(("gpt-6-luna", "gpt-6.1-sol", "gpt-6-astra")):
        if rank <= allowed:
            assert catalog.resolve(KEYS, model, field="model", plan=plan).id == model
        else:
            with pytest.raises(ModelNotInPlan) as refused:
                catalog.resolve(KEYS, model, field="model", plan=plan)
            assert refused.value.facts["plan"] == ("free", "pro", "studio")[rank]


def test_nobody_in_particular_may_use_every_model() -> None:
    assert catalog.resolve(KEYS, "claude-fable-5-1", field="model").plan == "studio"


def test_those_who_go_on_are_offered_in_the_plan_and_able_to() -> None:
    sol = catalog.resolve(KEYS, "gpt-6.1-sol", field="model")
    assert ids(catalog.chain(KEYS, sol, needs=Needs())) == [
        sol.id,
        "claude-opus-5-5",
        "gemini-4-argon",
        "gpt-6.1-terra",
    ]
    assert ids(catalog.chain(KEYS, sol, needs=Needs(), plan="pro")) == [sol.id, "gemini-4-argon", "gpt-6.1-terra"]
    only = Settings(openai_api_key="k")
    assert ids(catalog.chain(only, sol, needs=Needs(tools=True, images=True))) == [sol.id, "gpt-6.1-terra"]
    much = Needs(input_tokens=1_049_000)
    assert ids(catalog.chain(KEYS, sol, needs=much)) == [sol.id, "gpt-6.1-terra"]


def test_a_model_says_what_it_does_not_take() -> None:
    local = catalog.resolve(LOCAL, "auto", field="model")
    assert local.lacks(Needs(input_tokens=1024, output_tokens=1024)) is None
    lacking = {"images": Needs(images=True), "files": Needs(files=True), "tools": Needs(tools=True)}
    lacking |= {"form": Needs(form=True), "context": Needs(input_tokens=1025, output_tokens=1024)}
    assert {what: local.lacks(needs) for what, needs in lacking.items()} == {what: what for what in lacking}


def test_auto_chooses_from_the_cheapest_of_each_tier_that_the_plan_has() -> None:
    found = catalog.candidates(KEYS, Needs(), "studio")
    ranks = [catalog.TIERS.index(model.tier) for model in found]
    assert ranks == sorted(ranks)
    assert {model.tier for model in found} >= {"medium", "complex", "reasoning"}
    for one, other in pairwise(found):
        counted = Counted(input_tokens=3000, output_tokens=1000)
        assert one.tier != other.tier or one.units(counted) <= other.units(counted)
    assert {model.plan for model in catalog.candidates(KEYS, Needs(), "free")} == {"free"}
    assert ids(catalog.candidates(LOCAL, Needs(), "free")) == [catalog.LOCAL]
    assert catalog.candidates(LOCAL, Needs(images=True), "free") == []
    assert ids(catalog.candidates(OWN, Needs(images=True, tools=True), "free")) == ["qwen", "llama"]


def test_every_plan_has_a_model_of_every_vendor() -> None:
    for settings in ONE:
        assert catalog.candidates(settings, Needs(images=True, files=True, tools=True, form=True), "free")
        assert catalog.resolve(settings, "auto", field="model", plan="free").plan == "free"


def test_every_name_is_in_both_languages_and_no_two_are_the_same() -> None:
    models = catalog.load(LOCAL).models.values()
    for names in ({model.en for model in models}, {model.ar for model in models}):
        assert len(names) == len(models)
    assert all(any("\u0621" <= letter <= "\u064a" for letter in model.ar) for model in models)


def test_what_a_model_takes_and_how_long_it_lives_is_what_the_table_of_others_says() -> None:
    said = {
        "images": "supports_vision",
        "files": "supports_pdf_input",
        "tools": "supports_function_calling",
        "form": "supports_response_schema",
        "effort": "supports_reasoning",
    }
    for model in catalog.load(LOCAL).models.values():
        entry = tables.litellm(model)
        if model.vendor == "local" or entry is None:
            continue
        for ours, theirs in said.items():
            assert getattr(model.takes, ours) == entry.get(theirs, False), (model.id, ours)
        assert model.output_tokens <= entry["max_output_tokens"], model.id
        assert entry["max_input_tokens"] <= model.context_tokens
        assert model.context_tokens <= entry["max_input_tokens"] + entry["max_output_tokens"], model.id
        assert str(model.shutdown) == str(entry.get("deprecation_date")), model.id
        # Where the table is silent, an entry may be too: a temperature that is left out does no harm.
        assert not (model.temperature and entry.get("supports_sampling_params") is False), model.id


_ENTRY = 'vendor = "local"\nen = "X"\nar = "س"\ncontext_tokens = 10\noutput_tokens = 5\ntier = "simple"\n'
_FILE = f'defaults = ["one"]\n[aliases]\nfast = ["one"]\n[estimates]\n[models.one]\n{_ENTRY}'


@pytest.mark.parametrize(
    ("written", "instead", "reason"),
    [
        ('defaults = ["one"]', 'defaults = ["two"]', "'two', which is no model"),
        ('fast = ["one"]', 'fast = ["two"]', "alias fast leads to 'two'"),
        ("fast =", "one =", "'one' has two meanings"),
        ("fast =", "auto =", "'auto' has two meanings"),
        ("output_tokens = 5", "output_tokens = 11", "longer than the context"),
        ('tier = "simple"', 'tier = "clever"', "clever"),
        ('tier = "simple"', 'tier = "simple"\nprise = 1', "prise"),
        ('tier = "simple"', 'tier = "simple"\ntakes = ["smells"]', "smells"),
        ('tier = "simple"', 'tier = "simple"\nweights = { input = 0 }', "weighs 1 at least"),
        ('tier = "simple"', 'tier = "simple"\nfallbacks = ["two"]', "fallback of one leads to 'two'"),
        ('tier = "simple"', 'tier = "simple"\nshutdown = "soon"', "date"),
        (
            'tier = "simple"',
            'tier = "simple"\nsteps = [{ above = 1, price = { input = 1, output = 1 }, weights = {} }]',
            "a price that changes is known before it does",
        ),
        ("[models.one]", "[models.one", "line"),
    ],
)
def test_a_file_that_makes_no_sense_is_refused_with_the_reason(
    tmp_path: Path, written: str, instead: str, reason: str
) -> None:
    file = tmp_path / "models.toml"
    settings = Settings(models_file=str(file))
    file.write_text(_FILE.replace(written, instead, 1), encoding="utf-8")
    with pytest.raises(InvalidCatalog) as refused:
        catalog.load(settings)
    assert refused.value.facts["path"] == str(file)
    assert reason in str(refused.value.facts["reason"])


def test_a_file_of_the_operators_own_takes_the_place_of_the_projects(tmp_path: Path) -> None:
    file = tmp_path / "models.toml"
    file.write_text(_FILE, encoding="utf-8")
    assert list(catalog.offered(Settings(models_file=str(file)))) == ["one"]
    with pytest.raises(InvalidCatalog):
        catalog.load(Settings(models_file=str(tmp_path / "none.toml")))


def test_prices_change_in_the_order_that_they_stand_in(tmp_path: Path) -> None:
    step = "\n[[models.one.steps]]\nabove = {}\nprice = {{ input = 1, output = 1 }}\n"
    step += "weights = {{ input = 10, cached = 10, written = 10, written_long = 10, output = 10 }}\n"
    priced = _FILE + "price = { input = 0.1, output = 0.1 }\n"
    model = catalog.read(priced + step.format(5) + step.format(7)).models["one"]
    assert [each.above for each in model.steps] == [5, 7]
    with pytest.raises(ValueError, match="stand in their order"):
        catalog.read(priced + step.format(7) + step.format(5))
