"""How many tokens a text has, offline and in a millisecond or two: OpenAI's o200k is the measure of all vendors.

The table of o200k costs 0.45 s and 130 MiB (bpe-openai 0.1.4), so it is loaded only for a model that is counted by it.
Counting takes 3 to 7 ms for 200,000 characters, which is too long for a process that serves others meanwhile: of what
is longer than 16,384 characters, 32 windows are counted.
"""

import importlib
import random
import statistics
from collections.abc import Callable, Iterable
from functools import cache
from itertools import pairwise
from math import ceil, sqrt
from typing import cast

from providers.models import Model

_WINDOWS, _WINDOW = 32, 512
_WHOLE = _WINDOWS * _WINDOW
# What is held is so many standard errors above the mean of the windows, which one text in 30,000 would pass if they
# were drawn like dice, and a twentieth above that for what the windows cut.
_ERRORS = 4
_CUT = 1.05
# Of a text that grows, so much is counted at a time: what is cut there counts a token more at most.
_PIECE = 512
# UTF-8 bytes a token, near for English and Arabic with the vocabularies of today.
_BYTES = 4


def prepare(models: Iterable[Model]) -> None:
    """Load what counting for these models takes, so that the first who asks need not wait for it."""
    if any(model.tokenizer != "bytes" for model in models):
        _counting()


def estimate(model: Model, *texts: str) -> int:
    """Return the likely number of tokens of the texts together, for where a vendor counts nothing."""
    if model.tokenizer == "bytes":
        return -(-_bytes(texts) // _BYTES)
    return _counted(texts, is_bound=False)


def bound(model: Model, *texts: str) -> int:
    """Return what the texts together are held at: the estimate with the margin of the model's vendor.

    No o200k is above it, and none above the UTF-8 bytes, of which a byte-level vocabulary never makes more tokens.
    """
    if model.tokenizer == "bytes":
        return _bytes(texts)
    most = ceil(_counted(texts, is_bound=True) * (1 + _margin(model, texts)))
    # No text has fewer bytes than characters, so that they are seldom counted.
    is_over = model.tokenizer == "o200k" and most > sum(map(len, texts))
    return min(most, _bytes(texts)) if is_over else most


def _margin(model: Model, texts: tuple[str, ...]) -> float:
    """Return the part by which a bound is above the count: between the two margins, as far as other scripts go."""
    if model.margin_percent == model.margin_other_percent:
        return model.margin_percent / 100
    length = sum(map(len, texts))
    other = min(length, _bytes(texts) - length) / max(1, length)
    return (model.margin_percent * (1 - other) + model.margin_other_percent * other) / 100


class Tally:
    """The likely number of tokens of a text that grows, each part of which is counted once."""

    def __init__(self, model: Model) -> None:
        """Begin with nothing."""
        self._model = model
        self._counted = 0
        self._rest = ""

    def add(self, text: str) -> None:
        """Take what comes next."""
        self._rest += text
        if len(self._rest) >= _PIECE:
            self._counted += estimate(self._model, self._rest)
            self._rest = ""

    @property
    def tokens(self) -> int:
        """The tokens of all that came."""
        return self._counted + estimate(self._model, self._rest)


def picture_tokens(model: Model) -> int:
    """Return what a picture is held at."""
    return model.picture_tokens


def page_tokens(model: Model) -> int:
    """Return what a page of a PDF is held at: its words, and its picture where the vendor looks at both."""
    return model.page_tokens


def _bytes(texts: tuple[str, ...]) -> int:
    return sum(len(text.encode()) for text in texts)


def _counted(texts: tuple[str, ...], *, is_bound: bool) -> int:
    """Return the tokens in o200k: exactly where the texts are short, else by windows, as they likely are or at most."""
    count = _counting()
    if sum(map(len, texts)) <= _WHOLE:
        return sum(map(count, texts))
    text = "".join(texts)
    found = [count(text[at : at + _WINDOW]) for at in _places(text)]
    each = statistics.fmean(found)
    if is_bound:
        each = (each + _ERRORS * _error(found)) * _CUT
    return ceil(each * len(text) / _WINDOW)


def _error(found: list[int]) -> float:
    """Return the standard error of the mean of windows that stand in a row, by how neighbours differ.

    Long parts of different sorts are no error: each has its windows. (Von Neumann's mean square of differences.)
    """
    squares = [(one - other) ** 2 for one, other in pairwise(found)]
    return sqrt(statistics.fmean(squares) / 2 / len(found))


def _places(text: str) -> list[int]:
    """Return where the windows begin: one in each of equal parts, where nobody outside this process can foresee it."""
    dice = random.Random(hash(text))  # noqa: S311 (hash is keyed by the process)
    part = len(text) / _WINDOWS
    return [int(part * number + dice.random() * (part - _WINDOW)) for number in range(_WINDOWS)]


@cache
def _counting() -> Callable[[str], int]:
    """Return what counts the tokens of a text in o200k.

    The package's own front would decode its table a second time, into 75 MiB of Python objects.
    """
    bindings = importlib.import_module("bpe_openai._bindings")
    return cast("Callable[[str], int]", bindings.tokenizer_for_encoding("o200k_base").count)
