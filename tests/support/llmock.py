"""llmock, a server that others wrote: it speaks the vendors' wires, breaks as it is told, and judges its client."""

import os
import subprocess
import sys
import time
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any, Literal

import httpx2

from providers.deployments import Deployment, Vendor
from tests.support import process
from tests.support.serving import PLAIN, free_port

_PATHS: dict[Vendor, str] = {
    "openai": "/v1",
    "compatible": "/v1",
    "local": "/v1",
    "anthropic": "/anthropic",
    "google": "/gemini",
}
#: `disconnect` drops the connection, `truncate` ends the stream cleanly but early, `malformed` sends half a chunk.
StreamFault = Literal["disconnect", "truncate", "malformed", "stall"]


class LLMock:
    """A running server: what it is told holds for the next request of a vendor's wire, or for the next `times`."""

    def __init__(self, url: str) -> None:
        """Talk to the server at `url`."""
        self.url = url

    def base_url(self, vendor: Vendor) -> str:
        """Return what the deployments of a vendor have as their `base_url`."""
        return self.url + _PATHS[vendor]

    def deployment(self, vendor: Vendor, key: str = "k") -> Deployment:
        """Return a deployment of this vendor here."""
        return Deployment(name=f"{vendor}-{key}", vendor=vendor, base_url=self.base_url(vendor), key=key)

    async def fail(self, status: int, *, times: int | None = 1, retry_after: float | None = None, **match: str) -> None:
        """Answer with an HTTP error, `times` times or for good; `match` may name `model` or `path`."""
        await self.add("fail", status=status, times=times, retry_after=retry_after, match=match)

    async def break_stream(
        self, kind: StreamFault, *, after_chunks: int = 1, times: int | None = 1, stall_seconds: float = 30.0
    ) -> None:
        """Break a stream after so many of its events."""
        await self.add("stream_fault", kind=kind, after_chunks=after_chunks, stall_seconds=stall_seconds, times=times)

    async def slow_first_token(self, seconds: float, *, times: int | None = 1) -> None:
        """Answer at once, but let the stream's first event wait."""
        await self.add("slow_first_token", seconds=seconds, times=times)

    async def delay(self, seconds: float, *, times: int | None = 1) -> None:
        """Answer nothing at all for so long."""
        await self.add("delay", seconds=seconds, times=times)

    async def reply(self, text: str | None = None, *, times: int | None = 1, **fields: Any) -> None:
        """Say this; `fields` may be `tool_calls` ([{"name", "arguments"}]) and `finish_reason`."""
        await self.add("reply", text=text, times=times, **fields)

    async def break_tool_call(
        self, kind: Literal["malformed_arguments", "unknown_tool"], *, times: int | None = 1
    ) -> None:
        """Call a tool wrongly, when tools are offered."""
        await self.add("tool_fault", kind=kind, times=times)

    async def add(self, behavior: str, /, **fields: Any) -> None:
        """Queue a behaviour as llmock's own control API takes it."""
        fields = {name: value for name, value in fields.items() if name in {"times", "text"} or value is not None}
        await self._ask("POST", "/_llmock/scenario", json={"behaviors": [{"type": behavior, **fields}]})

    async def requests(self) -> list[dict[str, Any]]:
        """Return every request since the last reset, with `status`, `fault`, `completed`, `body`, ..."""
        return (await self._ask("GET", "/_llmock/requests"))["requests"]

    async def verdict(self) -> dict[str, Any]:
        """Return how the client did since the last reset: `passed`, `errors`, `warnings`, `findings`."""
        return await self._ask("GET", "/_llmock/verdict")

    async def reset(self) -> None:
        """Forget what was told and what was asked."""
        await self._ask("POST", "/_llmock/reset")

    async def _ask(self, method: str, path: str, **options: Any) -> dict[str, Any]:
        async with httpx2.AsyncClient(base_url=self.url, timeout=10, verify=PLAIN) as client:
            answer = await client.request(method, path, **options)
        assert answer.is_success, answer.text
        return answer.json()


@contextmanager
def serving(*options: str) -> Generator[LLMock]:
    """Serve for the length of a block; `options` are those of `llmock serve`, such as `--rpm 60`."""
    port = free_port()
    command = ["llmock.cli", "serve", "--host", "127.0.0.1", "--port", str(port), "--log-level", "warning", *options]
    with process.started(*command, env=os.environ) as running:
        url = f"http://127.0.0.1:{port}"
        _wait(running, f"{url}/health")
        yield LLMock(url)


def _wait(running: "subprocess.Popen[bytes]", url: str) -> None:
    deadline = time.monotonic() + 60
    while True:
        assert running.poll() is None, f"{sys.executable} -m llmock.cli ended at once"
        assert time.monotonic() < deadline, "llmock does not answer"
        try:
            if httpx2.get(url, timeout=5, verify=PLAIN).is_success:
                return
        except httpx2.TransportError:
            time.sleep(0.05)
