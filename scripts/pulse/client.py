"""The studio's HTTP API as the command calls it: every call may be sent twice, so one that got no answer is."""

import contextlib
import itertools
import json
import time
import uuid
from collections.abc import Generator, Iterable, Mapping
from contextlib import contextmanager
from urllib.parse import quote, urlencode, urljoin

import httpx2
import msgspec

from infra import backoff
from scripts.pulse.place import Place
from scripts.pulse.problems import NotAStudio, Problem, StudioAway
from scripts.pulse.words import Language

#: How often a call is made before nobody is said to answer.
TRIES = 5
_LONGEST_WAIT_S = 4.0
# However late somebody asks to come back.
_LONGEST_PROMISE_S = 60.0
#: These pass by themselves: a gateway without its API, or an API without its database.
AWAY = frozenset({502, 503, 504})
_UNCHANGED = 304
_CALL = httpx2.Timeout(30.0, connect=5.0)
# A stream that lives says something at least every 60 s: the longest PULSE_HEARTBEAT_S there is.
_STREAM = httpx2.Timeout(30.0, connect=5.0, read=75.0)


class NotReady(httpx2.TransportError):
    """The studio, or what stands before it, asks to come back later."""

    def __init__(self, wait_s: float) -> None:
        """Keep after how many seconds."""
        super().__init__("the studio is not ready")
        self.wait_s = wait_s


class Client:
    """One studio, one key."""

    def __init__(self, place: Place, language: Language) -> None:
        """Prepare; nothing is connected yet."""
        self.url = place.url
        headers = {"Accept-Language": language, "User-Agent": "pulse"}
        if place.key:
            headers["Authorization"] = f"Bearer {place.key}"
        # A proxy that the environment names cannot reach this machine's own addresses.
        self._http = httpx2.Client(base_url=place.url, headers=headers, timeout=_CALL, trust_env=not place.is_here)

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def submit(self, request: Mapping[str, object]) -> bytes:
        """Submit a job and return the answer: a `Submitted`. However often it is sent, it makes one job."""
        return self.call("POST", "/v1/jobs", body=request, headers={"Idempotency-Key": str(uuid.uuid4())})

    def job(self, job_id: uuid.UUID) -> bytes:
        """Return a `Job`."""
        return self.call("GET", f"/v1/jobs/{job_id}")

    def jobs(self, limit: int, cursor: str | None) -> bytes:
        """Return a `Page`."""
        query = f"?limit={limit}" + (f"&cursor={quote(cursor, safe='')}" if cursor else "")
        return self.call("GET", f"/v1/jobs{query}")

    def cancel(self, job_id: uuid.UUID) -> bytes:
        """Ask for a job to be stopped and return it: a `Job`."""
        return self.call("POST", f"/v1/jobs/{job_id}/cancel")

    def retry(self, job_id: uuid.UUID) -> bytes:
        """Give a failed job another go; returns the answer as it came."""
        return self.call("POST", f"/v1/jobs/{job_id}/retry")

    def announce(self, request: Mapping[str, object]) -> bytes:
        """Announce a file and return the answer: an `Announced`. One that is never uploaded expires by itself."""
        return self.call("POST", "/v1/files", body=request)

    def complete(self, file_id: uuid.UUID) -> bytes:
        """Say that a file is uploaded and return it: a `File`."""
        return self.call("POST", f"/v1/files/{file_id}/complete")

    def file(self, file_id: uuid.UUID) -> bytes:
        """Return a `File`."""
        return self.call("GET", f"/v1/files/{file_id}")

    def files(self, **query: str | int | None) -> bytes:
        """Return a `Files` of what the query leaves: `folder`, `q`, `state`, `limit`, `cursor`."""
        given = {name: value for name, value in query.items() if value is not None}
        return self.call("GET", f"/v1/files?{urlencode(given, errors='replace')}")

    def folders(self) -> bytes:
        """Return a `Folders`."""
        return self.call("GET", "/v1/files/folders")

    def change_file(self, file_id: uuid.UUID, changes: Mapping[str, object]) -> bytes:
        """Change a file's `name` or `folder` and return it: a `File`."""
        return self.call("PATCH", f"/v1/files/{file_id}", body=changes)

    def delete_file(self, file_id: uuid.UUID, *, tries: int = TRIES) -> None:
        """Delete a file; one that is not there raises the `Problem` that it is."""
        self.call("DELETE", f"/v1/files/{file_id}", tries=tries)

    def link(self, file_id: uuid.UUID, content: str) -> str:
        """Return the signed address of a file's `content`, `thumbnail` or `poster`; it is not followed."""
        path = f"/v1/files/{file_id}/{content}"
        response = self._exchange("GET", path)
        if not response.has_redirect_location:
            raise NotAStudio(url=self.url)
        return urljoin(self.url + path, response.headers["location"])

    def read[T](self, answer: bytes, expected: type[T]) -> T:
        """Decode an answer; raises `NotAStudio` when it is not what a studio says."""
        try:
            return msgspec.json.decode(answer, type=expected)
        except msgspec.DecodeError:
            raise NotAStudio(url=self.url) from None

    @contextmanager
    def events(self, path: str, after: str) -> Generator[httpx2.EventSource]:
        """Open the event stream at a path after an event id, or from the start for an empty one.

        Raises `Problem` for a refusal and `httpx2.TransportError` when it cannot be had now.
        """
        headers = {"Last-Event-ID": after} if after else {}
        with self._http.sse(path, headers=headers, timeout=_STREAM) as source:
            if source.response.status_code in AWAY:
                raise httpx2.ConnectError("the studio is not ready")
            if not source.response.is_success:
                source.response.read()
                raise problem(source.response)
            yield source

    def call(
        self,
        method: str,
        path: str,
        *,
        body: Mapping[str, object] | None = None,
        headers: Mapping[str, str] | None = None,
        tries: int = TRIES,
    ) -> bytes:
        """Return the content of a success; raises `StudioAway` when nobody answers, `Problem` for everything else."""
        response = self._exchange(method, path, body=body, headers=headers, tries=tries)
        if not response.is_success:
            raise problem(response)
        return response.content

    def look(self, path: str, tag: str) -> tuple[bytes, str] | None:
        """Return what is at a path with its tag, or None where it is still what it was under `tag`; tried once."""
        response = self._exchange("GET", path, headers={"If-None-Match": tag} if tag else {}, tries=1)
        return None if response.status_code == _UNCHANGED else (response.content, response.headers.get("etag", ""))

    @contextmanager
    def opened(
        self, method: str, path: str, *, headers: Mapping[str, str], content: Iterable[bytes] | None = None
    ) -> Generator[httpx2.Response]:
        """Open an answer that is read as it comes; tried once.

        Raises `Problem` for a refusal, and `httpx2.TransportError` where it cannot be had now: `NotReady` where that
        was said.
        """
        plain = {"Accept-Encoding": "identity", **headers}
        with self._http.stream(method, path, headers=plain, content=content, timeout=_STREAM) as response:
            if response.status_code in AWAY:
                raise NotReady(_retry_after_s(response))
            if not response.is_success:
                response.read()
                raise problem(response)
            yield response

    def _exchange(
        self,
        method: str,
        path: str,
        *,
        body: Mapping[str, object] | None = None,
        headers: Mapping[str, str] | None = None,
        tries: int = TRIES,
    ) -> httpx2.Response:
        """Return a success or a redirect; raises `StudioAway` when nobody answers, `Problem` for a refusal."""
        # Plain ASCII: what is no text at all (a lone surrogate) reaches the API, which names its field.
        content = json.dumps(body).encode() if body is not None else None
        headers = {**(headers or {}), **({"Content-Type": "application/json"} if content else {})}
        for failures in itertools.count(1):
            at_least_s = 0.0
            try:
                response = self._http.request(method, path, content=content, headers=headers)
            except httpx2.TransportError as error:
                if failures == tries:
                    raise StudioAway(url=self.url) from error
            else:
                if response.is_success or response.is_redirect:
                    return response
                if response.status_code not in AWAY or failures == tries:
                    raise problem(response)
                at_least_s = _retry_after_s(response, _LONGEST_WAIT_S)
            time.sleep(max(at_least_s, backoff.wait_s(failures, base_s=0.25, most_s=_LONGEST_WAIT_S)))
        raise AssertionError("the count has no end")


def _retry_after_s(response: httpx2.Response, most_s: float = _LONGEST_PROMISE_S) -> float:
    told = response.headers.get("retry-after", "")
    return min(float(told), most_s) if told.isdecimal() else 0.0


def problem(response: httpx2.Response) -> Problem:
    """Return the problem that an answer is; the query of a signed address is not for showing."""
    with contextlib.suppress(msgspec.DecodeError):
        members = msgspec.json.decode(response.content, type=dict[str, object])
        if members.get("detail"):
            return Problem(members, retry_after_s=_retry_after_s(response))
    # A gateway's own page, or somebody else's server.
    status = response.status_code
    detail = f"HTTP {status} {response.url.copy_with(query=None)}"
    return Problem(
        {"code": f"http_{status}", "status": status, "detail": detail}, retry_after_s=_retry_after_s(response)
    )
