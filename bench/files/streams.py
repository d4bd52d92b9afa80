"""One large file, up and down, through our API and through the textbook's; what each process used for it."""

import asyncio
import hashlib
import os
import statistics
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import httpx2
from msgspec import Struct

from infra import ground as grounds
from infra.ground import Ground
from infra.models import Account
from infra.settings import Settings
from quotas import accounts, keys
from tests.support.process import environ, started
from tests.support.serving import free_port

_MIB = 1024**2
_PATIENCE_S = 900.0
_BOUNDARY = "pulse-bench"
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")


class Taken(Struct, frozen=True, kw_only=True):
    """What one way of the file took."""

    seconds: float
    cpu_s: float
    growth_mib: float


class Served(Struct, frozen=True, kw_only=True):
    """A process that is measured: how the file goes up, is brought to where it is served, comes down, and goes."""

    pid: int
    up: Callable[[], Awaitable[None]]
    keep: Callable[[], Awaitable[None]]
    down: Callable[[], Awaitable[None]]
    clear: Callable[[], Awaitable[None]]


class Large:
    """A file that is nowhere whole: one block, again and again."""

    def __init__(self, size_bytes: int) -> None:
        """Make the block and the hash of the whole."""
        self.size_bytes = size_bytes
        self._block = os.urandom(_MIB)
        digest = hashlib.sha256()
        for _ in range(size_bytes // _MIB):
            digest.update(self._block)
        self.sha256 = digest.hexdigest()

    async def form(self, fields: dict[str, str]) -> AsyncIterator[bytes]:
        """Yield a multipart body with these fields, and the file."""
        for name, value in fields.items():
            yield f'--{_BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'.encode()
        head = f'--{_BOUNDARY}\r\nContent-Disposition: form-data; name="{self.field}"; filename="f"\r\n\r\n'
        yield head.encode()
        for _ in range(self.size_bytes // _MIB):
            yield self._block
        yield f"\r\n--{_BOUNDARY}--\r\n".encode()

    field = "file"

    async def send(self, url: str, fields: dict[str, str]) -> None:
        """Upload it."""
        headers = {"Content-Type": f"multipart/form-data; boundary={_BOUNDARY}"}
        async with httpx2.AsyncClient(timeout=_PATIENCE_S) as client:
            (await client.post(url, content=self.form(fields), headers=headers)).raise_for_status()

    async def fetch(self, url: str) -> None:
        """Download it; raises `AssertionError` where something else comes."""
        got = 0
        async with httpx2.AsyncClient(timeout=_PATIENCE_S) as client, client.stream("GET", url) as answer:
            async for chunk in answer.aiter_raw():
                got += len(chunk)
        assert got == self.size_bytes, got


async def measured(settings: Settings, folder: Path, size_bytes: int, rounds: int) -> dict[str, object]:
    """Return the medians of all rounds, in which the two take turns."""
    large = Large(size_bytes)
    port = free_port()
    (folder / "textbook").mkdir()
    async with grounds.opened(settings) as ground:
        async with ground.database.begin() as session:
            account = await accounts.create(session, "bench@example.com")
            account.plan = "pro"
            key = await keys.issue(session, settings, account.id, name="bench")
        textbook = ("bench.files.textbook", str(folder / "textbook"), str(port))
        with started("api", env=environ(settings)) as api, started(*textbook, env=os.environ) as other:
            peers = {
                "pulse": _pulse(ground, account, key, api.pid, large),
                "textbook": _textbook(f"http://127.0.0.1:{port}", other.pid, large),
            }
            await asyncio.gather(_answers(f"{settings.address}/healthz"), _answers(f"http://127.0.0.1:{port}/"))
            taken: dict[tuple[str, str], list[Taken]] = {}
            for _ in range(rounds):
                for name, served in peers.items():
                    taken.setdefault(("up", name), []).append(await _measure(served.pid, served.up))
                    await served.keep()
                    taken.setdefault(("down", name), []).append(await _measure(served.pid, served.down))
                    await served.clear()
    return _figures(taken, size_bytes)


def _pulse(ground: Ground, account: Account, key: str, pid: int, large: Large) -> Served:
    api = httpx2.AsyncClient(base_url=ground.settings.address, headers={"Authorization": f"Bearer {key}"})
    uploaded: list[str] = []

    async def up() -> None:
        asked = {"name": "f.mp4", "purpose": "clip", "size_bytes": large.size_bytes, "sha256": large.sha256}
        answer = (await api.post("/v1/files", json=asked)).raise_for_status().json()
        uploaded.append(answer["file"]["id"])
        await large.send(answer["upload"]["url"], answer["upload"]["fields"])

    asset = f"{account.id}/{large.sha256}"

    async def keep() -> None:
        # What a scan would keep of a real clip: here the same bytes, put among the assets by hand.
        async with ground.storage.opened("quarantine", f"{account.id}/{uploaded[-1]}") as path:
            await ground.storage.put("assets", asset, path)

    async def down() -> None:
        link = await ground.storage.link(asset, filename="f.mp4", media_type="video/mp4", seconds=600)
        await large.fetch(link.url)

    async def clear() -> None:
        await ground.storage.delete("assets", asset)
        await api.delete(f"/v1/files/{uploaded.pop()}")

    return Served(pid=pid, up=up, keep=keep, down=down, clear=clear)


def _textbook(url: str, pid: int, large: Large) -> Served:
    async def up() -> None:
        large.field = "data"
        await large.send(f"{url}/upload", {})
        large.field = "file"

    async def nothing() -> None:
        return

    return Served(pid=pid, up=up, keep=nothing, down=lambda: large.fetch(f"{url}/download"), clear=nothing)


async def _answers(url: str) -> None:
    async with asyncio.timeout(30), httpx2.AsyncClient() as client:
        while True:
            try:
                await client.get(url)
            except httpx2.TransportError:
                await asyncio.sleep(0.05)
            else:
                return


async def _measure(pid: int, deed: Callable[[], Awaitable[None]]) -> Taken:
    _forget_peak(pid)
    before_mib, used_s, started_s = _memory_mib(pid, "VmRSS"), _cpu_s(pid), time.monotonic()
    await deed()
    seconds = time.monotonic() - started_s
    return Taken(seconds=seconds, cpu_s=_cpu_s(pid) - used_s, growth_mib=_memory_mib(pid, "VmHWM") - before_mib)


def _forget_peak(pid: int) -> None:
    Path(f"/proc/{pid}/clear_refs").write_text("5")


def _memory_mib(pid: int, name: str) -> float:
    lines = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    return int(lines[name].split()[0]) / 1024


def _cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS_PER_S


def _figures(taken: dict[tuple[str, str], list[Taken]], size_bytes: int) -> dict[str, object]:
    gib = size_bytes / 1024**3
    figures: dict[str, object] = {}
    for way in ("up", "down"):
        figures[way] = {
            name: {
                "mib_per_s": round(statistics.median(size_bytes / _MIB / each.seconds for each in rounds)),
                "cpu_s_per_gib": round(statistics.median(each.cpu_s / gib for each in rounds), 2),
                "memory_growth_mib": round(max(each.growth_mib for each in rounds), 1),
            }
            for (told, name), rounds in taken.items()
            if told == way
        }
    return figures
