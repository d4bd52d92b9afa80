"""What a request may weigh: every route has its limit, however the bytes are sent."""

import asyncio
import json
import re
import socket
from collections.abc import AsyncGenerator
from typing import Any

import pytest
from litestar import Litestar

from tests.support.chats import Client, chat, submit

LIMIT = 1_048_576
NOBODY = "01a20721-c5bf-74af-bffc-60491c094db7"


async def endless(sent: list[int]) -> AsyncGenerator[bytes]:
    """Send a JSON text in chunks, with no length told and no end, and count what was taken."""
    yield b'{"kind":"'
    while sum(sent) < 64 * LIMIT:
        yield b"x" * 65_536
        sent.append(65_536)


async def cut_off(client: Client, method: str, path: str) -> int:
    """Send a body without a length and an end, and return the status of the answer, which comes long before.

    The server closes what it has answered while the body is still coming. A stream of asyncio throws away what has
    come once it cannot write; a bare socket still has the answer.
    """
    loop = asyncio.get_running_loop()
    head = f"{method} {path} HTTP/1.1\r\nHost: x\r\nAuthorization: {client.headers['authorization']}\r\n"
    head += "Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
    sent: list[int] = []
    with socket.create_connection((client.base_url.host, client.base_url.port or 80)) as line:
        line.setblocking(False)
        await loop.sock_sendall(line, head.encode())

        async def send() -> None:
            async for chunk in endless(sent):
                await loop.sock_sendall(line, b"%x\r\n%s\r\n" % (len(chunk), chunk))

        sending = asyncio.create_task(send())
        answer = b""
        try:
            async with asyncio.timeout(20):
                while b"\r\n" not in answer:
                    piece = await loop.sock_recv(line, 65_536)
                    assert piece, "closed without an answer"
                    answer += piece
        finally:
            sending.cancel()
            await asyncio.gather(sending, return_exceptions=True)
    assert sum(sent) < 32 * LIMIT
    return int(answer.split()[1])


async def test_a_body_without_a_length_and_an_end_is_cut_off_by_every_route(client: Client, app: Litestar) -> None:
    told: dict[tuple[str, str], int] = {}
    for route in app.routes:
        for method in getattr(route, "route_handler_map", {}).keys() - {"GET", "HEAD", "OPTIONS"}:
            told[method, route.path] = await cut_off(client, method, re.sub(r"\{[^}]*\}", NOBODY, route.path))
    assert len(told) > 8
    # Some take no body and read none; a form is asked for elsewhere.
    assert {each: status for each, status in told.items() if status not in {404, 413, 415}} == {}
    for method, path in (("POST", "/v1/jobs"), ("POST", "/v1/files"), ("PATCH", "/v1/files/folders")):
        assert told[method, path] == 413
    assert await cut_off(client, "GET", "/v1/jobs") == 200


@pytest.mark.parametrize("deep", ['{"a":', "["])
@pytest.mark.parametrize("where", ["kind", "input", "metadata", "body"])
async def test_json_nested_beyond_reason_is_malformed(client: Client, deep: str, where: str) -> None:
    nested = deep * 100_000
    body = nested if where == "body" else json.dumps(chat("hi"))[:-1] + f', "{where}": {nested}'
    answer = await client.post("/v1/jobs", content=body.encode(), headers={"Content-Type": "application/json"})
    assert answer.status_code == 400
    assert answer.json()["code"] in {"malformed_json", "wrong_type", "unknown_field"}


async def test_metadata_has_a_size(client: Client) -> None:
    most = {f"{n:02}" + "k" * 62: "é" * 512 for n in range(16)}
    assert (await submit(client, chat("hi") | {"metadata": most}))["metadata"] == most
    for wrong in (most | {"x": ""}, {"k" * 65: ""}, {"k": "v" * 513}):
        answer = await client.post("/v1/jobs", json=chat("hi") | {"metadata": wrong})
        assert (answer.status_code, answer.json()["code"]) == (400, "too_long")


async def test_an_address_has_a_length(client: Client) -> None:
    for path, query in (("/v1/" + "a" * 8300, ""), ("/v1/jobs", "cursor=" + "a" * 8300)):
        answer = await client.get(path, params=query)
        problem = answer.json()
        assert (answer.status_code, problem["code"], problem["limit_bytes"]) == (414, "uri_too_long", 8192)
        assert answer.headers["content-type"] == "application/problem+json"


async def test_an_address_has_so_many_parameters(client: Client) -> None:
    wanted: dict[str, Any] = {f"p{n}": "1" for n in range(32)}
    assert (await client.get("/v1/jobs", params=wanted)).status_code == 200
    answer = await client.get("/v1/jobs", params=wanted | {"one": "more"})
    assert (answer.status_code, answer.json()["code"]) == (400, "too_many_parameters")


async def test_headers_have_a_size(client: Client) -> None:
    assert (await client.get("/v1/jobs", headers={"X-Much": "a" * 8000})).status_code == 200
    answer = await client.get("/v1/jobs", headers={"X-Much": "a" * 17_000, "Accept-Language": "ar"})
    assert (answer.status_code, answer.json()["code"]) == (431, "headers_too_large")
    assert answer.headers["content-language"] == "ar"


@pytest.mark.parametrize("head", [b"GET /v1/jobs?%s HTTP/1.1\r\n", b"GET /v1/jobs HTTP/1.1\r\nX: %s\r\n"])
async def test_a_head_of_a_megabyte_is_refused_by_the_server_itself(client: Client, head: bytes) -> None:
    reader, writer = await asyncio.open_connection(client.base_url.host, client.base_url.port)
    writer.write(head % (b"a" * 1_000_000) + b"Host: x\r\n\r\n")
    async with asyncio.timeout(10):
        line = await reader.readline()
    writer.close()
    assert line.split()[1] == b"431"


async def test_a_thousand_connections_are_served_at_a_time(client: Client) -> None:
    host, port = client.base_url.host, client.base_url.port
    lines = [await asyncio.open_connection(host, port) for _ in range(1000)]
    for _, writer in lines:
        writer.write(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
    async with asyncio.timeout(20):
        answers = [await reader.readline() for reader, _ in lines]
    for _, writer in lines:
        writer.close()
    assert {answer.split()[1] for answer in answers} == {b"200"}
