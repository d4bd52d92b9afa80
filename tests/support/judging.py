"""A small server that speaks OpenAI's moderation, which no other server here does; the official SDK reads it."""

import asyncio
import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any


class Judge:
    """OpenAI's moderation, as a test scripts it: flags what has `bad` in it, and knows one key."""

    def __init__(self) -> None:
        """Know the key `good`."""
        self.url, self.asked = "", list[tuple[str, list[str]]]()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one request."""
        head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
        body = json.loads(await reader.readexactly(int(head.split("content-length:")[1].split("\r\n")[0])))
        key = head.split("authorization: bearer ")[1].split("\r\n")[0]
        self.asked.append((key, body["input"]))
        answer = {"id": "m-1", "model": body["model"], "results": [_judged("bad" in text) for text in body["input"]]}
        told = json.dumps(answer if key == "good" else {"error": {"message": "no", "type": "server_error"}})
        writer.write(
            f"HTTP/1.1 {200 if key == 'good' else 500} X\r\nContent-Type: application/json\r\nConnection: close\r\n"
            f"Content-Length: {len(told)}\r\n\r\n{told}".encode()
        )
        await writer.drain()
        writer.close()


def _judged(is_flagged: bool) -> dict[str, Any]:
    names = ("violence", "violence/graphic", "hate", "hate/threatening", "harassment", "harassment/threatening")
    names += ("illicit", "illicit/violent", "self-harm", "self-harm/intent", "self-harm/instructions", "sexual")
    found = {name: is_flagged and name == "violence" for name in (*names, "sexual/minors")}
    return {
        "flagged": is_flagged,
        "categories": found,
        "category_scores": {name: float(hit) for name, hit in found.items()},
        "category_applied_input_types": {name: ["text"] for name in found},
    }


@asynccontextmanager
async def judging() -> AsyncGenerator[Judge]:
    """Serve on a free port of loopback."""
    judge = Judge()
    server = await asyncio.start_server(judge.serve, "127.0.0.1", 0)
    judge.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
    yield judge
    server.close()
    await server.wait_closed()
