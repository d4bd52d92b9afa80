"""A large file streams through the API both ways in flat memory; a hostile one is refused soon and cheaply.

Streams: one file (1 GiB in a full run) is uploaded by its signed form and downloaded by its signed link, with the
local store; beside it, in the same rounds, the way a framework's manual has it (Litestar's `UploadFile` and `File`).
Each is a process of its own; both write the bytes to the disk and hash them. Scans: every file of the hostile corpus is
examined in a child as a worker does it, and some good ones go the whole way from `complete` to `ready`.
"""

import tempfile
from pathlib import Path

import uvloop

from bench.files import scans, streams
from infra import embedded, schema, telemetry
from infra.settings import Settings
from tests.support.serving import free_port

_GIB = 1024**3


def run(*, quick: bool) -> dict[str, object]:
    """Return MiB/s, CPU seconds a GiB and MiB of memory of streams; milliseconds and MiB of hostile files, at worst."""
    with tempfile.TemporaryDirectory(prefix="pulse-bench-") as folder:
        settings = Settings(env="test", home=folder, log_level="error", port=free_port())
        telemetry.configure(settings, "bench")
        with embedded.Servers(settings):
            schema.migrate(settings)
            size_bytes, rounds = (_GIB // 16, 1) if quick else (_GIB, 3)
            streamed = uvloop.run(streams.measured(settings, Path(folder), size_bytes, rounds))
            ready = uvloop.run(scans.ready(settings, 3 if quick else 20))
        hostile = uvloop.run(scans.hostile_files(1 if quick else 3))
    return {"size_mib": size_bytes // 1024**2, "rounds": rounds, **streamed, "hostile": hostile, "ready_ms": ready}
