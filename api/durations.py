"""Lengths of time as people write them in a header: `90s`, `5m`, `1h30m`, `2d`, or plain seconds."""

import re

_DURATION = re.compile(r"(?:([0-9]{1,9})d)?(?:([0-9]{1,9})h)?(?:([0-9]{1,9})m)?(?:([0-9]{1,9})s)?", re.IGNORECASE)
_SECONDS = (86_400, 3_600, 60, 1)


def seconds(text: str) -> int | None:
    """Return how many seconds `text` means; None where it is no length of time."""
    text = text.strip()
    if text.isascii() and text.isdigit() and len(text) <= 9:
        return int(text)
    match = _DURATION.fullmatch(text)
    if match is None or not text:
        return None
    return sum(int(number) * each for number, each in zip(match.groups("0"), _SECONDS, strict=True))
