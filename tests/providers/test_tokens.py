"""Counting tokens: near o200k in every way of writing, above it where units are held, and soon."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial
from importlib import import_module

import pytest
from bpe_openai import get_encoding

from infra.settings import ROOT, Settings
from providers import catalog, tokens
from providers.catalog import Model
from tests.support import writings

KEYS = Settings(openai_api_key="k", anthropic_api_key="k", google_api_key="k")
LENGTHS = (1, 40, 700, 16_384, 16_385, 60_000, 200_000)


@pytest.fixture(scope="session")
def true() -> Callable[[str], int]:
    """What counts the tokens of o200k: the package's own front, which decodes its table anew."""
    encoding = get_encoding("o200k_base")
    return lambda text: len(encoding.encode_ordinary(text))


@pytest.fixture
def gpt() -> Model:
    """A model that counts by o200k."""
    return catalog.offered(KEYS)["gpt-6-luna"]


def _same(value: int, _text: str) -> int:
    return value


def texts() -> Iterator[str]:
    """Yield texts of every sort and length."""
    for sort in writings.SORTS:
        for length in LENGTHS:
            yield writings.written(sort, length)
    for seed in range(4):
        yield writings.blocks(200_000, seed=seed)


def test_an_estimate_is_within_a_tenth_of_o200k_however_it_is_written(gpt: Model, true: Callable[[str], int]) -> None:
    for text in texts():
        counted = true(text)
        assert abs(tokens.estimate(gpt, text) - counted) <= counted / 10, text[:80]


def test_what_is_held_is_never_under_the_count_and_little_above_it(gpt: Model, true: Callable[[str], int]) -> None:
    for text in texts():
        counted, held = true(text), tokens.bound(gpt, text)
        assert counted <= held <= len(text.encode())
        assert held <= counted * (1 if len(text) <= 16_384 else 1.3) + 1, text[:80]


@pytest.mark.trial
def test_wherever_the_windows_fall_no_hold_is_under_the_count(
    gpt: Model, true: Callable[[str], int], monkeypatch: pytest.MonkeyPatch
) -> None:
    found = [writings.blocks(120_000, seed=seed) for seed in range(40)]
    for text in found:
        counted = true(text)
        for seed in range(50):
            monkeypatch.setattr(tokens, "hash", partial(_same, seed), raising=False)
            assert tokens.bound(gpt, text) >= counted
            assert abs(tokens.estimate(gpt, text) - counted) <= counted / 10


def test_texts_are_counted_together(gpt: Model, true: Callable[[str], int]) -> None:
    parts = [writings.written("all", 900, seed=seed) for seed in range(200)]
    counted = sum(map(true, parts))
    assert abs(tokens.estimate(gpt, *parts) - counted) <= counted / 10
    assert counted <= tokens.bound(gpt, *parts) <= counted * 1.25
    assert tokens.estimate(gpt) == tokens.bound(gpt) == tokens.estimate(gpt, "") == 0


@pytest.mark.parametrize(
    "unit", ["a", " ", "\n", "漢", "\u200d", "👩‍👩‍👧‍👦", "0", "<|endoftext|>", "لا", "\u0651", "-", "\x00", "\x01\x05"]
)
def test_a_text_of_one_thing_is_counted_too(gpt: Model, true: Callable[[str], int], unit: str) -> None:
    text = (unit * 60_000)[:60_000]
    assert true(text) <= tokens.bound(gpt, text) <= len(text.encode())


def test_of_a_long_text_no_more_is_counted_than_the_windows(gpt: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    counted: list[int] = []

    def count(text: str) -> int:
        counted.append(len(text))
        return 1

    monkeypatch.setattr(tokens, "_counting", lambda: count)
    tokens.bound(gpt, "ب" * 200_000)
    assert sum(counted) <= 16_384
    counted.clear()
    tokens.bound(gpt, *["ب" * 5_000] * 200)
    assert sum(counted) <= 16_384


def test_a_text_that_grows_is_counted_as_it_comes(gpt: Model, true: Callable[[str], int]) -> None:
    text = writings.written("all", 20_000)
    tally = tokens.Tally(gpt)
    for at in range(0, len(text), 7):
        tally.add(text[at : at + 7])
    assert true(text) <= tally.tokens <= true(text) * 1.05
    assert tokens.Tally(gpt).tokens == 0


@pytest.mark.parametrize(
    ("model", "ascii_", "arabic"), [("claude-haiku-5-5", 1.5, 2.6), ("gemini-3.8-flash", 1.25, 1.25)]
)
def test_where_the_vocabulary_is_not_to_be_had_there_is_a_margin(
    true: Callable[[str], int], model: str, ascii_: float, arabic: float
) -> None:
    """What it has to cover: the last vocabulary that Anthropic published makes 2.9 times as many of written Arabic."""
    found = catalog.offered(KEYS)[model]
    english, bookish = writings.written("english", 5000), writings.written("bookish", 5000)
    assert tokens.bound(found, english) == pytest.approx(true(english) * ascii_, abs=2)
    assert true(bookish) * arabic - 1 <= tokens.bound(found, bookish) <= true(bookish) * 3
    assert tokens.estimate(found, bookish) == true(bookish)
    assert not found.margin_verified


@pytest.mark.parametrize("text", ["hello", "السَّلامُ عليكُم", "def f(x): return x", "👩🏽\u200d💻", ""])
def test_a_server_of_ones_own_is_counted_by_bytes(text: str) -> None:
    model = catalog.offered(Settings(compatible_url="http://x", compatible_models="qwen"))["qwen"]
    assert tokens.bound(model, text) == len(text.encode()) >= tokens.estimate(model, text) >= len(text.encode()) / 4


def test_pictures_and_pages_are_held_at_something_for_every_model() -> None:
    for model in catalog.offered(KEYS).values():
        assert tokens.picture_tokens(model) > 1000
        assert tokens.page_tokens(model) > 1000


def test_the_table_of_o200k_is_loaded_only_for_a_model_that_is_counted_by_it() -> None:
    program = (
        "import sys, api.app; from infra.settings import Settings; from providers import catalog, tokens\n"
        "for settings in (Settings(), Settings(compatible_url='http://x'), Settings(openai_api_key='k')):\n"
        "    models = catalog.offered(settings).values()\n"
        "    tokens.prepare(models)\n"
        "    tokens.bound(next(iter(models)), 'x')\n"
        "    print('bpe_openai' in sys.modules, 'bpe_openai._bindings' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["False False", "False False", "True True"]


def test_the_way_past_the_packages_front_counts_as_its_front_does(true: Callable[[str], int]) -> None:
    counted = import_module("bpe_openai._bindings").tokenizer_for_encoding("o200k_base").count
    for sort in writings.SORTS:
        text = writings.written(sort, 3000)
        assert counted(text) == true(text)
