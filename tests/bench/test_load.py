"""The load of `bench api`, against a server of a few lines."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager

import pytest

from bench.stage import load
from bench.stage.load import Answer, Order, Told


@asynccontextmanager
async def _answering(answer: Callable[[bytes], bytes]) -> AsyncGenerator[tuple[int, list[bytes]]]:
    """Serve for the length of a block; gives the port and what was asked."""
    asked: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while head := await reader.read(65_536):
            asked.append(head)
            body = answer(head)
            writer.write(b"HTTP/1.1 %s\r\ncontent-length: %d\r\n\r\n%s" % (body[:3], len(body), body))
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1], asked


def _order(port: int, per_s: float, keys: list[str]) -> Order:
    return Order(
        port=port,
        path="/jobs",
        keys=keys,
        body='{"kind":"chat"}',
        name="run",
        connections=4,
        seconds=0.2,
        warm_s=0.1,
        per_s=per_s,
    )


async def test_a_fixed_rate_is_kept_and_the_warming_up_not_counted() -> None:
    async with _answering(lambda _head: b"202") as (port, asked):
        told = await load.loaded(_order(port, 500, ["a"]))
    assert told.error == ""
    assert told.accepted == len(asked) == pytest.approx(150, abs=2)
    assert told.samples == pytest.approx(100, abs=2)
    assert told.per_s == pytest.approx(500, rel=0.05)


async def test_at_full_speed_every_connection_is_kept_busy_and_every_answer_counted() -> None:
    async with _answering(lambda _head: b"202") as (port, asked):
        told = await load.loaded(_order(port, 0, ["a"]))
    assert told.error == ""
    assert told.accepted == len(asked) > told.samples > 0


async def test_accounts_take_turns_and_no_idempotency_key_is_used_twice() -> None:
    async with _answering(lambda _head: b"202") as (port, asked):
        await load.loaded(_order(port, 200, ["a", "b"]))
    names = [head.partition(b"Idempotency-Key: ")[2].split(b"\r\n")[0] for head in asked]
    assert len(set(names)) == len(names)
    speaking = [head.partition(b"Bearer ")[2].split(b"\r\n")[0] for head in asked]
    assert abs(speaking.count(b"a") - speaking.count(b"b")) <= 1


async def test_whatever_is_not_202_ends_the_run_with_its_body() -> None:
    async with _answering(lambda _head: b"402 no units left") as (port, _):
        told = await load.loaded(_order(port, 0, ["a"]))
    assert told == Told(error="402: 402 no units left")


async def test_a_server_that_closes_is_an_error() -> None:
    async def close(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    async with await asyncio.start_server(close, "127.0.0.1", 0) as server:
        told = await load.loaded(_order(server.sockets[0].getsockname()[1], 100, ["a"]))
    assert "closed" in told.error


def test_an_answer_is_whole_when_its_last_byte_has_come() -> None:
    wire = b"HTTP/1.1 202 Accepted\r\nContent-Length: 5\r\nx: y\r\n\r\nhello"
    answer = Answer()
    assert [answer.take(wire[at : at + 1]) for at in range(len(wire) - 1)] == [None] * (len(wire) - 1)
    assert answer.take(wire[-1:]) == (b"202", b"hello")
    assert answer.take(b"HTTP/1.1 500 Oh\r\nContent-Length: 0\r\n\r\n") == (b"500", b"")
