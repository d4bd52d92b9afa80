"""Judges the parts of an Office document (ECMA-376, part 2: Open Packaging Conventions): none may act or lead away."""

import posixpath
import re
import tempfile
from collections.abc import Iterable
from typing import BinaryIO, Final, cast
from xml.parsers import expat

from workers.scan import active, fields
from workers.scan.archives import Archive, BrokenArchive, Budget, Part
from workers.scan.refusals import EntitiesDeclared, TooComplex, TypeMismatch

_OPEN_XML: Final = "application/vnd.openxmlformats-officedocument."
#: ending -> media type, and the type that the main part of such a document has.
KINDS: Final = {
    ".docx": (f"{_OPEN_XML}wordprocessingml.document", f"{_OPEN_XML}wordprocessingml.document.main+xml"),
    ".pptx": (f"{_OPEN_XML}presentationml.presentation", f"{_OPEN_XML}presentationml.presentation.main+xml"),
    ".xlsx": (f"{_OPEN_XML}spreadsheetml.sheet", f"{_OPEN_XML}spreadsheetml.sheet.main+xml"),
}
_TYPES: Final = "[content_types].xml"
_ROOT: Final = "_rels/.rels"
_MACROS: Final = ("macroenabled", "vbaproject", "vbadata", "macrosheet")
_OBJECTS: Final = ("oleobject", "activex", "/control", "afchunk")
_PROGRAMS: Final = (
    *(".bat", ".chm", ".cmd", ".com", ".dll", ".exe", ".hta", ".htm", ".html", ".jar", ".js", ".lnk", ".mht"),
    *(".msi", ".ps1", ".rtf", ".scr", ".swf", ".vbs", ".wsf"),
)
_DECLARED: Final = re.compile(rb"<!(?:DOCTYPE|ENTITY)")
_ENCODING: Final = re.compile(rb"""^[^>]{0,100}encoding\s*=\s*["']([^"']*)["']""")
# Those in which a declaration looks as it does in ASCII, between zeros perhaps.
_ENCODINGS: Final = re.compile(rb"utf-8|utf-16(le|be)?|(us-)?ascii|iso-8859-\d+|windows-125\d", re.IGNORECASE)
_ADDRESS: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:|\\\\|//")
# What links are (ECMA-376, and its strict kind in ISO/IEC 29500): they wait for a click.
_LINKS: Final = {
    "http://schemas.openxmlformats.org/officedocument/2006/relationships/hyperlink",
    "http://purl.oclc.org/ooxml/officedocument/relationships/hyperlink",
}
_MOST_READ_BYTES: Final = 8 * 1024**2
_DEEPEST: Final = 16
# Elements and attributes of a small part: a list of 10,000 parts has 30,000; a sheet of 65,530 links has 330,000.
_MOST_NAMED: Final = 400_000
_KEPT: Final = {"Override", "Default", "Relationship"}
_SPOOLED_BYTES: Final = 4 * 1024**2

type _Attributes = dict[str, str]


def judge(file: BinaryIO, media_type: str, budget: Budget, *, inner: bool = False) -> None:
    """Refuse what is no Office document of this type, or could act. Raises refusals and `BrokenArchive`.

    Documents may lie in it, as the tables of charts do; they are judged alike, and may have none in them (`inner`).
    """
    archive = Archive(file, budget)
    parts = {part.name.lower(): part for part in archive.parts if not part.name.endswith("/")}
    if _TYPES not in parts or _ROOT not in parts:
        raise TypeMismatch(declared=media_type, found="application/zip")
    types = _Types(_elements(archive, parts[_TYPES]))
    for name in parts:
        _judge_name(name, types.of(name))
    for name, part in parts.items():
        if name.endswith(tuple(KINDS)):
            _judge_inner(archive, part, budget, inner=inner)
        elif name.endswith(".rels"):
            _judge_relations(_elements(archive, part))
        elif name != _TYPES:
            _judge_content(archive, part, xml=types.are_xml(name))
    found = types.of(_main(_elements(archive, parts[_ROOT])))
    if found not in {main for media, main in KINDS.values() if media == media_type}:
        known = {main: media for media, main in KINDS.values()}
        raise TypeMismatch(declared=media_type, found=known.get(found, "application/zip"))


class _Types:
    """What the parts are said to be: by their names, or by the endings of their names."""

    def __init__(self, elements: Iterable[tuple[str, _Attributes]]) -> None:
        self._named = dict[str, str]()
        self._ending = dict[str, str]()
        for element, attributes in elements:
            told = attributes.get("ContentType", "").lower()
            if element == "Override":
                self._named[attributes.get("PartName", "").removeprefix("/").lower()] = told
            if element == "Default":
                self._ending[attributes.get("Extension", "").lower()] = told

    def of(self, name: str) -> str:
        """Return a part's type; nothing if it has none."""
        return self._named.get(name, self._ending.get(name.rpartition(".")[2], ""))

    def are_xml(self, name: str) -> bool:
        """Whether a part is read as XML. Drawings in SVG, which may declare their type, are pictures."""
        told = self.of(name)
        return name.endswith((".xml", ".vml")) or (told.endswith("xml") and told != "image/svg+xml")


def _judge_name(name: str, told: str) -> None:
    both = f"{name} {told}"
    if any(sign in both for sign in _MACROS):
        raise active.refusal("macro")
    strange = "/embeddings/" in name and not name.endswith((*KINDS, ".rels"))
    if strange or any(sign in both for sign in _OBJECTS) or name.endswith(_PROGRAMS):
        raise active.refusal("embedding")


def _judge_inner(archive: Archive, part: Part, budget: Budget, *, inner: bool) -> None:
    if inner:
        raise active.refusal("embedding")
    with tempfile.SpooledTemporaryFile(max_size=_SPOOLED_BYTES) as file:
        for piece in archive.unpacked(part):
            file.write(piece)
        media_type, _ = KINDS[part.name.lower()[-5:]]
        judge(cast("BinaryIO", file), media_type, budget, inner=True)


def _judge_relations(elements: Iterable[tuple[str, _Attributes]]) -> None:
    for element, attributes in elements:
        if element != "Relationship":
            continue
        kind, target = attributes.get("Type", "").lower(), attributes.get("Target", "")
        if any(sign in kind for sign in _MACROS):
            raise active.refusal("macro")
        if any(sign in kind for sign in _OBJECTS):
            raise active.refusal("embedding")
        leads_away = attributes.get("TargetMode", "").lower() == "external" or _ADDRESS.match(target)
        if leads_away and kind not in _LINKS:
            raise active.refusal("external")


def _judge_content(archive: Archive, part: Part, *, xml: bool) -> None:
    """Unpack a part to its end, for that shows that it is whole; XML must not declare anything."""
    tail, may_fetch = b"", False
    for number, piece in enumerate(archive.unpacked(part)):
        if not xml:
            continue
        text = tail + piece.replace(b"\x00", b"")
        encoding = _ENCODING.match(text) if number == 0 else None
        if encoding and not _ENCODINGS.fullmatch(encoding[1]):
            raise BrokenArchive(f"{part.name} is in an unusual encoding")
        if _DECLARED.search(text):
            raise EntitiesDeclared(path=part.name[:200])
        may_fetch = may_fetch or fields.may_fetch(text)
        tail = text[-fields.LONGEST_NAME_BYTES :]
    if may_fetch:
        try:
            fields.judge(archive.unpacked(part))
        except expat.ExpatError as error:
            raise BrokenArchive(f"{part.name}: {error}") from error


def _elements(archive: Archive, part: Part) -> list[tuple[str, _Attributes]]:
    """Return the elements of a small part that say what parts are or lead to, and their attributes."""
    found = list[tuple[str, _Attributes]]()
    depth = read = named = 0

    def begin(name: str, attributes: _Attributes) -> None:
        nonlocal depth, named
        depth += 1
        named += 1 + len(attributes)
        if depth > _DEEPEST or named > _MOST_NAMED:
            raise TooComplex
        local = name.rpartition(" ")[2]
        if local in _KEPT:
            found.append((local, attributes))

    def finish(_name: str) -> None:
        nonlocal depth
        depth -= 1

    def refuse(*_declaration: object) -> None:
        raise EntitiesDeclared(path=part.name[:200])

    parser = expat.ParserCreate(namespace_separator=" ")
    parser.StartElementHandler, parser.EndElementHandler = begin, finish
    parser.StartDoctypeDeclHandler = parser.EntityDeclHandler = refuse
    try:
        for piece in archive.unpacked(part):
            read += len(piece)
            if read > _MOST_READ_BYTES:
                raise TooComplex
            parser.Parse(piece, False)  # noqa: FBT003 (it has no name)
        parser.Parse(b"", True)  # noqa: FBT003
    except expat.ExpatError as error:
        raise BrokenArchive(f"{part.name}: {error}") from error
    return found


def _main(relations: Iterable[tuple[str, _Attributes]]) -> str:
    """Return the name of the part that is the document itself; nothing if there is none."""
    for element, attributes in relations:
        if element == "Relationship" and attributes.get("Type", "").endswith("/officeDocument"):
            return posixpath.normpath("/" + attributes.get("Target", "")).lstrip("/").lower()
    return ""
