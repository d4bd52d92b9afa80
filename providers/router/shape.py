"""What a text looks like, whatever its language: its length, lists, questions, numbers, formulas, and code by shape."""

import re
from typing import NamedTuple

# A head and a tail of this many letters stand for a long text, so that the time taken has a bound. Before marks are
# taken off, thrice as much is read: a letter has rarely more than one.
HEAD = 480
TAIL = 240
_MARKED = 3
_LINE = 200  # letters of a line that are looked at to tell whether it is code

_MARKS = re.compile(
    "[\u0610-\u061a\u0640\u064b-\u065f\u0670\u06d6-\u06ed\u200b-\u200f\u202a-\u202e\u2066-\u2069\ufeff]"
)
_FENCE = re.compile(r"(?:```|~~~)[^\n]*\n?(.*?)(?:```|~~~|\Z)", re.DOTALL)
_INLINE = re.compile(r"`([^`\n]+)`")
# How a line of code begins, or what it consists of; words in small letters alone are never enough, since people begin
# their sentences with them: `import`, `return`, `if`, `for`, `private`.
_CODE = (
    r"(?:async\s+)?def\s+\w+\s*\(|class\s+\w+\s*[:({]|(?:async\s+)?function\b\s*\w*\(|(?:fn|func)\s+\(?\w+.*\(",
    r"from\s+[\w.]+\s+import\b|import\s+[\w.{*]+(?:\s+(?:as|from)\b.*|;)?$|#include\b|package\s+[\w.]+;?$",
    r"(?:public|private|protected|static|final|export|pub)\s+\w+.*[;{(=]",
    r"(?:const|let|var|int|float|double|char|bool|auto|val)\s+\w+\s*(?:=|;|\[|:)|return\b(?:[^.]*[;)\]]|\s\w+)$",
    r"for\s*\(|for\s+\w+(?:,\s*\w+)*\s+in\b.*:$|(?:while|if|elif|switch|catch)\b.*[({=<>!\[].*[:{]$|else\s*[:{]|try\s*[:{]",
    r"(?:SELECT|INSERT|UPDATE|DELETE|CREATE|ALTER|FROM|WHERE|JOIN|GROUP BY|ORDER BY)\s+\S|</?[a-zA-Z][^>]*>",
    r"[}\])]+[;,)]*\s*$|@\w+(?:\(.*\))?\s*$|\$ \w|//\s|[-+]{3}\s",
    r"""[A-Za-z_][\w.]*(?:\[[^\]]*\])?\s*[-+*/|]?=\s*["'\[{(\w].*[\])}"';\d\w]$|[A-Za-z_][\w.]*\(.*\)\s*[;{:]?\s*$""",
    r"[^\u0600-\u06ff=()\[\]{]*(?:[=()\[\]].*[;{]|\{)\s*$",
)
_CODE_LINE = re.compile(rf"\s*(?:{'|'.join(_CODE)})")
# Each of these three begins with the set of letters that it can begin with, and looks back from there: the engine runs
# over all others at once. No part of them can match at a length without a bound, so that no text makes them slow.
_SNIPPET = re.compile(
    r"[(\[._=!&|<>A-Z-](?:(?<=\w\()\w{0,40}\)|(?<=\w\[)\w{1,40}\]|(?<=\w\.)\w{1,40}\(|(?<=\w_)\w{1,40}(?:\(\w{0,40}\))?"
    r"|(?<==)[>=]|(?<=-)>|(?<=!)=|(?<=&)&|(?<=\|)\||(?<=[a-z][A-Z])\w{1,40}|(?<=<)/?[a-z]{1,20}>"
    r"|(?<=\bS)ELECT\b.{1,200}\bFROM\b)"
)
_TRACE = re.compile(
    r"[TEOSep\d\n](?:(?<=T)raceback \(most|(?<=\n)[ \t]{0,20}at [\w.$<>]{1,80}\(|(?<=[A-Za-z]{3}E)(?:rror|xception)\b"
    r"|(?<=\bp)anic:|(?<=[Ss]e)gmentation fault|(?<=S)IG(?:SEGV|KILL|ABRT)|(?<=\be)xit code \d|(?<=\b\d)\d:\d\d:\d\d\b"
    r"|(?<=\bE)(?:CONN\w|RROR\b)|(?<=\bO)OMKilled\b)"
)
_SIGNS = "=≤≥≠≡√∑∫∂∀∃∈⊂∪∩π∞×÷²³ⁿ⇒⟺≈^|"
_FORMULA = re.compile(
    rf"[{_SIGNS}\\(+*/!<>-](?:(?<=[{_SIGNS}])|(?<=\\)[a-z]{{2}}|(?<=\b[a-zA-Z]\()[a-z]\)|(?<=\d!)|(?<=[<>])(?= ?\w)"
    r"|(?:(?<=\w[+*/])|(?<=\w [+*/])|(?<=\d-)|(?<=\d -)) ?(?=\w))"
)
_ITEM = re.compile(r"^[ \t]{0,20}(?:[-*•–]|[\d٠-٩]{1,2}[.)\-])\s+\S|(?<![\w.])[(]?[\d٠-٩a-dأبج][)]\s", re.MULTILINE)
_ENDINGS = "py|js|ts|tsx|java|go|rs|cpp|c|h|sql|csv|json|ya?ml|toml|md|pdf|docx?|xlsx?|log|html|css"
_LINKED = re.compile(rf"[.:](?://|(?<=\w\.)(?:{_ENDINGS})\b)")
_LINK = re.compile(rf"https?://\S+|\b[\w/.-]{{1,60}}\.(?:{_ENDINGS})\b")
_SENTENCE = re.compile(r"[.!?؟؛;]+(?:\s|$)|\n+")
# What is counted up: commas, and what joins without one ("and", و written onto the next word).
_JOINT = re.compile(r"[,،]\s*(?:(?:and|or)\b|و)?|\s(?:and|or|plus)\s|\sو(?=\w{3})")
_QUESTION = re.compile("[?؟]+")
_DIGITS = re.compile(r"[\d٠-٩]+(?:[.,:٫٬][\d٠-٩]+)*")


class Shape(NamedTuple):
    """Counts of a text, and `prose`: what is left of it without code."""

    prose: str
    code_lines: int
    snippets: int
    traces: int
    formulas: int
    items: int
    links: int
    sentences: int
    joints: int
    questions: int
    numbers: int


def cut(text: str) -> str:
    """Return what `sampled` reads of a text: all of it, or of a long one its head and tail. Cut again it stays."""
    if len(text) <= _MARKED * (HEAD + TAIL) + 1:
        return text
    return text[: _MARKED * HEAD] + "\n" + text[-_MARKED * TAIL :]


def sampled(text: str) -> tuple[str, bool]:
    """Return a text without vowel marks and joiners, of a long one its head and tail, and whether it is a long one."""
    text = _MARKS.sub("", cut(text))
    if len(text) <= HEAD + TAIL:
        return text, False
    return text[:HEAD] + "\n" + text[-TAIL:], True


def shape(text: str) -> Shape:
    """Return the shape of a sampled text."""
    code: list[str] = []

    def keep(match: re.Match[str]) -> str:
        code.append(match[1])
        return "\n"

    rest = _FENCE.sub(keep, text) if "```" in text or "~~~" in text else text
    lines: list[str] = []
    for line in rest.split("\n"):
        (code if _CODE_LINE.match(line[:_LINE]) else lines).append(line)
    prose = "\n".join(lines)
    inline = _INLINE.findall(prose)
    plain = _INLINE.sub(" ", prose) if inline else prose
    links = _LINK.findall(plain) if _LINKED.search(plain) else []
    plain = _LINK.sub(" ", plain) if links else plain
    return Shape(
        prose=plain,
        code_lines=sum(1 for block in code for line in block.split("\n") if line.strip()),
        snippets=len(inline) + len(_SNIPPET.findall(plain)),
        traces=len(_TRACE.findall(text)),
        formulas=len(_FORMULA.findall(plain)),
        items=len(_ITEM.findall(plain)),
        links=len(links),
        sentences=sum(1 for part in _SENTENCE.split(plain) if part.strip()),
        joints=len(_JOINT.findall(plain)),
        questions=len(_QUESTION.findall(plain)),
        numbers=len(_DIGITS.findall(plain)),
    )
