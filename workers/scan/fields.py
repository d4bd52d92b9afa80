"""Judges what Office fetches or starts by what is written in a part: fields, links to data, and what a slide acts on.

A field's code may be cut into many pieces, spelled with references (`&#68;DE`), and have other fields in it
(ECMA-376, part 1, section 17.16), so it is read as Office reads it.
"""

import re
from collections.abc import Iterable
from typing import Final
from xml.parsers import expat

from workers.scan import active
from workers.scan.refusals import TooComplex

#: The names of elements cannot be spelled in two ways; this many bytes have to be looked at together.
LONGEST_NAME_BYTES: Final = 16
_CODES: Final = {"instrText", "delInstrText"}
_NAMED: Final = re.compile(rb"[Ii]nstrText|fldSimple|ddeLink|webPr|dbPr|hlinkClick|hlinkMouseOver|hlinkHover")
_FETCHING: Final = re.compile(
    r"[\s\"']*(?:DDEAUTO|DDE|INCLUDEPICTURE|INCLUDETEXT|INCLUDE|IMPORT|LINK|DATABASE|RD)\b", re.IGNORECASE
)
_STARTING: Final = re.compile(r"ppaction://(?:program|macro|ole)", re.IGNORECASE)
_KEPT_LETTERS: Final = 64
_DEEPEST: Final = 100


def may_fetch(text: bytes) -> bool:
    """Whether it has something in it that is judged here."""
    return _NAMED.search(text) is not None


def judge(pieces: Iterable[bytes]) -> None:
    """Read a part. Raises `ActiveContent`, `TooComplex`, and `expat.ExpatError` where it is no XML."""
    reading = _Reading()
    parser = expat.ParserCreate(namespace_separator=" ")
    parser.StartElementHandler, parser.EndElementHandler = reading.begin, reading.finish
    parser.CharacterDataHandler = reading.hear
    for piece in pieces:
        parser.Parse(piece, False)  # noqa: FBT003 (it has no name)
    parser.Parse(b"", True)  # noqa: FBT003
    for code in reading.codes:
        _judge_code(code)


class _Reading:
    """What has been read so far: the beginnings of the codes of the fields that are open, the outermost first."""

    def __init__(self) -> None:
        self.codes = [""]
        self._hears = False

    def begin(self, name: str, attributes: dict[str, str]) -> None:
        """Begin an element."""
        local = name.rpartition(" ")[2]
        if local in _CODES:
            self._hears = True
        elif local == "fldChar":
            self._turn(next((told for key, told in attributes.items() if key.endswith("fldCharType")), ""))
        elif local == "fldSimple":
            _judge_code(next((told for key, told in attributes.items() if key.endswith("instr")), ""))
        elif local in {"ddeLink", "webPr"} or (local == "dbPr" and "=" in attributes.get("connection", "")):
            # Without "=" it is the workbook's own model of its data.
            raise active.refusal("external")
        elif local.startswith("hlink") and _STARTING.match(attributes.get("action", "").strip()):
            raise active.refusal("launch")

    def finish(self, _name: str) -> None:
        """End an element: none is in those that have code in them."""
        self._hears = False

    def hear(self, text: str) -> None:
        """Read text."""
        if self._hears:
            self.codes[-1] = (self.codes[-1] + text).lstrip()[:_KEPT_LETTERS]

    def _turn(self, kind: str) -> None:
        if kind == "begin":
            self.codes.append("")
            if len(self.codes) > _DEEPEST:
                raise TooComplex
            return
        _judge_code(self.codes[-1])
        if kind == "separate":
            self.codes[-1] = ""
        elif kind == "end" and len(self.codes) > 1:
            self.codes.pop()


def _judge_code(code: str) -> None:
    if _FETCHING.match(code):
        raise active.refusal("external")
