"""Files over HTTP, as a client uploads and reads them."""

import asyncio
import hashlib
import io
from typing import Any

import httpx2
from httpx2 import AsyncClient as Client
from PIL import Image

from tests.support.serving import PLAIN

TEXT = "مرحبا بالعالم\n".encode()


def picture(shade: int = 90, *, size: tuple[int, int] = (64, 48), form: str = "PNG") -> bytes:
    """Return a small picture of one colour."""
    buffer = io.BytesIO()
    Image.new("RGB", size, (shade, 120, 200)).save(buffer, form)
    return buffer.getvalue()


def said(data: bytes, name: str = "رسالة.txt", purpose: str = "attachment", **more: Any) -> dict[str, Any]:
    """Return what is announced of a file."""
    digest = hashlib.sha256(data).hexdigest()
    return {"name": name, "purpose": purpose, "size_bytes": len(data), "sha256": digest} | more


async def announce(client: Client, data: bytes = TEXT, **facts: Any) -> dict[str, Any]:
    """Announce a file and return the answer."""
    answer = await client.post("/v1/files", json=said(data, **facts))
    assert answer.status_code == 201, answer.text
    return answer.json()


async def send(upload: dict[str, Any], data: bytes) -> httpx2.Response:
    """Upload the bytes by a signed form, without any key."""
    async with httpx2.AsyncClient(timeout=30, verify=PLAIN) as stranger:
        return await stranger.post(upload["url"], data=upload["fields"], files={"file": data})


async def uploaded(client: Client, data: bytes = TEXT, **facts: Any) -> dict[str, Any]:
    """Announce a file, upload it, complete it, and return it as it stands then."""
    answer = await announce(client, data, **facts)
    sent = await send(answer["upload"], data)
    assert sent.is_success, sent.text
    completed = await client.post(answer["file"]["urls"]["complete"])
    assert completed.status_code == 202, completed.text
    return completed.json()


async def decided(client: Client, file: dict[str, Any]) -> dict[str, Any]:
    """Wait until a file is decided on and return it."""
    async with asyncio.timeout(30):
        while True:
            shown = (await client.get(file["urls"]["self"])).json()
            if shown["state"] not in {"uploading", "scanning"}:
                return shown
            await asyncio.sleep(0.02)


async def kept(client: Client, data: bytes = TEXT, **facts: Any) -> dict[str, Any]:
    """Upload a file that is fine, and return it when it is ready; a scan worker has to run."""
    file = await decided(client, await uploaded(client, data, **facts))
    assert file["state"] == "ready", file
    return file


async def download(client: Client, url: str, **headers: str) -> httpx2.Response:
    """Follow the way from a file's URL to its bytes, without taking the key along."""
    led = await client.get(url)
    assert led.status_code == 307, (led.status_code, led.text, led.headers)
    async with httpx2.AsyncClient(timeout=30, verify=PLAIN) as stranger:
        return await stranger.get(led.headers["location"], headers=headers)
