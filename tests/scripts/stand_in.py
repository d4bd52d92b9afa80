"""A stand-in for the studio's API on loopback: the same contract, with failures where a test wants them."""

import json
import threading
from collections.abc import Generator
from contextlib import contextmanager
from http.server import ThreadingHTTPServer
from typing import Any, Literal

from msgspec import Struct, field

from tests.scripts import loopback

JOB_ID = "01a20000-0000-7000-8000-000000000001"
KEY = "pulse_for_tests"
PROBLEM = {
    "type": "urn:pulse:problem:quota_exceeded",
    "title": "Quota exceeded",
    "status": 402,
    "code": "quota_exceeded",
    "detail": {"en": "Not enough chat tokens left.", "ar": "لا يتبقى ما يكفي."},
    "field": "input.messages",
    "remaining": 3,
}


def job(**facts: Any) -> dict[str, Any]:
    """Return a job as the API shows it."""
    plain = {
        "id": JOB_ID,
        "kind": "chat",
        "state": "queued",
        "attempt": 0,
        "created_at": "2026-11-23T06:00:00Z",
        "started_at": None,
        "finished_at": None,
        "cancel_requested": False,
        "input": {},
        "metadata": {},
        "result": None,
        "error": None,
        "charged": None,
        "urls": {"self": f"/v1/jobs/{JOB_ID}"},
    }
    return {**plain, **facts}


def delta(text: str) -> dict[str, Any]:
    """Return a delta event."""
    return {"type": "delta", "text": text}


def told(*said: dict[str, Any], attempt: int = 1) -> list[tuple[str, dict[str, Any]]]:
    """Number events as a worker does."""
    return [(f"{attempt}-{n}", event) for n, event in enumerate(said, start=1)]


TERMINAL = {"succeeded", "failed", "canceled", "expired"}
STARTED = {"type": "started", "attempt": 1}
USAGE = {"type": "usage", "model": "wire-1", "input_tokens": 11, "output_tokens": 7}
SUCCEEDED = {"type": "succeeded", "charged": {"chat_tokens": 46}}
ANSWER = told(STARTED, delta("Hello"), delta(" from"), delta(" the sea"), USAGE, SUCCEEDED)


class Call(Struct):
    """A request that came."""

    method: str
    path: str
    headers: dict[str, str]
    body: Any


class Refusal(Struct):
    """How a call is refused before the plain answer: a status, or the connection dropped without a word."""

    status: int | Literal["drop"]
    problem: dict[str, Any] | bytes = b"<html>"
    headers: dict[str, str] = field(default_factory=dict[str, str])


class Break(Struct):
    """How a stream breaks after so many events: cut off, cut off in the middle of the next one, or ended well."""

    after: int
    how: Literal["cut", "half a frame", "end"] = "cut"


class StandIn:
    """What the stand-in says, and what it was asked."""

    def __init__(self, url: str) -> None:
        """Say a short answer, without failures."""
        self.url = url
        self.says = ANSWER
        self.calls: list[Call] = []
        #: Each is used up by one call, first to last.
        self.refusals: list[Refusal] = []
        #: Each is used up by one stream, first to last: None for a stream that is not refused.
        self.stream_refusals: list[Refusal | None] = []
        #: Each is used up by one stream that is not refused.
        self.breaks: list[Break] = []
        #: What the calls beside `POST /v1/jobs` answer.
        self.answers: dict[str, Any] = {}
        self.made: dict[str, str] = {}
        #: What `POST /v1/jobs` says of who answers, and why.
        self.chosen: dict[str, Any] = {}
        #: Waited for before the last event of a stream.
        self.hold = threading.Event()
        self.hold.set()

    @property
    def streams(self) -> list[Call]:
        """The calls that asked for events, of a job or of the account."""
        return [call for call in self.calls if _is_stream(call.path)]

    @property
    def submissions(self) -> list[Call]:
        """The calls that submitted a job."""
        return [call for call in self.calls if (call.method, call.path) == ("POST", "/v1/jobs")]


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.stand_in = StandIn(f"http://127.0.0.1:{self.server_address[1]}")


@contextmanager
def standing_in() -> Generator[StandIn]:
    """Serve on a free port of loopback for the length of a block."""
    server = _Server()
    with loopback.serving(server, server.stand_in.hold):
        yield server.stand_in


class _Handler(loopback.Handler):
    @property
    def stand_in(self) -> StandIn:
        """The one whose server this is."""
        assert isinstance(self.server, _Server)
        return self.server.stand_in

    def do_GET(self) -> None:  # noqa: N802 (the library's name)
        """Answer."""
        self._answer()

    def do_POST(self) -> None:  # noqa: N802 (the library's name)
        """Answer."""
        self._answer()

    def do_DELETE(self) -> None:  # noqa: N802 (the library's name)
        """Answer."""
        self._answer()

    def _answer(self) -> None:
        length = int(self.headers.get("content-length", 0))
        body = json.loads(self.rfile.read(length)) if length else None
        call = Call(self.command, self.path, {name.lower(): value for name, value in self.headers.items()}, body)
        self.stand_in.calls.append(call)
        if _is_stream(self.path):
            self._stream(call)
        else:
            self._call(call)

    def _call(self, call: Call) -> None:
        if self.stand_in.refusals:
            self._refuse(self.stand_in.refusals.pop(0))
        elif call.path in self.stand_in.answers:
            self._send(200, self.stand_in.answers[call.path])
        elif call.method == "POST":
            job_id = self.stand_in.made.setdefault(call.headers["idempotency-key"], JOB_ID)
            quota = {"chat_tokens": {"limit": 1000, "used": 100, "held": 50, "remaining": 850, "resets_at": None}}
            self._send(202, {"job": job(id=job_id), "quota": quota, **self.stand_in.chosen})
        else:
            self._send(200, job())

    def _refuse(self, refusal: Refusal) -> None:
        if refusal.status == "drop":
            self.close_connection = True
            return
        problem = refusal.problem
        if isinstance(problem, dict) and "detail" in problem:
            problem = {**problem, "detail": problem["detail"][self.headers["accept-language"]]}
        self._send(refusal.status, problem, refusal.headers)

    def _send(self, status: int, body: object, headers: dict[str, str] | None = None) -> None:
        encoded = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        for name, value in {"Content-Length": str(len(encoded)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(encoded)

    def _stream(self, call: Call) -> None:
        stand_in = self.stand_in
        refusal = stand_in.stream_refusals.pop(0) if stand_in.stream_refusals else None
        if refusal is not None:
            self._refuse(refusal)
            return
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.send_header("Connection", "close")
        self.end_headers()
        self._chunk("retry: 1000\n\n: \n\n")
        ids = [event_id for event_id, _ in stand_in.says]
        seen = call.headers.get("last-event-id")
        rest = stand_in.says[ids.index(seen) + 1 :] if seen in ids else stand_in.says
        broken = stand_in.breaks.pop(0) if stand_in.breaks else Break(len(rest), "end")
        for event_id, said in rest[: broken.after]:
            if said.get("type") in TERMINAL:
                stand_in.hold.wait()
            self._chunk(_frame(event_id, said))
        if broken.how == "half a frame":
            self._chunk(_frame(*rest[broken.after])[:-1])
        if broken.how == "end":
            self.wfile.write(b"0\r\n\r\n")

    def _chunk(self, text: str) -> None:
        encoded = text.encode()
        self.wfile.write(b"%x\r\n%s\r\n" % (len(encoded), encoded))


def _is_stream(path: str) -> bool:
    return path.partition("?")[0].endswith("/events")


def _frame(event_id: str, said: dict[str, Any]) -> str:
    """Return an event as it is sent; one without an id is about the stream, one that says nothing is its id alone."""
    frame = f"id: {event_id}\n" if event_id else ""
    if said:
        frame += f"event: {said.get('event', said)['type']}\ndata: {json.dumps(said)}\n"
    return f"{frame}\n"
