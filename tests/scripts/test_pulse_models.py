"""`pulse models`: what may be asked, for how many units a token, in both languages."""

import json
from typing import Any

import pytest

from tests.scripts.conftest import Pulse
from tests.scripts.stand_in import StandIn

PATH = "/v1/chat/models"


def model(name: str, **facts: Any) -> dict[str, Any]:
    """Return a model as the API shows it, in part."""
    plain = {"tier": "medium", "context_tokens": 1_050_000, "weights": {"input": 1, "output": 5}, "plan": "free"}
    return {"id": name, "name": name, **plain, "allowed": True, "shutdown": None, "aliases": [], **facts}


@pytest.fixture
def answer(api: StandIn) -> dict[str, Any]:
    """What the studio says: a model with an alias, one that goes, and one that is above the plan."""
    models = [
        model("gpt-6-luna", aliases=["fast"]),
        model("gpt-4o", tier="complex", context_tokens=128_000, shutdown="2027-01-14"),
        model("gpt-6-astra", tier="reasoning", weights={"input": 100, "output": 500}, plan="studio", allowed=False),
    ]
    api.answers[PATH] = {"models": models, "auto": {"id": "auto", "models": ["gpt-6-luna", "gpt-4o"]}}
    return api.answers[PATH]


@pytest.mark.usefixtures("answer")
def test_the_list_tells_what_a_token_counts_and_until_when_there_is_the_model(pulse: Pulse) -> None:
    done = pulse("models")
    assert [line.split() for line in done.stdout.splitlines()] == [
        ["model", "good", "for", "in", "out", "context", "plan", "until", "also"],
        ["gpt-6-luna", "medium", "1", "5", "1.05M", "free", "fast"],
        ["gpt-4o", "complex", "1", "5", "128k", "free", "2027-01-14"],
    ]
    assert done.stderr == "auto: gpt-6-luna, gpt-4o\n"


@pytest.mark.usefixtures("answer")
def test_what_the_plan_does_not_have_is_shown_when_all_is_asked_for(pulse: Pulse) -> None:
    done = pulse("models", "--all")
    assert done.stdout.splitlines()[-1].split() == ["gpt-6-astra", "reasoning", "100", "500", "1.05M", "studio"]


@pytest.mark.usefixtures("answer")
def test_an_arabic_terminal_reads_it_in_arabic(pulse: Pulse) -> None:
    done = pulse("models", LANG="ar_EG.UTF-8")
    assert done.stdout.splitlines()[0].split()[0] == "النموذج"
    assert "متوسط" in done.stdout
    assert done.stderr == "auto (تلقائي): gpt-6-luna, gpt-4o\n"


def test_a_program_gets_the_answer_of_the_api(pulse: Pulse, api: StandIn, answer: dict[str, Any]) -> None:
    done = pulse("models", "--json")
    assert (json.loads(done.stdout), done.stderr) == (answer, "")
    assert [call.path for call in api.calls] == [PATH]


@pytest.mark.usefixtures("answer")
def test_a_name_that_would_take_over_the_terminal_is_made_harmless(pulse: Pulse, api: StandIn) -> None:
    api.answers[PATH]["models"][0]["id"] = "gpt\x1b[2J"
    assert "\x1b" not in pulse("models").stdout
