"""`python -m bench.stage.upstream PORT`: a model that answers everybody at once, as the model's name says.

`swift-500` says 500 pieces of text as fast as they are taken, `paced-40` 40 pieces with 40 ms between them.
"""

import asyncio
import json
import sys
from functools import cache
from typing import Any

import uvloop

_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
# So many are written before others have their turn.
_IN_A_ROW = 16
_PAUSE_S = 0.04


def _frame(told: dict[str, Any]) -> bytes:
    whole = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m"} | told
    data = b"data: " + json.dumps(whole).encode()
    return b"%x\r\n%s\n\n\r\n" % (len(data) + 2, data)


@cache
def _answer(pieces: int) -> list[bytes]:
    """Return the frames of an answer; no two pieces are alike, since a relay may take those for a loop."""
    told = [_choice({"content": f"كلمة{n} " if n % 2 else f"word{n} "}, None) for n in range(pieces)]
    usage = {"prompt_tokens": 10, "completion_tokens": pieces, "total_tokens": 10 + pieces}
    return [
        *map(_frame, [*told, _choice({}, "stop"), {"choices": list[Any](), "usage": usage}]),
        b"e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n",
    ]


def _choice(delta: dict[str, str], reason: str | None) -> dict[str, Any]:
    return {"choices": [{"index": 0, "delta": delta, "finish_reason": reason}]}


async def _serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while True:
            head = (await reader.readuntil(b"\r\n\r\n")).lower()
            body = await reader.readexactly(int(head.split(b"content-length:")[1].split(b"\r\n")[0]))
            how, _, pieces = json.loads(body)["model"].rpartition("-")
            writer.write(_HEAD)
            for n, frame in enumerate(_answer(int(pieces))):
                writer.write(frame)
                if how == "paced" and n < int(pieces):
                    await asyncio.sleep(_PAUSE_S)
                elif n % _IN_A_ROW == 0:
                    await writer.drain()
                    await asyncio.sleep(0)
    except (asyncio.IncompleteReadError, ConnectionError):
        writer.close()


async def _main(port: int) -> None:
    async with await asyncio.start_server(_serve, "127.0.0.1", port) as server:
        await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(_main(int(sys.argv[1])))
