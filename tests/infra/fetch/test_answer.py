"""Whatever another server sends or withholds, it ends in a fact, and takes no more than it was given."""

import asyncio
import gzip
from collections.abc import Awaitable, Callable

import pytest

from infra.errors import PulseError
from infra.fetch import Fetched
from tests.infra.fetch.conftest import Reaching
from tests.support.strangers import Script, Stranger, answer

OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"


def saying(*words: bytes, then: str = "end", pause_s: float = 0) -> Script:
    """Return a script that says `words` and then ends, resets, falls silent or repeats the last of them for ever."""

    async def script(writer: asyncio.StreamWriter) -> None:
        for word in words:
            writer.write(word)
            await writer.drain()
            await asyncio.sleep(pause_s)
        while then == "repeat":
            writer.write(words[-1])
            await writer.drain()
            await asyncio.sleep(pause_s)
        if then == "silence":
            await asyncio.Event().wait()
        if then == "reset":
            writer.transport.abort()

    return script


def chunk(size: int) -> bytes:
    """Return a chunk of the chunked encoding."""
    return b"%x\r\n%b\r\n" % (size, b"x" * size)


#: What is said, and the code of the fact that it ends in.
WRONG: dict[str, tuple[Script | bytes, str]] = {
    "too large by its length": (saying(OK + b"Content-Length: 1001\r\n\r\n", then="silence"), "fetch_too_large"),
    "far too large by its length": (OK + b"Content-Length: %d\r\n\r\n" % 10**18, "fetch_too_large"),
    "too large without a length": (OK + b"\r\n" + b"x" * 1001, "fetch_too_large"),
    "endless without a length": (saying(OK + b"\r\n", b"x" * 65_536, then="repeat"), "fetch_too_large"),
    "too large in chunks": (CHUNKED + chunk(1000) + chunk(1), "fetch_too_large"),
    "endless in chunks": (saying(CHUNKED, chunk(100), then="repeat"), "fetch_too_large"),
    "endless in one chunk": (saying(CHUNKED + b"ffffffffff\r\n", b"x" * 65_536, then="repeat"), "fetch_too_large"),
    "a bomb": (answer(gzip.compress(b"\0" * 1_000_000)[:1000], "Content-Encoding: gzip"), "fetch_encoded"),
    "compressed twice": (answer(b"x", "Content-Encoding: gzip, br"), "fetch_encoded"),
    "identity and more": (answer(b"x", "Content-Encoding: identity", "Content-Encoding: gzip"), "fetch_encoded"),
    "compressed underneath": (OK + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", "fetch_broken"),
    "silence": (saying(then="silence"), "fetch_timed_out"),
    "silence after the head": (saying(OK + b"Content-Length: 9\r\n\r\n", then="silence"), "fetch_timed_out"),
    "silence in the head": (saying(OK + b"Content-Le", then="silence"), "fetch_timed_out"),
    "silence in the body": (saying(OK + b"Content-Length: 9\r\n\r\nx", then="silence"), "fetch_timed_out"),
    "a head that drips": (saying(OK, b"X: y\r\n", then="repeat", pause_s=0.01), "fetch_timed_out"),
    "a body that drips": (saying(OK + b"\r\n", b"x", then="repeat", pause_s=0.01), "fetch_timed_out"),
    "chunks that drip": (saying(CHUNKED, chunk(1), then="repeat", pause_s=0.01), "fetch_timed_out"),
    "trailers that drip": (saying(CHUNKED + b"0\r\n", b"X: y\r\n", then="repeat", pause_s=0.01), "fetch_timed_out"),
    "always about to answer": (saying(b"HTTP/1.1 100 Continue\r\n\r\n", then="repeat"), "fetch_broken"),
    "about to answer, slowly": (saying(b"HTTP/1.1 103 Hints\r\n\r\n", then="repeat", pause_s=0.01), "fetch_timed_out"),
    "crumbs": (CHUNKED + chunk(1) * 3000 + b"0\r\n\r\n", "fetch_broken"),
    "a reset at once": (saying(then="reset"), "fetch_broken"),
    "a reset in the head": (saying(OK, then="reset"), "fetch_broken"),
    "a reset in the body": (saying(OK + b"Content-Length: 9\r\n\r\nx", then="reset"), "fetch_broken"),
    "an end at once": (b"", "fetch_broken"),
    "an end in the head": (OK + b"Content-Le", "fetch_broken"),
    "an end in the body": (OK + b"Content-Length: 9\r\n\r\nx", "fetch_broken"),
    "an end in a chunk": (CHUNKED + b"9\r\nx", "fetch_broken"),
    "an end between chunks": (CHUNKED + chunk(9), "fetch_broken"),
    "no HTTP": (b"220 mail.example.com ready\r\n\r\n", "fetch_broken"),
    "HTTP/0.9": (b"<html>hi</html>", "fetch_broken"),
    "HTTP/2": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "fetch_broken"),
    "a length that is none": (OK + b"Content-Length: -1\r\n\r\n", "fetch_broken"),
    "a length that is a word": (OK + b"Content-Length: nine\r\n\r\n", "fetch_broken"),
    "two lengths": (OK + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\nxx", "fetch_broken"),
    "a chunk of no size": (CHUNKED + b"xyz\r\n", "fetch_broken"),
    "a chunk of a size too long": (CHUNKED + b"f" * 40 + b"\r\n", "fetch_broken"),
    "a header longer than a head may be": (answer(b"x", "X: " + "y" * 40_000), "fetch_broken"),
    "more headers than a head may have": (answer(b"x", *["X: " + "y" * 100] * 400), "fetch_broken"),
    "an endless header": (saying(OK + b"X: ", b"y" * 65_536, then="repeat"), "fetch_broken"),
    "an endless status": (saying(b"HTTP/1.1 200 ", b"y" * 65_536, then="repeat"), "fetch_broken"),
    "an endless chunk extension": (saying(CHUNKED + b"1;", b"y" * 65_536, then="repeat"), "fetch_broken"),
    "a folded line with a NUL": (OK + b"X: \0\r\n\r\n", "fetch_broken"),
    "a switch of protocols": (b"HTTP/1.1 101 Switching\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n", "fetch_broken"),
    "nothing": (b"HTTP/1.1 204 No Content\r\n\r\n", "fetch_failed"),
    "a part": (answer(b"x", status="206 Partial Content"), "fetch_failed"),
    "forbidden": (answer(b"x", status="403 Forbidden"), "fetch_failed"),
    "gone": (answer(b"x", status="404 Not Found"), "fetch_failed"),
    "later": (answer(b"x", status="429 Too Many Requests"), "fetch_failed_for_now"),
    "down": (answer(b"x", status="503 Service Unavailable"), "fetch_failed_for_now"),
    "a status that nobody knows": (answer(b"x", status="999 What"), "fetch_failed_for_now"),
    "another type": (answer(b"x", "Content-Type: text/html"), "fetch_unexpected_type"),
    "no type": (answer(b"x"), "fetch_unexpected_type"),
    "a type that is none": (answer(b"x", "Content-Type: image/png\u00e9"), "fetch_unexpected_type"),
    "a type with another one's start": (answer(b"x", "Content-Type: image/pngx"), "fetch_unexpected_type"),
    "two types": (
        answer(b"x", "Content-Type: image/png", "Content-Type: text/html"),
        "fetch_unexpected_type",
    ),
}
RETRYABLE = {"fetch_timed_out", "fetch_broken", "fetch_failed_for_now"}
TYPED = "fetch_unexpected_type"


@pytest.mark.parametrize(("script", "code"), WRONG.values(), ids=WRONG)
async def test_what_is_wrong_with_an_answer_is_told_as_a_fact(
    script: Script | bytes, code: str, reaching: Reaching, refused: Callable[[Awaitable[object]], Awaitable[PulseError]]
) -> None:
    async with Stranger.serving(script) as server:
        fetcher = reaching(server, within_s=0.3 if code == "fetch_timed_out" else 30.0)
        error = await refused(
            fetcher.get(
                f"http://files.example.com:{server.port}/",
                most_bytes=1000,
                media_types=("image/png", "video/*") if code == TYPED else (),
            )
        )
        assert (error.code, error.status, error.retryable) == (code, 502, code in RETRYABLE)
        assert "127.0.0.1" not in error.text("en") + error.text("ar")
        await server.left(1)


@pytest.mark.parametrize("status", ["301 Moved", "302 Found", "303 See Other", "307 Temporary", "308 Permanent"])
@pytest.mark.parametrize("method", ["get", "post"])
async def test_a_redirect_is_not_followed_and_where_it_points_is_not_told(
    status: str, method: str, reaching: Reaching, refused: Callable[[Awaitable[object]], Awaitable[PulseError]]
) -> None:
    async with Stranger.serving(answer(b"inside")) as inside:
        location = f"Location: http://127.0.0.1:{inside.port}/secret"
        async with Stranger.serving(answer(b"", location, status=status)) as server:
            fetcher, url = reaching(server, inside), f"http://files.example.com:{server.port}/"
            fetched = fetcher.post(url, b"news") if method == "post" else fetcher.get(url, most_bytes=1000)
            error = await refused(fetched)
        assert (error.code, error.facts) == ("fetch_redirected", {})
        assert (server.visits, inside.visits) == (1, 0)


async def test_one_wait_is_bounded_also_where_all_of_it_is_not(
    reaching: Reaching, refused: Callable[[Awaitable[object]], Awaitable[PulseError]]
) -> None:
    async with Stranger.serving(saying(OK + b"Content-Length: 9\r\n\r\nx", then="silence")) as server:
        fetcher = reaching(server, read_s=0.1, within_s=1000)
        error = await refused(fetcher.get(f"http://files.example.com:{server.port}/", most_bytes=1000))
    assert error.code == "fetch_timed_out"


@pytest.mark.parametrize(
    ("script", "body"),
    [
        (answer(b"x" * 1000), b"x" * 1000),
        (CHUNKED + chunk(999) + chunk(1) + b"0\r\n\r\n", b"x" * 1000),
        (CHUNKED + chunk(1) * 900 + b"0\r\n\r\n", b"x" * 900),
        (CHUNKED + b"1;name=value\r\nx\r\n0\r\nTrailer: y\r\n\r\n", b"x"),
        (OK + b"\r\n" + b"x" * 1000, b"x" * 1000),
        (b"HTTP/1.0 200 OK\r\n\r\nold", b"old"),
        (b"HTTP/1.1 100 Continue\r\n\r\n" + answer(b"x"), b"x"),
        (b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" + answer(b"x"), b"x"),
        (answer(b""), b""),
        (answer(b"x", "Content-Encoding: identity"), b"x"),
        (answer(b"x", "Content-Encoding:"), b"x"),
        (answer(b"x", "Content-Length: 1"), b"x"),
        (answer(b"x", "X: " + "y" * 30_000), b"x"),
        (answer(b"x") + b"HTTP/1.1 200 OK\r\n\r\nmore than was asked for", b"x"),
        (answer(gzip.compress(b"x")), gzip.compress(b"x")),
    ],
)
async def test_what_an_answer_brings_is_returned_as_it_came(script: bytes, body: bytes, reaching: Reaching) -> None:
    async with Stranger.serving(script) as server:
        fetched = await reaching(server).get(f"http://files.example.com:{server.port}/", most_bytes=1000)
    assert fetched == Fetched(media_type="", body=body)


@pytest.mark.parametrize(
    ("written", "media_type"),
    [
        ("image/png", "image/png"),
        ("Image/PNG; x=y", "image/png"),
        ("video/mp4", "video/mp4"),
        (" video/x-y+z;", "video/x-y+z"),
    ],
)
async def test_a_type_that_is_expected_is_told_in_small_letters(
    written: str, media_type: str, reaching: Reaching
) -> None:
    async with Stranger.serving(answer(b"x", f"Content-Type: {written}")) as server:
        fetched = await reaching(server).get(
            f"http://files.example.com:{server.port}/", most_bytes=1, media_types=("image/png", "video/*")
        )
        assert fetched.media_type == media_type
        assert b"\r\naccept: image/png, video/*\r\n" in server.requests[0]


@pytest.mark.parametrize(
    "written", ["", "nonsense", "image/", "a/b/c", "image/png\u00e9", "image/p ng", "x/" + "y" * 200]
)
async def test_a_type_that_is_none_is_told_as_none(written: str, reaching: Reaching) -> None:
    async with Stranger.serving(answer(b"x", f"Content-Type: {written}")) as server:
        fetched = await reaching(server).get(f"http://files.example.com:{server.port}/", most_bytes=1)
    assert fetched.media_type == ""
