"""Judges PDF and Office documents: whole, open to everybody, of their type, and without anything that acts."""

import re
from pathlib import Path
from typing import Final

from workers.craft import pages, pictures
from workers.craft.apart import Exhausted
from workers.craft.pages import BrokenPages, Locked, Pages
from workers.scan import active, names, parts
from workers.scan.archives import BrokenArchive, Budget
from workers.scan.findings import Asked, Findings, Pictured
from workers.scan.limits import MOST_PAGES
from workers.scan.refusals import EncryptedFile, TooComplex, TooManyPages, TrailingData, UnreadableFile

_PDF: Final = b"%PDF-"
_END: Final = b"%%EOF"
_UPDATED: Final = re.compile(rb"(?:[\x00\s]|%[^\r\n]*[\r\n])*(?:\d+\s+\d+\s+obj|xref)")
_BLANK: Final = b"\x00\t\n\f\r "
_TAIL_BYTES: Final = 65_536


def pdf(asked: Asked) -> Findings:
    """Judge a PDF. Raises a refusal; what is found has `pages` and `blurhash`, and the first page as a thumbnail."""
    try:
        _judge_ends(asked.path)
        with pages.opened(asked.path) as document:
            count = document.count
            if count > MOST_PAGES:
                raise TooManyPages(pages=count, limit=MOST_PAGES)
            _judge_active(asked, document)
            first = document.first(edge=512)
    except Locked as error:
        raise EncryptedFile from error
    except Exhausted as error:
        raise TooComplex from error
    except BrokenPages as error:
        raise UnreadableFile(media_type=asked.media_type) from error
    path = asked.folder / "thumbnail.webp"
    width, height = pictures.thumbnail(first, path)
    made = Pictured(name="thumbnail", path=path, media_type="image/webp", width=width, height=height)
    facts = {"pages": count, "blurhash": pictures.blurhash(first)}
    return Findings(path=asked.path, media_type=asked.media_type, facts=facts, pictures=[made])


def office(asked: Asked) -> Findings:
    """Judge a docx, pptx or xlsx, which is served as it is. Raises a refusal."""
    with asked.path.open("rb") as file:
        try:
            parts.judge(file, asked.media_type, Budget())
        except BrokenArchive as error:
            raise UnreadableFile(media_type=asked.media_type) from error
    return Findings(path=asked.path, media_type=asked.media_type)


def _judge_ends(path: Path) -> None:
    """See that the document begins with the first byte and ends with the last, also where it was updated."""
    with path.open("rb") as file:
        begun = file.read(_TAIL_BYTES)
        file.seek(max(0, file.seek(0, 2) - _TAIL_BYTES))
        tail = file.read()
    if not begun.startswith(_PDF):
        raise BrokenPages("it does not begin as a PDF")
    before, mark, after = tail.rpartition(_END)
    if not mark or _UPDATED.match(after):
        raise BrokenPages("it is cut off")
    if after.strip(_BLANK):
        raise TrailingData
    earlier = before.rfind(_END)
    if earlier >= 0 and not _UPDATED.match(before, earlier + len(_END)):
        raise TrailingData


def _judge_active(asked: Asked, document: Pages) -> None:
    whole = names.judge(asked.path)
    if document.encrypted or not whole:
        plain = asked.folder / "plain.pdf"
        document.write_plain(plain)
        seen = names.judge(plain)
        plain.unlink()
        if not seen:
            raise BrokenPages("objects are packed in a way that cannot be followed")
    if document.has_xfa:
        raise active.refusal("form_program")
    if document.attachments:
        raise active.refusal("embedded_file")
    if document.programs:
        raise active.refusal("javascript")
