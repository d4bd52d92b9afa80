"""Small documents, byte by byte: PDFs, and Office documents as archives of parts."""

import hashlib
import io
import zipfile
import zlib
from collections.abc import Callable, Mapping, Sequence

PDF = "application/pdf"
_OPEN_XML = "application/vnd.openxmlformats-officedocument."
DOCX = f"{_OPEN_XML}wordprocessingml.document"
PPTX = f"{_OPEN_XML}presentationml.presentation"
XLSX = f"{_OPEN_XML}spreadsheetml.sheet"
_PACKAGE = "http://schemas.openxmlformats.org/package/2006"
RELATION = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
TITLE = "تقرير الربع الأول"

#: media type -> the part that is the document, and what is in it.
_MAIN = {
    DOCX: (
        "word/document.xml",
        (
            '<w:document xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main">'
            f"<w:body><w:p><w:r><w:t>{TITLE}</w:t></w:r></w:p></w:body></w:document>"
        ),
    ),
    PPTX: (
        "ppt/presentation.xml",
        '<p:presentation xmlns:p="http://schemas.openxmlformats.org/presentationml/2006/main"/>',
    ),
    XLSX: (
        "xl/workbook.xml",
        '<workbook xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main"><sheets/></workbook>',
    ),
}


def pdf_of(objects: Mapping[int, bytes], *, root: int = 1, trailer: bytes = b"") -> bytes:
    """Return a PDF of these numbered objects, with the table that says where they are."""
    data = bytearray(b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n")
    places = dict[int, int]()
    for number, body in objects.items():
        places[number] = len(data)
        data += b"%d 0 obj\n%s\nendobj\n" % (number, body)
    start, count = len(data), max(objects) + 1
    data += b"xref\n0 %d\n0000000000 65535 f \n" % count
    for number in range(1, count):
        data += b"%010d 00000 %s \n" % (places.get(number, 0), b"n" if number in places else b"f")
    data += b"trailer\n<< /Size %d /Root %d 0 R %s >>\nstartxref\n%d\n%%%%EOF\n" % (count, root, trailer, start)
    return bytes(data)


def stream(data: bytes, dictionary: bytes = b"") -> bytes:
    """Return a stream, deflated."""
    packed = zlib.compress(data)
    return b"<< %s /Filter /FlateDecode /Length %d >>\nstream\n%s\nendstream" % (dictionary, len(packed), packed)


def pages(count: int = 1, *, catalog: bytes = b"", page: bytes = b"") -> dict[int, bytes]:
    """Return the objects of a document with a red square on each of its pages, and room for more of them."""
    content = stream(b"1 0 0 rg 0 421 298 421 re f")
    kids = b" ".join(b"%d 0 R" % number for number in range(10, 10 + count))
    title = b"\xfe\xff" + TITLE.encode("utf-16-be")
    body = b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 595 842] /Contents 3 0 R %s >>" % page
    return {
        1: b"<< /Type /Catalog /Pages 2 0 R %s >>" % catalog,
        2: b"<< /Type /Pages /Kids [%s] /Count %d >>" % (kids, count),
        3: content,
        4: b"<< /Title <%s> >>" % title.hex().encode(),
        **dict.fromkeys(range(10, 10 + count), body),
    }


def pdf(count: int = 1, *, catalog: bytes = b"", page: bytes = b"", more: Mapping[int, bytes] | None = None) -> bytes:
    """Return a PDF with an Arabic title; `catalog` and `page` are further entries, `more` further objects."""
    return pdf_of(pages(count, catalog=catalog, page=page) | dict(more or {}), trailer=b"/Info 4 0 R")


def packed_pdf(
    objects: Mapping[int, bytes],
    packed: Mapping[int, bytes],
    *,
    trailer: bytes = b"",
    seal: Callable[[int, bytes], bytes] = lambda _number, data: data,
) -> bytes:
    """Return a PDF (1.5) of whose objects some are packed into a stream, which is sealed, and so is the table of all.

    `objects` are written as they are.
    """
    bodies, pairs = b"", b""
    for number, body in packed.items():
        pairs += b"%d %d " % (number, len(bodies))
        bodies += body + b"\n"
    container = max([*objects, *packed]) + 1
    inner = seal(container, zlib.compress(pairs + bodies))
    about = b"/Type /ObjStm /N %d /First %d /Filter /FlateDecode" % (len(packed), len(pairs))
    whole = b"<< %s /Length %d >>\nstream\n%s\nendstream" % (about, len(inner), inner)
    data = bytearray(b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n")
    rows = {0: (0, 0, 65535)} | {number: (2, container, at) for at, number in enumerate(packed)}
    for number, body in {**objects, container: whole}.items():
        rows[number] = (1, len(data), 0)
        data += b"%d 0 obj\n%s\nendobj\n" % (number, body)
    start = len(data)
    rows[container + 1] = (1, start, 0)
    table = b"".join(
        kind.to_bytes(1, "big") + first.to_bytes(4, "big") + second.to_bytes(2, "big")
        for kind, first, second in (rows.get(number, (0, 0, 0)) for number in range(container + 2))
    )
    about = b"/Type /XRef /Size %d /W [1 4 2] /Root 1 0 R /Info 4 0 R %s" % (container + 2, trailer)
    data += b"%d 0 obj\n%s\nendobj\nstartxref\n%d\n%%%%EOF\n" % (container + 1, stream(table, about), start)
    return bytes(data)


def sealed_pdf(password: bytes, *, catalog: bytes = b"", more: Mapping[int, bytes] | None = None) -> bytes:
    """Return a PDF encrypted as in PDF 1.1 (ISO 32000-1, 7.6: RC4 by 40 bits), all but its pictures being packed."""
    pad = bytes.fromhex("28BF4E5E4E758A4164004E56FFFA01082E2E00B6D0683E802F0CA9FE6453697A")
    owner, allowed, name = bytes(range(32)), -4, bytes(16)
    key = _md5((password + pad)[:32] + owner + allowed.to_bytes(4, "little", signed=True) + name)[:5]
    user = _rc4(key, pad)

    def seal(number: int, data: bytes) -> bytes:
        return _rc4(_md5(key + number.to_bytes(3, "little") + bytes(2))[:10], data)

    objects = pages(catalog=catalog) | dict(more or {})
    content = seal(3, zlib.compress(b"1 0 0 rg 0 421 298 421 re f"))
    plain = {3: b"<< /Filter /FlateDecode /Length %d >>\nstream\n%s\nendstream" % (len(content), content)}
    packed = {number: body for number, body in objects.items() if number != 3}
    about = b"/Encrypt << /Filter /Standard /V 1 /R 2 /P -4 /O <%s> /U <%s> >> /ID [<%s> <%s>]"
    trailer = about % tuple(each.hex().encode() for each in (owner, user, name, name))
    return packed_pdf(plain, packed, trailer=trailer, seal=seal)


def _md5(data: bytes) -> bytes:
    return hashlib.md5(data, usedforsecurity=False).digest()


def _rc4(key: bytes, data: bytes) -> bytes:
    state, j = list(range(256)), 0
    for i in range(256):
        j = (j + state[i] + key[i % len(key)]) % 256
        state[i], state[j] = state[j], state[i]
    i = j = 0
    made = bytearray()
    for byte in data:
        i = (i + 1) % 256
        j = (j + state[i]) % 256
        state[i], state[j] = state[j], state[i]
        made.append(byte ^ state[(state[i] + state[j]) % 256])
    return bytes(made)


def relations(*entries: tuple[str, str, bool]) -> str:
    """Return a part of relations: the end of the type, the target, and whether it is external."""
    told = "".join(
        f'<Relationship Id="rId{number}" Type="{kind if "://" in kind else f"{RELATION}/{kind}"}" Target="{target}"'
        f"{' TargetMode="External"' if external else ''}/>"
        for number, (kind, target, external) in enumerate(entries, 1)
    )
    return (
        f'<?xml version="1.0" encoding="UTF-8"?><Relationships xmlns="{_PACKAGE}/relationships">{told}</Relationships>'
    )


def types(media_type: str, *, main: str | None = None, more: str = "") -> str:
    """Return the part that says what the parts are; `main` is another type of the main part."""
    name, _ = _MAIN[media_type]
    return (
        f'<?xml version="1.0" encoding="UTF-8"?><Types xmlns="{_PACKAGE}/content-types">'
        '<Default Extension="rels" ContentType="application/vnd.openxmlformats-package.relationships+xml"/>'
        '<Default Extension="xml" ContentType="application/xml"/><Default Extension="png" ContentType="image/png"/>'
        f'<Override PartName="/{name}" ContentType="{main or f"{media_type}.main+xml"}"/>{more}</Types>'
    )


def parts(media_type: str) -> dict[str, str | bytes]:
    """Return the parts of a small document."""
    name, body = _MAIN[media_type]
    return {
        "[Content_Types].xml": types(media_type),
        "_rels/.rels": relations(
            ("officeDocument", name, False),
            (f"{_PACKAGE}/relationships/metadata/core-properties", "docProps/core.xml", False),
        ),
        name: f'<?xml version="1.0" encoding="UTF-8" standalone="yes"?>{body}',
        relations_of(media_type): relations(("hyperlink", "https://example.com/%D8%B5", True)),
        "docProps/core.xml": (
            '<cp:coreProperties xmlns:cp="http://schemas.openxmlformats.org/package/2006/metadata/core-properties" '
            f'xmlns:dc="http://purl.org/dc/elements/1.1/"><dc:title>{TITLE}</dc:title></cp:coreProperties>'
        ),
    }


def written(*runs: str) -> dict[str, str | bytes]:
    """Return the part of a text document with these runs in it."""
    name, _ = _MAIN[DOCX]
    text = "".join(f"<w:r>{run}</w:r>" for run in runs)
    space = "http://schemas.openxmlformats.org/wordprocessingml/2006/main"
    return {name: f'<w:document xmlns:w="{space}"><w:body><w:p>{text}</w:p></w:body></w:document>'}


def field(*codes: str, shown: str = "1") -> list[str]:
    """Return the runs of a field, whose code may be cut into pieces."""
    return [
        '<w:fldChar w:fldCharType="begin"/>',
        *(f'<w:instrText xml:space="preserve">{code}</w:instrText>' for code in codes),
        '<w:fldChar w:fldCharType="separate"/>',
        f"<w:t>{shown}</w:t>",
        '<w:fldChar w:fldCharType="end"/>',
    ]


def relations_of(media_type: str) -> str:
    """Return the name of the part with the main part's relations."""
    folder, _, name = _MAIN[media_type][0].partition("/")
    return f"{folder}/_rels/{name}.rels"


def archive(parts: Mapping[str, str | bytes] | Sequence[tuple[str | zipfile.ZipInfo, str | bytes]]) -> bytes:
    """Return an archive of parts."""
    written = io.BytesIO()
    with zipfile.ZipFile(written, "w", zipfile.ZIP_DEFLATED) as target:
        for name, data in parts.items() if isinstance(parts, Mapping) else parts:
            target.writestr(name, data)
    return written.getvalue()


def office(media_type: str, more: Mapping[str, str | bytes] | None = None) -> bytes:
    """Return a small document, with further parts or other ones."""
    return archive(parts(media_type) | dict(more or {}))
