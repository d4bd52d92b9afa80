"""How files are listed, so that they fit a terminal of 80 columns with their whole ids."""

import re
import unicodedata
from collections.abc import Iterable
from datetime import datetime

from rich.console import Console
from rich.table import Table
from rich.text import Text

from scripts.pulse import words
from scripts.pulse.answers import File, Folder
from scripts.pulse.listing import span
from scripts.pulse.screen import harmless
from scripts.pulse.words import Words
from workers import media

_STYLES = {"ready": "green", "rejected": "red", "scanning": "cyan", "uploading": "cyan", "expired": "yellow"}

# As everything else in a table, sizes are in English there: Arabic would turn the numbers beside it around.
_TABLES = words.of("en")
# What turns the direction of all that follows; with these, `exe.jpg` can be shown of a file that ends `gpj.exe`.
_TURNS = re.compile(r"[\u202a-\u202e\u2066-\u2069]")


def table(files: Iterable[File], now: datetime) -> Table:
    """Return a table of files: how large they are, what became of them and how old they are at `now`.

    The name comes last: a terminal that turns Arabic around would take the numbers after it along.
    """
    table = Table(box=None, pad_edge=False)
    table.add_column("id", no_wrap=True)
    table.add_column("size", justify="right", no_wrap=True)
    for name in ("type", "state"):
        table.add_column(name, no_wrap=True)
    table.add_column("age", justify="right", no_wrap=True)
    table.add_column("name", overflow="fold")
    for file in files:
        state = Text(file.state, style=_STYLES.get(file.state, ""))
        age = span((now - file.created_at).total_seconds())
        kind = Text(_type(file.media_type))
        table.add_row(str(file.id), size(file.size_bytes, _TABLES), kind, state, age, Text(path(file)))
    return table


def folders(folders: Iterable[Folder]) -> Table:
    """Return a table of folders."""
    table = Table(box=None, pad_edge=False)
    for name in ("files", "size"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("folder", overflow="fold")
    for folder in folders:
        table.add_row(f"{folder.files:,}", size(folder.size_bytes, _TABLES), Text(one_line(folder.folder) or "/"))
    return table


def show(table: Table, console: Console) -> None:
    """Print a table: a line each for a program, and for a terminal as wide as it is."""
    # Narrower than 80, the ids would be cut, and an id is what the other commands need.
    console.width = max(console.width, 80) if console.is_terminal else 10_000
    console.print(table)


def path(file: File) -> str:
    """Return a file's folder and name as they are shown, `trips/2026/sea.jpg`."""
    return one_line(f"{file.folder}/{file.name}" if file.folder else file.name)


def what(file: File) -> str:
    """Return what a file is: its type, and of pictures and clips their measures."""
    parts = [harmless(file.media_type)]
    if file.width and file.height:
        parts.append(f"{file.width} x {file.height}")
    if file.duration_s is not None:
        parts.append(span(file.duration_s))
    return " ".join(parts)


def size(size_bytes: float, words: Words) -> str:
    """Return a size in two or three figures and a unit, the way a person says it."""
    unit, *larger = words.sizes
    amount, figures = size_bytes, 0
    for next_unit in larger:
        if amount < 999.5:
            break
        amount, unit = amount / 1024, next_unit
        figures = 1 if amount < 99.95 else 0
    return f"{amount:,.{figures}f} {unit}"


def one_line(text: str) -> str:
    """Return a name that stays on its line, without what could take over a terminal or mislead its reader."""
    return _TURNS.sub("", harmless(" ".join(unicodedata.normalize("NFC", text).split())))


def _type(media_type: str) -> str:
    endings = media.ENDINGS.get(media_type)
    return endings[0].removeprefix(".") if endings else harmless(media_type)
