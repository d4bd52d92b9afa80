"""The router on its own twins and on others', conversations that go up a tier only, and the choice of a model."""

import socket
from collections.abc import Sequence
from pathlib import Path

import pytest

from providers.catalog import Model, Tier, Weights
from providers.router import evaluate, lexicon, route, score, shape, twins
from providers.router.features import features
from providers.router.reasons import REASONS
from providers.router.route import Asked, Found
from providers.router.score import TIERS
from providers.router.twins import Twins

HERE = Path(__file__).parent
FILES = sorted(HERE.glob("*.jsonl"))
HARD = "Prove that there are infinitely many prime numbers, step by step."
HARD_AR = "أثبت أن هناك عددا لا نهائيا من الأعداد الأولية خطوة بخطوة."


@pytest.fixture(scope="module")
def pairs() -> list[Twins]:
    return twins.read(HERE / "twins.jsonl")


def asked(*texts: str) -> list[Asked]:
    return [Asked("user", text) for text in texts]


def model(name: str, tier: Tier, price: int) -> Model:
    weights = Weights(input=price, cached=price, output=price)
    return Model(
        id=name, vendor="compatible", en=name, ar=name, context_tokens=1, output_tokens=1, tier=tier, weights=weights
    )


def good(pairs: Sequence[Twins]) -> dict[str, float]:
    return evaluate.figures(evaluate.tell(pairs))


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_twins_get_the_same_tier_and_the_labelled_one(file: Path) -> None:
    found = good(twins.read(file))
    assert found["agreement"] >= 0.95
    assert min(found["accuracy_en"], found["accuracy_ar"]) >= 0.9


def test_twins_that_the_weights_never_saw_do_nearly_as_well(pairs: list[Twins]) -> None:
    kept = [pair for pair in pairs if pair.part == "kept"]
    found = good(kept)
    assert len(kept) >= 200
    assert found["agreement"] >= 0.95
    assert min(found["accuracy_en"], found["accuracy_ar"]) >= 0.95


def test_no_dialect_and_no_mark_does_worse(pairs: list[Twins]) -> None:
    kinds = {pair.kind for pair in pairs}
    assert kinds >= {"msa", "egy", "gulf", "lev", "mag", "dia", "mix", "code"}
    for kind in kinds:
        of_kind = [pair for pair in pairs if pair.kind == kind]
        assert len(of_kind) >= 15, kind
        assert good(of_kind)["accuracy_ar"] >= 0.9, kind


def test_there_are_about_as_many_twins_of_each_tier(pairs: list[Twins]) -> None:
    counts = [sum(pair.tier == tier for pair in pairs) for tier in TIERS]
    assert sum(counts) >= 360
    assert max(counts) <= 1.25 * min(counts)


def test_hard_arabic_is_not_sent_to_the_simplest_model() -> None:
    assert route.tier(asked(HARD_AR)).tier == "reasoning"
    design = "صمم معمارية مايكروسيرفس موزعة مع كوبرنيتس وداتابيز مقسمة، وناقش المفاضلات."
    assert route.tier(asked(design)).tier == "complex"
    assert route.tier(asked("اكتب دالة بايثون ترتب قائمة")).tier == "medium"
    assert route.tier(asked("مرحبا")).tier == "simple"


@pytest.mark.parametrize("hard", [HARD, HARD_AR])
def test_a_conversation_goes_up_a_tier_and_never_down(hard: str) -> None:
    assert route.tier(asked("hi")).tier == "simple"
    assert route.tier(asked("hi", hard)).tier == "reasoning"
    after = route.tier(asked("hi", hard, "شكرا"))
    assert after.tier == "reasoning"
    assert after.because[0] == "earlier"
    assert route.reason(after)["code"] == "earlier"


def test_each_further_turn_leaves_the_tier_or_raises_it(pairs: list[Twins]) -> None:
    texts = [text for pair in pairs[::17] for text in (pair.ar, pair.en)]
    for start in range(0, len(texts) - 4, 4):
        ranks = [TIERS.index(route.tier(asked(*texts[start : start + turns])).tier) for turns in range(1, 5)]
        assert ranks == sorted(ranks)


def test_only_what_the_user_says_is_scored() -> None:
    assert route.tier([Asked("system", HARD), Asked("assistant", HARD), Asked("user", "hi")]).tier == "simple"
    assert route.tier([Asked("system", HARD)]).tier == "simple"
    assert route.tier([]).tier == "simple"


def test_images_files_and_tools_take_a_medium_model_at_least() -> None:
    assert route.tier([Asked("user", "hi", images=1)]) == Found("medium", 1 / 3, ("vision",))
    assert route.tier([Asked("user", "", files=2)]).because == ("files",)
    assert route.tier(asked("hi"), tools=1).because == ("tools",)
    hard = route.tier([Asked("user", HARD, images=1)])
    assert hard.tier == "reasoning"
    assert hard.because[-1] == "vision"


def test_every_choice_has_reasons_in_both_languages(pairs: list[Twins]) -> None:
    for pair in pairs:
        for text in (pair.en, pair.ar):
            found = route.tier(asked(text))
            assert found.because
            assert set(found.because) <= REASONS.keys()
            assert 0 <= found.score <= 1
    assert route.reason(route.tier(asked(HARD))) == {
        "code": "proof",
        "en": "It asks for a proof or a derivation.",
        "ar": "يطلب برهانا أو اشتقاقا.",
    }


def test_the_answer_is_the_same_every_time_and_asks_no_network(
    monkeypatch: pytest.MonkeyPatch, pairs: list[Twins]
) -> None:
    def refuse(*_arguments: object) -> None:
        raise AssertionError

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    some = pairs[::9]
    assert evaluate.tell(some) == evaluate.tell(some)


@pytest.mark.parametrize(
    "code",
    [
        "```python\ndef area(w, h):\n    return w * h  # {}\n```",
        "```\nSELECT name -- {}\nFROM users;\n```",
        "def area(w, h):\n    return w * h;",
    ],
)
def test_code_alone_scores_the_same_whatever_language_its_comments_have(code: str) -> None:
    scores = {route.tier(asked(code.format(text))).score for text in ("the area", "المساحة", HARD, HARD_AR)}
    assert len(scores) == 1


def test_code_is_told_by_its_shape_whatever_language_surrounds_it() -> None:
    code = "```js\nconst total = items.reduce((sum, item) => sum + item.price, 0);\n```"
    english, arabic = (route.tier(asked(f"{text}\n{code}")) for text in ("Explain this code:", "اشرح هذا الكود:"))
    assert (english.tier, arabic.tier) == ("medium", "medium")
    assert abs(english.score - arabic.score) < 0.05


def test_a_huge_prompt_is_told_by_its_head_and_tail() -> None:
    filler = "The garden is green and the sea is blue today. " * 4_000
    head, tail, middle = (
        route.tier(asked(text)) for text in (f"{HARD} {filler}", f"{filler} {HARD}", f"{filler} {HARD} {filler}")
    )
    assert "proof" in head.because
    assert "proof" in tail.because
    assert "proof" not in middle.because


def test_a_text_that_was_cut_is_read_as_it_was_before() -> None:
    texts = [f"{HARD_AR} " * 4_000, f"{HARD} " * 90, "َ" * 9_000, "x" * 2_521, HARD]
    assert [shape.cut(shape.cut(text)) for text in texts] == [shape.cut(text) for text in texts]
    assert [shape.sampled(shape.cut(text)) for text in texts] == [shape.sampled(text) for text in texts]
    assert max(len(shape.cut(text)) for text in texts) < 3_000


def test_what_one_letter_stands_for_does_not_make_a_text_longer_than_what_is_read() -> None:
    assert "has:prove" in features(f"{'a ' * 300} {HARD}")
    assert "has:prove" not in features(f"{'\ufdfa ' * 300} {HARD}")


def test_a_turn_that_was_scored_before_is_not_scored_again() -> None:
    route.scored.cache_clear()
    first = route.tier(asked("hi", HARD, HARD_AR))
    assert route.tier(asked("hi", HARD, HARD_AR, "hi")).score == first.score
    assert route.scored.cache_info().misses == 3


def test_what_is_prepared_is_not_loaded_by_the_first_prompt() -> None:
    lexicon.load.cache_clear()
    score.weights.cache_clear()
    route.prepare()
    route.tier(asked(HARD))
    assert lexicon.load.cache_info().misses == score.weights.cache_info().misses == 1


def test_the_cheapest_model_that_is_good_enough_comes_first_and_then_ever_cheaper_ones() -> None:
    small, mid, mid_dear = model("s", "simple", 1), model("m", "medium", 3), model("m2", "medium", 4)
    big, deep = model("c", "complex", 9), model("r", "reasoning", 8)
    every = [small, mid, mid_dear, big, deep]
    names = {tier: [one.id for one in route.choose(Found(tier, 0.5, ("code",)), every)] for tier in TIERS}
    # The reasoning model costs less than the complex one, so it is taken for both.
    assert names == {"simple": ["s"], "medium": ["m", "s"], "complex": ["r", "m", "s"], "reasoning": ["r", "m", "s"]}


def test_where_no_model_is_good_enough_the_best_one_comes_first() -> None:
    found = Found("reasoning", 1.0, ("proof",))
    small, mid = model("s", "simple", 1), model("m", "medium", 3)
    assert [one.id for one in route.choose(found, [small, mid])] == ["m", "s"]
    assert route.choose(found, []) == []


def test_a_lower_model_that_costs_no_less_is_no_step_down() -> None:
    small, big = model("s", "simple", 5), model("c", "complex", 5)
    assert [one.id for one in route.choose(Found("complex", 0.6, ("design",)), [small, big])] == ["c"]


@pytest.mark.parametrize("text", ["What is the capital of France?", "ما عاصمة فرنسا؟", "thanks a lot!", "شكرا"])
def test_what_is_simple_is_said_to_be_so(text: str) -> None:
    found = route.tier([route.Asked("user", text)])
    assert found.tier == "simple"
    assert route.reason(found)["code"] in {"greeting", "fact", "short", "ordinary"}
