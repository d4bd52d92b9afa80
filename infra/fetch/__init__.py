"""The one client for what others name: fetches from, and posts to, public hosts only, within bounds of size and time.

    async with Fetcher(policy(settings)) as fetcher:
        picture = await fetcher.get(url, most_bytes=20_000_000, media_types=("image/*",), field="input.picture")

It follows no redirect, asks no proxy of the environment, and keeps no cookie and no connection. It asks for no
compression and takes none, so that what is counted is what comes.
"""

import asyncio
import re
import secrets
import ssl
from collections.abc import AsyncGenerator, Generator, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager, contextmanager
from ipaddress import ip_address
from pathlib import Path
from typing import Self

import httpcore2
import httpx2
import msgspec
from msgspec import Struct

from infra.errors import PulseError
from infra.fetch import urls
from infra.fetch.addresses import Network, may_be_reached
from infra.fetch.answer import Answer, FetchBroken
from infra.fetch.dial import AddressNotAllowed, Dialer, Names, Resolve
from infra.settings import Settings
from infra.whole import whole

_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,100}")
_VALUE = re.compile(r"[!-~]([ -~]*[!-~])?")
# What frames a message or speaks of the connection is ours alone to say.
_OURS = frozenset(
    (
        *("accept-encoding", "connection", "content-length", "cookie", "expect", "host", "keep-alive", "te"),
        *("proxy-authorization", "proxy-connection", "trailer", "transfer-encoding", "upgrade"),
    )
)


class HeaderNotAllowed(PulseError):
    """{field}: the header {name} cannot be sent, or not with this value."""

    ar = "{field}: لا يمكن إرسال الترويسة {name}، أو لا يمكن إرسالها بهذه القيمة."
    status = 400


class FetchTimedOut(PulseError):
    """The other server did not deliver in the time that it is given."""

    ar = "لم يُسلّم الخادم الآخر البيانات في الوقت المتاح له."
    status = 502
    retryable = True


class FetchUnreachable(PulseError):
    """The other server cannot be reached right now."""

    ar = "تعذّر الوصول إلى الخادم الآخر الآن."
    status = 502
    retryable = True


class FetchInsecure(PulseError):
    """The other server could not prove that it is the one that the address names."""

    ar = "لم يُثبت الخادم الآخر أنه الخادم الذي يسمّيه العنوان."
    status = 502


class Policy(Struct, frozen=True, kw_only=True):
    """What is fetched at all, and for how long. `allowed` are networks that are reached although not public.

    Where `ports` is None, any will do. Another server has `connect_s` for each address of its host and again for the
    TLS handshake, `read_s` for each piece that is waited for, and `within_s` for all of it.
    """

    schemes: frozenset[str] = frozenset({"https"})
    ports: frozenset[int] | None = frozenset({443})
    allowed: tuple[Network, ...] = ()
    connect_s: float = 5.0
    read_s: float = 15.0
    within_s: float = 60.0


class Fetched(Struct, frozen=True, kw_only=True):
    """What came. `media_type` is in small letters without parameters, empty where the server said none that is one."""

    media_type: str
    body: bytes


class Downloaded(Struct, frozen=True, kw_only=True):
    """What was written to a file; `media_type` as in `Fetched`."""

    media_type: str
    size_bytes: int


class Answered(Struct, frozen=True, kw_only=True):
    """How a POST was answered, whatever its status. Names of `headers` are in small letters; `body` may be cut."""

    status: int
    headers: dict[str, str]
    body: bytes


def policy(settings: Settings) -> Policy:
    """Return the policy for what users name."""
    return Policy(allowed=settings.fetch_networks)


def webhooks(settings: Settings) -> Policy:
    """Return the policy for webhooks: the one for what users name, and outside production http and any port as well."""
    plain = policy(settings)
    if settings.env == "production":
        return plain
    return msgspec.structs.replace(plain, schemes=frozenset({"https", "http"}), ports=None)


def check(url: str, policy: Policy, *, field: str) -> None:
    """Raise what a fetch by `policy` would raise of the text of a URL; no name in it is looked up.

    `UrlNotValid`, `SchemeNotAllowed`, `PortNotAllowed`, `HostNotAllowed`, and `AddressNotAllowed` for an address.
    """
    host = urls.read(url, schemes=policy.schemes, ports=policy.ports, field=field).host
    try:
        address = ip_address(host)
    except ValueError:
        return
    if not may_be_reached(address, policy.allowed):
        raise AddressNotAllowed(field=field)


class Fetcher:
    """The client, an async context manager.

    Every call raises `UrlNotValid`, `SchemeNotAllowed`, `PortNotAllowed`, `HostNotAllowed` and `AddressNotAllowed`,
    which name `field`; `HeaderNotAllowed`, which names "headers"; and `FetchTimedOut`, `FetchUnreachable`,
    `FetchInsecure`, `FetchBroken` and `FetchRedirected`. A `get` and a `download` take the status 200 and raise
    `FetchFailed` or `FetchFailedForNow` for others, and `FetchUnexpectedType`, `FetchEncoded` and `FetchTooLarge`.
    `media_types` may have `image/*`, and none means any; `within_s` takes the place of the policy's.
    """

    def __init__(self, policy: Policy, *, resolve: Resolve | None = None, tls: ssl.SSLContext | None = None) -> None:
        """Fetch by `policy`; look up names by `resolve` and trust servers by `tls`, by default both as the system."""
        self._policy = policy
        self._names = Names()
        self._resolve = resolve or self._names.resolve
        self._tls = tls or httpx2.create_ssl_context(trust_env=False)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self._names.close()

    async def get(
        self,
        url: str,
        *,
        most_bytes: int,
        media_types: Sequence[str] = (),
        headers: Mapping[str, str] | None = None,
        within_s: float | None = None,
        field: str = "url",
    ) -> Fetched:
        """Return what is at `url`: at most `most_bytes`, in memory."""
        asked = {"accept": ", ".join(media_types) or "*/*"} | _checked(headers)
        async with self._answer("GET", url, asked, None, within_s, field) as answer:
            answer.check(media_types, most_bytes)
            body = bytearray()
            async with aclosing(answer.pieces(most_bytes)) as pieces:
                async for piece in pieces:
                    body += piece
        return Fetched(media_type=answer.media_type, body=bytes(body))

    async def download(
        self,
        url: str,
        path: Path,
        *,
        most_bytes: int,
        media_types: Sequence[str] = (),
        headers: Mapping[str, str] | None = None,
        within_s: float | None = None,
        field: str = "url",
    ) -> Downloaded:
        """Write what is at `url` to `path`, whole or not at all, without holding it in memory."""
        asked = {"accept": ", ".join(media_types) or "*/*"} | _checked(headers)
        part = path.with_name(f".{secrets.token_hex(8)}.part")
        try:
            async with self._answer("GET", url, asked, None, within_s, field) as answer:
                answer.check(media_types, most_bytes)
                size = await _written(part, answer, most_bytes)
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)
        return Downloaded(media_type=answer.media_type, size_bytes=size)

    async def post(
        self,
        url: str,
        body: bytes,
        *,
        headers: Mapping[str, str] | None = None,
        most_bytes: int = 65_536,
        within_s: float | None = None,
        body_s: float | None = None,
        field: str = "url",
    ) -> Answered:
        """Post `body` and return the answer, cut after `most_bytes`; a compressed one is taken to be empty.

        With `body_s` what counts is the answer's head: of its body there is what came in so many seconds after that.
        """
        async with self._answer("POST", url, _checked(headers), body, within_s, field) as answer:
            start = await answer.start(most_bytes, within_s=body_s)
        return Answered(status=answer.status, headers=answer.headers, body=start)

    @asynccontextmanager
    async def _answer(
        self, method: str, url: str, headers: dict[str, str], body: bytes | None, within_s: float | None, field: str
    ) -> AsyncGenerator[Answer]:
        """Give the answer, its body still to come, over a connection of its own, which ends with the block."""
        policy = self._policy
        target = urls.read(url, schemes=policy.schemes, ports=policy.ports, field=field)
        dialer = Dialer(self._resolve, policy.allowed, field)
        clock = asyncio.timeout(policy.within_s if within_s is None else within_s)
        try:
            async with clock:
                try:
                    with _facts():
                        async with self._response(method, target, headers, body, dialer) as response:
                            yield Answer(response)
                finally:
                    await whole(dialer.close())
        except TimeoutError:
            if not clock.expired():
                raise
            raise FetchTimedOut from None

    @asynccontextmanager
    async def _response(
        self, method: str, target: urls.Url, headers: dict[str, str], body: bytes | None, dialer: Dialer
    ) -> AsyncGenerator[httpcore2.Response]:
        url = httpcore2.URL(scheme=target.scheme, host=target.host, port=target.port, target=target.target)
        ours = {"host": target.authority, "accept-encoding": "identity", "connection": "close", "user-agent": "pulse"}
        policy = self._policy
        timeouts = {"connect": policy.connect_s, "read": policy.read_s, "write": policy.read_s}
        async with (
            httpcore2.AsyncHTTPConnection(url.origin, ssl_context=self._tls, network_backend=dialer) as connection,
            connection.stream(
                method, url, headers=list((ours | headers).items()), content=body, extensions={"timeout": timeouts}
            ) as response,
        ):
            dialer.head_has_come()
            yield response


@contextmanager
def _facts() -> Generator[None]:
    """Tell what a library raises as a fact; its own words, which may name addresses, are for the log only."""
    try:
        yield
    except httpcore2.TimeoutException as error:
        raise FetchTimedOut from error
    except httpcore2.ConnectError as error:
        raise (FetchInsecure if _is_distrust(error) else FetchUnreachable) from error
    except (httpcore2.NetworkError, httpcore2.RemoteProtocolError, ssl.SSLError) as error:
        raise FetchBroken from error


def _is_distrust(error: BaseException | None) -> bool:
    return error is not None and (isinstance(error, ssl.SSLCertVerificationError) or _is_distrust(error.__cause__))


def _checked(headers: Mapping[str, str] | None) -> dict[str, str]:
    for name, value in (headers or {}).items():
        if name.lower() in _OURS or not _TOKEN.fullmatch(name) or not _VALUE.fullmatch(value):
            raise HeaderNotAllowed(field="headers", name=repr(name[:100]))
    return {name.lower(): value for name, value in (headers or {}).items()}


async def _written(path: Path, answer: Answer, most_bytes: int) -> int:
    size = 0
    with path.open("xb") as file:
        async with aclosing(answer.pieces(most_bytes)) as pieces:
            async for piece in pieces:
                size += await whole(asyncio.to_thread(file.write, piece))
    return size
