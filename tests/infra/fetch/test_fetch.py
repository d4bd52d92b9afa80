"""What is sent, what is written and what comes back: no header of a stranger's making, and no half a file."""

import asyncio
import tracemalloc
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from infra import fetch, settings
from infra.errors import PulseError
from infra.fetch import Downloaded, Fetcher
from tests.infra.fetch.conftest import Reaching
from tests.support.line import until
from tests.support.strangers import Script, Stranger, answer

type Refused = Callable[[Awaitable[object]], Awaitable[PulseError]]

OK = b"HTTP/1.1 200 OK\r\n"
MIB = 1_048_576


def contents(folder: Path) -> dict[str, bytes]:
    """Return the files of a folder."""
    return {path.name: path.read_bytes() for path in folder.iterdir()}


async def half_a_file(writer: asyncio.StreamWriter) -> None:
    """Say so much and no more."""
    writer.write(OK + b"\r\n" + b"x" * 100_000)
    await asyncio.Event().wait()


async def test_a_request_has_these_headers_and_no_others_however_often_it_is_made(reaching: Reaching) -> None:
    async with Stranger.serving(answer(b"x", "Set-Cookie: a=b", "Connection: keep-alive")) as server:
        fetcher = reaching(server)
        for _ in range(2):
            await fetcher.get(f"http://files.example.com:{server.port}/a?b=c#d", most_bytes=9)
        told = [
            "GET /a?b=c HTTP/1.1",
            f"host: files.example.com:{server.port}",
            "accept-encoding: identity",
            "connection: close",
            "user-agent: pulse",
            "accept: */*",
        ]
        assert server.requests == ["\r\n".join([*told, "", ""]).encode()] * 2
        assert server.visits == 2, "a connection serves one fetch"


@pytest.mark.parametrize("name", ["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"])
async def test_a_proxy_of_the_environment_is_not_asked(
    name: str, reaching: Reaching, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with Stranger.serving(answer(b"direct")) as server, Stranger.serving(answer(b"proxy")) as proxy:
        for each in (name, name.lower()):
            monkeypatch.setenv(each, f"http://127.0.0.1:{proxy.port}")
        fetched = await reaching(server, proxy).get(f"http://files.example.com:{server.port}/", most_bytes=9)
        assert (fetched.body, proxy.visits) == (b"direct", 0)


async def test_headers_of_ones_own_are_sent_and_may_name_the_agent(reaching: Reaching) -> None:
    headers = {"Authorization": "Bearer a b", "User-Agent": "Studio/1", "Accept": "image/png", "x-signature": "v1,a="}
    async with Stranger.serving(answer(b"x")) as server:
        await reaching(server).get(f"http://files.example.com:{server.port}/", most_bytes=9, headers=headers)
        lines = server.requests[0].decode().split("\r\n")
    assert [line for line in lines if line.startswith(("user-agent", "accept:"))] == [
        "user-agent: Studio/1",
        "accept: image/png",
    ]
    assert {"authorization: Bearer a b", "x-signature: v1,a="} < set(lines)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("X-A", "b\r\nHost: inside"),
        ("X-A", "b\nX-B: c"),
        ("X-A", "b\rc"),
        ("X-A", "b\x00c"),
        ("X-A", "b\x7f"),
        ("X-A", "b\tc"),
        ("X-A", " b"),
        ("X-A", "b "),
        ("X-A", ""),
        ("X-A", "\u0635"),
        ("X-A", "b\u2028c"),
        ("X-A", "b\u010ac"),  # whose last byte is a line feed
        ("", "b"),
        ("X A", "b"),
        ("X-A\r\nX-B", "c"),
        ("X-A:", "b"),
        ("X-\u00e4", "b"),
        ("A" * 101, "b"),
        ("Host", "inside"),
        ("hOST", "inside"),
        ("Content-Length", "0"),
        ("Transfer-Encoding", "chunked"),
        ("Connection", "keep-alive"),
        ("Upgrade", "h2c"),
        ("Expect", "100-continue"),
        ("Cookie", "a=b"),
        ("Accept-Encoding", "gzip"),
        ("Proxy-Authorization", "Basic YTpi"),
        ("Trailer", "X-A"),
        ("TE", "trailers"),
    ],
)
async def test_a_header_that_could_say_something_else_is_refused(
    name: str, value: str, reaching: Reaching, refused: Refused, tmp_path: Path
) -> None:
    async with Stranger.serving(answer(b"x")) as server:
        fetcher, url, headers = (
            reaching(server),
            f"http://files.example.com:{server.port}/",
            {"X-Fine": "1", name: value},
        )
        for call in (
            fetcher.get(url, most_bytes=9, headers=headers),
            fetcher.download(url, tmp_path / "x", most_bytes=9, headers=headers),
            fetcher.post(url, b"news", headers=headers),
        ):
            error = await refused(call)
            assert (error.code, error.status, error.facts["field"]) == ("header_not_allowed", 400, "headers")
            assert "\n" not in error.text("en") + error.text("ar")
        assert server.visits == 0


async def test_a_download_is_written_whole_and_takes_the_place_of_what_was_there(
    reaching: Reaching, tmp_path: Path
) -> None:
    path = tmp_path / "صورة.png"
    path.write_bytes(b"old")
    half, go = asyncio.Event(), asyncio.Event()

    async def script(writer: asyncio.StreamWriter) -> None:
        writer.write(OK + b"Content-Type: image/png\r\n\r\n" + b"new")
        await writer.drain()
        half.set()
        await go.wait()
        writer.write(b"er")
        await writer.drain()

    async with Stranger.serving(script) as server:
        download = asyncio.create_task(
            reaching(server).download(f"http://files.example.com:{server.port}/", path, most_bytes=5)
        )
        await half.wait()
        assert path.read_bytes() == b"old"
        go.set()
        assert await download == Downloaded(media_type="image/png", size_bytes=5)
    assert contents(tmp_path) == {path.name: b"newer"}


@pytest.mark.parametrize(
    ("script", "code"),
    [
        (OK + b"Content-Length: 1001\r\n\r\n", "fetch_too_large"),
        (OK + b"\r\n" + b"x" * 1001, "fetch_too_large"),
        (OK + b"Content-Length: 1000\r\n\r\n" + b"x" * 999, "fetch_broken"),
        (answer(b"x", status="404 Not Found"), "fetch_failed"),
        (answer(b"x", "Content-Encoding: gzip"), "fetch_encoded"),
        (answer(b"x", "Content-Type: text/html"), "fetch_unexpected_type"),
        (answer(b"x", "Location: /", status="302 Found"), "fetch_redirected"),
    ],
)
async def test_a_download_that_fails_leaves_nothing_and_what_was_there(
    script: bytes, code: str, reaching: Reaching, refused: Refused, tmp_path: Path
) -> None:
    kept, new = tmp_path / "kept", tmp_path / "new"
    kept.write_bytes(b"old")
    async with Stranger.serving(script) as server:
        for path in (kept, new):
            types = ("image/*",) if code == "fetch_unexpected_type" else ()
            error = await refused(
                reaching(server).download(
                    f"http://files.example.com:{server.port}/", path, most_bytes=1000, media_types=types
                )
            )
            assert error.code == code
    assert contents(tmp_path) == {"kept": b"old"}


async def test_a_call_may_be_given_a_time_of_its_own_and_leaves_nothing_when_it_is_over(
    reaching: Reaching, refused: Refused, tmp_path: Path
) -> None:
    async with Stranger.serving(half_a_file) as server:
        url = f"http://files.example.com:{server.port}/"
        fetcher = reaching(server, read_s=1000, within_s=1000)
        for call in (
            fetcher.download(url, tmp_path / "new", most_bytes=MIB, within_s=0.5),
            fetcher.get(url, most_bytes=MIB, within_s=0.1),
            fetcher.post(url, b"news", most_bytes=MIB, within_s=0.1),
        ):
            assert (await refused(call)).code == "fetch_timed_out"
        await server.left(3)
    assert contents(tmp_path) == {}


async def test_a_download_that_is_canceled_leaves_nothing(reaching: Reaching, tmp_path: Path) -> None:
    async with Stranger.serving(half_a_file) as server:
        url = f"http://files.example.com:{server.port}/"
        download = asyncio.create_task(reaching(server).download(url, tmp_path / "new", most_bytes=MIB))
        await until(lambda: contents(tmp_path))
        download.cancel()
        with pytest.raises(asyncio.CancelledError):
            await download
        await server.left(1)
    assert contents(tmp_path) == {}


async def test_a_large_download_is_never_in_memory(reaching: Reaching, tmp_path: Path) -> None:
    piece = b"x" * 65_536

    async def script(writer: asyncio.StreamWriter) -> None:
        writer.write(OK + b"Content-Length: %d\r\n\r\n" % (32 * MIB))
        for _ in range(32 * MIB // len(piece)):
            writer.write(piece)
            await writer.drain()

    async with Stranger.serving(script) as server:
        fetcher = reaching(server)
        tracemalloc.start()
        try:
            downloaded = await fetcher.download(
                f"http://files.example.com:{server.port}/", tmp_path / "large", most_bytes=32 * MIB
            )
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert downloaded.size_bytes == (tmp_path / "large").stat().st_size == 32 * MIB
    assert peak < 4 * MIB


async def test_a_file_that_cannot_be_written_is_no_fault_of_the_other_server(
    reaching: Reaching, tmp_path: Path
) -> None:
    async with Stranger.serving(answer(b"x")) as server:
        with pytest.raises(FileNotFoundError):
            await reaching(server).download(
                f"http://files.example.com:{server.port}/", tmp_path / "no" / "folder", most_bytes=9
            )


@pytest.mark.parametrize("status", ["200 OK", "202 Accepted", "204 No Content", "400 Bad", "410 Gone", "503 Busy"])
async def test_a_post_delivers_its_body_and_tells_how_it_was_answered(status: str, reaching: Reaching) -> None:
    news = '{"type":"job.succeeded","data":"صورة"}'.encode()
    headers = {"Content-Type": "application/json", "webhook-id": "msg_1"}
    said = b"" if status.startswith("204") else b"thanks"
    async with Stranger.serving(answer(said, "Retry-After: 7", "X-A: 1", "x-a: 2", status=status)) as server:
        told = await reaching(server).post(f"http://files.example.com:{server.port}/hook", news, headers=headers)
        head, _, body = server.requests[0].partition(b"\r\n\r\n")
    assert (told.status, told.body) == (int(status[:3]), said)
    assert (told.headers["retry-after"], told.headers["x-a"]) == ("7", "1, 2")
    assert body == news
    assert head.startswith(b"POST /hook HTTP/1.1\r\n")
    assert {b"content-length: %d" % len(news), b"webhook-id: msg_1"} < {line.lower() for line in head.split(b"\r\n")}


@pytest.mark.parametrize("length", [b"", b"Content-Length: 1000000000000\r\n"])
async def test_of_an_endless_answer_to_a_post_only_the_start_is_read(length: bytes, reaching: Reaching) -> None:
    async def script(writer: asyncio.StreamWriter) -> None:
        writer.write(OK + length + b"\r\n")
        while True:
            writer.write(b"x" * 1000)
            await writer.drain()

    async with Stranger.serving(script) as server:
        told = await reaching(server).post(f"http://files.example.com:{server.port}/", b"", most_bytes=100)
        await server.left(1)
    assert told.body == b"x" * 100


async def test_a_compressed_answer_to_a_post_still_says_that_it_arrived(reaching: Reaching) -> None:
    async with Stranger.serving(answer(b"\x1f\x8b", "Content-Encoding: gzip")) as server:
        told = await reaching(server).post(f"http://files.example.com:{server.port}/", b"")
    assert (told.status, told.body) == (200, b"")


async def test_fetches_of_one_fetcher_go_on_beside_one_another(reaching: Reaching) -> None:
    together = asyncio.Barrier(20)

    async def script(writer: asyncio.StreamWriter) -> None:
        await together.wait()
        writer.write(answer(b"x"))

    async with Stranger.serving(script) as server:
        fetcher = reaching(server)
        url = f"http://files.example.com:{server.port}/"
        fetched = await asyncio.gather(*(fetcher.get(url, most_bytes=9) for _ in range(20)))
    assert [each.body for each in fetched] == [b"x"] * 20


async def test_the_policy_for_what_users_name_allows_what_operators_allow() -> None:
    bare = fetch.policy(settings.load({}))
    assert (bare.schemes, bare.ports, bare.allowed) == ({"https"}, {443}, ())
    policy = fetch.policy(settings.load({"PULSE_FETCH_ALLOW": " 127.0.0.0/8, fd12::/64 ,"}))
    assert [str(network) for network in policy.allowed] == ["127.0.0.0/8", "fd12::/64"]
    async with Fetcher(policy) as fetcher:
        with pytest.raises(PulseError) as refused:
            await fetcher.get("https://10.0.0.1/", most_bytes=1)
    assert refused.value.code == "address_not_allowed"


@pytest.mark.parametrize(
    ("script", "start"),
    [
        (half_a_file, b"x" * 9),
        (OK + b"\r\nsome", b"some"),
        (OK + b"Content-Length: 9\r\n\r\nhalf", b"half"),
        (OK + b"Transfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\nno chunk", b"half"),
        (OK + b"Content-Encoding: gzip\r\n\r\nx", b""),
    ],
)
async def test_where_the_head_is_what_counts_the_body_may_hang_or_break_off(
    script: Script | bytes, start: bytes, reaching: Reaching
) -> None:
    async with Stranger.serving(script) as server:
        url = f"http://files.example.com:{server.port}/"
        answered = await reaching(server).post(url, b"news", most_bytes=9, body_s=0.2)
    assert (answered.status, answered.body) == (200, start)


async def test_a_body_that_hangs_is_waited_for_no_longer_than_it_is_given(reaching: Reaching) -> None:
    async def hanging(writer: asyncio.StreamWriter) -> None:
        writer.write(OK + b"\r\nslow")
        await asyncio.Event().wait()

    async with Stranger.serving(hanging) as server:
        url = f"http://files.example.com:{server.port}/"
        answered = await reaching(server, read_s=1000, within_s=1000).post(url, b"news", body_s=0.1)
    assert answered.body == b"slow"
