"""The upstream of `bench gateway`: answers that lie ready, by `python -m bench.gateway.upstream PORT`.

The model's name says how many chunks an answer has: `chunks-500`.
"""

import asyncio
import json
import sys
from functools import cache
from typing import Any

import uvloop

_WORD = " word"


async def _serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while True:
            head = (await reader.readuntil(b"\r\n\r\n")).lower()
            length = int(head.partition(b"content-length:")[2].partition(b"\r\n")[0])
            asked = json.loads(await reader.readexactly(length))
            head, *chunks = _answer(int(asked["model"].rpartition("-")[2]))
            writer.write(head)
            for chunk in chunks:
                writer.write(chunk)
                await writer.drain()
    except (ConnectionError, asyncio.IncompleteReadError):
        writer.close()


@cache
def _answer(count: int) -> list[bytes]:
    """Return the head of an answer and its chunks, each as it goes over the wire."""
    events = [_event({"role": "assistant", "content": _WORD}) for _ in range(count)]
    events += [_event({}, "stop"), _event(None, None, count), b"data: [DONE]\n\n"]
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
    framed = [b"%x\r\n%s\r\n" % (len(event), event) for event in events]
    return [head, *framed[:-1], framed[-1] + b"0\r\n\r\n"]


def _event(delta: dict[str, str] | None, finish_reason: str | None = None, used: int | None = None) -> bytes:
    chunk: dict[str, Any] = {
        "id": "chatcmpl-bench",
        "object": "chat.completion.chunk",
        "created": 0,
        "model": "bench",
        "choices": [] if delta is None else [{"index": 0, "delta": delta, "finish_reason": finish_reason}],
        "usage": None if used is None else {"prompt_tokens": 10, "completion_tokens": used, "total_tokens": 10 + used},
    }
    return b"data: " + json.dumps(chunk).encode() + b"\n\n"


async def _run(port: int) -> None:
    async with await asyncio.start_server(_serve, "127.0.0.1", port) as server:
        print("ready", flush=True)
        await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(_run(int(sys.argv[1])))
