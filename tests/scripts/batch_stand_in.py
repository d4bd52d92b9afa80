"""A stand-in for the studio's `/v1/batches` on loopback, which breaks off or is busy where a test wants it."""

import contextlib
import hashlib
import itertools
import json
import re
import socket
import threading
from collections.abc import Generator
from contextlib import contextmanager
from http.server import ThreadingHTTPServer
from typing import Any, Literal
from urllib.parse import parse_qs, urlsplit

from msgspec import Struct

from tests.scripts import loopback
from tests.scripts.stand_in import KEY, Call, Refusal

_CHUNK = 65536
ENDS = ("succeeded", "rejected", "failed", "canceled", "expired")


class Fault(Struct):
    """What happens to one upload or download: after so many bytes of the body it is cut off; `silent` cuts off an
    upload's answer, once all of it was taken.
    """

    after: int = 0
    how: Literal["cut", "silent"] = "cut"


def line(number: int, **facts: Any) -> dict[str, Any]:
    """Return a result as it is told."""
    plain = {"custom_id": f"r-{number}", "line": number, "state": "succeeded", "kind": "chat", "error": None}
    return {**plain, "result": {"text": f"مرحبًا {number}"}, "charged": {"chat_tokens": 2}, **facts}


class BatchStandIn:
    """What the stand-in keeps, and what it was asked."""

    def __init__(self, url: str) -> None:
        """Keep nothing yet, and let everything pass."""
        self.url = url
        self.calls: list[Call] = []
        self.batches: dict[str, dict[str, Any]] = {}
        #: Idempotency-Key -> the batch, and a digest of what was sent with it.
        self.made: dict[str, tuple[str, str]] = {}
        #: The whole inputs that came, and of which types.
        self.inputs: list[tuple[str, bytes]] = []
        #: Of each batch: its lines as they come to be told, and how many of them are told by now.
        self.told: dict[str, list[dict[str, Any]]] = {}
        self.shown: dict[str, int] = {}
        #: The same as states and as they are sent.
        self._lines: dict[str, list[tuple[str, bytes]]] = {}
        #: What the lines of a new batch become.
        self.outcomes: list[dict[str, Any]] = [line(1), line(2), line(3)]
        #: How many more lines are over each time a batch is looked at; 0: none until `hold` is set.
        self.step = 1
        #: Each is used up by one call, first to last; None lets it pass.
        self.refusals: list[Refusal | None] = []
        self.upload_faults: list[Fault | None] = []
        self.download_faults: list[Fault | None] = []
        self.complaints: list[str] = []
        #: Whether ranges are heeded; what stands before a studio may not.
        self.ranges = True
        #: Waited for in the middle of each upload and download.
        self.hold = threading.Event()
        self.hold.set()
        self.pages = 100
        self._numbers = itertools.count(1)

    def asked(self, method: str, path: str) -> list[Call]:
        """Return the calls of a method whose path has this."""
        return [call for call in self.calls if call.method == method and path in call.path]

    def add(self, *outcomes: dict[str, Any], shown: int | None = None, **facts: Any) -> dict[str, Any]:
        """Keep a batch with lines that become this, of which some are over."""
        batch_id = f"01a20000-0000-7000-8000-{next(self._numbers):012}"
        self.told[batch_id], self.shown[batch_id] = list(outcomes), len(outcomes) if shown is None else shown
        encoded = [json.dumps(each, ensure_ascii=False).encode() + b"\n" for each in outcomes]
        self._lines[batch_id] = [(each["state"], line) for each, line in zip(outcomes, encoded, strict=True)]
        self.batches[batch_id] = {
            "id": batch_id,
            "mode": "each",
            "created_at": "2026-11-26T06:00:00Z",
            "accepted_at": None,
            "finished_at": None,
            "expires_at": "2026-11-27T06:00:00Z",
            "cancel_requested": False,
            "size_bytes": 300,
            "read_bytes": 300,
            "error": None,
            "metadata": {},
            "webhook": None,
            "retry_of": None,
            "input_file_id": None,
            "job_id": None,
            "state": "running",
            **facts,
        }
        return self.batches[batch_id]

    def part(self, batch_id: str, which: str) -> bytes:
        """Return the results or the errors as they are by now."""
        lines = self._lines[batch_id][: self.shown[batch_id]]
        return b"".join(line for state, line in lines if which == "results" or state != "succeeded")

    def answer(self, batch_id: str) -> dict[str, Any]:
        """Return a batch as the API shows it."""
        batch, told, shown = self.batches[batch_id], self.told[batch_id], self.shown[batch_id]
        states = [each["state"] for each in told[:shown]]
        if batch["state"] == "running" and shown == len(told):
            batch |= {"state": "completed", "finished_at": "2026-11-26T06:01:02.5Z"}
        counts = {"lines": len(told), "waiting": 0, "running": len(told) - shown}
        counts |= {end: states.count(end) for end in ENDS}
        lengths = {f"{part}_bytes": len(self.part(batch_id, part)) for part in ("results", "errors")}
        charged = {"chat_tokens": 2 * counts["succeeded"]}
        return {**batch, "counts": counts, "charged": charged, **lengths, "urls": {}}


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, port: int) -> None:
        super().__init__(("127.0.0.1", port), _Handler)
        self.stand_in = BatchStandIn(f"http://127.0.0.1:{self.server_address[1]}")


@contextmanager
def standing_in(port: int = 0) -> Generator[BatchStandIn]:
    """Serve on a port of loopback for the length of a block."""
    server = _Server(port)
    with loopback.serving(server, server.stand_in.hold):
        yield server.stand_in


class _Handler(loopback.Handler):
    @property
    def stand_in(self) -> BatchStandIn:
        """The one whose server this is."""
        assert isinstance(self.server, _Server)
        return self.server.stand_in

    def do_GET(self) -> None:  # noqa: N802 (the library's name)
        """Answer."""
        self._answer()

    def do_POST(self) -> None:  # noqa: N802 (the library's name)
        """Answer."""
        self._answer()

    def _answer(self) -> None:
        stand_in = self.stand_in
        headers = {name.lower(): value for name, value in self.headers.items()}
        stand_in.calls.append(Call(self.command, self.path, headers, None))
        if self.headers["authorization"] != f"Bearer {KEY}":
            stand_in.complaints.append(f"{self.path} without the key")
        if (refusal := stand_in.refusals.pop(0) if stand_in.refusals else None) is not None:
            self._refuse(refusal)
            return
        parts = urlsplit(self.path).path.split("/")[3:]
        match self.command, parts:
            case "POST", []:
                self._upload()
            case "GET", []:
                self._page()
            case _, [batch_id, *_] if batch_id not in stand_in.batches:
                self._problem(404, "batch_not_found", "There is no such batch.")
            case "GET", [batch_id]:
                self._look(batch_id)
            case "GET", [batch_id, part]:
                self._download(batch_id, part)
            case _, [batch_id, deed]:
                self._act(batch_id, deed)
            case _:
                self._problem(404, "not_found", "There is nothing here.")

    def _page(self) -> None:
        stand_in = self.stand_in
        start = int(parse_qs(urlsplit(self.path).query).get("cursor", ["0"])[0])
        ids = list(reversed(stand_in.batches))
        page, end = ids[start : start + stand_in.pages], start + stand_in.pages
        batches = [stand_in.answer(batch_id) for batch_id in page]
        self._send(200, {"batches": batches, "next_cursor": str(end) if end < len(ids) else None})

    def _look(self, batch_id: str) -> None:
        stand_in = self.stand_in
        batch = stand_in.batches[batch_id]
        told = json.dumps(stand_in.answer(batch_id)).encode()
        if batch["state"] == "validating":
            batch["state"] = "running"
        elif batch["state"] in {"running", "canceling"} and (stand_in.step or stand_in.hold.is_set()):
            step = stand_in.step or len(stand_in.told[batch_id])
            stand_in.shown[batch_id] = min(stand_in.shown[batch_id] + step, len(stand_in.told[batch_id]))
        tag = f'"{hashlib.sha256(told).hexdigest()[:16]}"'
        if self.headers["if-none-match"] == tag:
            self._send(304, b"", {"ETag": tag})
        else:
            self._send(200, told, {"ETag": tag})

    def _act(self, batch_id: str, deed: str) -> None:
        stand_in = self.stand_in
        if deed == "cancel":
            stand_in.batches[batch_id] |= {"cancel_requested": True, "state": "canceling"}
            self._send(202, stand_in.answer(batch_id))
            return
        key = self.headers["idempotency-key"]
        if key not in stand_in.made:
            again = [line(each["line"]) for each in stand_in.told[batch_id] if each["state"] != "succeeded"]
            stand_in.made[key] = (stand_in.add(*again, shown=0, retry_of=batch_id, size_bytes=0)["id"], "")
        self._send(202, stand_in.answer(stand_in.made[key][0]))

    def _upload(self) -> None:
        stand_in = self.stand_in
        fault = stand_in.upload_faults.pop(0) if stand_in.upload_faults else None
        length = int(self.headers["content-length"])
        if fault is not None and fault.how == "cut":
            self._read(fault.after)
            self._cut()
            return
        content = self._read(length // 2)
        stand_in.hold.wait()
        content += self._read(length - len(content))
        if len(content) < length:
            self.close_connection = True
            return
        media_type, key = self.headers["content-type"], self.headers["idempotency-key"]
        digest = hashlib.sha256(media_type.encode() + self.path.encode() + content).hexdigest()
        if key not in stand_in.made:
            made = stand_in.add(*stand_in.outcomes, shown=0, state="validating", size_bytes=length, read_bytes=0)
            stand_in.made[key] = (made["id"], digest)
            stand_in.inputs.append((media_type, content))
        batch_id, kept = stand_in.made[key]
        if kept != digest:
            stand_in.complaints.append("another thing was sent under the same key")
        if fault is not None:
            self._cut()
        else:
            self._send(202, stand_in.answer(batch_id))

    def _download(self, batch_id: str, part: str) -> None:
        """Send what is asked for, or with `follow` all until the batch is over, in chunks."""
        stand_in = self.stand_in
        follows = "follow=true" in self.path
        ranged = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("range", "")) if stand_in.ranges else None
        start = int(ranged[1]) if ranged else 0
        content = stand_in.part(batch_id, part)
        if not follows and start >= len(content):
            self._problem(416, "range_not_satisfiable", "There is nothing there.")
            return
        end = int(ranged[2]) + 1 if ranged and ranged[2] else len(content)
        self.send_response(206 if ranged else 200)
        self.send_header("Transfer-Encoding", "chunked")
        if ranged:
            self.send_header("Content-Range", f"bytes {start}-{max(end - 1, start)}/*")
        self.end_headers()
        fault = stand_in.download_faults.pop(0) if stand_in.download_faults else None
        if fault is not None:
            self._chunk(content[start:end][: fault.after])
            self._cut()
            return
        half = (end - start) // 2
        self._chunk(content[start : start + half])
        stand_in.hold.wait()
        self._chunk(content[start + half : end])
        if follows:
            stand_in.shown[batch_id] = len(stand_in.told[batch_id])
            self._chunk(stand_in.part(batch_id, part)[end:])
        self.wfile.write(b"0\r\n\r\n")

    def _chunk(self, content: bytes) -> None:
        if content:
            self.wfile.write(b"%x\r\n%s\r\n" % (len(content), content))

    def _read(self, count: int) -> bytes:
        parts: list[bytes] = []
        while count and (part := self.rfile.read(min(count, _CHUNK))):
            parts.append(part)
            count -= len(part)
        return b"".join(parts)

    def _cut(self) -> None:
        self.close_connection = True
        with contextlib.suppress(OSError):
            self.connection.shutdown(socket.SHUT_RDWR)

    def _refuse(self, refusal: Refusal) -> None:
        self.close_connection = True
        if refusal.status == "drop":
            return
        self._read(int(self.headers.get("content-length", 0)))
        problem = refusal.problem
        if isinstance(problem, dict) and isinstance(problem.get("detail"), dict):
            problem = {**problem, "detail": problem["detail"][self.headers["accept-language"]]}
        self._send(refusal.status, problem, refusal.headers)

    def _problem(self, status: int, code: str, detail: str) -> None:
        self._send(status, {"status": status, "code": code, "detail": detail})

    def _send(self, status: int, body: object, headers: dict[str, str] | None = None) -> None:
        encoded = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        for name, value in {"Content-Length": str(len(encoded)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(encoded)
