"""What hostile files take before they are refused, and good ones from `complete` to `ready`."""

import asyncio
import hashlib
import io
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from PIL import Image

from bench.queue.figures import percentile
from infra import ground as grounds
from infra.ground import Ground
from infra.models import Account
from infra.settings import Settings
from quotas import accounts
from tests.support import clips, documents, hostile
from tests.support.clips import Made
from tests.support.corpus_clips import Canary
from tests.support.examined import Examined, measured
from tests.support.hostile import Written
from tests.support.stores import streamed
from tests.support.work import working
from workers import files, intake
from workers.craft import child
from workers.craft.child import Spares
from workers.desk import Desk
from workers.files import Announcement
from workers.scan.findings import Asked
from workers.scan.limits import LIMITS

_LOOK_EVERY_S = 0.002


async def hostile_files(rounds: int) -> dict[str, object]:
    """Examine each in a child of its own; of its rounds the slowest and the largest count."""
    took: dict[str, float] = {}
    peaks: dict[str, float] = {}
    accepted: list[str] = []
    with tempfile.TemporaryDirectory(prefix="pulse-bench-") as folder:
        canary = Canary(path=Path(folder) / "other.ts", url="http://127.0.0.1:9")
        async with Spares("tests.support.examined") as spares:
            for file in hostile.write(hostile.NAMES, Path(folder), canary):
                for number in range(rounds):
                    started_s = time.perf_counter()
                    told = await _examined(file, spares, number)
                    took[file.name] = max(took.get(file.name, 0), (time.perf_counter() - started_s) * 1000)
                    peaks[file.name] = max(peaks.get(file.name, 0), told.peak_mib)
                    if told.code is None:
                        accepted.append(file.name)
    slowest, largest = max(took, key=took.__getitem__), max(peaks, key=peaks.__getitem__)
    return {
        "files": len(took),
        "refused": len(took) - len(set(accepted)),
        "median_ms": round(statistics.median(took.values()), 1),
        "worst_ms": round(took[slowest], 1),
        "worst_by_time": slowest,
        "median_mib": round(statistics.median(peaks.values()), 1),
        "worst_mib": round(peaks[largest], 1),
        "worst_by_memory": largest,
    }


async def _examined(file: Written, spares: Spares, number: int) -> Examined:
    folder = file.path.with_name(f"made {number}")
    folder.mkdir()
    asked = Asked(
        path=file.path, folder=folder, media_type=file.media_type, size_bytes=file.size_bytes, sha256=file.sha256
    )
    return await child.run(measured, asked, limits=LIMITS, spares=spares)


async def ready(settings: Settings, times: int) -> dict[str, object]:
    """Return the median and the 95th percentile of milliseconds from `complete` to `ready`, one file at a time."""
    kinds: dict[str, tuple[str, Callable[[], bytes]]] = {
        "text of 10 KB": ("a.txt", lambda: "مرحبا بالعالم\n".encode() * 400),
        "photo of 12 megapixels": ("a.jpg", _photo),
        "PDF of a page": ("a.pdf", documents.pdf),
        "clip of 10 s at 720p": ("a.mp4", _clip),
    }
    figures: dict[str, object] = {}
    async with grounds.opened(settings) as ground, working(settings, "scan", slots=2):
        async with ground.database.begin() as session:
            account = await accounts.create(session, "ready@example.com")
            account.plan = "pro"
        for kind, (name, make) in kinds.items():
            data = make()
            took = sorted([await _until_ready(ground, account, name, data) for _ in range(times)])
            figures[kind] = {"p50": round(statistics.median(took)), "p95": round(percentile(took, 0.95))}
    return figures


def _photo() -> bytes:
    small = Image.effect_noise((1000, 750), 60)
    noise = small.resize((4000, 3000)).convert("RGB")  # pyright: ignore[reportUnknownMemberType]
    buffer = io.BytesIO()
    noise.save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


def _clip() -> bytes:
    with tempfile.TemporaryDirectory(prefix="pulse-bench-") as folder:
        made = Made(muxer="mp4", video="libx264", audio="aac", seconds=10, width=1280, height=720)
        return clips.write(Path(folder) / "clip.mp4", made, {}).read_bytes()


async def _until_ready(ground: Ground, account: Account, name: str, data: bytes) -> float:
    purpose = "clip" if name.endswith(".mp4") else "attachment"
    sha256 = hashlib.sha256(data).hexdigest()
    asked = Announcement(name=name, purpose=purpose, size_bytes=len(data), sha256=sha256)
    file = (await files.announce(ground, account, asked)).file
    key = files.quarantine_key(account.id, file.id)
    await ground.storage.receive(key, streamed(data, 65_536), most_bytes=len(data))
    started_s = time.perf_counter()
    await intake.complete(ground, Desk(ground), account, file.id)
    while True:
        async with ground.database.begin() as session:
            state = (await files.get(session, account.id, file.id)).state
        if state not in {"uploading", "scanning"}:
            break
        await asyncio.sleep(_LOOK_EVERY_S)
    assert state == "ready", (name, state)
    took_ms = (time.perf_counter() - started_s) * 1000
    await files.delete(ground, account.id, file.id)
    return took_ms
