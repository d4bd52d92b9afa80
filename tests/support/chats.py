"""Chat jobs over HTTP, as a client makes and follows them."""

import asyncio
import json
from typing import Any

from httpx2 import AsyncClient as Client


def chat(*contents: str, **options: Any) -> dict[str, Any]:
    """Return a chat request."""
    messages = [{"role": "user", "content": content} for content in contents]
    return {"kind": "chat", "input": {"messages": messages, **options}}


async def submit(client: Client, request: dict[str, Any] | None = None, **headers: str) -> dict[str, Any]:
    """Submit a request (a short greeting by default) and return the job."""
    answer = await client.post("/v1/jobs", json=request or chat("مرحبا"), headers=headers)
    assert answer.status_code == 202, answer.text
    return answer.json()["job"]


async def until(client: Client, job: dict[str, Any], *states: str) -> dict[str, Any]:
    """Wait until the job is in one of `states` (any end by default) and return it."""
    wanted = states or ("succeeded", "failed", "canceled", "expired")
    async with asyncio.timeout(20):
        while True:
            shown = (await client.get(job["urls"]["self"])).json()
            if shown["state"] in wanted:
                return shown
            await asyncio.sleep(0.02)


def events(body: str) -> list[tuple[str, dict[str, Any]]]:
    """Return the events of a stream's body: each one's id and data."""
    found: list[tuple[str, dict[str, Any]]] = []
    for frame in body.split("\n\n"):
        lines = dict(line.split(": ", 1) for line in frame.splitlines() if not line.startswith(":"))
        if "data" in lines:
            data = json.loads(lines["data"])
            assert lines["event"] == data["type"]
            found.append((lines["id"], data))
    return found


def text(told: list[tuple[str, dict[str, Any]]]) -> str:
    """Return the text that the deltas make, started over by `restarted`."""
    whole = ""
    for _, event in told:
        if event["type"] == "restarted":
            whole = ""
        elif event["type"] == "delta":
            whole += event["text"]
    return whole
