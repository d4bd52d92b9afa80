"""A small server that keeps batches as OpenAI and Anthropic do, and fails in the ways that vendors fail.

OpenAI's files and batches stand under `/v1`, Anthropic's message batches under `/anthropic/v1`. What a request says
decides what becomes of it: `refuse`, `overload`, `expire`, `cancel` and `vanish` (no word of it) each by that word in
its last message; everything else is answered with `echo: ` and that message.
"""

import json
import threading
import time
from collections import Counter
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from email.parser import BytesParser
from email.policy import HTTP
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Literal, cast

from msgspec import Struct, field

INPUT_TOKENS, OUTPUT_TOKENS = 10, 7
#: Of the input, what went to the vendor's cache.
WRITTEN_TOKENS = 2
#: "before": the connection breaks before the vendor does anything; "after": when it has, without an answer.
type Fault = Literal["before", "after"] | int


class Held(Struct, kw_only=True):
    """A batch at the vendor: the requests as they came, and where it stands."""

    id: str
    vendor: Literal["openai", "anthropic"]
    requests: list[dict[str, Any]]
    #: Whose it is: who has another key sees nothing of it.
    key: str = "Bearer k"
    metadata: dict[str, str] = field(default_factory=dict[str, str])
    created_at: float = field(default_factory=time.time)
    state: Literal["going", "canceling", "over", "failed"] = "going"
    files: list[str] = field(default_factory=list[str])


class VendorBatches:
    """What the vendors have, and what a test wants of them."""

    def __init__(self) -> None:
        """Start with nothing."""
        self.batches: list[Held] = []
        self.files: dict[str, bytes] = {}
        #: Faults of the next calls, by method and the last fixed word of the path, such as `POST batches`.
        self.faults: dict[str, list[Fault]] = {}
        self.calls = Counter[str]()
        #: Whether a batch is over as soon as it is looked at.
        self.is_quick = True
        #: A batch that OpenAI refuses when it has taken it.
        self.fails_whole = False
        #: Lines of results that are left out at the end, as where a transfer is cut off cleanly.
        self.cut_lines = 0
        self.url = ""
        self.lock = threading.Lock()

    @classmethod
    @contextmanager
    def serving(cls) -> Generator["VendorBatches"]:
        """Serve on a free port of loopback."""
        fake = cls()
        handler = type("_Bound", (_Handler,), {"fake": fake})
        with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
            server.daemon_threads = True
            fake.url = f"http://127.0.0.1:{server.server_address[1]}"
            thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
            thread.start()
            try:
                yield fake
            finally:
                server.shutdown()
                thread.join()

    def add(self, vendor: Literal["openai", "anthropic"], requests: list[dict[str, Any]], **facts: Any) -> Held:
        """Keep a batch."""
        prefix = "batch" if vendor == "openai" else "msgbatch"
        held = Held(id=f"{prefix}_{len(self.batches) + 1}", vendor=vendor, requests=requests, **facts)
        self.batches.append(held)
        return held

    def finish(self) -> None:
        """Have every batch be over."""
        with self.lock:
            for held in self.batches:
                held.state = "over" if held.state != "failed" else "failed"

    def look(self, held: Held) -> None:
        """Let time pass for a batch that is looked at."""
        if self.fails_whole and held.vendor == "openai":
            held.state = "failed"
        elif held.state == "canceling" or (self.is_quick and held.state == "going"):
            held.state = "over"

    def asked(self) -> list[str]:
        """Return the last message of every request that was taken, with those that were taken twice."""
        return sorted(_last(held, request) for held in self.batches for request in held.requests)


def _last(held: Held, request: Mapping[str, Any]) -> str:
    body = request["body"] if held.vendor == "openai" else request["params"]
    return body["input" if held.vendor == "openai" else "messages"][-1]["content"]


class _Handler(BaseHTTPRequestHandler):
    fake: VendorBatches
    protocol_version = "HTTP/1.1"
    # Headers and body leave apart: without this the second waits for the first one's acknowledgement.
    disable_nagle_algorithm = True

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 (the base's name)
        """Say nothing."""

    def do_GET(self) -> None:
        self._serve()

    def do_POST(self) -> None:
        self._serve()

    def _serve(self) -> None:
        with suppress(ConnectionError):
            body = self.rfile.read(int(self.headers.get("content-length") or 0))
            path, _, query = self.path.partition("?")
            parts = path.strip("/").split("/")
            words = [part for part in parts if part.isalpha()]
            call = f"{self.command} {words[-1]}"
            with self.fake.lock:
                self.fake.calls[call] += 1
                fault = (self.fake.faults.get(call) or [None]).pop(0)
                if fault == "before":
                    self.close_connection = True
                    return
                if isinstance(fault, int):
                    self._send(fault, {"type": "error", "error": {"type": "api_error", "message": "no"}})
                    return
                status, told = self._answer(parts, query, body)
            if fault == "after":
                self.close_connection = True
                return
            self._send(status, told)

    @property
    def _key(self) -> str:
        return self.headers["authorization"]

    def _answer(self, parts: Sequence[str], query: str, body: bytes) -> tuple[int, Any]:
        match [self.command, *parts]:
            case ["POST", "v1", "files"]:
                return 200, self._upload(body)
            case ["GET", "v1", "files", file_id, "content"]:
                return 200, self.fake.files[file_id]
            case ["POST", "v1", "batches"]:
                return self._create(json.loads(body))
            case ["GET", "v1", "batches"]:
                return 200, {"object": "list", **self._page("openai", query)}
            case [_, "v1", "batches", batch_id, *deed]:
                return self._found("openai", batch_id, deed)
            case ["POST", "anthropic", "v1", "messages", "batches"]:
                requests = json.loads(body)["requests"]
                return 200, self._told(self.fake.add("anthropic", requests, key=self._key))
            case ["GET", "anthropic", "v1", "messages", "batches"]:
                return 200, self._page("anthropic", query)
            case [_, "anthropic", "v1", "messages", "batches", batch_id, *deed]:
                return self._found("anthropic", batch_id, deed)
            case _:
                return 404, {"error": {"message": f"no such path: {self.path}", "type": "not_found_error"}}

    def _upload(self, body: bytes) -> dict[str, Any]:
        head = f"Content-Type: {self.headers['content-type']}\r\n\r\n".encode()
        form = BytesParser(policy=HTTP).parsebytes(head + body)
        parts = {part.get_param("name", header="content-disposition"): part for part in form.iter_parts()}
        content = cast("bytes", parts["file"].get_payload(decode=True))
        file_id = f"file-{len(self.fake.files) + 1}"
        self.fake.files[file_id] = content
        return {
            "id": file_id,
            "object": "file",
            "bytes": len(content),
            "created_at": int(time.time()),
            "filename": parts["file"].get_filename(),
            "purpose": "batch",
            "status": "processed",
        }

    def _create(self, asked: dict[str, Any]) -> tuple[int, Any]:
        requests = [json.loads(line) for line in self.fake.files[asked["input_file_id"]].splitlines()]
        names = {request["custom_id"] for request in requests}
        models = {request["body"]["model"] for request in requests}
        urls = {(request["method"], request["url"]) for request in requests}
        if len(names) != len(requests) or len(models) != 1 or urls != {("POST", asked["endpoint"])}:
            return 400, {"error": {"message": "the file is no batch", "type": "invalid_request_error"}}
        held = self.fake.add("openai", requests, key=self._key, metadata=asked.get("metadata") or {})
        held.files = [asked["input_file_id"]]
        return 200, self._told(held)

    def _page(self, vendor: str, query: str) -> dict[str, Any]:
        given = dict(pair.split("=") for pair in query.split("&") if pair)
        of_vendor = [held for held in reversed(self.fake.batches) if held.vendor == vendor and held.key == self._key]
        after = given.get("after") or given.get("after_id")
        start = next((n + 1 for n, held in enumerate(of_vendor) if held.id == after), 0)
        limit = int(given.get("limit", 20))
        page = [self._told(held) for held in of_vendor[start : start + limit]]
        ends = {"first_id": page[0]["id"], "last_id": page[-1]["id"]} if page else {"first_id": None, "last_id": None}
        return {"data": page, "has_more": len(of_vendor) > start + limit, **ends}

    def _found(self, vendor: str, batch_id: str, deed: Sequence[str]) -> tuple[int, Any]:
        held = next((each for each in self.fake.batches if each.id == batch_id and each.vendor == vendor), None)
        if held is None or held.key != self._key:
            return 404, {"type": "error", "error": {"message": "no such batch", "type": "not_found_error"}}
        if deed == ["cancel"]:
            held.state = "canceling" if held.state == "going" else held.state
        elif deed == ["results"]:
            return 200, _lines(_results(held), self.fake.cut_lines)
        else:
            self.fake.look(held)
        return 200, self._told(held)

    def _told(self, held: Held) -> dict[str, Any]:
        return self._openai(held) if held.vendor == "openai" else self._anthropic(held)

    def _openai(self, held: Held) -> dict[str, Any]:
        told: dict[str, Any] = {
            "id": held.id,
            "object": "batch",
            "endpoint": "/v1/responses",
            "completion_window": "24h",
            "created_at": int(held.created_at),
            "input_file_id": held.files[0] if held.files else "file-0",
            "metadata": held.metadata,
            "status": {"going": "in_progress", "canceling": "cancelling", "failed": "failed"}.get(
                held.state, "completed"
            ),
        }
        if held.state == "over":
            lines = _responses(held)
            made = [line for line in lines if line["response"] and line["response"]["status_code"] == 200]
            wrong = [line for line in lines if line not in made]
            for name, some in (("output", made), ("error", wrong)):
                if some:
                    told[f"{name}_file_id"] = f"file-{held.id}-{name}"
                    cut = self.fake.cut_lines if name == "output" else 0
                    self.fake.files[f"file-{held.id}-{name}"] = _lines(some, cut)
            told["request_counts"] = {"total": len(held.requests), "completed": len(made), "failed": len(wrong)}
        return told

    def _anthropic(self, held: Held) -> dict[str, Any]:
        ended, many = held.state == "over", len(held.requests)
        kinds = Counter(result["result"]["type"] for result in _results(held)) if ended else Counter[str]()
        names = ("succeeded", "errored", "canceled", "expired")
        path = f"{self.fake.url}/anthropic/v1/messages/batches/{held.id}/results"
        return {
            "id": held.id,
            "type": "message_batch",
            "processing_status": "ended" if ended else {"canceling": "canceling"}.get(held.state, "in_progress"),
            "request_counts": {name: kinds[name] for name in names} | {"processing": 0 if ended else many},
            "created_at": datetime.fromtimestamp(held.created_at, UTC).isoformat(),
            "expires_at": datetime.fromtimestamp(held.created_at + 86_400, UTC).isoformat(),
            "ended_at": datetime.now(UTC).isoformat() if ended else None,
            "results_url": path if ended else None,
            "cancel_initiated_at": None,
            "archived_at": None,
        }

    def _send(self, status: int, told: Any) -> None:
        body = told if isinstance(told, bytes) else json.dumps(told).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def _lines(lines: Sequence[Mapping[str, Any]], cut: int) -> bytes:
    return b"".join(json.dumps(line).encode() + b"\n" for line in lines[: len(lines) - cut])


def _fate(said: str) -> str:
    return next((word for word in ("refuse", "overload", "expire", "cancel", "vanish") if word in said), "echo")


def _responses(held: Held) -> list[dict[str, Any]]:
    return [line for request in reversed(held.requests) if (line := _response(held, request)) is not None]


def _response(held: Held, request: Mapping[str, Any]) -> dict[str, Any] | None:
    said, custom_id = _last(held, request), request["custom_id"]
    whole: dict[str, Any] = {"id": f"batch_req_{custom_id}", "custom_id": custom_id, "response": None, "error": None}
    match _fate(said):
        case "vanish":
            return None
        case "refuse":
            error = {"error": {"message": f"it will not be said: {said}", "type": "invalid_request_error"}}
            return whole | {"response": {"status_code": 400, "request_id": "r", "body": error}}
        case "overload":
            return whole | {"response": {"status_code": 503, "request_id": "r", "body": {}}}
        case "expire":
            return whole | {"error": {"code": "batch_expired", "message": "too late"}}
        case "cancel":
            return whole | {"error": {"code": "batch_cancelled", "message": "not wanted"}}
        case _:
            body: dict[str, Any] = {
                "id": f"resp_{custom_id}",
                "object": "response",
                "status": "completed",
                "model": request["body"]["model"],
                "output": [
                    {"type": "reasoning", "id": "rs_1", "summary": []},
                    {
                        "type": "message",
                        "role": "assistant",
                        "content": [{"type": "output_text", "text": f"echo: {said}", "annotations": []}],
                    },
                ],
                "usage": {
                    "input_tokens": INPUT_TOKENS,
                    "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": WRITTEN_TOKENS},
                    "output_tokens": OUTPUT_TOKENS,
                    "output_tokens_details": {"reasoning_tokens": 2},
                    "total_tokens": INPUT_TOKENS + OUTPUT_TOKENS,
                },
            }
            return whole | {"response": {"status_code": 200, "request_id": "r", "body": body}}


def _results(held: Held) -> list[dict[str, Any]]:
    return [_result(held, request) for request in reversed(held.requests)]


def _result(held: Held, request: Mapping[str, Any]) -> dict[str, Any]:
    said, custom_id = _last(held, request), request["custom_id"]
    match _fate(said):
        case "refuse" | "overload" as fate:
            kind = "invalid_request_error" if fate == "refuse" else "overloaded_error"
            error = {
                "type": "error",
                "error": {"type": kind, "message": f"it will not be said: {said}"},
                "request_id": "r",
            }
            return {"custom_id": custom_id, "result": {"type": "errored", "error": error}}
        case "expire" | "vanish":
            return {"custom_id": custom_id, "result": {"type": "expired"}}
        case "cancel":
            return {"custom_id": custom_id, "result": {"type": "canceled"}}
        case _:
            message = {
                "id": f"msg_{custom_id}",
                "type": "message",
                "role": "assistant",
                "model": request["params"]["model"],
                "content": [{"type": "text", "text": f"echo: {said}"}],
                "stop_reason": "end_turn",
                "stop_sequence": None,
                "usage": {
                    "input_tokens": INPUT_TOKENS - WRITTEN_TOKENS,
                    "cache_creation_input_tokens": WRITTEN_TOKENS,
                    "cache_creation": {"ephemeral_5m_input_tokens": 1, "ephemeral_1h_input_tokens": 1},
                    "output_tokens": OUTPUT_TOKENS,
                    "output_tokens_details": {"thinking_tokens": 2},
                },
            }
            return {"custom_id": custom_id, "result": {"type": "succeeded", "message": message}}
