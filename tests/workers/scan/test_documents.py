"""PDF and Office documents: the good ones pass as they are, and what could act or overflow is refused in the child."""

from pathlib import Path
from typing import Any, cast

import pypdfium2
import pytest
from PIL import Image

from tests.support import documents, examining
from tests.support.corpus_documents import HEAVY, HOSTILE
from tests.support.documents import DOCX, PDF, PPTX, XLSX
from tests.support.examining import LIMITS
from workers.craft.child import Limits
from workers.scan.findings import Findings
from workers.scan.refusals import ActiveContent, FileRefused, TooComplex, TypeMismatch


async def examined(path: Path, media_type: str, limits: Limits = LIMITS) -> Findings:
    """Examine a document in a child."""
    return await examining.examined(
        "documents:pdf" if media_type == PDF else "documents:office", path, media_type, limits
    )


def _packed() -> bytes:
    objects = documents.pages(3)
    packed = {number: body for number, body in objects.items() if number != 3}
    return documents.packed_pdf({3: objects[3]}, packed)


def _updated() -> bytes:
    return documents.pdf(3) + b"4 0 obj\n<< /Title (x) >>\nendobj\nxref\n0 0\ntrailer\n<< >>\nstartxref\n9\n%%EOF\n\n"


GOOD_PDF = {
    "three pages": documents.pdf(3),
    "packed objects": _packed(),
    "updated": _updated(),
    "encrypted without a password": documents.sealed_pdf(b""),
    "links": documents.pdf(
        3, page=b"/Annots [<< /Subtype /Link /Rect [0 0 9 9] /A << /S /URI /URI (https://example.com) >> >>]"
    ),
    "links within, as LaTeX makes them": documents.pdf(
        3,
        catalog=b"/OpenAction 5 0 R /PageMode /UseOutlines /Names << /Dests << /Names [(section.1) 6 0 R] >> >>",
        page=b"/Annots [<< /Type /Annot /Subtype /Link /Rect [0 0 9 9] /A << /S /GoTo /D (section.1) >> >>"
        b" << /Type /Annot /Subtype /Link /Rect [0 0 9 9] /A << /Type /Action /S /URI /URI (https://a.test) >> >>]",
        more={5: b"<< /S /GoTo /D [10 0 R /Fit] >>", 6: b"<< /D [10 0 R /XYZ 72 720 null] >>"},
    ),
    "opened at its first page, as Word has it": documents.pdf(
        3,
        catalog=b"/OpenAction [10 0 R /XYZ null null 0] /Outlines << /Type /Outlines /First 5 0 R /Last 5 0 R >>",
        page=b"/Annots [<< /Subtype /Link /Rect [0 0 9 9] /Dest [10 0 R /XYZ 69 720 0] >>]",
        more={5: b"<< /Title (1) /Dest [10 0 R /Fit] >>"},
    ),
    "a font of a short name": documents.pdf(
        3,
        more={
            5: documents.stream(b"", b"/Type /XObject /Subtype /Form /Resources << /Font << /F 6 0 R /F1 6 0 R >> >>")
        },
    ),
    "the word of streams many times": documents.pdf(3, more={5: b"(" + b"stream " * 500_000 + b")"}),
    "a name much like another": documents.pdf(3, catalog=b"/JavaScripts 1 /LaunchPad 2"),
    "blanks after the end": documents.pdf(3) + b"\r\n\0\0 ",
}


@pytest.mark.parametrize("name", GOOD_PDF)
async def test_a_good_pdf_is_kept_as_it_is_with_its_first_page_as_a_picture(name: str, tmp_path: Path) -> None:
    path = tmp_path / "تقرير.pdf"
    path.write_bytes(GOOD_PDF[name])
    found = await examined(path, PDF)
    assert found.path == path
    assert path.read_bytes() == GOOD_PDF[name]
    assert found.facts["pages"] == (1 if "password" in name else 3)
    assert len(found.facts["blurhash"]) > 10
    (thumbnail,) = found.pictures
    with Image.open(thumbnail.path) as drawn:
        assert (drawn.format, drawn.size) == ("WEBP", (362, 512))
        assert drawn.size == (thumbnail.width, thumbnail.height)
        assert drawn.convert("RGB").getpixel((60, 60)) == pytest.approx((255, 0, 0), abs=12)
        assert drawn.convert("RGB").getpixel((300, 400)) == pytest.approx((255, 255, 255), abs=12)
    assert [each.name for each in (tmp_path / "made of it").iterdir()] == ["thumbnail.webp"]


@pytest.mark.parametrize("media_type", [DOCX, PPTX, XLSX])
async def test_a_good_office_document_is_kept_as_it_is(media_type: str, tmp_path: Path) -> None:
    data = documents.office(
        media_type,
        {
            "word/media/صورة.png": bytes(1000),
            "word/embeddings/Microsoft_Excel_Sheet1.xlsx": documents.office(XLSX),
            "word/theme/theme1.xml": '\ufeff<?xml version="1.0" encoding="utf-16"?><a/>'.encode("utf-16-le"),
            "xl/printerSettings/printerSettings1.bin": b"\0\1",
            "word/media/": "",
        },
    )
    path = tmp_path / "document"
    path.write_bytes(data)
    found = await examined(path, media_type)
    assert (found.path, found.media_type, found.facts, found.pictures) == (path, media_type, {}, [])
    assert path.read_bytes() == data


GOOD_FIELDS = {
    "a link to a page about links": [' HYPERLINK "https://example.com/dde/link?import=1" \\o "DDE" '],
    "a link within": [' HYPERLINK \\l "LINK" '],
    "the number of a page": [" PAGE ", r" \* MERGEFORMAT "],
    "contents": [' TOC \\o "1-3" \\h '],
    "a name much like another": [" LINKED "],
    "a field in a field": [*documents.field(" DATE ")],
}


@pytest.mark.parametrize("name", GOOD_FIELDS)
async def test_a_field_that_fetches_nothing_is_kept(name: str, tmp_path: Path) -> None:
    path = tmp_path / "document"
    codes = GOOD_FIELDS[name]
    runs = documents.field(*codes) if "<" not in codes[0] else [*documents.field(" IF ")[:2], *codes]
    path.write_bytes(documents.office(DOCX, documents.written(*runs, "<w:t>DDEAUTO is a word</w:t>")))
    assert (await examined(path, DOCX)).path == path


async def test_a_workbook_with_a_model_of_its_own_data_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "document"
    model = '<connections><dbPr connection="Data Model Connection" command="DataModel"/></connections>'
    path.write_bytes(documents.office(XLSX, {"xl/connections.xml": model}))
    assert (await examined(path, XLSX)).path == path


async def test_a_slide_that_leads_to_the_next_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "document"
    slide = '<p:sld xmlns:p="p" xmlns:a="a"><a:hlinkClick action="ppaction://hlinkshowjump?jump=nextslide"/></p:sld>'
    path.write_bytes(documents.office(PPTX, {"ppt/slides/slide1.xml": slide}))
    assert (await examined(path, PPTX)).path == path


async def test_a_stranger_s_words_are_not_said_again(tmp_path: Path) -> None:
    path = tmp_path / "document"
    HOSTILE["a stranger's type"].write(path)
    with pytest.raises(TypeMismatch) as raised:
        await examined(path, DOCX)
    assert raised.value.facts == {"declared": DOCX, "found": "application/zip"}


@pytest.mark.parametrize("name", HOSTILE)
async def test_a_hostile_document_is_refused_for_what_it_is(name: str, tmp_path: Path) -> None:
    hostile = HOSTILE[name]
    path = tmp_path / "document"
    hostile.write(path)
    with pytest.raises(FileRefused) as raised:
        await examined(path, hostile.media_type)
    assert type(raised.value) is hostile.refusal
    assert raised.value.text("en") != raised.value.text("ar")


@pytest.mark.parametrize("name", HEAVY)
async def test_a_page_that_takes_hours_to_draw_is_given_up_soon(name: str, tmp_path: Path) -> None:
    path = tmp_path / "document"
    path.write_bytes(HEAVY[name]())
    with pytest.raises(TooComplex):
        await examined(path, PDF, Limits(seconds=60, cpu_s=30, memory_bytes=1024**3))


async def test_active_content_is_named_in_both_languages(tmp_path: Path) -> None:
    path = tmp_path / "document.pdf"
    path.write_bytes(documents.pdf(catalog=b"/OpenAction << /S /Launch /F (cmd.exe) >>"))
    with pytest.raises(ActiveContent) as raised:
        await examined(path, PDF)
    assert raised.value.text("en") == (
        "The file contains an action that starts a program, which could act on the computer of whoever opens it."
    )
    assert raised.value.text("ar") == "في الملف أمر يشغّل برنامجًا، وقد يؤثر ذلك في جهاز من يفتحه."
    assert {name for name in raised.value.facts if name not in raised.value.hidden} == {"what"}


async def test_many_parts_that_are_small_each_are_too_much_together(tmp_path: Path) -> None:
    path = tmp_path / "document"
    million = bytes(range(256)) * 4096
    path.write_bytes(documents.office(DOCX, {f"word/media/{number}.png": million for number in range(540)}))
    with pytest.raises(FileRefused) as raised:
        await examined(path, DOCX)
    assert raised.value.code == "archive_too_large"
    assert raised.value.facts == {"limit_parts": 10_000, "limit_mib": 512}


def test_the_pdf_library_can_run_no_programs() -> None:
    flags = cast("Any", pypdfium2).PDFIUM_INFO.flags
    assert {"V8", "XFA"}.isdisjoint(flags)
