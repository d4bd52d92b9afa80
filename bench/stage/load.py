"""`python -m bench.stage.load`: sends submissions as fast as it can, or at a fixed rate, and says how it was answered.

One order on standard input, one answer on standard output. Bytes are made beforehand and answers are not decoded: a
request costs this process about 10 us, so that what is measured is the other side. A fixed rate is kept whether or not
answers come: each is counted from the moment at which it was due, on a connection or not.
"""

import asyncio
import sys
import time
from collections import deque
from collections.abc import Iterator
from typing import cast

import msgspec
import uvloop
from msgspec import Struct

from bench.queue.figures import percentile

_TICK_S = 0.001
_PATIENCE_S = 30.0


class Order(Struct, frozen=True, kw_only=True):
    """What is to be sent where. `per_s` is the fixed rate; 0: as fast as answers come on all connections.

    `name` begins every Idempotency-Key and is used once only. What is answered in the first `warm_s` seconds is not
    in the figures.
    """

    port: int
    path: str
    keys: list[str]
    body: str
    name: str
    connections: int
    seconds: float
    warm_s: float = 0.5
    per_s: float = 0.0


class Told(Struct, frozen=True, kw_only=True):
    """How it went: everything that was answered 202, the figures of `seconds`, and what went wrong if something did."""

    accepted: int = 0
    per_s: float = 0.0
    p50_ms: float = 0.0
    p99_ms: float = 0.0
    samples: int = 0
    cpu_us: float = 0.0
    error: str = ""


class Refused(Exception):
    """Something else than 202 was answered, or nothing."""


class Answer:
    """An HTTP answer on its way, with a Content-Length as all of ours have it."""

    def __init__(self) -> None:
        """Nothing has come."""
        self._came = b""

    def take(self, data: bytes) -> tuple[bytes, bytes] | None:
        """Take what came; return status and body once both are whole."""
        came = self._came = self._came + data if self._came else data
        end = came.find(b"\r\n\r\n")
        if end < 0:
            return None
        head = came[:end].lower()
        at = head.find(b"\r\ncontent-length:")
        if at < 0:
            raise Refused(f"an answer without Content-Length: {came[:500]!r}")
        length = int(head[at + 17 : head.find(b"\r\n", at + 2) if head.find(b"\r\n", at + 2) > 0 else None])
        if len(came) < end + 4 + length:
            return None
        self._came = b""
        return came[9:12], came[end + 4 : end + 4 + length]


class _Line(asyncio.Protocol):
    """One connection: a request at a time."""

    def __init__(self, load: "_Load") -> None:
        self._load = load
        self._answer = Answer()
        self._due_s = 0.0
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Be ready."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's own are none by name

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell that it was closed, unless that was meant."""
        self._load.fail(f"a connection was closed: {exc}")

    def leave(self) -> None:
        """Close it."""
        if self._transport is not None:
            self._transport.abort()

    def send(self, request: bytes, due_s: float) -> None:
        """Send a request that was due at a moment."""
        assert self._transport is not None
        self._due_s = due_s
        self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        """Take an answer."""
        try:
            answer = self._answer.take(data)
        except Refused as error:
            self._load.fail(str(error))
            return
        if answer is None:
            return
        status, body = answer
        if status == b"202":
            self._load.answered(self, self._due_s)
        else:
            self._load.fail(f"{status.decode()}: {body[:500].decode(errors='replace')}")


class _Load:
    """All connections, and what is still to be sent."""

    def __init__(self, order: Order) -> None:
        self._order = order
        self._requests = _requests(order)
        self._over = asyncio.get_running_loop().create_future()
        self._lines: list[_Line] = []
        self._free: deque[_Line] = deque()
        self._due: deque[float] = deque()
        self._begun_s = self._until_s = 0.0
        self._under_way = self._accepted = 0
        self._took_s: list[float] = []
        self._is_sent = self._closing = False

    async def run(self) -> Told:
        order, loop = self._order, asyncio.get_running_loop()
        for _ in range(order.connections):
            _, line = await loop.create_connection(lambda: _Line(self), "127.0.0.1", order.port)
            self._lines.append(line)
        self._free.extend(self._lines)
        used_s = time.process_time()
        self._begun_s = time.perf_counter() + order.warm_s
        self._until_s = self._begun_s + order.seconds
        if order.per_s:
            pace = asyncio.create_task(self._keep_pace())
            await asyncio.wait({pace, self._over}, return_when=asyncio.FIRST_COMPLETED)
        else:
            while self._free:
                self._send(self._free.popleft(), time.perf_counter())
        async with asyncio.timeout(order.warm_s + order.seconds + _PATIENCE_S):
            await self._over
        took_ms = [took_s * 1000 for took_s in self._took_s]
        return Told(
            accepted=self._accepted,
            per_s=len(took_ms) / order.seconds,
            p50_ms=percentile(took_ms, 0.5),
            p99_ms=percentile(took_ms, 0.99),
            samples=len(took_ms),
            cpu_us=(time.process_time() - used_s) / self._accepted * 1e6,
        )

    def leave(self) -> None:
        """Close all connections."""
        self._closing = True
        for line in self._lines:
            line.leave()

    async def _keep_pace(self) -> None:
        """Send what is due, or have it wait for a connection; then let what is under way end."""
        gap_s = 1 / self._order.per_s
        due_s = time.perf_counter()
        while due_s < self._until_s:
            now_s = time.perf_counter()
            while due_s <= now_s and due_s < self._until_s:
                if self._free and not self._due:
                    self._send(self._free.popleft(), due_s)
                else:
                    self._due.append(due_s)
                due_s += gap_s
            await asyncio.sleep(_TICK_S)
        self._is_sent = True
        self._end_if_done()

    def _send(self, line: _Line, due_s: float) -> None:
        self._under_way += 1
        line.send(next(self._requests), due_s)

    def answered(self, line: _Line, due_s: float) -> None:
        """Count an answer, and send on."""
        now_s = time.perf_counter()
        self._under_way -= 1
        self._accepted += 1
        counted_s = due_s if self._order.per_s else now_s
        if self._begun_s <= counted_s < self._until_s:
            self._took_s.append(now_s - due_s)
        if self._due:
            self._send(line, self._due.popleft())
        elif not self._order.per_s and now_s < self._until_s:
            self._send(line, now_s)
        else:
            self._is_sent = self._is_sent or not self._order.per_s
            self._free.append(line)
            self._end_if_done()

    def _end_if_done(self) -> None:
        if self._is_sent and not self._under_way and not self._due and not self._over.done():
            self._over.set_result(None)

    def fail(self, why: str) -> None:
        """Give up: figures of a run in which something was refused are none."""
        if not self._closing and not self._over.done():
            self._over.set_exception(Refused(why))


def _requests(order: Order) -> Iterator[bytes]:
    """Yield requests for ever, from each account in turn."""
    body = order.body.encode()
    heads = [
        f"POST {order.path} HTTP/1.1\r\nHost: 127.0.0.1:{order.port}\r\nAuthorization: Bearer {key}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\nIdempotency-Key: {order.name}-".encode()
        for key in order.keys
    ]
    number = 0
    while True:
        for head in heads:
            number += 1
            yield head + b"%d\r\n\r\n" % number + body


async def loaded(order: Order) -> Told:
    """Send what is ordered."""
    load = _Load(order)
    try:
        return await load.run()
    except (Refused, TimeoutError, OSError) as error:
        return Told(error=str(error) or "answers did not come")
    finally:
        load.leave()


def main() -> None:
    """Do what is ordered."""
    order = msgspec.json.decode(sys.stdin.buffer.readline(), type=Order)
    print(msgspec.json.encode(uvloop.run(loaded(order))).decode(), flush=True)


if __name__ == "__main__":
    main()
