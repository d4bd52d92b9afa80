"""Examines a file by one function of `workers.scan`, in a child as a worker does it."""

from pathlib import Path

from workers.craft import child
from workers.craft.child import Limits
from workers.scan.findings import Asked, Findings

LIMITS = Limits(seconds=60, memory_bytes=1024**3)


async def examined(function: str, path: Path, media_type: str, limits: Limits = LIMITS) -> Findings:
    """Return what is found; what is made of the file lies in a folder beside it, "made of it"."""
    return await child.run(f"workers.scan.{function}", asked(path, media_type), returns=Findings, limits=limits)


def asked(path: Path, media_type: str) -> Asked:
    """Return the question, and make the folder."""
    folder = path.with_name("made of it")
    folder.mkdir()
    return Asked(path=path, folder=folder, media_type=media_type, size_bytes=path.stat().st_size, sha256="")
