"""Bytes on their way: a file into a signed form, and out of a signed link, with a chunk of it in memory at a time.

What a signed address allows, it allows by itself: nobody there is shown the key, and no redirect is followed.
"""

import contextlib
import hashlib
import re
import secrets
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

import httpx2

from infra import backoff
from scripts.pulse import client
from scripts.pulse.answers import Form
from scripts.pulse.place import Place
from scripts.pulse.problems import Ending, NotAStudio, Problem
from scripts.pulse.sources import CHUNK_BYTES, FileChanged, Measured, PathUnreadable, Source
from scripts.pulse.words import Language

#: How often in a row a transfer may break, for nothing, before the command gives up.
TRIES = 5
_LONGEST_WAIT_S = 8.0
# A store answers an upload only when all of it is safe on its disk.
_WAIT = httpx2.Timeout(60.0, connect=5.0, read=120.0)
# It took too long, or there is too much to do: the same address may do later.
_BUSY = frozenset({408, 429})
# Expired, used up, or of a file that has gone: another address may do.
_SPENT = frozenset({403, 404, 409, 410, 416})
_QUOTED = str.maketrans({'"': "%22", "\r": "%0D", "\n": "%0A"})
_RANGE = re.compile(r"bytes (\d+)-")
_S3_ERROR = re.compile(rb"<Code>(\w+)</Code>\s*<Message>([^<]*)</Message>")


class DownloadLost(Ending):
    """The download broke off {tries} times in a row. Try again later."""

    ar = "انقطع التنزيل {tries} مرات متتالية. حاول لاحقًا."


class DownloadDamaged(Ending):
    """What was downloaded is not the file that the studio describes: its SHA-256 or size is another."""

    ar = "ما نُزّل ليس الملف الذي يصفه الاستوديو: بصمته (SHA-256) أو حجمه مختلف."


class Spent(Exception):
    """A signed address holds no more; `problem` is what was said."""

    def __init__(self, problem: Problem) -> None:
        """Keep what was said."""
        super().__init__(str(problem))
        self.problem = problem


class Tally:
    """What has come so far: how many bytes, and their SHA-256."""

    def __init__(self) -> None:
        """Begin with nothing."""
        self.size_bytes = 0
        self._digest = hashlib.sha256()

    def add(self, chunk: bytes) -> None:
        """Count a chunk."""
        self.size_bytes += len(chunk)
        self._digest.update(chunk)

    @property
    def sha256(self) -> str:
        """The SHA-256 of it all, in hexadecimal."""
        return self._digest.hexdigest()


class Body:
    """A form and a file as multipart/form-data (RFC 7578), made while it is sent."""

    def __init__(self, form: Form, source: Source, measured: Measured, on_bytes: Callable[[int], None]) -> None:
        """Prepare; the file is opened only when it is sent. `on_bytes` hears of each chunk of it."""
        boundary = secrets.token_hex(16)
        fields = "".join(
            f'--{boundary}\r\nContent-Disposition: form-data; name="{name.translate(_QUOTED)}"\r\n\r\n{value}\r\n'
            for name, value in form.fields.items()
        )
        # The name was announced already; here it is only what tells a file from a field.
        self._head = (
            f'{fields}--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="file"\r\n'
            f"Content-Type: {source.media_type}\r\n\r\n"
        ).encode()
        self._tail = f"\r\n--{boundary}--\r\n".encode()
        self._source, self._measured, self._on_bytes = source, measured, on_bytes
        self.headers = {
            "Content-Type": f"multipart/form-data; boundary={boundary}",
            "Content-Length": str(len(self._head) + measured.size_bytes + len(self._tail)),
        }

    def __iter__(self) -> Iterator[bytes]:
        """Yield it; raises `FileChanged` before the end of a file that is not as it was measured."""
        yield self._head
        for chunk in self._unchanged():
            yield chunk
            self._on_bytes(len(chunk))
        yield self._tail

    def _unchanged(self) -> Iterator[bytes]:
        """Yield the file's bytes, the last chunk only when all of them are as measured: no wrong body is complete."""
        tally, held = Tally(), b""
        try:
            with self._source.path.open("rb") as file:
                while chunk := file.read(CHUNK_BYTES):
                    if held:
                        yield held
                    tally.add(chunk)
                    held = chunk
                    if tally.size_bytes > self._measured.size_bytes:
                        break
        except OSError as error:
            raise PathUnreadable(path=self._source.given, reason=error.strerror) from error
        if (tally.size_bytes, tally.sha256) != (self._measured.size_bytes, self._measured.sha256):
            raise FileChanged(path=self._source.given)
        yield held


def upload(
    form: Form, source: Source, measured: Measured, *, language: Language, on_bytes: Callable[[int], None]
) -> None:
    """Upload a file once.

    Raises `httpx2.TransportError` where it is unknown what arrived, or nobody could take it now; `Spent` where another
    form may do; `Problem` for a refusal; `FileChanged` or `PathUnreadable`.
    """
    body = Body(form, source, measured, on_bytes)
    with _opened("POST", form.url, language, headers=body.headers, content=body):
        pass


def download(
    link: Callable[[], str],
    write: Callable[[bytes], object],
    tally: Tally,
    size_bytes: int | None,
    *,
    language: Language,
    on_bytes: Callable[[int], None],
    on_lost: Callable[[], None],
) -> None:
    """Download what is missing in `tally` of `size_bytes` bytes, or of all that there is where the size is not known.

    `link` makes a signed address, anew for every try; a connection that breaks goes on where it broke. Raises
    `DownloadLost`, `DownloadDamaged` for more bytes than there should be, `Problem` for a refusal, and what `link` and
    `write` raise.
    """
    failures, etag = 0, ""
    while size_bytes is None or tally.size_bytes < size_bytes:
        had_bytes = tally.size_bytes
        refusal: Problem | None = None
        try:
            with _opened("GET", link(), language, headers=_range(had_bytes, etag)) as response:
                etag = response.headers.get("etag", "")
                for chunk in after(response, had_bytes):
                    tally.add(chunk)
                    if size_bytes is not None and tally.size_bytes > size_bytes:
                        raise DownloadDamaged
                    write(chunk)
                    on_bytes(len(chunk))
            if size_bytes is None:
                return
        except httpx2.TransportError:
            pass
        except Spent as spent:
            refusal = spent.problem
        if tally.size_bytes == size_bytes:
            return
        failures = 1 if tally.size_bytes > had_bytes else failures + 1
        if failures == TRIES:
            raise refusal or DownloadLost(tries=TRIES)
        on_lost()
        time.sleep(wait_s(failures))


def media_type(url: str, language: Language) -> str:
    """Return the type of what a signed link leads to, empty where it cannot be had now; raises `Problem`."""
    with contextlib.suppress(httpx2.TransportError, Spent), _opened("GET", url, language, headers={}) as response:
        return response.headers.get("content-type", "").partition(";")[0]
    return ""


def wait_s(failures: int) -> float:
    """Return how long to wait after so many failures in a row."""
    return backoff.wait_s(failures, base_s=0.25, most_s=_LONGEST_WAIT_S)


def _range(had_bytes: int, etag: str) -> dict[str, str]:
    if not had_bytes:
        return {}
    # A weak tag proves no equal bytes (RFC 9110, 13.1.5). Without a tag, the SHA-256 of the whole is the judge.
    same = {"If-Range": etag} if etag and not etag.startswith("W/") else {}
    return {"Range": f"bytes={had_bytes}-", **same}


def after(response: httpx2.Response, had_bytes: int) -> Iterator[bytes]:
    """Yield what an answer has after the bytes that are there, also where it begins at the start again."""
    told = _RANGE.match(response.headers.get("content-range", ""))
    skip = had_bytes - (int(told[1]) if response.status_code == 206 and told else 0)
    if skip < 0:
        raise httpx2.RemoteProtocolError("the range begins too late")
    # As they come: gathered into larger ones, those of a broken connection would be lost.
    for chunk in response.iter_raw():
        if len(chunk) > skip:
            yield chunk[skip:]
        skip = max(skip - len(chunk), 0)


@contextmanager
def _opened(
    method: str, url: str, language: Language, *, headers: dict[str, str], content: Body | None = None
) -> Generator[httpx2.Response]:
    """Open a signed address; raises what `upload` does."""
    if urlsplit(url).scheme not in {"http", "https"}:
        raise NotAStudio(url=url)
    plain = {"Accept-Language": language, "User-Agent": "pulse", "Accept-Encoding": "identity"}
    trust_env = not Place(url, "").is_here
    with (
        httpx2.Client(headers=plain, timeout=_WAIT, trust_env=trust_env, follow_redirects=False) as http,
        http.stream(method, url, headers=headers, content=content) as response,
    ):
        if not response.is_success:
            response.read()
            _raise_refusal(response)
        yield response


def _raise_refusal(response: httpx2.Response) -> None:
    if response.status_code in client.AWAY | _BUSY:
        raise httpx2.ConnectError("the store is not ready")
    refusal = client.problem(response)
    # S3 says in XML what is wrong.
    if found := _S3_ERROR.search(response.content):
        refusal.members |= {"code": found[1].decode(), "detail": found[2].decode(errors="replace")}
    if response.status_code in _SPENT:
        raise Spent(refusal)
    raise refusal
