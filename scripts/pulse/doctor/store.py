"""Checks of where files are kept, and of who looks at them for viruses."""

import tempfile
from pathlib import Path

from infra import storage
from infra.settings import Settings
from scripts.pulse.doctor.finding import Finding, attempt, ok, warning
from workers.scan import antivirus

_SET_UP = "set PULSE_CLAMAV to the address of a clamd"


async def check(settings: Settings) -> list[Finding]:
    """Look at everything."""
    where = "the buckets, the credentials and the network" if settings.s3_assets else f"the folder {settings.files}"
    return [
        await attempt("file store", _store(settings), f"see to {where}"),
        await attempt("ClamAV", _scanner(settings), "start the clamd that PULSE_CLAMAV names, or correct the address"),
    ]


async def _store(settings: Settings) -> Finding:
    store = storage.connect(settings)
    try:
        await store.ping()
    finally:
        await store.close()
    if settings.s3_assets:
        return ok("file store", f"S3, {settings.s3_quarantine} and {settings.s3_assets}")
    return ok("file store", f"folder {settings.files}")


async def _scanner(settings: Settings) -> Finding:
    if settings.clamav:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "clean"
            path.write_bytes(b"clean")
            await antivirus.scan(settings.clamav, path)
        return ok("ClamAV", f"answers at {settings.clamav}")
    told = "not set up: files are not looked at for viruses"
    return warning("ClamAV", told, _SET_UP) if settings.env == "production" else ok("ClamAV", told)
