"""Arabic words under their many forms, and texts that look different and are the same."""

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from providers.router import lexicon, route, twins
from providers.router.route import Asked
from providers.router.words import Word, forms, normalized, words

TEXTS = [pair.ar for pair in twins.read(Path(__file__).parent / "twins.jsonl")]
MARKS = "\u064b\u064c\u064d\u064e\u064f\u0650\u0651\u0652\u0670\u0640"
ALEFS = "اأإآٱ"


def concepts(text: str) -> list[str]:
    return lexicon.found(words(normalized(text)))


def tier(text: str) -> tuple[str, float]:
    found = route.tier([Asked("user", text)])
    return found.tier, found.score


@pytest.mark.parametrize(
    ("word", "stem"),
    [
        ("والدالة", "داله"),
        ("بالدالتين", "داله"),
        ("دالتي", "داله"),
        ("للمصفوفة", "مصفوفه"),
        ("وبالخوارزميات", "خوارزميه"),
        ("سيشرح", "شرح"),
        ("هيشرح", "شرح"),
        ("كيشرح", "شرح"),
        ("بيشرحوا", "شرح"),
        ("هالكود", "كود"),
        ("functions", "function"),
        ("queries", "query"),
        ("solving", "solve"),
    ],
)
def test_a_word_is_known_behind_its_clitics_and_endings(word: str, stem: str) -> None:
    assert stem in forms(normalized(word))


@pytest.mark.parametrize(
    "text", ["اكتب دالة", "اكتبي دالة", "اكتبيلي دالة", "اكتبلي دالة", "سويلي دالة", "دير ليا دالة", "اعملي دالة"]
)
def test_every_dialect_says_make(text: str) -> None:
    assert {"make", "snippet"} <= set(concepts(text))


def test_what_only_opens_a_sentence_is_not_found_within_one() -> None:
    assert "why" not in concepts("x ^why")
    assert "yesno" in concepts("Ok. Is it?")
    assert "yesno" not in concepts("what it is")


def test_a_polite_if_is_no_condition() -> None:
    assert "clue" not in concepts("لو سمحت اشرح الكود")
    assert "clue" in concepts("لو كان عندي ثلاث كرات")


def test_a_sentence_opens_after_each_kind_of_stop() -> None:
    assert [word for word in words("a b؟ c؛ d\ne") if word.opens] == [
        Word("a", opens=True),
        Word("c", opens=True),
        Word("d", opens=True),
        Word("e", opens=True),
    ]


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_marks_and_tatweel_change_nothing(data: st.DataObject) -> None:
    text = data.draw(st.sampled_from(TEXTS))
    marks = data.draw(st.lists(st.sampled_from(["", "", *MARKS]), min_size=len(text), max_size=len(text)))
    marked = "".join(
        letter + (mark if "\u0621" <= letter <= "\u064a" else "") for letter, mark in zip(text, marks, strict=True)
    )
    assert tier(marked) == tier(text)


@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_the_forms_of_alef_change_nothing(data: st.DataObject) -> None:
    text = data.draw(st.sampled_from(TEXTS))
    alefs = data.draw(st.lists(st.sampled_from(ALEFS), min_size=len(text), max_size=len(text)))
    other = "".join(alef if letter in ALEFS else letter for letter, alef in zip(text, alefs, strict=True))
    assert tier(other) == tier(text)


@settings(max_examples=100, deadline=None)
@given(text=st.text(max_size=3_000))
def test_any_text_has_a_tier(text: str) -> None:
    found = route.tier([Asked("user", text)])
    assert 0 <= found.score <= 1
    assert found.because


@pytest.mark.parametrize("text", TEXTS[::40])
def test_dots_and_taa_of_habit_change_nothing(text: str) -> None:
    assert tier(text.replace("ى", "ي").replace("ة", "ه")) == tier(text)
