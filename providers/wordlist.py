"""A list of words and phrases, and whether a text has one of them, however it is written in Arabic or Latin letters."""

import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Final

# What changes how a word looks and not which it is: vowel marks and other accents, the lengthening stroke, and signs
# that cannot be seen.
_MARKS: Final = re.compile(
    "[\u00ad\u0300-\u036f\u0610-\u061a\u0640\u064b-\u065f\u0670\u06d6-\u06dc\u06df-\u06e8\u06ea-\u06ed"
    "\u180e\u200b-\u200f\u202a-\u202e\u2060-\u2069\ufe00-\ufe0f\ufeff]"
)
# Letters that are written for one another, beside those that differ in a mark only; and digits.
_SAME: Final = str.maketrans("ٱىیکةہه٠١٢٣٤٥٦٧٨٩۰۱۲۳۴۵۶۷۸۹", "اييكههه01234567890123456789")
_WORD: Final = re.compile(r"\w+")
# What Arabic writes together with the word that follows: and, so, in, as, for, the.
_PROCLITICS: Final = ("وبال", "فبال", "وال", "فال", "بال", "كال", "ولل", "فلل", "لل", "ال", "وب", "ول", *"وفبكل")
_SHORTEST: Final = 3


def words(text: str) -> list[str]:
    """Return the words of a text in the one form in which they are compared."""
    if text.isascii():
        return _WORD.findall(text.lower())
    bare = _MARKS.sub("", unicodedata.normalize("NFKD", text.casefold()))
    return _WORD.findall(bare.translate(_SAME).casefold())


class Wordlist:
    """Words and phrases to be found."""

    def __init__(self, terms: Iterable[str]) -> None:
        """Look for `terms`; those without a letter or digit are passed by."""
        self._begun: dict[str, list[list[set[str]]]] = defaultdict(list)
        for first, *rest in filter(None, map(words, terms)):
            for begun in {first, _bare(first)}:
                self._begun[begun].append([{word, _bare(word)} for word in rest])

    @classmethod
    def read(cls, text: str) -> "Wordlist":
        """Return the list that a file has: a term in each line; `#` begins a note."""
        return cls(line.partition("#")[0] for line in text.splitlines())

    def is_in(self, text: str) -> bool:
        """Tell whether a text has one of the terms: whole words, to which Arabic may have joined an article or so."""
        said = words(text)
        begun = {word: self._named(word) for word in set(said)}
        if not any(begun.values()):
            return False
        return any(self._goes_on(said[n + 1 :], begun[word]) for n, word in enumerate(said) if begun[word])

    def _named(self, word: str) -> list[str]:
        return [form for form in _forms(word) if form in self._begun]

    def _goes_on(self, said: Sequence[str], firsts: Sequence[str]) -> bool:
        return any(
            len(said) >= len(rest)
            and all(not known.isdisjoint(_forms(heard)) for known, heard in zip(rest, said, strict=False))
            for first in firsts
            for rest in self._begun[first]
        )


def _bare(word: str) -> str:
    """Return a word of the list without its article."""
    rest = word.removeprefix("ال")
    return rest if len(rest) >= _SHORTEST else word


def _forms(word: str) -> list[str]:
    """Return a word, and what it may be without what is written together with it."""
    cut = [word.removeprefix(clitic) for clitic in _PROCLITICS if word.startswith(clitic)]
    return [word, *(rest for rest in cut if len(rest) >= _SHORTEST)]
