"""Text that can be kept, however a vendor cuts it; and files as words."""

import itertools

import pytest

from providers import papers, text
from providers.types import Paper, Picture


def _all(*pieces: str) -> list[str]:
    read = text.Pieces()
    return [*(read.take(piece) for piece in pieces), read.rest()]


def test_a_pair_that_is_cut_in_two_comes_whole_with_its_second_half() -> None:
    assert _all("a\ud83d", "\ude00b", "c") == ["", "a😀b", "c", ""]
    assert _all("\ud83d", "x") == ["", "\ufffdx", ""]
    assert _all("x\ud83d") == ["", "x\ufffd"]
    assert _all("\ude00") == ["\ufffd", ""]
    assert _all("a\0b") == ["a\ufffdb", ""]


def test_the_pieces_make_the_kept_text_wherever_it_is_cut() -> None:
    whole = "ab\ud83d\ude00\ud83dس\0\ude00\ud83d"
    for first, second in itertools.combinations_with_replacement(range(len(whole) + 1), 2):
        pieces = _all(whole[:first], whole[first:second], whole[second:])
        assert "".join(pieces) == text.kept(whole)
    text.kept(whole).encode()


@pytest.mark.parametrize(
    ("paper", "is_text"),
    [
        (Paper(name="a", media_type="text/plain", data=b""), True),
        (Paper(name="a", media_type="text/markdown; charset=utf-8", data=b""), True),
        (Paper(name="a", media_type="application/pdf", data=b""), False),
    ],
)
def test_whatever_is_no_pdf_is_words(paper: Paper, is_text: bool) -> None:
    assert papers.is_text(paper) is is_text


def test_a_file_is_put_with_its_name_and_what_it_cannot_be_read_as_is_marked() -> None:
    paper = Paper(name='a "b".txt', media_type="text/plain", data="س".encode() + b"\xff\0")
    assert papers.words(paper) == "<file name=\"a 'b'.txt\">\nس\ufffd\ufffd\n</file>"
    assert papers.data_url(Picture(media_type="image/png", data=b"p")) == "data:image/png;base64,cA=="
