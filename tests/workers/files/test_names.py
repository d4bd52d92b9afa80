"""What files and folders may be called, and how names are found again."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.files import names
from workers.files.names import InvalidFileName, InvalidFolder
from workers.media import ENDINGS, media_type_of, named


@pytest.mark.parametrize(
    "name", ["صورة من الرحلة.jpg", "a", "a" * 255, "تقرير (نهائي) ٢٠٢٦.pdf", "می‌خواهم.txt", "..a", "👩‍👩‍👧.png"]
)
def test_what_people_call_their_files_is_taken(name: str) -> None:
    assert names.checked(name, field="name") == name


@pytest.mark.parametrize(
    "name",
    [
        *("", "  ", ".", "..", "a/b", "../../etc/passwd", "..\\..\\boot.ini", "a" * 256),
        *("a\x00.png", "a\nb", "a\x7f", "cod\u202egpj.exe", "a\u2066b", "a\u2028b", "\x1b[2J", "\ud800"),
    ],
)
def test_tricks_are_refused_by_the_name_of_the_field(name: str) -> None:
    with pytest.raises(InvalidFileName) as refused:
        names.checked(name, field="name")
    assert refused.value.facts["field"] == "name"


def test_names_are_kept_in_one_form_of_unicode() -> None:
    assert names.checked(" cafe\u0301.png ", field="name") == "café.png"


@pytest.mark.parametrize(("asked", "kept"), [("", ""), ("/", ""), ("رحلات/2026/", "رحلات/2026"), ("/a / b", "a/b")])
def test_folders_are_kept_without_slashes_at_their_ends(asked: str, kept: str) -> None:
    assert names.checked_folder(asked, field="folder") == kept


@pytest.mark.parametrize(
    "folder", ["a//b", "a/../b", "..", "a/./b", "/".join("a" * 17), "a\\b", "a/\u202eb", "a/" + "b" * 256]
)
def test_folders_that_lead_elsewhere_are_refused(folder: str) -> None:
    with pytest.raises(InvalidFolder):
        names.checked_folder(folder, field="folder")


@pytest.mark.parametrize(
    ("name", "typed"),
    [
        ("مُذَكِّرَات أحمد.pdf", "مذكرات احمد"),
        ("الجامعة الأردنية", "الجامعه الاردنيه"),
        ("تقرير ٢٠٢٦", "تقرير 2026"),
        ("مســتند", "مستند"),
        ("على", "علي"),
        ("کتاب فارسی", "كتاب فارسي"),
        ("Straße CAFÉ", "strasse cafe"),
        ("ﻻ", "لا"),
        ("مسؤول شؤون", "مسوول شوون"),
    ],
)
def test_a_name_is_found_however_it_is_written(name: str, typed: str) -> None:
    assert names.searched(typed) in names.searched(name)


@given(st.text())
def test_searching_never_fails_and_does_nothing_twice(text: str) -> None:
    once = names.searched(text)
    assert names.searched(once) == once


@given(st.text())
def test_whatever_is_taken_can_be_kept_and_leads_nowhere(text: str) -> None:
    try:
        name = names.checked(text, field="name")
    except InvalidFileName:
        return
    assert name.encode()
    assert names.checked(name, field="name") == name
    assert name not in {".", ".."}
    assert not set("/\\\n\r\x00") & set(name)


def test_every_ending_belongs_to_one_type() -> None:
    endings = [ending for each in ENDINGS.values() for ending in each]
    assert len(endings) == len(set(endings))
    assert {media_type_of(f"x{ending.upper()}") for ending in endings} == set(ENDINGS)
    assert media_type_of("x.html") is None


@pytest.mark.parametrize(
    ("name", "media_type", "served"),
    [
        ("a.png", "image/png", "a.png"),
        ("a.html", "text/plain", "a.html.txt"),
        ("a.JPEG", "image/jpeg", "a.JPEG"),
        ("تقرير", "application/pdf", "تقرير.pdf"),
        ("a.svg", "image/png", "a.svg.png"),
    ],
)
def test_a_file_is_served_under_an_ending_of_its_own_type(name: str, media_type: str, served: str) -> None:
    assert named(name, media_type) == served
