"""Batches as JSON, split while they come: the lines are the elements, whatever they hold, wherever chunks are cut."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from api.batches.inline import MOST_AROUND_BYTES, RepeatedMember, Splitter, TooMuchAround
from infra.decoding import MalformedJson, WrongType
from infra.errors import PulseError

_TEXTS = st.text(alphabet=st.sampled_from('a"\\{}[],:\n\r\t é٣😀'), max_size=8)
_VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | _TEXTS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_TEXTS, inner, max_size=4),
    max_leaves=12,
)
_ELEMENTS = st.lists(st.dictionaries(_TEXTS, _VALUES, max_size=4), max_size=5)
_BODIES = st.tuples(_ELEMENTS, st.dictionaries(_TEXTS, _VALUES, max_size=3), st.integers(0, 3))


def split(body: bytes, *sizes: int) -> tuple[list[bytes], bytes]:
    """Return the lines of a body that comes in chunks of these sizes, again and again, and what is around them."""
    splitter, lines, at, n = Splitter(), b"", 0, 0
    while at < len(body):
        lines += splitter.feed(body[at : at + sizes[n % len(sizes)]])
        at, n = at + sizes[n % len(sizes)], n + 1
    around = splitter.end()
    assert lines == b"" or lines.endswith(b"\n")
    return lines.split(b"\n")[:-1], around


def ordered(elements: Any, others: dict[str, Any], place: int) -> dict[str, Any]:
    """Return a body that has its requests after so many of the other members."""
    members = list({name: value for name, value in others.items() if name != "requests"}.items())
    return dict([*members[:place], ("requests", elements), *members[place:]])


@settings(max_examples=60, deadline=None)
@given(_BODIES, st.booleans(), st.sampled_from([None, 1, "\t"]), st.lists(st.integers(1, 40), min_size=1, max_size=6))
def test_the_lines_are_the_elements_and_the_rest_is_what_stands_around_them(
    parts: tuple[list[Any], dict[str, Any], int], escape: bool, indent: int | str | None, sizes: list[int]
) -> None:
    body = ordered(*parts)
    raw = json.dumps(body, ensure_ascii=escape, indent=indent).encode()
    lines, around = split(raw, *sizes)
    assert [json.loads(line) for line in lines] == body["requests"]
    assert json.loads(around) == body | {"requests": None}
    assert (lines, around) == split(raw, len(raw)), "chunks are cut anywhere"


@settings(max_examples=60, deadline=None)
@given(_BODIES, st.data())
def test_a_body_that_is_damaged_is_refused_or_its_lines_are_still_told_apart(
    parts: tuple[list[Any], dict[str, Any], int], data: st.DataObject
) -> None:
    raw = bytearray(json.dumps(ordered(*parts)).encode())
    at = data.draw(st.integers(0, len(raw) - 1))
    raw[at : at + data.draw(st.integers(0, 3))] = data.draw(st.sampled_from([b"", b"{", b"}", b"]", b'"', b",", b"x"]))
    try:
        lines, around = split(bytes(raw), 7, 3)
        rest = json.loads(around)
    except (PulseError, ValueError):
        return  # what stands around is decoded, and refused, when all of it has come
    if "requests" not in rest:
        return
    try:
        wanted = json.loads(bytes(raw))["requests"]
    except ValueError:
        assert any(not _is_json(line) for line in lines), "something is wrong with a line, and its reader says so"
    else:
        assert [json.loads(line) for line in lines] == wanted


def _is_json(line: bytes) -> bool:
    try:
        json.loads(line)
    except ValueError:
        return False
    return True


REFUSED: list[tuple[bytes, type[PulseError], str | None]] = [
    (b"", MalformedJson, None),
    (b"   ", MalformedJson, None),
    (b"[]", WrongType, "body"),
    (b'"requests"', WrongType, "body"),
    (b"requests", MalformedJson, None),
    (b"\xef\xbb\xbf{}", MalformedJson, None),
    (b'{"requests": {}}', WrongType, "requests"),
    (b'{"requests": null}', WrongType, "requests"),
    (b'{"requests": x}', MalformedJson, None),
    (b'{"requests": [', MalformedJson, None),
    (b'{"requests": [{"a": "}', MalformedJson, None),
    (b'{"requests": [{"a": 1}', MalformedJson, None),
    (b'{"requests": [{}, ]}', MalformedJson, None),
    (b'{"requests": [{} {}]}', MalformedJson, None),
    (b'{"requests": [{}, 7]}', WrongType, "requests[1]"),
    (b'{"requests": [[{}]]}', WrongType, "requests[0]"),
    (b'{"requests": [{}], "requests": [{}]}', RepeatedMember, "requests"),
]


@pytest.mark.parametrize(("body", "fact", "field"), REFUSED)
def test_what_is_no_body_of_requests_is_refused(body: bytes, fact: type[PulseError], field: str | None) -> None:
    for size in (1, 100):
        with pytest.raises(fact) as refusal:
            split(body, size)
        assert refusal.value.facts.get("field") == field


def test_a_name_may_be_spelled_with_escapes_and_stand_elsewhere_too() -> None:
    body = rb'{"a": {"requests": [{"no": 1}]}, "b": "requests", "\u0072equests": [{"yes": 1}], "c": ["requests"]}'
    for size in (1, 5, 1000):
        lines, around = split(body, size)
        assert lines == [b'{"yes": 1}']
        assert json.loads(around)["a"] == {"requests": [{"no": 1}]}


def test_an_element_is_one_line_and_a_line_feed_in_a_string_stays_wrong() -> None:
    lines, _ = split(b'{"requests": [{\r\n"a":\n[1,\n2]\n}\n,\r\n{"b": "x\ny"}]}', 4)
    assert json.loads(lines[0]) == {"a": [1, 2]}
    assert not _is_json(lines[1])


def test_a_huge_element_passes_through_and_is_never_gathered() -> None:
    splitter = Splitter()
    passed = len(splitter.feed(b'{"requests": [{"a": "'))
    for _ in range(100):
        passed += len(splitter.feed(b"x" * 65_536))
    assert passed == 100 * 65_536 + len(b'{"a": "')
    assert len(splitter.around()) < 100


def test_what_stands_around_is_bounded() -> None:
    most = b'{"requests": [{}], "metadata": "' + b"x" * (MOST_AROUND_BYTES - 38) + b'"}'
    assert len(split(most, 1000)[1]) <= MOST_AROUND_BYTES
    for before in (b'{"a": "', b'{"requests": [{}], "a": "', b'{"a": [', b"{" + b" " * 70_000):
        with pytest.raises(TooMuchAround):
            split(before + b"1" * 70_000, 1000)
