"""The program that evaluates a file of twins, and the one that fits the weights."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from infra.settings import ROOT
from providers.router import evaluate, fit, score, twins

OWN = Path(__file__).parent / "twins.jsonl"
GOOD = '{"id": 1, "tier": "simple", "en": "Hello", "ar": "مرحبا"}'


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "twins.jsonl"


def test_a_file_is_evaluated_and_the_last_line_is_json(file: Path) -> None:
    parted = '{"id": "b", "tier": "reasoning", "en": "Prove Fermat\'s theorem by induction.", "ar": "مرحبا", "x": 1}'
    file.write_text(f"\ufeff{GOOD}\n\n{parted}\n", encoding="utf-8")
    ended = subprocess.run(
        [sys.executable, "-m", "providers.router.evaluate", file], cwd=ROOT, capture_output=True, text=True, check=True
    )
    *told, last = ended.stdout.splitlines()
    assert json.loads(last) == {"pairs": 2, "agreement": 0.5, "accuracy_en": 1.0, "accuracy_ar": 0.5}
    assert "parted twins: 1" in told
    assert "  b: reasoning in English, simple in Arabic" in told
    assert [line.split() for line in told if line.startswith("reasoning")] == [
        ["reasoning", "0", "0", "0", "1"],
        ["reasoning", "1", "0", "0", "0"],
    ]


@pytest.mark.parametrize(
    ("line", "what"),
    [
        ("{", "truncated"),
        ("[]", "object"),
        ('{"id": 2, "tier": "hard", "en": "a", "ar": "b"}', "hard"),
        ('{"id": 2, "tier": "simple", "en": "a"}', "ar"),
        ('{"id": 2, "tier": "simple", "en": " ", "ar": "b"}', "empty"),
        ('{"id": 2, "tier": "simple", "en": 3, "ar": "b"}', "en"),
        ('{"id": 1, "tier": "simple", "en": "a", "ar": "b"}', "twice"),
    ],
)
def test_a_malformed_line_is_named(file: Path, capsys: pytest.CaptureFixture[str], line: str, what: str) -> None:
    file.write_text(f"{GOOD}\n\n{line}\n", encoding="utf-8")
    assert evaluate.main([str(file)]) == 1
    out, error = capsys.readouterr()
    assert not out
    assert error.startswith(f"{file}:3: ")
    assert what in error


def test_lines_of_another_system_and_with_further_fields_are_read(
    file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    more = '{"kind": 3, "part": null, "tags": ["a"], "id": 2, "tier": "simple", "en": "Hi", "ar": "أهلا"}'
    file.write_bytes(f"\ufeff\r\n{GOOD}\r\n  \r\n{more}".encode())
    assert evaluate.main([str(file)]) == 0
    out = capsys.readouterr().out
    assert out.startswith("2 pairs\nagreement: 100.0 %\naccuracy_en: 100.0 %\naccuracy_ar: 100.0 %\n")
    assert json.loads(out.splitlines()[-1]) == {"pairs": 2, "agreement": 1, "accuracy_en": 1, "accuracy_ar": 1}


def test_bytes_that_are_no_text_are_named(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file.write_bytes(b'{"id": 1, "tier": "simple", "en": "\xff", "ar": "b"}\n')
    assert evaluate.main([str(file)]) == 1
    assert f"{file}:1: " in capsys.readouterr().err


def test_a_file_with_nothing_in_it_and_one_that_is_not_there_are_told(
    file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert evaluate.main([str(file)]) == 1
    assert str(file) in capsys.readouterr().err
    file.write_text("\n")
    assert evaluate.main([str(file)]) == 1
    assert "no twins" in capsys.readouterr().err


@pytest.mark.trial
def test_the_weights_are_those_that_the_program_fits_to_the_twins() -> None:
    pairs = [pair for pair in twins.read(OWN) if pair.part != "kept"]
    assert {name: row for name, row in fit.fit(pairs).items() if any(row)} == score.weights()


def test_fitting_is_the_same_at_every_run_and_tells_what_it_was_fitted_to() -> None:
    every = twins.read(OWN)
    pairs = [pair for tier in score.TIERS for pair in [one for one in every if one.tier == tier][:3]]
    weights = fit.fit(pairs)
    assert weights == fit.fit(pairs)
    assert [score.TIERS[fit.told(weights, pair.ar)] for pair in pairs] == [pair.tier for pair in pairs]
