"""A name is looked up once, all that it leads to is checked, and the server there has to prove its name."""

import asyncio
import socket
from collections.abc import Awaitable, Callable
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization

from infra.errors import PulseError
from infra.fetch import FetchBroken, Fetcher, FetchInsecure, FetchTimedOut, FetchUnreachable, Policy
from infra.fetch.dial import AddressNotAllowed, Names
from tests.infra.fetch.conftest import Reaching
from tests.support.strangers import Authority, Stranger, answer

type Refused = Callable[[Awaitable[object]], Awaitable[PulseError]]


class Book:
    """A name server: gives its answers one after the other, and the last one for ever."""

    def __init__(self, *answers: list[str] | OSError) -> None:
        """Know what to answer."""
        self._answers = list(answers)
        self.asked: list[str] = []

    async def resolve(self, host: str) -> list[str]:
        """Be a `Resolve`."""
        self.asked.append(host)
        told = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        if isinstance(told, OSError):
            raise told
        return told

    def fetcher(self, *servers: Stranger, **policy: Any) -> Fetcher:
        """Return a fetcher that asks this server, and to which of all loopback 127.0.0.1 and 127.0.0.3 are outside."""
        facts: dict[str, Any] = {
            "schemes": frozenset({"http"}),
            "ports": frozenset(server.port for server in servers),
            "allowed": tuple(map(ip_network, ("127.0.0.1/32", "127.0.0.3/32"))),
        }
        return Fetcher(Policy(**facts | policy), resolve=self.resolve)


@pytest.fixture
def url() -> Callable[[Stranger], str]:
    """Return the URL by which a server is named."""
    return lambda server: f"http://files.example.com:{server.port}/"


async def test_a_name_that_leads_elsewhere_the_second_time_is_connected_as_it_was_checked(
    url: Callable[[Stranger], str],
) -> None:
    book = Book(["127.0.0.1"], ["127.0.0.2"])
    async with (
        Stranger.serving(answer(b"outside")) as outside,
        Stranger.serving(answer(b"inside"), hosts=("127.0.0.2",), port=outside.port) as inside,
    ):
        async with book.fetcher(outside) as fetcher:
            assert (await fetcher.get(url(outside), most_bytes=100)).body == b"outside"
            assert book.asked == ["files.example.com"]
            with pytest.raises(AddressNotAllowed):  # nothing of the first fetch is left that the second could use
                await fetcher.get(url(outside), most_bytes=100)
        assert (outside.visits, inside.visits) == (1, 0)


@pytest.mark.parametrize(
    "mixed",
    [
        ["127.0.0.1", "127.0.0.2"],
        ["127.0.0.2", "127.0.0.1"],
        ["127.0.0.1", "127.0.0.1", "::1"],
        ["127.0.0.1", "::ffff:127.0.0.1"],
        ["127.0.0.1", "fe80::1%lo"],
        ["127.0.0.1"] * 3 + ["127.0.0.3"] * 3 + ["10.0.0.1"],
    ],
)
async def test_one_address_inside_is_enough_to_refuse_a_name(mixed: list[str], url: Callable[[Stranger], str]) -> None:
    async with Stranger.serving(hosts=("127.0.0.1",)) as outside, Book(mixed).fetcher(outside) as fetcher:
        with pytest.raises(AddressNotAllowed) as refused:
            await fetcher.get(url(outside), most_bytes=100, field="input.picture")
        assert outside.visits == 0
    assert refused.value.facts == {"field": "input.picture"}


async def test_a_name_that_is_not_there_and_one_that_leads_inside_are_told_alike(
    url: Callable[[Stranger], str],
) -> None:
    told: list[tuple[str, str, dict[str, object]]] = []
    async with Stranger.serving() as server:
        for book in (Book([]), Book(["10.1.2.3"]), Book(["fd12::5"])):
            async with book.fetcher(server) as fetcher:
                with pytest.raises(AddressNotAllowed) as refused:
                    await fetcher.get(url(server), most_bytes=100)
                told.append((refused.value.text("en"), refused.value.text("ar"), refused.value.facts))
    assert told[1:] == told[:-1]
    assert "10.1.2.3" not in str(told)


async def test_the_next_address_is_dialed_where_one_does_not_answer(url: Callable[[Stranger], str]) -> None:
    async with Stranger.serving(answer(b"here")) as server, Book(["127.0.0.3", "127.0.0.1"]).fetcher(server) as fetcher:
        assert (await fetcher.get(url(server), most_bytes=100)).body == b"here"


async def test_of_a_name_that_leads_to_many_addresses_only_some_are_dialed(url: Callable[[Stranger], str]) -> None:
    book = Book([*(f"127.0.0.{number}" for number in range(3, 7)), "127.0.0.1"])
    async with Stranger.serving(answer(b"late")) as server:
        async with book.fetcher(server, allowed=(ip_network("127.0.0.0/8"),)) as fetcher:
            with pytest.raises(FetchUnreachable):
                await fetcher.get(url(server), most_bytes=100)
        assert server.visits == 0


async def test_a_server_that_is_not_there_is_unreachable_and_may_be_tried_again(
    url: Callable[[Stranger], str],
) -> None:
    async with Stranger.serving() as server, Book(["127.0.0.3"]).fetcher(server) as fetcher:
        with pytest.raises(FetchUnreachable) as refused:
            await fetcher.get(url(server), most_bytes=100)
    assert (refused.value.status, refused.value.retryable, refused.value.facts) == (502, True, {})


async def test_a_name_server_that_fails_is_no_reason_to_give_up(url: Callable[[Stranger], str]) -> None:
    async with (
        Stranger.serving() as server,
        Book(socket.gaierror(socket.EAI_AGAIN, "again")).fetcher(server) as fetcher,
    ):
        with pytest.raises(FetchUnreachable) as refused:
            await fetcher.get(url(server), most_bytes=100)
    assert refused.value.retryable


async def test_a_name_server_that_says_nothing_is_waited_for_no_longer_than_all_the_rest() -> None:
    async def resolve(_host: str) -> list[str]:
        await asyncio.Event().wait()
        return []

    async with Fetcher(Policy(within_s=0.05), resolve=resolve) as fetcher:
        with pytest.raises(FetchTimedOut):
            await fetcher.get("https://files.example.com/", most_bytes=100)


async def test_the_system_is_asked_for_the_whole_name_and_each_way_to_fail_is_told_apart(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[str] = []
    known = {
        "two.example.com.": [(0, 0, 0, "", ("1.1.1.1", 0)), (0, 0, 0, "", ("2606:4700::1", 0, 0, 0))],
        "gone.example.com.": socket.gaierror(socket.EAI_NONAME, "no"),
        "none.example.com.": socket.gaierror(socket.EAI_NODATA, "no"),
        "away.example.com.": socket.gaierror(socket.EAI_AGAIN, "again"),
    }

    def getaddrinfo(host: str, _port: None, **_: object) -> object:
        asked.append(host)
        found = known[host]
        if isinstance(found, OSError):
            raise found
        return found

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    names = Names()
    assert await names.resolve("two.example.com") == ["1.1.1.1", "2606:4700::1"]
    assert await names.resolve("gone.example.com") == []
    assert await names.resolve("none.example.com") == []
    with pytest.raises(OSError, match="again"):
        await names.resolve("away.example.com")
    assert asked == list(known)
    names.close()


async def test_a_fetcher_asks_the_system_unless_it_is_told_whom_to_ask(monkeypatch: pytest.MonkeyPatch) -> None:
    def getaddrinfo(_host: str, _port: None, **_: object) -> object:
        return [(0, 0, 0, "", ("169.254.169.254", 0))]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    async with Fetcher(Policy()) as fetcher:
        with pytest.raises(AddressNotAllowed):
            await fetcher.get("https://files.example.com/", most_bytes=100)


async def test_a_server_that_proves_its_name_is_asked_by_that_name(authority: Authority, reaching: Reaching) -> None:
    tls = authority.server("files.example.com")
    async with Stranger.serving(answer(b"proven"), tls=tls) as server:
        fetched = await reaching(server, tls=authority).get(f"https://FILES.example.com:{server.port}/a", most_bytes=9)
        assert fetched.body == b"proven"
        assert server.names == ["files.example.com"]
        assert f"host: files.example.com:{server.port}\r\n".encode() in server.requests[0]


async def test_a_server_may_be_named_by_its_address_alone(authority: Authority, reaching: Reaching) -> None:
    async with Stranger.serving(answer(b"proven"), tls=authority.server("127.0.0.1")) as server:
        fetched = await reaching(server, tls=authority).get(f"https://127.0.0.1:{server.port}/", most_bytes=9)
    assert fetched.body == b"proven"


@pytest.mark.parametrize(
    ("name", "days", "trusted"),
    [
        ("other.example.com", 1, True),
        ("files.example.com", 1, False),
        ("files.example.com", -1, True),
        ("127.0.0.1", 1, True),
    ],
    ids=["another's name", "an authority that nobody knows", "a certificate of yesterday", "the address, not the name"],
)
async def test_a_server_that_cannot_prove_its_name_is_sent_nothing(
    name: str, days: int, trusted: bool, authority: Authority, reaching: Reaching
) -> None:
    tls = authority.server(name, days=days)
    async with Stranger.serving(answer(b"secret"), tls=tls) as server:
        with pytest.raises(FetchInsecure) as refused:
            await reaching(server, tls=authority if trusted else None).post(
                f"https://files.example.com:{server.port}/", b"news"
            )
        assert server.requests == []
    assert (refused.value.retryable, refused.value.facts) == (False, {})


async def test_a_server_that_speaks_no_tls_is_unreachable(authority: Authority, reaching: Reaching) -> None:
    async with Stranger.serving(answer(b"plain")) as server:
        server.greeting = b"220 mail.example.com ready\r\n"
        with pytest.raises(FetchUnreachable):
            await reaching(server, tls=authority).get(f"https://files.example.com:{server.port}/", most_bytes=9)
        assert server.requests == []


async def test_what_breaks_in_the_middle_of_tls_is_broken(authority: Authority, reaching: Reaching) -> None:
    async def script(writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\n\r\nx")
        await writer.drain()
        encrypted: Any = writer.transport
        encrypted._ssl_protocol._transport.write(b"\x17\x03\x03\x00\x20" + b"garbage!" * 4)
        await asyncio.Event().wait()

    async with Stranger.serving(script, tls=authority.server("files.example.com")) as server:
        with pytest.raises(FetchBroken):
            await reaching(server, tls=authority).get(f"https://files.example.com:{server.port}/", most_bytes=9)


async def test_a_server_that_is_always_about_to_answer_is_left_also_under_tls(
    authority: Authority, reaching: Reaching
) -> None:
    async def script(writer: asyncio.StreamWriter) -> None:
        while True:
            writer.write(b"HTTP/1.1 100 Continue\r\n\r\n" * 100)
            await writer.drain()

    async with Stranger.serving(script, tls=authority.server("files.example.com")) as server:
        with pytest.raises(FetchBroken):
            await reaching(server, tls=authority, within_s=30.0).get(
                f"https://files.example.com:{server.port}/", most_bytes=9
            )


async def test_a_server_that_hangs_in_the_tls_handshake_is_left(authority: Authority, reaching: Reaching) -> None:
    async with Stranger.serving() as server:
        for limits in ({"connect_s": 0.05}, {"within_s": 0.05}):
            with pytest.raises(FetchTimedOut):
                await reaching(server, tls=authority, **limits).get(
                    f"https://files.example.com:{server.port}/", most_bytes=9
                )
        await server.left(2)


async def test_whom_to_trust_is_not_for_the_environment_to_say(
    authority: Authority, reaching: Reaching, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    path = tmp_path / "authority.pem"
    path.write_bytes(authority.certificate.public_bytes(serialization.Encoding.PEM))
    monkeypatch.setenv("SSL_CERT_FILE", str(path))
    async with Stranger.serving(answer(b"x"), tls=authority.server("files.example.com")) as server:
        with pytest.raises(FetchInsecure):
            await reaching(server).get(f"https://files.example.com:{server.port}/", most_bytes=9)
