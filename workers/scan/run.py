"""How a file is judged: looked at by ClamAV where there is one, taken apart in a child, and kept or rejected."""

import asyncio
import hashlib
import tempfile
from pathlib import Path

from infra import backoff
from infra.models import File
from infra.settings import Settings
from infra.storage import ObjectNotFound
from workers import events, files, lifecycle
from workers.context import Made, Run
from workers.craft import child
from workers.craft.child import ChildDied, ChildOutOfMemory, ChildTimedOut, ChildWroteTooMuch
from workers.scan import antivirus
from workers.scan.findings import Asked, Findings
from workers.scan.limits import LIMITS
from workers.scan.refusals import FileRefused, TooComplex, UnreadableFile
from workers.scan.spec import Scan

_STEPS = 3
# A clamd reads its signatures for so long before it answers.
_SCANNER_STARTS_S = 60.0


def timeout_s(settings: Settings) -> float:
    """Return the longest that one try may run."""
    return settings.scan_timeout_s


async def make(request: Scan, run: Run) -> Made:
    """Decide on the file, and return the state that it is in from then on; raises `ScannerUnavailable`."""
    ground, account_id, file_id = run.ground, run.job.account_id, request.input.file
    file = await files.undecided(ground, account_id, file_id)
    if file is None:
        return Made(result={"file": str(file_id), "state": "decided before"}, used={})
    try:
        state = await _judge(file, run)
    except FileRefused as refusal:
        state = await files.reject(ground, account_id, file_id, lifecycle.failure(refusal))
    return Made(result={"file": str(file_id), "state": state}, used={})


async def _judge(file: File, run: Run) -> str:
    """Return the file's state; raises the fact for which it is rejected."""
    key = files.quarantine_key(file.account_id, file.id)
    if await run.ground.storage.size("quarantine", key) is None:
        return await files.reject(run.ground, file.account_id, file.id, lifecycle.failure(ObjectNotFound()))
    with tempfile.TemporaryDirectory(prefix="pulse-scan-") as folder:
        async with run.ground.storage.opened("quarantine", key) as path:
            await run.say(events.Progress(done=1, total=_STEPS, stage="viruses"))
            await _look_for_viruses(run, path)
            await run.say(events.Progress(done=2, total=_STEPS, stage="contents"))
            findings = await _examined(file, path, Path(folder), run)
            await run.say(events.Progress(done=3, total=_STEPS, stage="keeping"))
            parts = await asyncio.to_thread(_parts, file, path, findings)
            return await files.keep(run.ground, file, parts, findings.facts)


async def _look_for_viruses(run: Run, path: Path) -> None:
    """Have ClamAV look at the file, where there is one; one that is just starting is waited for."""
    if not run.settings.clamav:
        return
    loop = asyncio.get_running_loop()
    until, failures = loop.time() + _SCANNER_STARTS_S, 0
    while True:
        try:
            await antivirus.scan(run.settings.clamav, path)
        except antivirus.ScannerUnavailable:
            failures += 1
            wait_s = backoff.wait_s(failures, base_s=0.5, most_s=5.0)
            if loop.time() + wait_s > until:
                raise
            await asyncio.sleep(wait_s)
        else:
            return


async def _examined(file: File, path: Path, folder: Path, run: Run) -> Findings:
    asked = Asked(
        path=path,
        folder=folder,
        media_type=file.media_type,
        size_bytes=file.size_bytes,
        sha256=file.declared_sha256.hex(),
        purpose=file.purpose,
    )
    try:
        return await child.run(
            "workers.scan.examine:examine", asked, returns=Findings, limits=LIMITS, spares=run.spares
        )
    except (ChildTimedOut, ChildOutOfMemory, ChildWroteTooMuch) as error:
        raise TooComplex from error
    except ChildDied as error:
        if run.job.tries + 1 < run.settings.max_tries:
            raise
        # It has brought down whoever opened it, every time.
        raise UnreadableFile(media_type=file.media_type) from error


def _parts(file: File, path: Path, findings: Findings) -> list[files.Part]:
    """Return what the file is to consist of; reads all of it that was made anew."""
    whole = files.Part(
        name="original",
        path=findings.path,
        # What is kept as it came was compared with its declared hash already.
        sha256=file.declared_sha256.hex() if findings.path == path else _sha256(findings.path),
        size_bytes=findings.path.stat().st_size,
        media_type=findings.media_type,
    )
    return [whole] + [
        files.Part(
            name=picture.name,
            path=picture.path,
            sha256=_sha256(picture.path),
            size_bytes=picture.path.stat().st_size,
            media_type=picture.media_type,
            width=picture.width,
            height=picture.height,
        )
        for picture in findings.pictures
    ]


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
