"""What another server's answer has to be before its body is read, and how much of that body is taken."""

import asyncio
import re
import ssl
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing

import httpcore2

from infra.errors import PulseError

_TYPE = re.compile(r"[a-z0-9!#$&^_.+-]{1,127}/[a-z0-9!#$&^_.+-]{1,127}")
_MOST_HEADER_BYTES = 32_768
# A server that writes its chunks by the line is well above this.
_CRUMB_BYTES = 16
_MOST_CRUMBS = 1_000
_PASSING = frozenset({408, 425, 429})


class FetchBroken(PulseError):
    """The other server's answer broke off, or is no HTTP that can be read."""

    ar = "انقطع جواب الخادم الآخر، أو ليس HTTP يمكن قراءته."
    status = 502
    retryable = True


class FetchRedirected(PulseError):
    """The other server points to another address; that is not followed, so give the final one."""

    ar = "يحيل الخادم الآخر إلى عنوان غيره، والإحالات لا تُتبع، فاذكر العنوان الأخير."
    status = 502


class FetchFailed(PulseError):
    """The other server answered with the status {http_status}."""

    ar = "أجاب الخادم الآخر بالحالة {http_status}."
    status = 502


class FetchFailedForNow(PulseError):
    """The other server answered with the status {http_status}, which may pass."""

    ar = "أجاب الخادم الآخر بالحالة {http_status}، وقد تكون عابرة."
    status = 502
    retryable = True


class FetchUnexpectedType(PulseError):
    """The other server sent something else than {expected}."""

    ar = "أرسل الخادم الآخر شيئًا غير {expected}."
    status = 502


class FetchEncoded(PulseError):
    """The other server sent its data compressed, although it was asked not to."""

    ar = "أرسل الخادم الآخر بياناته مضغوطة مع أنه طُلب منه ألا يفعل."
    status = 502


class FetchTooLarge(PulseError):
    """The other server sent more than the {most_bytes} bytes that are taken from it."""

    ar = "أرسل الخادم الآخر أكثر من {most_bytes} بايت، وهو أقصى ما يُقبل منه."
    status = 502


_HANGS_OR_BREAKS = (
    *(TimeoutError, httpcore2.TimeoutException, httpcore2.NetworkError, httpcore2.RemoteProtocolError),
    *(ssl.SSLError, FetchBroken),
)


class Answer:
    """An answer whose head has come. Names of `headers` are in small letters."""

    def __init__(self, response: httpcore2.Response) -> None:
        """Raises `FetchBroken` for a head that is too long, and `FetchRedirected`."""
        if sum(len(name) + len(value) for name, value in response.headers) > _MOST_HEADER_BYTES:
            raise FetchBroken
        if 300 <= response.status < 400:
            raise FetchRedirected
        self._response = response
        self.status = response.status
        self.headers: dict[str, str] = {}
        for name, value in (
            (name.decode("latin-1").lower(), value.decode("latin-1")) for name, value in response.headers
        ):
            self.headers[name] = f"{self.headers[name]}, {value}" if name in self.headers else value

    @property
    def encoded(self) -> bool:
        """Whether the body is compressed."""
        return self.headers.get("content-encoding", "").strip().lower() not in ("", "identity")

    @property
    def media_type(self) -> str:
        """The media type in small letters, without parameters; empty where the server says none that is one."""
        written = self.headers.get("content-type", "").partition(";")[0].strip().lower()
        return written if _TYPE.fullmatch(written) else ""

    def check(self, expected: Sequence[str], most_bytes: int) -> None:
        """Refuse what is not worth reading: another status than 200, another type, what says that it is too large."""
        if self.status in _PASSING or self.status >= 500:
            raise FetchFailedForNow(http_status=self.status)
        if self.status != 200:
            raise FetchFailed(http_status=self.status)
        if expected and not any(_fits(self.media_type, each) for each in expected):
            raise FetchUnexpectedType(expected=", ".join(expected))
        if self.encoded:
            raise FetchEncoded
        if int(self.headers.get("content-length", 0)) > most_bytes:
            raise FetchTooLarge(most_bytes=most_bytes)

    async def pieces(self, most_bytes: int) -> AsyncGenerator[bytes]:
        """Yield the body as it comes; raises `FetchTooLarge` before it has yielded more than `most_bytes`."""
        size = 0
        async with aclosing(self._body()) as pieces:
            async for piece in pieces:
                size += len(piece)
                if size > most_bytes:
                    raise FetchTooLarge(most_bytes=most_bytes)
                yield piece

    async def start(self, most_bytes: int, *, within_s: float | None = None) -> bytes:
        """Return the first bytes of the body, and read no more; none of one that is compressed.

        With `within_s`, those that came in so many seconds, be it that the body then hangs or broke off.
        """
        taken = bytearray()
        if self.encoded:
            return b""
        try:
            async with asyncio.timeout(within_s):
                await self._take(taken, most_bytes)
        except _HANGS_OR_BREAKS:
            if within_s is None:
                raise
        return bytes(taken[:most_bytes])

    async def _take(self, taken: bytearray, most_bytes: int) -> None:
        async with aclosing(self._body()) as pieces:
            async for piece in pieces:
                taken += piece
                if len(taken) >= most_bytes:
                    break

    async def _body(self) -> AsyncGenerator[bytes]:
        """Yield the body; each of its chunks costs the same, so that a body of crumbs would keep the process busy."""
        size = count = 0
        async with aclosing(self._response.aiter_stream()) as pieces:
            async for piece in pieces:
                size, count = size + len(piece), count + 1
                if count > _MOST_CRUMBS and size < count * _CRUMB_BYTES:
                    raise FetchBroken
                yield piece


def _fits(media_type: str, expected: str) -> bool:
    return media_type == expected or (expected.endswith("/*") and media_type.startswith(expected[:-1]))
