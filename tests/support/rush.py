"""Requests that all are on their way at the same time, each on a connection of its own."""

import asyncio
import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

_PATIENCE_S = 20.0
_AGAIN_S = 0.05


async def rush(
    port: int, key: str, body: Mapping[str, Any], idempotency_keys: Sequence[str]
) -> list[tuple[int, dict[str, Any]]]:
    """Post a body to `/v1/jobs` of an API on loopback, once for each Idempotency-Key; returns the answers in order.

    What gets no answer is sent again: so each has a key.
    """
    return await asyncio.gather(*(_post(port, _request(key, body, name)) for name in idempotency_keys))


def _request(key: str, body: Mapping[str, Any], idempotency_key: str) -> bytes:
    data = json.dumps(body).encode()
    return (
        "POST /v1/jobs HTTP/1.1\r\nHost: pulse\r\nConnection: close\r\nContent-Type: application/json\r\n"
        f"Authorization: Bearer {key}\r\nContent-Length: {len(data)}\r\n"
        f"Idempotency-Key: {idempotency_key}\r\n\r\n"
    ).encode() + data


async def _post(port: int, request: bytes) -> tuple[int, dict[str, Any]]:
    while True:
        # A server that has more connections than it takes lets some of them hang.
        with suppress(ConnectionError, asyncio.IncompleteReadError, TimeoutError):
            async with asyncio.timeout(_PATIENCE_S):
                return await _ask(port, request)
        await asyncio.sleep(_AGAIN_S)


async def _ask(port: int, request: bytes) -> tuple[int, dict[str, Any]]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(request)
        await writer.drain()
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        length = int(head.split(b"content-length:")[1].split(b"\r\n")[0])
        return int(head.split(b" ", 2)[1]), json.loads(await reader.readexactly(length))
    finally:
        writer.close()
