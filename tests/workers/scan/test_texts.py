"""Texts are UTF-8 to their last byte, and JSON where they say so; a byte or a line is named where they are not."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.support import examined
from tests.support.corpus import asked
from workers.craft import child
from workers.craft.child import Limits
from workers.scan import texts
from workers.scan.refusals import FileRefused, MalformedLine, TooComplex, UnreadableFile, UnreadableText

MIB = 1024**2
PIECE = MIB
ARABIC = "السَّلامُ عليكم — «نصٌّ» ١٢٣ 🌙\n"

type Lines = Callable[[str, bytes], Any]


@pytest.fixture
def lines(tmp_path: Path) -> Lines:
    """Judges a text and returns how many lines it has."""

    def counted(media_type: str, data: bytes) -> Any:
        given = asked(tmp_path, data, media_type)
        found = texts.examine(given)
        assert found.path == given.path, "a text is kept as it is"
        return found.facts["lines"]

    return counted


def place(lines: Lines, data: bytes, media_type: str = "text/plain") -> Any:
    """Return the place of the byte for which a text is refused."""
    with pytest.raises(UnreadableText) as refused:
        lines(media_type, data)
    return refused.value.facts["position"]


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("", 0),
        ("a", 1),
        ("a\n", 1),
        ("a\nb", 2),
        ("\n\n", 2),
        ("a\r\nb\r\n", 2),
        ("\ufeffname,age\r\nليلى,30\r\n", 2),
        ("\t\f\n", 1),
        (ARABIC * 1000, 1000),
        ("𐀀\u0085\u2028", 1),
    ],
)
@pytest.mark.parametrize("media_type", ["text/plain", "text/markdown", "text/csv"])
def test_lines_are_counted(lines: Lines, media_type: str, text: str, count: int) -> None:
    assert lines(media_type, text.encode()) == count


@pytest.mark.parametrize("before", [0, 1, 5, PIECE - 3, PIECE - 2, PIECE - 1, PIECE, PIECE + 1, 2 * PIECE - 1])
@pytest.mark.parametrize("wrong", [b"\x00", b"\x1b[2J", b"\x7f", b"\xff", b"\xc0\x80", b"\xed\xa0\x80", b"\xd8"])
def test_the_first_byte_that_is_no_text_is_named(lines: Lines, before: int, wrong: bytes) -> None:
    assert place(lines, b"a" * before + wrong + b"b" * 10) == before
    assert place(lines, b"a" * before + wrong) == before


@pytest.mark.parametrize("before", [0, 1, 2, 3])
def test_characters_are_whole_wherever_the_pieces_end(lines: Lines, before: int) -> None:
    text = "a" * before + "🌙س€a" * (PIECE // 5)
    assert lines("text/plain", text.encode()) == 1


def test_every_character_but_the_controls_is_text(lines: Lines) -> None:
    codes = [code for code in range(0x110000) if not 0xD800 <= code < 0xE000]
    allowed = "".join(chr(code) for code in codes if code >= 32 and code != 127) + "\t\n\r\f"
    assert lines("text/plain", allowed.encode()) == 2
    for control in {*range(32), 127} - {*b"\t\n\r\f"}:
        assert place(lines, bytes([97, control])) == 1


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32", "cp1256", "iso8859-6"])
def test_other_encodings_are_refused(lines: Lines, encoding: str) -> None:
    place(lines, "سلام عليكم".encode(encoding))


@pytest.mark.parametrize(
    "text", ["{}", "[]", "null", "1.5e300", '"نص"', '{"a":[{"b":[true,false]}]}', "[" * 500 + "]" * 500]
)
def test_json_is_json(lines: Lines, text: str) -> None:
    indented = msgspec.json.format(text.encode(), indent=2)
    assert lines("application/json", text.encode()) == 1
    assert lines("application/json", b"\xef\xbb\xbf" + text.encode() + b"\n") == 1
    assert lines("application/json", indented + b"\n") == indented.count(b"\n") + 1


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{",
        b"{'a': 1}",
        b'{"a": 1,}',
        b'{"a": 1} {"a": 2}',
        b'{"a": 01}',
        b'{"a": NaN}',
        b'{"a": "\\x"}',
        b'{"a": "\t"}',
        b"nul",
        b"// comment\n{}",
        b"[" * 100_000,
        b"[" * 100_000 + b"]" * 100_000,
        b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
    ],
    ids=range(14),
)
def test_what_is_no_json_is_damaged(lines: Lines, data: bytes) -> None:
    with pytest.raises(UnreadableFile) as refused:
        lines("application/json", data)
    assert refused.value.facts == {"media_type": "application/json"}


def test_json_that_is_no_text_is_refused_by_its_byte(lines: Lines) -> None:
    assert place(lines, b'{"a": "\xff"}', "application/json") == 7
    assert place(lines, b'{"a": 1}\n{"a": "\xff"}\n', "application/jsonl") == 16


def test_json_has_a_length_beyond_which_nobody_reads_it(lines: Lines) -> None:
    assert lines("application/json", b'"' + b"a" * (16 * MIB - 2) + b'"') == 1
    with pytest.raises(TooComplex):
        lines("application/json", b'"' + b"a" * (16 * MIB - 1) + b'"')


@pytest.mark.parametrize(
    ("data", "count"),
    [
        (b"", 0),
        (b'{"a": 1}', 1),
        (b'{"a": 1}\n', 1),
        (b'{"a": 1}\r\n\r\n{"a": 2}\r\n', 3),
        (b'\xef\xbb\xbf{"a": 1}\n \t \n', 2),
        ('{"الحقل": "نص\\n"}\n'.encode() * 100_000, 100_000),
        (b'{"a": "' + b"x" * (3 * MIB) + b'"}\n{}\n', 2),
    ],
    ids=range(7),
)
def test_json_lines_are_objects(lines: Lines, data: bytes, count: int) -> None:
    assert lines("application/jsonl", data) == count


@pytest.mark.parametrize(
    ("data", "line"),
    [
        (b"[1]\n", 1),
        (b"{}\n1\n", 2),
        (b'{}\n\n"{}"\n', 3),
        (b"{}\nnull", 2),
        (b'{}\n{"a": 1', 2),
        (b'{"a":\n1}', 1),
        (b"{} {}\n", 1),
        (b'{}\n{"a": 1,}\n{}\n', 2),
        (b'{"a": "' + b"x" * MIB + b'"}\n' + b"{}\n" * 1000 + b"x\n" + b"{}\n" * 1000, 1002),
    ],
    ids=range(9),
)
def test_the_first_line_that_is_no_object_is_named(lines: Lines, data: bytes, line: int) -> None:
    with pytest.raises(MalformedLine) as refused:
        lines("application/jsonl", data)
    assert refused.value.facts == {"line": line}
    assert str(line) in refused.value.text("ar")


def test_a_line_that_never_ends_is_not_waited_for(lines: Lines) -> None:
    with pytest.raises(TooComplex):
        lines("application/jsonl", b"{}\n" + b" " * (17 * MIB))


async def test_two_hundred_megabytes_stream_through_little_memory(tmp_path: Path) -> None:
    line = '{"custom_id": "%07d", "kind": "chat", "input": {"messages": [{"role": "user", "content": "%s"}]}}\n'
    text = "".join(line % (number, ARABIC.strip() * 4) for number in range(10_000)).encode()
    given = asked(tmp_path, text * (200 * MIB // len(text)), "application/jsonl")
    took = await child.run(examined.measured, given, limits=Limits(memory_bytes=68 * MIB))
    assert took.code is None
    assert took.peak_mib < 64


def test_a_refusal_of_a_text_is_one_of_a_file() -> None:
    assert all(issubclass(each, FileRefused) for each in (MalformedLine, UnreadableFile, UnreadableText))
