"""`python -m bench.stage.asker`: asks for streamed answers, so many at a time, and says how they came.

One order on standard input, one answer on standard output. The bytes are made beforehand and what comes is only looked
through for the end and for the first piece of text.
"""

import asyncio
import sys
import time

import msgspec
import uvloop
from msgspec import Struct


class Order(Struct, frozen=True, kw_only=True):
    """Whom to ask what, how many times, on how many connections; an answer is over once `end` has come.

    The connections begin one after the other within `spread_s` seconds.
    """

    port: int
    path: str
    headers: dict[str, str]
    body: str
    answers: int
    at_once: int
    spread_s: float = 0.0
    first: str
    end: str


class Told(Struct, frozen=True, kw_only=True):
    """How it went: seconds for all, and of each answer the milliseconds to its first text and to its end."""

    seconds: float
    first_ms: list[float]
    whole_ms: list[float]
    error: str = ""


async def _one(order: Order, request: bytes) -> tuple[float, float]:
    began, first, tail = time.perf_counter(), 0.0, b""
    reader, writer = await asyncio.open_connection("127.0.0.1", order.port)
    try:
        writer.write(request)
        status = await reader.readuntil(b"\r\n\r\n")
        if not status.startswith(b"HTTP/1.1 200"):
            raise RuntimeError((status + await reader.read(2_000)).decode(errors="replace"))
        while True:
            piece = await reader.read(65_536)
            if not piece:
                raise RuntimeError(f"cut off after {tail!r}")
            tail += piece
            if not first and order.first.encode() in tail:
                first = time.perf_counter()
            if order.end.encode() in tail:
                return (first - began) * 1000, (time.perf_counter() - began) * 1000
            tail = tail[-200:]
    finally:
        writer.close()


async def _all(order: Order) -> Told:
    head = "".join(f"{name}: {value}\r\n" for name, value in order.headers.items())
    body = order.body.encode()
    request = (
        f"POST {order.path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n{head}"
        f"Content-Length: {len(body)}\r\n\r\n"
    ).encode() + body
    left, told = order.answers, list[tuple[float, float]]()

    async def keep_asking(place: int) -> None:
        nonlocal left
        await asyncio.sleep(order.spread_s * place / order.at_once)
        while left > 0:
            left -= 1
            told.append(await _one(order, request))

    began = time.perf_counter()
    await asyncio.gather(*(keep_asking(place) for place in range(order.at_once)))
    seconds = time.perf_counter() - began
    return Told(seconds=seconds, first_ms=[first for first, _ in told], whole_ms=[whole for _, whole in told])


def main() -> None:
    """Answer orders until there are no more."""
    for line in sys.stdin:
        try:
            told = uvloop.run(_all(msgspec.json.decode(line, type=Order)))
        except (RuntimeError, OSError, asyncio.IncompleteReadError) as error:
            told = Told(seconds=0, first_ms=[], whole_ms=[], error=repr(error))
        sys.stdout.write(msgspec.json.encode(told).decode() + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
