"""The API behind its real server, on a real port of loopback, in the test's own event loop."""

import asyncio
import socket
import ssl
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import httpx2
from litestar import Litestar

from api import server

#: For clients that speak to loopback without TLS: the certificates that a client would load cost 20 ms.
PLAIN = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


def free_port() -> int:
    """Return a port of loopback that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


async def until_serving(client: httpx2.AsyncClient) -> None:
    """Wait until an API serves."""
    async with asyncio.timeout(30):
        while True:
            try:
                await client.get("/healthz")
                break
            except httpx2.TransportError:
                await asyncio.sleep(0.01)


@asynccontextmanager
async def serving(app: Litestar, port: int | None = None) -> AsyncGenerator[str]:
    """Serve `app` for the length of a block, on a port that its settings may name; gives its address."""
    port = port or free_port()
    built = server.build(app, "127.0.0.1", port)
    running = asyncio.create_task(built.serve())
    url = f"http://127.0.0.1:{port}"
    async with httpx2.AsyncClient(base_url=url, verify=PLAIN) as client:
        await until_serving(client)
    try:
        yield url
    finally:
        built.stop()
        await running
