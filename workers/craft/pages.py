"""Opens strangers' PDFs with PDFium, which runs none of their programs: its build has no JavaScript and no XFA."""

from collections.abc import Generator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, BinaryIO, cast

import pypdfium2
import pypdfium2.raw

from workers.craft import apart
from workers.craft.pictures.pillow import Image

_library = cast("Any", pypdfium2)  # it has no types
_raw = cast("Any", pypdfium2.raw)

#: The longest side of a page in points: 200 inches, what ISO 32000-1 (annex C) lets a page have.
_LONGEST_POINTS = 14_400
# A page can be a kilobyte that takes hours to draw. Those of books and scans take a tenth of a second.
_DRAWN_WITHIN_S = 4
_DRAWN_WITHIN_BYTES = 384 * 1024**2


class BrokenPages(Exception):
    """The document cannot be read. The message is for the log."""


class Locked(Exception):
    """The document cannot be opened without a password."""


class Pages:
    """An open PDF."""

    def __init__(self, document: Any) -> None:
        """Wrap an opened document."""
        self._document = document

    @property
    def count(self) -> int:
        """How many pages it has."""
        return len(self._document)

    @property
    def encrypted(self) -> bool:
        """Whether its text is hidden from who reads the file itself, although no password is asked for."""
        return _raw.FPDF_GetSecurityHandlerRevision(self._document) != -1

    @property
    def programs(self) -> int:
        """How many programs in JavaScript belong to the whole document."""
        return _raw.FPDFDoc_GetJavaScriptActionCount(self._document)

    @property
    def attachments(self) -> int:
        """How many files are embedded."""
        return _raw.FPDFDoc_GetAttachmentCount(self._document)

    @property
    def has_xfa(self) -> bool:
        """Whether it has a form of the kind that is a program."""
        return self._document.get_formtype() in {_raw.FORMTYPE_XFA_FULL, _raw.FORMTYPE_XFA_FOREGROUND}

    def write_plain(self, path: Path) -> None:
        """Write a copy that is neither encrypted nor has objects packed into streams. Raises `BrokenPages`."""
        with path.open("wb") as file, _foreseen():
            self._document.save(file, flags=_raw.FPDF_NO_INCREMENTAL | _raw.FPDF_REMOVE_SECURITY)

    def first(self, *, edge: int) -> Image.Image:
        """Draw the first page, `edge` pixels long at most. Raises `BrokenPages` and `apart.Exhausted`."""

        def draw(file: BinaryIO) -> None:
            picture = self._first(edge)
            file.write(picture.width.to_bytes(4) + picture.height.to_bytes(4) + picture.tobytes())

        try:
            drawn = apart.run(draw, cpu_s=_DRAWN_WITHIN_S, memory_bytes=_DRAWN_WITHIN_BYTES)
        except apart.Failed as error:
            raise BrokenPages("the first page cannot be drawn") from error
        size = (int.from_bytes(drawn[:4]), int.from_bytes(drawn[4:8]))
        return Image.frombytes("RGB", size, drawn[8:])

    def _first(self, edge: int) -> Image.Image:
        with closing(self._document[0]) as page:
            width, height = page.get_size()
            if not (0 < width <= _LONGEST_POINTS and 0 < height <= _LONGEST_POINTS):
                raise BrokenPages(f"the first page is {width} x {height} points large")
            scale = edge / max(width, height)
            with closing(page.render(scale=scale, may_draw_forms=False, limit_image_cache=True)) as bitmap:
                return cast("Image.Image", bitmap.to_pil()).convert("RGB")


@contextmanager
def opened(path: Path) -> Generator[Pages]:
    """Open a PDF. Raises `Locked` and `BrokenPages`."""
    with _foreseen():
        document = _library.PdfDocument(path)
    with closing(document):
        yield Pages(document)


@contextmanager
def _foreseen() -> Generator[None]:
    try:
        yield
    except _library.PdfiumError as error:
        if error.err_code in {_raw.FPDF_ERR_PASSWORD, _raw.FPDF_ERR_SECURITY}:
            raise Locked(str(error)) from error
        raise BrokenPages(str(error)) from error
