"""However a URL is written, it does not lead inside, and what is not one is refused by a code."""

from collections.abc import Awaitable, Callable, Sequence
from ipaddress import ip_network

import pytest

from infra.errors import PulseError
from infra.fetch import Fetcher, Policy, urls
from infra.fetch.addresses import Network
from tests.support.strangers import Stranger, answer

BAD, HOST, INSIDE = "url_not_valid", "host_not_allowed", "address_not_allowed"
SCHEME, PORT = "scheme_not_allowed", "port_not_allowed"

# PORT stands where the port of a server on loopback is put: of 127.0.0.1, ::1 and, as Linux has it, 0.0.0.0.
WHOLE: list[tuple[str, str]] = [
    ("", BAD),
    ("http", BAD),
    ("http:", BAD),
    ("http://", BAD),
    ("http:///", BAD),
    ("http://:PORT/", BAD),
    ("//127.0.0.1:PORT/", BAD),
    ("127.0.0.1:PORT/", BAD),
    ("http:/127.0.0.1:PORT/", BAD),
    ("http:127.0.0.1:PORT/", BAD),
    ("http:\\\\127.0.0.1:PORT\\", BAD),
    ("http:/\\127.0.0.1:PORT/", BAD),
    ("http://files.example.com:PORT\\@127.0.0.1:PORT/", BAD),
    ("http://127.0.0.1:PORT\\.example.com/", BAD),
    ("http://127.0.0.1:PORT/\\files.example.com", BAD),
    ("ftp://127.0.0.1:PORT/", SCHEME),
    ("gopher://127.0.0.1:PORT/_GET", SCHEME),
    ("ws://127.0.0.1:PORT/", SCHEME),
    ("h2c://127.0.0.1:PORT/", SCHEME),
    ("file:///etc/passwd", BAD),
    ("file://localhost/etc/passwd", SCHEME),
    ("unix:///run/docker.sock", BAD),
    ("http+unix://%2Frun%2Fdocker.sock/", BAD),
    ("data:text/plain,hi", BAD),
    ("http://user@127.0.0.1:PORT/", BAD),
    ("http://user:secret@files.example.com:PORT/", BAD),
    ("http://files.example.com@127.0.0.1:PORT/", BAD),
    ("http://@127.0.0.1:PORT/", BAD),
    ("http://files.example.com:PORT@127.0.0.1:PORT/", BAD),
    ("http://127.0.0.1:PORT:PORT/", BAD),
    ("http://files.example.com:/", BAD),
    ("http://files.example.com:+PORT/", BAD),
    ("http://files.example.com:-1/", BAD),
    ("http://files.example.com:\uff14\uff14\uff13/", BAD),
    ("http://files.example.com:4_4/", BAD),
    ("http://files.example.com:0/", PORT),
    ("http://files.example.com:22/", PORT),
    ("http://files.example.com/", PORT),
    ("https://files.example.com/", PORT),
    ("http://files.example.com:99999/", PORT),
    (" http://127.0.0.1:PORT/", BAD),
    ("http://127.0.0.1:PORT/ ", BAD),
    ("http://127.0.0.1:PORT/a b", BAD),
    ("ht\ntp://127.0.0.1:PORT/", BAD),
    ("http://127.0.0.1\t:PORT/", BAD),
    ("http://127.0.0.1:PORT/\r\nHost: files.example.com", BAD),
    ("http://127.0.0.1:PORT/?a=\x00", BAD),
    ("http://127.0.0.1:PORT/\x7f", BAD),
    ("http://127.0.0.1:PORT/\x85", BAD),
    ("http://127.0.0.1:PORT/\u2028", BAD),
    ("http://127.0.0.1:PORT/\ud800", BAD),
    ("http://127.0.0.1:PORT/" + "a" * 8192, BAD),
]
HOSTS: list[tuple[str, str]] = [
    ("127.0.0.1", INSIDE),
    ("127.1", HOST),
    ("127.0.1", HOST),
    ("127.0.0.1.", HOST),
    ("127.0.0.1..", HOST),
    ("127.0.0.01", HOST),
    ("0127.0.0.1", HOST),
    ("0177.0.0.1", HOST),
    ("017700000001", HOST),
    ("2130706433", HOST),
    ("0x7f000001", HOST),
    ("0x7F.0.0.1", HOST),
    ("0x7f.1", HOST),
    ("0", HOST),
    ("0x", HOST),
    ("127.0.0.1.5", HOST),
    ("127.0.0.256", HOST),
    ("files.example.0x7f000001", HOST),
    ("files.example.1", HOST),
    ("%31%32%37.0.0.1", BAD),
    ("127%2e0%2e0%2e1", BAD),
    ("localhos%74", BAD),
    ("127.0.0.1%00.example.com", BAD),
    ("127.0.0.1%2f.example.com", BAD),
    ("127\u30020\u30020\u30021", HOST),
    ("127\uff0e0\uff0e0\uff0e1", HOST),
    ("127\uff610\uff610\uff611", HOST),
    ("\u2460\u2461\u2466.0.0.1", HOST),
    ("\uff11\uff12\uff17.0.0.1", HOST),
    ("\u0661\u0662\u0667.0.0.1", HOST),
    ("\u24db\u24de\u24d2alhost", HOST),
    ("local\u00adhost", HOST),
    ("files\u200d.example.com", HOST),
    ("localhost", HOST),
    ("LocalHost", HOST),
    ("localhost.", HOST),
    ("localhost\u3002", HOST),
    ("files.localhost", HOST),
    ("files.LOCALHOST", HOST),
    ("localhost.localdomain", HOST),
    ("redis", HOST),
    ("pulse.local", HOST),
    ("kubernetes.default.svc.cluster.local", HOST),
    ("metadata.google.internal", HOST),
    ("metadata.google.internal.", HOST),
    ("router.home.arpa", HOST),
    ("files.example.com.", HOST),
    ("files..example.com", HOST),
    (".example.com", HOST),
    ("-files.example.com", HOST),
    ("a" * 64 + ".example.com", HOST),
    ("a." * 126 + "com", HOST),
    ("127.0.0.1!.example.com", BAD),
    ("127.0.0.1;.example.com", BAD),
    ("[::1]", INSIDE),
    ("[0:0:0:0:0:0:0:1]", INSIDE),
    ("[::]", INSIDE),
    ("[::ffff:127.0.0.1]", INSIDE),
    ("[::FFFF:7F00:1]", INSIDE),
    ("[::127.0.0.1]", INSIDE),
    ("[64:ff9b::7f00:1]", INSIDE),
    ("[64:ff9b::169.254.169.254]", INSIDE),
    ("[64:ff9b:1::a9fe:a9fe]", INSIDE),
    ("[2002:7f00:1::]", INSIDE),
    ("[2001:0:7f00:1::1]", INSIDE),
    ("[fe80::1]", INSIDE),
    ("[fec0::1]", INSIDE),
    ("[fd00:ec2::254]", INSIDE),
    ("[ff02::1]", INSIDE),
    ("[fe80::1%25lo]", BAD),
    ("[fe80::1%lo]", BAD),
    ("[::1%25]", BAD),
    ("[127.0.0.1]", HOST),
    ("[::1", BAD),
    ("::1", BAD),
    ("[[::1]]", BAD),
    ("[::1].example.com", BAD),
    ("[1::2::3]", HOST),
    ("0.0.0.0", INSIDE),
    ("10.0.0.1", INSIDE),
    ("100.64.0.1", INSIDE),
    ("100.100.100.200", INSIDE),
    ("168.63.129.16", INSIDE),
    ("169.254.169.254", INSIDE),
    ("172.16.0.1", INSIDE),
    ("192.0.0.192", INSIDE),
    ("192.168.0.1", INSIDE),
    ("198.18.0.1", INSIDE),
    ("224.0.0.1", INSIDE),
    ("240.0.0.1", INSIDE),
    ("255.255.255.255", INSIDE),
    ("files.example.com", INSIDE),
]
HOSTILE = WHOLE + [(f"http://{host}:PORT/", code) for host, code in HOSTS]


async def _here(_host: str) -> list[str]:
    return ["127.0.0.1", "::1"]


type Refuse = Callable[[Sequence[str], Sequence[Network]], Awaitable[dict[str, PulseError]]]


@pytest.fixture
def refusals() -> Refuse:
    """Fetch URLs while every name leads to a server on loopback, which nobody may come to; return why each failed."""

    async def refusals(hostile: Sequence[str], allowed: Sequence[Network]) -> dict[str, PulseError]:
        refused = dict[str, PulseError]()
        async with Stranger.serving(answer(b"inside"), hosts=("127.0.0.1", "::1")) as canary:
            ports = frozenset({canary.port})
            policy = Policy(schemes=frozenset({"http", "https"}), ports=ports, allowed=tuple(allowed))
            async with Fetcher(policy, resolve=_here) as fetcher:
                for url in hostile:
                    try:
                        await fetcher.get(url.replace("PORT", str(canary.port)), most_bytes=100, field="input.picture")
                    except PulseError as error:
                        refused[url] = error
            assert canary.visits == 0
        return refused

    return refusals


async def test_no_way_to_write_a_url_leads_to_a_server_inside(refusals: Refuse) -> None:
    assert len(HOSTILE) > 100
    refused = await refusals([url for url, _ in HOSTILE], ())
    assert {url: error.code for url, error in refused.items()} == dict(HOSTILE)
    for error in refused.values():
        assert error.facts["field"] == "input.picture"
        assert (error.status, error.retryable) == (400, False)
        assert "127.0.0.1" not in error.text("en") + error.text("ar")


async def test_what_is_no_url_or_no_public_name_is_refused_even_where_the_address_is_allowed(refusals: Refuse) -> None:
    misspelled = {url: code for url, code in HOSTILE if code != INSIDE}
    refused = await refusals(list(misspelled), [ip_network(each) for each in ("127.0.0.0/8", "::1/128", "0.0.0.0/8")])
    assert {url: error.code for url, error in refused.items()} == misspelled


async def test_the_same_server_is_reached_where_its_address_is_allowed() -> None:
    async with Stranger.serving(answer(b"inside"), hosts=("127.0.0.1", "::1")) as canary:
        policy = Policy(
            schemes=frozenset({"http"}),
            ports=frozenset({canary.port}),
            allowed=tuple(map(ip_network, ("127.0.0.1/32", "::1/128"))),
        )
        async with Fetcher(policy, resolve=_here) as fetcher:
            for host in ("127.0.0.1", "[::1]", "files.example.com"):
                assert (await fetcher.get(f"http://{host}:{canary.port}/", most_bytes=100)).body == b"inside"
        hosts = [request.split(b"\r\n")[1].decode() for request in canary.requests]
        assert hosts == [f"host: {host}:{canary.port}" for host in ("127.0.0.1", "[::1]", "files.example.com")]


@pytest.mark.parametrize(
    ("text", "host", "target"),
    [
        ("https://example.com", "example.com", "/"),
        ("HTTPS://Example.COM:443/A/b?q=1&r=%20#part", "example.com", "/A/b?q=1&r=%20"),
        ("https://my_bucket.s3.example.com/k?X-Sig=a%2Fb%3D", "my_bucket.s3.example.com", "/k?X-Sig=a%2Fb%3D"),
        (
            "https://\u0645\u062b\u0627\u0644.\u0625\u062e\u062a\u0628\u0627\u0631/\u0635\u0648\u0631\u0629.jpg",
            "xn--mgbh0fb.xn--kgbechtv",
            "/%D8%B5%D9%88%D8%B1%D8%A9.jpg",
        ),
        ("https://fa\u00df.de?a", "xn--fa-hia.de", "/?a"),
        ("https://example.com/?" + "s" * 8000, "example.com", "/?" + "s" * 8000),
        ("https://1.1.1.1/", "1.1.1.1", "/"),
        ("https://[2606:4700:4700::1111]/", "2606:4700:4700::1111", "/"),
        ("https://3d.example.com/", "3d.example.com", "/"),
        ("https://example.com/@user:x", "example.com", "/@user:x"),
    ],
)
def test_an_ordinary_url_is_read(text: str, host: str, target: str) -> None:
    url = urls.read(text, schemes={"https"}, ports={443}, field="url")
    assert (url.scheme, url.host, url.port, url.target) == ("https", host, 443, target)


def test_by_default_only_https_and_its_port_are_taken() -> None:
    policy = Policy()
    for text, code in (
        ("http://example.com/", SCHEME),
        ("https://example.com:8443/", PORT),
        ("https://example.com:80/", PORT),
        ("https://example.com:0/", PORT),
    ):
        with pytest.raises(PulseError) as refused:
            urls.read(text, schemes=policy.schemes, ports=policy.ports, field="url")
        assert refused.value.code == code


def test_a_long_text_is_refused_without_much_work() -> None:
    for text in ("a" * 10_000_000, "http://" + "\u017f" * 2000 + "!", "http://" + "a-" * 1000 + "!"):
        with pytest.raises(PulseError) as refused:
            urls.read(text, schemes={"http"}, ports={80}, field="url")
        assert refused.value.code == BAD
