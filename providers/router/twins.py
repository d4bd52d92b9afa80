"""Files of twins: one prompt in English and in Arabic a line, with the tier that it belongs to."""

from collections import Counter
from pathlib import Path

import msgspec
from msgspec import Struct

from providers.catalog import Tier


class MalformedTwins(Exception):
    """A file of twins that is none; the text names the line."""


class Twins(Struct, frozen=True):
    """One line; `part` and `kind` may say more of it and are no concern of the program that evaluates."""

    id: str | int
    tier: Tier
    en: str
    ar: str
    part: str = ""
    kind: str = ""


class _Line(Struct, frozen=True):
    """A line as it may come: what others call `part` and `kind` can be anything."""

    id: str | int
    tier: Tier
    en: str
    ar: str
    part: object = None
    kind: object = None


def read(path: Path) -> list[Twins]:
    """Return the twins of a file of JSON lines; empty lines are passed by. Raises `MalformedTwins`."""
    try:
        lines = path.read_bytes().removeprefix(b"\xef\xbb\xbf").split(b"\n")
    except OSError as error:
        raise MalformedTwins(f"{path}: {error.strerror}") from error
    found = [_line(path, number, line) for number, line in enumerate(lines, 1) if line.strip()]
    if not found:
        raise MalformedTwins(f"{path}: no twins in it")
    again = [str(key) for key, count in Counter(str(twins.id) for _number, twins in found).items() if count > 1]
    if again:
        number = [number for number, twins in found if str(twins.id) == again[0]][1]
        raise MalformedTwins(f"{path}:{number}: the id {again[0]} stands twice")
    return [twins for _number, twins in found]


def _line(path: Path, number: int, line: bytes) -> tuple[int, Twins]:
    try:
        read = msgspec.json.decode(line, type=_Line)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise MalformedTwins(f"{path}:{number}: {error}") from error
    if not read.en.strip() or not read.ar.strip():
        raise MalformedTwins(f"{path}:{number}: an empty prompt")
    part, kind = (value if isinstance(value, str) else "" for value in (read.part, read.kind))
    return number, Twins(read.id, read.tier, read.en, read.ar, part, kind)
