"""The lives of models: who takes whose place and when, and a check that fails where a name leads to the dead."""

import subprocess
import sys
from datetime import date, timedelta
from pathlib import Path

import pytest

from infra.settings import ROOT, Settings
from providers import catalog, lifecycle
from providers.catalog import ModelRetired, UnknownModel
from providers.models import today

KEYS = Settings(openai_api_key="k", anthropic_api_key="k", google_api_key="k")
_MODEL = 'vendor = "compatible"\nen = "X"\nar = "س"\ncontext_tokens = 10\noutput_tokens = 5\ntier = "simple"\n'
#: One that goes on March 1st, 2027, and one that stays.
FILE = f"""
defaults = ["stays"]
[aliases]
good = ["stays"]
[estimates]
[models.goes]
{_MODEL}shutdown = 2027-03-01
replaced_by = "stays"
fallbacks = ["stays"]
[models.stays]
{_MODEL}"""
LAST, FIRST = date(2027, 2, 28), date(2027, 3, 1)


def faults(text: str, on: date) -> list[str]:
    """Return what the check says of a file on that day."""
    return [*lifecycle.faults(catalog.read(text), on)]


def test_today_no_default_alias_fallback_or_replacement_leads_to_a_model_past_its_day() -> None:
    assert [*lifecycle.faults(catalog.load(Settings()), today())] == []


@pytest.mark.parametrize(
    ("written", "instead", "said"),
    [
        ('defaults = ["stays"]', 'defaults = ["goes"]', "defaults leads to goes"),
        ('good = ["stays"]', 'good = ["stays", "goes"]', "alias good leads to goes"),
        ("[models.stays]\n", '[models.stays]\nfallbacks = ["goes"]\n', "fallback of stays leads to goes"),
        ("[models.stays]\n", '[models.stays]\nreplaced_by = "goes"\n', "replaced_by of stays leads to goes"),
    ],
)
def test_a_name_that_leads_to_a_model_past_its_day_fails_the_check(written: str, instead: str, said: str) -> None:
    text = FILE.replace(written, instead, 1)
    assert text != FILE
    assert faults(text, LAST) == []
    assert faults(text, FIRST) == [f"{said}, which was shut down on 2027-03-01"]


def test_what_a_dead_model_would_have_fallen_back_to_is_nobodys_way() -> None:
    text = FILE.replace("[models.stays]\n", '[models.stays]\nshutdown = 2027-03-01\nreplaced_by = "new"\n', 1)
    text = text.replace('"stays"', '"new"') + f"[models.new]\n{_MODEL}"
    text = text.replace('fallbacks = ["new"]', 'fallbacks = ["stays"]')
    assert faults(text, FIRST) == []


def test_a_model_that_goes_without_a_successor_fails_the_check_at_once() -> None:
    text = FILE.replace('replaced_by = "stays"\n', "")
    assert faults(text, LAST) == ["goes is shut down on 2027-03-01, and nothing takes its place"]


def test_the_check_of_the_tests_fails_where_the_catalog_has_a_fault(tmp_path: Path) -> None:
    file = tmp_path / "models.toml"
    file.write_text(FILE.replace('defaults = ["stays"]', 'defaults = ["goes"]'), encoding="utf-8")

    def check(day: date) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "providers.lifecycle", str(day)]
        environ = {"PULSE_MODELS_FILE": str(file)}
        return subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, text=True, check=False)

    before, after = check(LAST), check(FIRST)
    assert (before.returncode, before.stderr) == (0, "")
    assert before.stdout == "goes is shut down on 2027-03-01; stays takes its place\n"
    assert (after.returncode, after.stdout) == (1, "")
    assert after.stderr == "defaults leads to goes, which was shut down on 2027-03-01\n"


def test_on_its_last_day_a_model_answers_and_from_the_next_on_another_one_does() -> None:
    model = catalog.load(KEYS).models["gpt-5-mini"]
    assert model.shutdown == date(2026, 12, 11)
    before = catalog.resolve(KEYS, "gpt-5-mini", field="model", on=date(2026, 12, 10))
    after = catalog.resolve(KEYS, "gpt-5-mini", field="model", on=date(2026, 12, 11))
    assert (before.id, after.id) == ("gpt-5-mini", "gpt-6-luna")
    assert "gpt-5-mini" in catalog.offered(KEYS, on=date(2026, 12, 10))
    assert "gpt-5-mini" not in catalog.offered(KEYS, on=date(2026, 12, 11))


def test_every_model_that_was_shut_down_is_replaced_by_one_that_lives() -> None:
    days = {model.shutdown for model in catalog.load(KEYS).models.values() if model.shutdown}
    for day in days:
        for key, model in catalog.load(KEYS).models.items():
            if model.shutdown is not None and model.shutdown <= day and model.vendor != "local":
                assert catalog.resolve(KEYS, key, field="model", on=day).is_alive(day)


def test_one_that_nothing_replaces_here_is_refused_and_named(tmp_path: Path) -> None:
    file = tmp_path / "models.toml"
    text = FILE.replace("[models.goes]", "[models.lonely]").replace('replaced_by = "stays"\n', "")
    file.write_text(text, encoding="utf-8")
    settings = Settings(compatible_url="http://x", models_file=str(file))
    assert catalog.resolve(settings, "lonely", field="model", on=LAST).id == "lonely"
    with pytest.raises(ModelRetired) as refused:
        catalog.resolve(settings, "lonely", field="input.model", on=FIRST)
    assert refused.value.facts == {"field": "input.model", "model": "lonely", "shutdown": "2027-03-01"}


def test_a_model_of_a_vendor_that_is_not_set_up_is_unknown_dead_or_not() -> None:
    settings = Settings(anthropic_api_key="k")
    for model in ("gpt-6-luna", "gpt-4.1-nano"):
        with pytest.raises(UnknownModel):
            catalog.resolve(settings, model, field="model")


def test_fallbacks_past_their_day_are_left_out_or_replaced() -> None:
    for day in (today(), date(2027, 1, 20), today() + timedelta(days=3650)):
        for model in catalog.offered(KEYS, on=day).values():
            chain = catalog.chain(KEYS, model, needs=catalog.Needs(), on=day)
            assert all(each.is_alive(day) for each in chain)
            assert len({each.id for each in chain}) == len(chain)
