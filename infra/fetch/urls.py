"""Which URLs of others are taken: one reading of the text, and of what it says only what leads to a public host."""

import re
from collections.abc import Set as AbstractSet
from ipaddress import IPv4Address

import httpx2
from msgspec import Struct

from infra.errors import PulseError

_MOST_CHARS = 8192  # signed URLs are long
_DEFAULT_PORTS = {"http": 80, "https": 443}
_HIGHEST_PORT = 65_535

# Spaces, controls and halves of a surrogate pair are in no URL; `\` is `/` to some readers.
_NEVER = re.compile(r"[\s\x00-\x20\x7f-\x9f\ud800-\udfff\\]")
# No user name, since `@` is in no host; no `%`, so neither an escaped host nor an address with a scope.
_SHAPE = re.compile(
    r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*)://(?P<host>\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._\x80-\U0010ffff-]+)"
    r"(?::[0-9]{1,5})?(?:[/?#].*)?"
)
_LABEL = re.compile(r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?")
# What inet_aton would read as a number: 127.1, 0x7f000001, 0177.0.0.1.
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")
# Endings that no public name has (RFC 6761, 6762, 7686, 8375, 9476; ICANN keeps `internal`), or only networks at home.
_PRIVATE = frozenset(
    (
        *("alt", "arpa", "corp", "home", "internal", "intranet", "invalid", "lan", "local", "localdomain"),
        *("localhost", "onion", "private", "test"),
    )
)


class UrlNotValid(PulseError):
    """{field}: a web address looks like https://example.com/photo.jpg.

    It has no user name and no spaces, and at most {most_chars} characters.
    """

    ar = (
        "{field}: عنوان الويب يكون بهذا الشكل: ‎https://example.com/photo.jpg‎، بلا اسم مستخدم ولا مسافات، "
        "ولا يزيد على {most_chars} حرفًا."
    )
    status = 400


class SchemeNotAllowed(PulseError):
    """{field}: the address has to begin with {allowed}."""

    ar = "{field}: يجب أن يبدأ العنوان بـ ‎{allowed}."
    status = 400


class PortNotAllowed(PulseError):
    """{field}: the port of the address has to be {allowed}."""

    ar = "{field}: يجب أن يكون منفذ العنوان {allowed}."
    status = 400


class HostNotAllowed(PulseError):
    """{field}: the address has to name a public host in full, such as example.com."""

    ar = "{field}: يجب أن يذكر العنوان اسم مضيف عام كاملًا، مثل example.com."
    status = 400


class Url(Struct, frozen=True, kw_only=True):
    """A URL that was taken: `host` is a name in ASCII or an address without brackets, `target` the path and query."""

    scheme: str
    host: str
    port: int
    target: str

    @property
    def authority(self) -> str:
        """What the `Host` header says."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _DEFAULT_PORTS[self.scheme] else f"{host}:{self.port}"


def read(text: str, *, schemes: AbstractSet[str], ports: AbstractSet[int] | None, field: str) -> Url:
    """Read a URL that somebody named in `field`; where it leads is not looked up. Where `ports` is None, any will do.

    Raises `UrlNotValid`, `SchemeNotAllowed`, `PortNotAllowed` and `HostNotAllowed`.
    """
    shape = _SHAPE.fullmatch(text) if len(text) <= _MOST_CHARS and not _NEVER.search(text) else None
    if shape is None:
        raise UrlNotValid(field=field, most_chars=_MOST_CHARS)
    scheme = shape["scheme"].lower()
    if scheme not in schemes:
        raise SchemeNotAllowed(field=field, allowed=", ".join(f"{each}://" for each in sorted(schemes)))
    try:
        url = httpx2.URL(text)
    except httpx2.InvalidURL:
        raise HostNotAllowed(field=field) from None  # all else has the shape: it is a name that IDNA knows not
    host, port = url.raw_host.decode("ascii"), _DEFAULT_PORTS[scheme] if url.port is None else url.port
    if not (1 <= port <= _HIGHEST_PORT if ports is None else port in ports):
        allowed = f"1-{_HIGHEST_PORT}" if ports is None else ", ".join(map(str, sorted(ports)))
        raise PortNotAllowed(field=field, allowed=allowed)
    if not (_is_address(host, shape["host"]) or _is_public_name(host)):
        raise HostNotAllowed(field=field)
    return Url(scheme=scheme, host=host, port=port, target=url.raw_path.decode("ascii"))


def _is_address(host: str, written: str) -> bool:
    """Whether it is an address, written as one: IDNA makes 127.0.0.1 of what has other dots."""
    if ":" in host:
        return True
    try:
        return str(IPv4Address(host)) == written
    except ValueError:
        return False


def _is_public_name(host: str) -> bool:
    labels = host.split(".")
    return (
        len(labels) > 1
        and len(host) <= 253
        and all(_LABEL.fullmatch(label) for label in labels)
        and not _NUMBER.fullmatch(labels[-1])
        and labels[-1] not in _PRIVATE
    )
