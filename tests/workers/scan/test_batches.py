"""A batch's lines are no matter of its scan, which still takes nothing that is another type, damaged or incomplete."""

from pathlib import Path
from typing import Any

import pytest

from tests.support.corpus import archive, asked
from tests.support.pictured import encoded, photo
from workers.scan import examine
from workers.scan.refusals import FileRefused, HashMismatch, SizeMismatch, TypeMismatch

JSONL = "application/jsonl"
GOOD = '{"custom_id": "طلب", "kind": "chat"}\n'.encode()


def refusal(folder: Path, data: bytes, **facts: Any) -> FileRefused | None:
    """Return why a batch's file is refused; none: it is kept as it came."""
    given = asked(folder, data, JSONL, purpose="batch", **facts)
    try:
        found = examine.examine(given)
    except FileRefused as error:
        return error
    assert (found.path, found.media_type) == (given.path, JSONL)
    return None


@pytest.mark.parametrize(
    "data",
    [
        GOOD + b'{"custom_id": "\xff"}\n' + GOOD,
        b'{"custom_id": "\xff"}\n' + GOOD,
        b'{"custom_id": "a\0b\x1b"}\n' + GOOD,
        GOOD + b"[1]\nhello\n{",
        b"\xef\xbb\xbf" + GOOD,
        GOOD.decode().encode("utf-16"),
        GOOD.decode().encode("utf-16-be"),
        GOOD + b"x" * (20 * 1024**2),
        b"\n\n",
    ],
    ids=range(9),
)
def test_what_is_wrong_with_its_lines_is_not_judged(tmp_path: Path, data: bytes) -> None:
    assert refusal(tmp_path, data) is None


@pytest.mark.parametrize(
    ("data", "found"),
    [
        (archive({"a.jsonl": GOOD}), "application/zip"),
        (b"%PDF-1.7\n" + GOOD, "application/pdf"),
        (encoded(photo(), "PNG"), "image/png"),
        (b"\x7fELF\2\1\1" + bytes(57), "application/x-elf"),
        (b"MZ" + bytes(100), "application/vnd.microsoft.portable-executable"),
        (b"\x1f\x8b\x08\0" + bytes(20), "application/gzip"),
        (b"#!/bin/sh\n" + GOOD, "text/x-shellscript"),
        (b"<html><script>" + GOOD, "text/html"),
    ],
    ids=range(8),
)
def test_another_type_is_refused(tmp_path: Path, data: bytes, found: str) -> None:
    error = refusal(tmp_path, data)
    assert isinstance(error, TypeMismatch)
    assert error.facts == {"declared": JSONL, "found": found}


def test_what_was_damaged_on_its_way_is_refused(tmp_path: Path) -> None:
    assert isinstance(refusal(tmp_path, GOOD, sha256="0" * 64), HashMismatch)
    assert isinstance(refusal(tmp_path, GOOD, size_bytes=len(GOOD) + 1), SizeMismatch)


def test_lines_are_counted(tmp_path: Path) -> None:
    given = asked(tmp_path, GOOD * 3 + b"\n\xff", JSONL, purpose="batch")
    assert examine.examine(given).facts == {"lines": 5}
