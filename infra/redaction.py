"""Takes secrets out of texts, in every form in which they get there: whole, cut off, escaped, or half masked."""

import json
import re
from collections.abc import Iterable, Mapping
from typing import Final
from urllib.parse import quote, quote_plus

REDACTED: Final = "[redacted]"
# What is shorter is no secret, and is part of too many words.
_SHORTEST: Final = 8
# Of what is as long, a masked piece is found by its first letters.
_LONG: Final = 16
# How deep a pattern may be.
_DEEPEST: Final = 80
# What a vendor's keys look like, whoever's they are; a vendor that repeats one often masks a part of it.
_SHAPES: Final = r"\b(?:sk-|AIza|AQ\.)[\w.*…-]{5,}[\w*…-]"
_MASKED: Final = r"[\w.-]{0,40}(?:\*{3,}|\.{3,}|…)[\w-]*"


class Redactor:
    """Knows what is secret."""

    def __init__(self, secrets: Iterable[str]) -> None:
        """Look for `secrets`, and for what looks like a vendor's key."""
        forms = {form for secret in secrets if len(secret) >= _SHORTEST for form in _forms(secret)}
        whole = [re.escape(form) for form in sorted(forms, key=len, reverse=True)]
        self._found = re.compile(
            "|".join([*whole, *(pattern for form in sorted(forms) for pattern in _parts(form)), _SHAPES])
        )

    def __repr__(self) -> str:
        """Tell nothing."""
        return "Redactor()"

    def text(self, text: str) -> str:
        """Return a text without secrets."""
        return self._found.sub(REDACTED, text)

    def values(self, told: Mapping[str, str]) -> dict[str, str]:
        """Return texts by name without secrets."""
        return {name: self.text(text) for name, text in told.items()}


def _forms(secret: str) -> set[str]:
    """Return a secret as it stands in headers, addresses, JSON, and in what Python shows of texts and bytes."""
    plain = {secret, quote(secret, safe=""), quote(secret), quote_plus(secret)}
    shown = {repr(secret)[1:-1], repr(secret.encode())[2:-1], ascii(secret)[1:-1]}
    # JSON may have any of these in its strings.
    encoded = {json.dumps(form, ensure_ascii=is_bare)[1:-1] for form in plain | shown for is_bare in (True, False)}
    return plain | shown | encoded


def _parts(form: str) -> list[str]:
    """Return what finds a secret that is cut off after its first half, and a long one that is masked."""
    half = max(_SHORTEST, len(form) // 2)
    rest = form[half : half + _DEEPEST]
    cut_off = re.escape(form[:half]) + "".join(f"(?:{re.escape(letter)}" for letter in rest) + ")?" * len(rest)
    return [cut_off + r"[\w*…-]*"] + ([re.escape(form[:6]) + _MASKED] if len(form) >= _LONG else [])
