"""`Prefer` (RFC 7240): how long a caller would like a call to be held. What is unknown or makes no sense is ignored."""

import re
from collections.abc import Iterable, Iterator

# One preference: its name, its value where it has one, and parameters, none of which mean anything to us.
_TOKEN = r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"  # noqa: S105 (RFC 9110's word for a word)
_WORD = rf'(?:{_TOKEN}|"(?:[^"\\]|\\.)*")'
# A space belongs to what stands before it: with two ways to part a line, a long one could be tried in all of them.
_PREFERENCE = re.compile(
    rf"[\s,]*(?P<name>{_TOKEN})\s*+(?:=\s*+(?P<value>{_WORD})\s*+)?"
    rf"(?:;\s*+(?:{_TOKEN}\s*+(?:=\s*+{_WORD}\s*+)?)?)*+(?:,|$)"
)
_SECONDS = re.compile(r'"?([0-9]{1,9})"?')


def preferences(lines: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Yield the preferences of the header's lines up to one that cannot be read: names in lower case, and values."""
    for line in lines:
        place = 0
        while (match := _PREFERENCE.match(line, place)) is not None:
            yield match["name"].lower(), match["value"] or ""
            place = match.end()


def wait_s(lines: Iterable[str], most_s: int, *, usual_s: int | None = None) -> int | None:
    """Return the seconds for which a call may be held, `most_s` at most; `usual_s` where the caller does not say.

    Of two that contradict each other the first holds, as everywhere in that header. `respond-async` alone has a call
    answered at once that is usually held.
    """
    wanted = dict[str, str]()
    for name, value in preferences(lines):
        wanted.setdefault(name, value)
    match = _SECONDS.fullmatch(wanted.get("wait", ""))
    if match is not None:
        return min(int(match[1]), most_s)
    return 0 if usual_s is not None and "respond-async" in wanted else usual_s
