"""What of a text counts for how hard it is: the concepts it speaks of, and its shape, as numbers by name.

Both are the same for a text and its translation, as far as can be: a concept has terms of both languages, and the
shape knows none. Arabic needs fewer words for the same, since articles, conjunctions and pronouns are written onto
them; its words count for more.
"""

from itertools import pairwise
from math import log, log2, sqrt

from providers.router import lexicon
from providers.router.shape import HEAD, TAIL, Shape, sampled, shape
from providers.router.words import Word, is_arabic, normalized, words

#: How many English words an Arabic one stands for, and how many letters an English word has (over the tests' twins).
ARABIC_WORD = 1.28
WORD_LETTERS = 4.4
_KNOTS = (2, 4, 8, 16, 32, 64, 128, 256)
# What the parts of a large system are called: how many of these a text speaks of is how broad it is.
_FIELDS = frozenset(
    ("app", "api", "database", "distributed", "infra", "reliability", "security", "learning", "business", "society")
)
_MOST = 20
# One letter can be normalized to eighteen.
_MOST_LETTERS = 2 * (HEAD + TAIL)


def features(text: str) -> dict[str, float]:
    """Return the features of a text, those that are not 0."""
    sample, is_long = sampled(text)
    seen = shape(sample)
    prose = words(normalized(seen.prose)[:_MOST_LETTERS])
    return {"always": 1.0} | _length(prose, is_long=is_long) | _looks(seen) | _concepts(lexicon.found(prose))


def _length(prose: list[Word], *, is_long: bool) -> dict[str, float]:
    """Spread the length over the two knots that it lies between, so that one word more changes little.

    It is the mean of what the words say and what the letters say: of twins it differs less than either.
    """
    if is_long:
        return {f"words:{_KNOTS[-1]}": 1.0}
    weights = [ARABIC_WORD if is_arabic(word.text) else 1.0 for word in prose]
    letters = sum(weight * len(word.text) for weight, word in zip(weights, prose, strict=True))
    count = sqrt(sum(weights) * letters / WORD_LETTERS)
    if count <= _KNOTS[0]:
        return {f"words:{_KNOTS[0]}": 1.0}
    for low, high in pairwise(_KNOTS):
        if count < high:
            part = log2(count / low) / log2(high / low)
            return {f"words:{low}": 1.0 - part, f"words:{high}": part}
    return {f"words:{_KNOTS[-1]}": 1.0}


def _looks(seen: Shape) -> dict[str, float]:
    counts = {
        "code_lines": seen.code_lines,
        "snippets": seen.snippets,
        "traces": seen.traces,
        "formulas": seen.formulas,
        "items": seen.items,
        "links": seen.links,
        "sentences": seen.sentences - 1,
        "joints": seen.joints,
        "questions": seen.questions,
        "numbers": seen.numbers,
    }
    found = {f"{name}:some": 1.0 for name, count in counts.items() if count > 0}
    return found | {f"{name}:many": _grown(count) for name, count in counts.items() if count > 1}


def _concepts(names: list[str]) -> dict[str, float]:
    acts = [name for name in names if name in lexicon.load().acts]
    found = {f"has:{name}": 1.0 for name in names}
    # What one asks for first is mostly what one asks for.
    found[f"asks:{acts[0] if acts else 'nothing'}"] = 1.0
    found |= {f"often:{name}": _grown(names.count(name)) for name in set(names) if names.count(name) > 1}
    fields = len(_FIELDS.intersection(names))
    breadth = {"fields": _grown(fields), "acts": _grown(len(set(acts)))}
    return found | {name: value for name, value in breadth.items() if value}


def _grown(count: int) -> float:
    """Return 0 for one or none, 1 for eight, and no more for more than twenty."""
    return log(max(min(count, _MOST), 1)) / log(8)
