"""How a text is cut into words, and the forms under which an Arabic or English word is looked for."""

import re
import unicodedata
from functools import lru_cache
from typing import NamedTuple

# Vowel signs, Quranic marks, tatweel, hamza that stands alone or above, joiners and direction marks: they change how a
# word looks, not which word it is.
_MARKS = re.compile(
    "[\u0610-\u061a\u0640\u0621\u064b-\u065f\u0670\u06d6-\u06ed\u200b-\u200f\u202a-\u202e\u2066-\u2069\ufeff]"
)
_LETTERS = tuple(zip("أإآٱىةؤئیکگچپڤ٠١٢٣٤٥٦٧٨٩۰۱۲۳۴۵۶۷۸۹’", "اااايهوييككجبف01234567890123456789'", strict=True))
_WORD = re.compile(r"[a-z]+(?:[+#]+|'[a-z]+)?|[\u0621-\u064a]+|\d+(?:[.,:]\d+)*|[.!?؟؛;\n]")
_STOP = frozenset(".!?؟؛;\n")

# What stands before a stem: conjunctions, prepositions and articles, then the persons and tenses of verbs, with those
# of the dialects (Egyptian and Levantine b-, Egyptian h-, Gulf and Levantine ha-l, Maghrebi k- and gh-).
_BEFORE = (
    *("وبال", "فبال", "وهال", "وال", "فال", "بال", "كال", "ولل", "فلل", "هال", "عال", "لل", "ال"),
    *("و", "ف", "ب", "ك", "ل", "س", "ه", "ح"),
)
_PERSON = ("ي", "ت", "ن")
_AFTER = (
    *("هولي", "هالي", "يلي", "ولي", "لنا", "ليا", "هلي", "لها", "لهم", "لكم", "هما", "كما", "تين", "تان", "يات"),
    *(
        "هم",
        "هن",
        "كم",
        "ها",
        "نا",
        "ني",
        "ين",
        "ون",
        "ان",
        "ات",
        "وا",
        "لي",
        "لك",
        "له",
        "يه",
        "ه",
        "ك",
        "ي",
        "ت",
        "ش",
    ),
)
_ENDINGS = (("ies", "y"), ("ing", ""), ("ing", "e"), ("ed", ""), ("ed", "e"), ("es", ""), ("s", ""), ("'s", ""))
_SHORTEST = 3


class Word(NamedTuple):
    """A word as it is looked for; `opens` says that it is the first one of a sentence."""

    text: str
    opens: bool


def normalized(text: str) -> str:
    """Return `text` in small letters, without what only changes the look of Arabic: marks and the forms of a letter."""
    text = _MARKS.sub("", text)
    if not unicodedata.is_normalized("NFKC", text):
        text = _MARKS.sub("", unicodedata.normalize("NFKC", text))
    text = text.lower()
    if not text.isascii():
        for letter, instead in _LETTERS:  # a tenth of what `str.translate` costs
            text = text.replace(letter, instead)
    return text


def words(text: str) -> list[Word]:
    """Return the words and numbers of a normalized text, one after the other."""
    found: list[Word] = []
    opens = True
    for piece in _WORD.findall(text):
        if piece in _STOP:
            opens = True
        else:
            found.append(Word(piece, opens))
            opens = False
    return found


def is_arabic(word: str) -> bool:
    """Say whether a word of `words` is Arabic."""
    return word[0] >= "\u0621"


@lru_cache(maxsize=32_768)
def forms(word: str) -> tuple[str, ...]:
    """Return the word and what may be its stem: without clitics and endings, whichever leave three letters or more."""
    if not is_arabic(word):
        ends = [word[: -len(end)] + instead for end, instead in _ENDINGS if word.endswith(end)]
        return (word, *(stem for stem in ends if len(stem) >= _SHORTEST))
    fronts = _fronts(word)
    return tuple(dict.fromkeys(stem for front in fronts for stem in _stems(front)))


def _fronts(word: str) -> list[str]:
    found = [word]
    for before in _BEFORE:
        rest = word.removeprefix(before)
        if rest != word and len(rest) >= _SHORTEST:
            found.append(rest)
            # و and ف join what has a preposition of its own already: وبمساعدة.
            if before in {"و", "ف"} and rest[0] in "بكلسهح" and len(rest) > _SHORTEST:
                found.append(rest[1:])
    found += [front[1:] for front in found if front.startswith(_PERSON) and len(front) > _SHORTEST]
    return found


def _stems(front: str) -> list[str]:
    found = [front]
    for stem in found:
        for after in _AFTER:
            rest = stem.removesuffix(after)
            if rest != stem and len(rest) >= _SHORTEST:
                found.append(rest)
                # The ta of دالتي is the closed one of دالة, and so is what the plural سيارات stands for.
                if rest.endswith("ت"):
                    found.append(rest[:-1] + "ه")
                elif after in {"ات", "تين", "تان"}:
                    found.append(rest + "ه")
        if len(found) > 12:
            break
    return found
