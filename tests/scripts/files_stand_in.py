"""A stand-in for the studio's `/v1/files` and for its store, on loopback, which breaks off where a test wants it."""

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
REJECTED = {"en": "The file is a program.", "ar": "الملف برنامج."}


class Fault(Struct):
    """What happens to one upload or download, after so many bytes of the body: it is cut off, answered with a status
    instead, or, at its end, done without a word.
    """

    after: int = 0
    how: Literal["cut", "silent"] | int = "cut"
    body: bytes = b"<html>"
    headers: dict[str, str] = {}


class FilesStandIn:
    """What the stand-in keeps, and what it was asked."""

    def __init__(self, url: str) -> None:
        """Keep nothing yet, and let everything pass."""
        self.url = url
        self.calls: list[Call] = []
        self.files: dict[str, dict[str, Any]] = {}
        self.uploaded: dict[str, bytes] = {}
        self.variants: dict[str, bytes] = {}
        #: token of a form -> the file that it is for; used up when it is taken out.
        self.forms: dict[str, str] = {}
        #: What broke a rule of the contract; the fixture fails a test for it.
        self.complaints: list[str] = []
        #: Each is used up by one call of the API, one upload, one download, first to last; None lets it pass.
        self.refusals: list[Refusal | None] = []
        self.upload_faults: list[Fault | None] = []
        self.download_faults: list[Fault | None] = []
        #: How often a file is `scanning` when it is looked at, and how many are rejected after that.
        self.looks = 0
        self.rejects = 0
        self.ranges = True
        #: Waited for in the middle of each upload and download.
        self.hold = threading.Event()
        self.hold.set()
        self.pages = 100
        self._numbers = itertools.count(1)

    def asked(self, method: str, path: str) -> list[Call]:
        """Return the calls of a method whose path has this."""
        return [call for call in self.calls if call.method == method and path in call.path]

    def add(self, content: bytes, **facts: Any) -> dict[str, Any]:
        """Keep a file that is ready."""
        digest = hashlib.sha256(content).hexdigest()
        declared = {"name": "notes.txt", "purpose": "attachment", "media_type": "text/plain", "folder": ""}
        file = self.announce({**declared, "size_bytes": len(content), "sha256": digest})
        file |= {"state": "ready", "sha256": digest, "decided_at": "2026-11-23T06:00:01Z", **facts}
        self.uploaded[file["id"]] = content
        return file

    def announce(self, declared: dict[str, Any]) -> dict[str, Any]:
        """Keep a file that is announced."""
        file_id = f"01a20000-0000-7000-8000-{next(self._numbers):012}"
        self.files[file_id] = {
            "id": file_id,
            **{name: declared[name] for name in ("name", "folder", "purpose", "media_type", "size_bytes")},
            "state": "uploading",
            "sha256": None,
            "declared_sha256": declared["sha256"],
            "error": None,
            **dict.fromkeys(("width", "height", "duration_s", "frames", "pages", "lines", "blurhash")),
            "variants": [],
            "job_id": None,
            "created_at": "2026-11-23T06:00:00Z",
            "upload_until": "2026-11-23T06:15:00Z",
            "decided_at": None,
            "urls": {"self": f"/v1/files/{file_id}"},
        }
        return self.files[file_id]


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.stand_in = FilesStandIn(f"http://127.0.0.1:{self.server_address[1]}")


@contextmanager
def standing_in() -> Generator[FilesStandIn]:
    """Serve on a free port of loopback for the length of a block."""
    server = _Server()
    with loopback.serving(server, server.stand_in.hold):
        yield server.stand_in


class _Handler(loopback.Handler):
    @property
    def stand_in(self) -> FilesStandIn:
        """The one whose server this is."""
        assert isinstance(self.server, _Server)
        return self.server.stand_in

    def do_GET(self) -> None:  # noqa: N802 (the library's name)
        """Answer."""
        if self.path.startswith("/store/"):
            self._download()
        else:
            self._api()

    def do_POST(self) -> None:  # noqa: N802 (the library's name)
        """Answer."""
        if self.path.startswith("/store/"):
            self._upload()
        else:
            self._api()

    def do_PATCH(self) -> None:  # noqa: N802 (the library's name)
        """Answer."""
        self._api()

    def do_DELETE(self) -> None:  # noqa: N802 (the library's name)
        """Answer."""
        self._api()

    def _note(self, body: Any) -> None:
        headers = {name.lower(): value for name, value in self.headers.items()}
        self.stand_in.calls.append(Call(self.command, self.path, headers, body))

    def _api(self) -> None:
        stand_in = self.stand_in
        length = int(self.headers.get("content-length", 0))
        body = json.loads(self.rfile.read(length)) if length else None
        self._note(body)
        if self.headers["authorization"] != f"Bearer {KEY}":
            stand_in.complaints.append(f"{self.path} without the key")
        refusal = stand_in.refusals.pop(0) if stand_in.refusals else None
        if refusal is not None:
            self._refuse(refusal)
            return
        path = urlsplit(self.path).path
        _, _, _, *rest = path.split("/")
        if not rest:
            self._collection(body)
        elif rest == ["folders"]:
            folders = {file["folder"] for file in stand_in.files.values()}
            of = {name: [file for file in stand_in.files.values() if file["folder"] == name] for name in folders}
            sums = {name: sum(file["size_bytes"] for file in files) for name, files in of.items()}
            self._send(200, {"folders": [{"folder": n, "files": len(of[n]), "size_bytes": sums[n]} for n in sums]})
        elif rest[0] not in stand_in.files:
            self._problem(404, "file_not_found", "There is no such file.")
        else:
            self._one(stand_in.files[rest[0]], rest[1] if len(rest) > 1 else "", body)

    def _collection(self, body: Any) -> None:
        stand_in = self.stand_in
        if self.command == "POST":
            file = stand_in.announce(body)
            token = f"form-{file['id']}"
            stand_in.forms[token] = file["id"]
            # What HTML's algorithm would write differently, and an order that is no alphabet's.
            fields = {"policy": "كلمة\r\nb", 'x"y': "1", "key": file["id"]}
            form = {"method": "POST", "url": f"{stand_in.url}/store/{token}?signature=s3cr3t", "fields": fields}
            self._send(201, {"file": file, "upload": form, "quota": {}, "warnings": ["quota_80"]})
            return
        query = {name: values[0] for name, values in parse_qs(urlsplit(self.path).query).items()}
        found = [
            file
            for file in reversed(stand_in.files.values())
            if query.get("q", "") in file["name"] and query.get("state", file["state"]) == file["state"]
        ]
        start = int(query.get("cursor", 0))
        page = found[start : start + stand_in.pages]
        end = start + len(page)
        self._send(200, {"files": page, "next_cursor": str(end) if end < len(found) else None})

    def _one(self, file: dict[str, Any], deed: str, body: Any) -> None:
        stand_in = self.stand_in
        if self.command == "DELETE":
            del stand_in.files[file["id"]]
            stand_in.uploaded.pop(file["id"], None)
            self._send(204, b"")
        elif self.command == "PATCH":
            file |= body
            self._send(200, file)
        elif deed == "complete":
            if file["state"] == "uploading" and file["id"] not in stand_in.uploaded:
                self._problem(409, "upload_missing", "Nothing was uploaded yet.")
                return
            if file["state"] == "uploading":
                file["state"] = "scanning"
            self._send(202, file)
        elif deed:
            if file["state"] != "ready":
                self._problem(409, "file_not_ready", "The file is not ready.")
            elif deed != "content" and deed not in stand_in.variants:
                self._problem(404, "variant_not_found", "There is no such picture.")
            else:
                location = f"/store/{deed}/{file['id']}?signature=s3cr3t"
                self._send(307, b"", {"Location": location})
        else:
            self._decide(file)
            self._send(200, file)

    def _decide(self, file: dict[str, Any]) -> None:
        stand_in = self.stand_in
        if file["state"] != "scanning":
            return
        if stand_in.looks:
            stand_in.looks -= 1
        elif stand_in.rejects:
            stand_in.rejects -= 1
            detail = REJECTED[self.headers["accept-language"]]
            file |= {"state": "rejected", "error": {"code": "type_mismatch", "detail": detail}}
        else:
            file |= {"state": "ready", "sha256": file["declared_sha256"], "width": 8, "height": 6}

    def _upload(self) -> None:
        stand_in = self.stand_in
        self._note(None)
        self._check_store()
        length = int(self.headers["content-length"])
        fault = stand_in.upload_faults.pop(0) if stand_in.upload_faults else None
        body = b""
        if fault is not None and fault.how != "silent":
            self._read(min(fault.after, length))
            self._fail(fault)
            return
        body += self._read(length // 2)
        stand_in.hold.wait()
        body += self._read(length - len(body))
        file_id = stand_in.forms.pop(urlsplit(self.path).path.removeprefix("/store/"), None)
        if len(body) < length:
            self.close_connection = True
        elif file_id is None or file_id not in stand_in.files:
            self._problem(409, "form_used", "The form was used already.")
        elif (content := self._content(body, file_id)) is None:
            self._problem(400, "malformed_form", "The form is not what it should be.")
        else:
            stand_in.uploaded[file_id] = content
            if fault is None:
                self._send(204, b"")
            else:
                self.close_connection = True

    def _content(self, body: bytes, file_id: str) -> bytes | None:
        """Return the bytes of the file where the body is right, byte for byte."""
        stand_in, file = self.stand_in, self.stand_in.files[file_id]
        found = re.fullmatch(r"multipart/form-data; boundary=([0-9a-f]{32})", self.headers["content-type"])
        mark = f"--{found[1] if found else ''}"
        head = (
            f'{mark}\r\nContent-Disposition: form-data; name="policy"\r\n\r\nكلمة\r\nb\r\n'
            f'{mark}\r\nContent-Disposition: form-data; name="x%22y"\r\n\r\n1\r\n'
            f'{mark}\r\nContent-Disposition: form-data; name="key"\r\n\r\n{file_id}\r\n'
            f'{mark}\r\nContent-Disposition: form-data; name="file"; filename="file"\r\n'
            f"Content-Type: {file['media_type']}\r\n\r\n"
        ).encode()
        tail = f"\r\n{mark}--\r\n".encode()
        content = body[len(head) : len(body) - len(tail)]
        if body != head + content + tail:
            stand_in.complaints.append(f"the form is {body[:500]!r}")
        elif hashlib.sha256(content).hexdigest() != file["declared_sha256"] or len(content) != file["size_bytes"]:
            stand_in.complaints.append("the file is not the one that was announced")
        else:
            return content
        return None

    def _read(self, count: int) -> bytes:
        parts: list[bytes] = []
        while count and (part := self.rfile.read(min(count, _CHUNK))):
            parts.append(part)
            count -= len(part)
        return b"".join(parts)

    def _check_store(self) -> None:
        if self.headers["authorization"] is not None:
            self.stand_in.complaints.append("the store was shown the key")
        if self.command == "POST" and "transfer-encoding" in self.headers:
            self.stand_in.complaints.append("the upload has no length")

    def _download(self) -> None:
        stand_in = self.stand_in
        self._note(None)
        self._check_store()
        _, _, which, file_id = urlsplit(self.path).path.split("/")
        whole = stand_in.uploaded[file_id] if which == "content" else stand_in.variants[which]
        etag = f'"{hashlib.md5(whole).hexdigest()}"'
        fault = stand_in.download_faults.pop(0) if stand_in.download_faults else None
        if fault is not None and isinstance(fault.how, int):
            self._fail(fault)
            return
        ranged = re.fullmatch(r"bytes=(\d+)-", self.headers.get("range", ""))
        start = int(ranged[1]) if ranged and self.headers.get("if-range", etag) == etag and stand_in.ranges else 0
        content = whole[start:]
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("Content-Type", "text/plain" if which == "content" else "image/webp")
        self.send_header("ETag", etag)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(whole) - 1}/{len(whole)}")
        self.end_headers()
        if fault is not None:
            self.wfile.write(content[: fault.after])
            self._fail(fault)
            return
        half = len(content) // 2
        self.wfile.write(content[:half])
        stand_in.hold.wait()
        self.wfile.write(content[half:])

    def _fail(self, fault: Fault) -> None:
        self.close_connection = True
        if isinstance(fault.how, int):
            self._send(fault.how, fault.body, fault.headers)
        else:
            with contextlib.suppress(OSError):
                self.connection.shutdown(socket.SHUT_RDWR)

    def _refuse(self, refusal: Refusal) -> None:
        if refusal.status == "drop":
            self.close_connection = True
            return
        problem = refusal.problem
        if isinstance(problem, dict) and isinstance(problem.get("detail"), dict):
            problem = {**problem, "detail": problem["detail"][self.headers["accept-language"]]}
        self._send(refusal.status, problem, refusal.headers)

    def _problem(self, status: int, code: str, detail: str) -> None:
        self._send(status, {"status": status, "code": code, "detail": detail})

    def _send(self, status: int, body: object, headers: dict[str, str] | None = None) -> None:
        encoded = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        length = {} if status == 204 else {"Content-Length": str(len(encoded))}
        for name, value in {**length, **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(encoded)
