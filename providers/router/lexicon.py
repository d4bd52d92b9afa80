"""Which concepts a text speaks of: `lexicon.toml` gives each its English and Arabic terms, and here they are found.

A term is a word, `stem*` for all words that begin so, or `several_words` in a row; `^term` counts only where a sentence
begins, and `=term` only without endings. Terms are looked for under every form of a word (`words.forms`), so that
clitics, persons and plurals need no terms of their own.
"""

import tomllib
from collections.abc import Iterable, Sequence
from functools import cache, lru_cache
from pathlib import Path
from typing import NamedTuple

import msgspec
from msgspec import Struct

from providers.router.words import Word, forms, normalized

_LONGEST_STEM = 12


class Concept(Struct, frozen=True, forbid_unknown_fields=True):
    """What can be spoken of; `act` says that it is something one asks to be done.

    What `hides` is passed by with its words: the "if" of a polite request is no condition.
    """

    en: str
    ar: str
    act: bool = False
    hides: bool = False


class _Term(NamedTuple):
    concept: str
    rest: tuple[str, ...]
    opens: bool
    ends: str
    hides: bool


class Lexicon(NamedTuple):
    """All terms by their first word, and by its beginning where only that is given."""

    acts: frozenset[str]
    concepts: tuple[str, ...]
    whole: dict[str, list[_Term]]
    begun: dict[str, list[_Term]]


@cache
def load() -> Lexicon:
    """Return the lexicon of `lexicon.toml`."""
    text = (Path(__file__).parent / "lexicon.toml").read_text(encoding="utf-8")
    concepts = msgspec.convert(tomllib.loads(text), dict[str, Concept])
    acts = frozenset(name for name, concept in concepts.items() if concept.act)
    lexicon = Lexicon(acts, tuple(concepts), {}, {})
    for name, concept in concepts.items():
        for term in f"{concept.en} {concept.ar}".split():
            _enter(lexicon, name, term, hides=concept.hides)
    return lexicon


def _enter(lexicon: Lexicon, name: str, term: str, *, hides: bool) -> None:
    first, *rest = (normalized(word) for word in term.lstrip("^=").split("_"))
    entry = _Term(name, tuple(rest), term.startswith("^"), first if term.startswith("=") else "", hides)
    if first.endswith("*"):
        lexicon.begun.setdefault(first[:-1], []).append(entry)
    else:
        lexicon.whole.setdefault(first, []).append(entry)


class _Entry(NamedTuple):
    """The terms that a word alone may be, and those that it begins: by the next word, or with only its beginning."""

    single: tuple[_Term, ...]
    rows: dict[str, list[_Term]]
    loose: tuple[_Term, ...]


def found(words: Sequence[Word]) -> list[str]:
    """Return the concepts of a text in the order in which they come, each as often as it comes."""
    names: list[str] = []
    shown = 0
    for at, word in enumerate(words):
        if at < shown:
            continue
        entry = _entry(word.text)
        if entry is None:
            continue
        terms = _standing(entry, words, at)
        if not terms:
            continue
        hidden = max((len(term.rest) + 1 for term in terms if term.hides), default=0)
        if hidden:
            shown = at + hidden
        else:
            names += dict.fromkeys(term.concept for term in terms)
    return names


def _standing(entry: _Entry, words: Sequence[Word], at: int) -> list[_Term]:
    """Return the terms that stand at this place of a text, in the order of the lexicon as far as that matters."""
    word = words[at]
    terms = [term for term in entry.single if term.ends == "" or word.text.endswith(term.ends)]
    if (entry.rows or entry.loose) and at + 1 < len(words):
        following = words[at + 1].text
        further = list(entry.loose)
        if not entry.rows.keys().isdisjoint(_forms(following)):
            further += [term for form in forms(following) for term in entry.rows.get(form, ())]
        terms += [term for term in further if _follows(words, at + 1, term.rest)]
    return terms if word.opens else [term for term in terms if not term.opens]


@lru_cache(maxsize=32_768)
def _entry(word: str) -> _Entry | None:
    terms = dict.fromkeys(_terms(load(), forms(word)))
    if not terms:
        return None
    rows: dict[str, list[_Term]] = {}
    for term in terms:
        if term.rest and not term.rest[0].endswith("*"):
            rows.setdefault(term.rest[0], []).append(term)
    loose = tuple(term for term in terms if term.rest and term.rest[0].endswith("*"))
    return _Entry(tuple(term for term in terms if not term.rest), rows, loose)


def _terms(lexicon: Lexicon, stems: Iterable[str]) -> Iterable[_Term]:
    for stem in stems:
        yield from lexicon.whole.get(stem, ())
        for length in range(2, min(len(stem), _LONGEST_STEM) + 1):
            yield from lexicon.begun.get(stem[:length], ())


def _follows(words: Sequence[Word], at: int, rest: tuple[str, ...]) -> bool:
    if at + len(rest) > len(words):
        return False
    return all(_is(words[further].text, term) for further, term in enumerate(rest, at))


def _is(word: str, term: str) -> bool:
    if term.endswith("*"):
        return any(form.startswith(term[:-1]) for form in forms(word))
    return term in _forms(word)


@lru_cache(maxsize=32_768)
def _forms(word: str) -> frozenset[str]:
    return frozenset(forms(word))
