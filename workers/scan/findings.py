"""What is asked of an examination and what it finds: the words that cross to and from the child that does it."""

from pathlib import Path
from typing import Any, Literal

from msgspec import Struct


class Asked(Struct, frozen=True, kw_only=True):
    """A file to be examined: where it lies, what it is for, and what it was declared to be.

    `folder` takes what is made of it.
    """

    path: Path
    folder: Path
    media_type: str
    size_bytes: int
    sha256: str
    purpose: str = "attachment"


class Pictured(Struct, frozen=True, kw_only=True):
    """A small picture made of the file."""

    name: Literal["thumbnail", "poster"]
    path: Path
    media_type: str
    width: int
    height: int


class Findings(Struct, frozen=True, kw_only=True):
    """A file that may be kept: `path` is the file itself, or the clean copy that was made of it in the folder.

    `facts` are what its owner is told: `width`, `height`, `duration_s`, `frames`, `pages`, `lines`, `blurhash`.
    """

    path: Path
    media_type: str
    facts: dict[str, Any] = {}
    pictures: list[Pictured] = []
