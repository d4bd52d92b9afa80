"""Forms are read as they come: however they are cut into chunks they say the same, and what is wrong is named."""

import asyncio
import itertools
from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from litestar import Request
from litestar.testing import RequestFactory

from api import multipart
from api.multipart import (
    BoundaryMissing,
    BoundaryNotFound,
    BrokenPart,
    FormRequired,
    FormTooLarge,
    PartAfterFile,
    PartHeaderTooLarge,
    RepeatedField,
    TooManyFields,
    TruncatedForm,
    UploadStalled,
)
from infra.decoding import InvalidText, MissingField, TooLong
from infra.errors import PulseError

BOUNDARY = "----boundary.7"
TRICKY = [b"\r", b"\n", b"-", b"--", BOUNDARY.encode()]
TYPE = f"multipart/form-data; boundary={BOUNDARY}"


def part(head: str, content: bytes) -> bytes:
    """Return one part of a form."""
    return f"--{BOUNDARY}\r\nContent-Disposition: form-data; {head}\r\n\r\n".encode() + content + b"\r\n"


def field(name: str, value: str) -> bytes:
    """Return a field of a form."""
    return part(f'name="{name}"', value.encode())


def form(*parts: bytes, end: str = "--\r\n") -> bytes:
    """Return a form."""
    return b"".join(parts) + f"--{BOUNDARY}{end}".encode()


FILE = part('name="file"; filename="صورة.png"\r\nContent-Type: image/png', b"\x00\r\n--bytes\r\n----boundary")
WHOLE = form(field("key", "a/b"), field("name", "رحلة"), FILE)


def cut(body: bytes, places: Iterable[int]) -> list[bytes]:
    """Return a body in chunks that end at these places."""
    starts = [0, *sorted(places), len(body)]
    return [body[start:end] for start, end in itertools.pairwise(starts)]


def posting(*chunks: bytes, media_type: str = TYPE, ends: bool = True) -> Request[Any, Any, Any]:
    """Return a request whose body comes in these chunks; one that does not end breaks off after them."""
    request: Request[Any, Any, Any] = RequestFactory().post("/", headers={"Content-Type": media_type})  # pyright: ignore[reportUnknownMemberType]
    waiting = list(chunks)

    async def receive() -> Any:
        await asyncio.sleep(0)
        if waiting:
            return {"type": "http.request", "body": waiting.pop(0), "more_body": bool(waiting) or not ends}
        assert not ends, "nobody asks for more after the last chunk"
        return {"type": "http.disconnect"}

    request.receive = receive
    return request


async def all_of(request: Request[Any, Any, Any]) -> tuple[dict[str, str], str | None, str | None, bytes]:
    """Return everything that a form says."""
    posted = await multipart.read(request)
    return dict(posted.fields), posted.filename, posted.media_type, b"".join([chunk async for chunk in posted.file])


READ = ({"key": "a/b", "name": "رحلة"}, "صورة.png", "image/png", b"\x00\r\n--bytes\r\n----boundary")


async def test_a_form_is_read() -> None:
    assert await all_of(posting(WHOLE)) == READ


@given(places=st.sets(st.integers(0, len(WHOLE)), max_size=40))
def test_however_it_is_cut_it_says_the_same(places: set[int]) -> None:
    assert asyncio.run(all_of(posting(*cut(WHOLE, places)))) == READ


def test_byte_for_byte_it_says_the_same() -> None:
    assert asyncio.run(all_of(posting(*cut(WHOLE, range(1, len(WHOLE)))))) == READ


@given(
    values=st.dictionaries(
        st.text("abcXYZ-_0", min_size=1, max_size=9).filter(lambda name: name != "file"),
        st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\0"), max_size=50),
        max_size=5,
    ),
    content=st.binary(max_size=300) | st.lists(st.sampled_from(TRICKY)).map(b"".join),
    data=st.data(),
)
def test_any_form_in_any_chunks_is_read_as_it_was_written(
    values: dict[str, str], content: bytes, data: st.DataObject
) -> None:
    if f"\r\n--{BOUNDARY}".encode() in b"\r\n" + content + b"\r\n":
        content = b""
    body = form(*(field(*pair) for pair in values.items()), part('name="file"', content))
    places = data.draw(st.sets(st.integers(0, len(body)), max_size=10))
    assert asyncio.run(all_of(posting(*cut(body, places)))) == (values, None, None, content)


async def test_the_file_is_passed_on_before_the_rest_of_it_has_come() -> None:
    head, tail = WHOLE[: WHOLE.index(b"--bytes") + 5], WHOLE[WHOLE.index(b"--bytes") + 5 :]
    come = asyncio.Queue[dict[str, Any]]()
    request = posting()
    request.receive = come.get  # pyright: ignore[reportAttributeAccessIssue]
    come.put_nowait({"type": "http.request", "body": head, "more_body": True})
    posted = await multipart.read(request)
    assert await anext(posted.file) == b"\x00\r\n--byt"
    come.put_nowait({"type": "http.request", "body": tail, "more_body": False})
    assert b"".join([chunk async for chunk in posted.file]) == b"es\r\n----boundary"


WRONG: list[tuple[str, bytes, type[PulseError]]] = [
    ("nothing", b"", BoundaryNotFound),
    ("another boundary", WHOLE.replace(BOUNDARY.encode(), b"other"), BoundaryNotFound),
    ("text before it", b"hello\r\n" + WHOLE, BoundaryNotFound),
    ("a longer boundary", WHOLE.replace(BOUNDARY.encode(), BOUNDARY.encode() + b"x"), BrokenPart),
    ("no part", form(), MissingField),
    ("no file", form(field("key", "a")), MissingField),
    ("a field after the file", form(FILE, field("key", "a")), PartAfterFile),
    ("two files", form(FILE, FILE), PartAfterFile),
    ("a field twice", form(field("key", "a"), field("key", "a"), FILE), RepeatedField),
    ("no name", form(part('filename="x"', b"a"), FILE), BrokenPart),
    ("an empty name", form(part('name=""', b"a"), FILE), BrokenPart),
    ("no disposition", f"--{BOUNDARY}\r\nContent-Type: text/plain\r\n\r\na\r\n".encode() + form(FILE), BrokenPart),
    ("another disposition", form(FILE).replace(b"form-data", b"attachment"), BrokenPart),
    ("a header that is none", form(FILE).replace(b"Content-Type:", b"Content Type"), BrokenPart),
    ("a header that is not UTF-8", form(FILE).replace("صورة".encode(), b"\xff"), BrokenPart),
    ("a part that lies about its length", form(part('name="file"\r\nContent-Length: 3', b"abcd")), BrokenPart),
    ("a long header", form(part(f'name="file"; filename="{"x" * 5000}"', b"")), PartHeaderTooLarge),
    ("many headers", form(part('name="file"' + "\r\nX-A: b" * 20, b"")), PartHeaderTooLarge),
    ("a long name", form(field("k" * 101, "a"), FILE), TooLong),
    ("a long value", form(field("k", "a" * 16_385), FILE), TooLong),
    ("many fields", form(*(field(f"k{n}", "a") for n in range(33)), FILE), TooManyFields),
    ("a value that is not UTF-8", form(part('name="key"', b"\xff"), FILE), InvalidText),
    ("a value with NUL", form(part('name="key"', b"a\0"), FILE), InvalidText),
    ("much after its end", WHOLE + b"x" * 200_000, FormTooLarge),
    ("a great many bytes of fields", form(*(field(f"k{n}", "a" * 16_000) for n in range(12)), FILE), FormTooLarge),
]


@pytest.mark.parametrize(("body", "fact"), [w[1:] for w in WRONG], ids=[w[0] for w in WRONG])
@pytest.mark.parametrize("size", [1, 100, 50_000])
async def test_what_is_wrong_with_a_form_is_named(body: bytes, fact: type[PulseError], size: int) -> None:
    chunks = cut(body, range(size, len(body), size))
    with pytest.raises(fact) as refusal:
        await all_of(posting(*chunks))
    assert type(refusal.value) is fact
    assert refusal.value.status in {400, 413}


@given(end=st.integers(0, len(WHOLE) - 5), ends=st.booleans())
def test_a_form_that_breaks_off_anywhere_is_never_taken_for_a_whole_one(end: int, ends: bool) -> None:
    with pytest.raises((TruncatedForm, BoundaryNotFound)):
        asyncio.run(all_of(posting(WHOLE[:end], ends=ends)))


@pytest.mark.parametrize(
    ("media_type", "fact"),
    [
        ("application/json", FormRequired),
        ("", FormRequired),
        ("multipart/mixed; boundary=x", FormRequired),
        ("multipart/form-data", BoundaryMissing),
        ("multipart/form-data; boundary=", BoundaryMissing),
        ('multipart/form-data; boundary=""', BoundaryMissing),
        (f"multipart/form-data; boundary={'x' * 71}", BoundaryMissing),
        ('multipart/form-data; boundary="a\tb"', BoundaryMissing),
    ],
)
async def test_a_body_that_is_no_form_is_refused_before_it_is_read(media_type: str, fact: type[PulseError]) -> None:
    with pytest.raises(fact):
        await multipart.read(posting(WHOLE, media_type=media_type))


async def test_a_sender_that_falls_silent_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(multipart, "_SILENCE_S", 0.01)
    request = posting()
    request.receive = asyncio.Event().wait  # pyright: ignore[reportAttributeAccessIssue]
    with pytest.raises(UploadStalled):
        await multipart.read(request)


async def test_an_endless_form_without_a_file_is_given_up_soon() -> None:
    given_bytes = 0

    async def receive() -> Any:
        nonlocal given_bytes
        given_bytes += 10_000
        first = form(FILE) if given_bytes == 10_000 else b""
        return {"type": "http.request", "body": first + b"x" * 10_000, "more_body": True}

    request = posting()
    request.receive = receive
    with pytest.raises(FormTooLarge):
        await all_of(request)
    assert given_bytes < 200_000


async def test_a_reader_that_stops_early_is_not_in_the_way() -> None:
    posted = await multipart.read(posting(*cut(WHOLE, range(0, len(WHOLE), 9))))
    await anext(posted.file)
    await posted.file.aclose()
