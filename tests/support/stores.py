"""Both stores: a directory of a test's own, and two buckets of moto's S3, which runs in a process of its own."""

import hashlib
from collections.abc import AsyncIterator, Generator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

import httpx2
import pytest

from infra.settings import Settings
from infra.storage import Expected
from tests.support.process import piped

_MOTO = """
import logging, threading
from moto.server import ThreadedMotoServer
logging.getLogger("werkzeug").setLevel(logging.ERROR)
server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
server.start()
print(server.get_host_and_port()[1], flush=True)
threading.Event().wait()
"""


@contextmanager
def moto() -> Generator[str]:
    """Run an S3 server on loopback for the length of a block; gives its address."""
    with piped(_MOTO) as process:
        assert process.stdout is not None
        yield f"http://127.0.0.1:{int(process.stdout.readline())}"


def in_folder(folder: Path) -> Settings:
    """Return settings of a store in a folder that is not there yet."""
    return Settings(env="test", home=str(folder), files_dir=str(folder / "files"))


def in_buckets(address: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Return settings of a store in two new buckets; boto3 finds credentials in the environment, and no others."""
    name = f"pulse-{uuid4().hex}"
    for area in ("quarantine", "assets"):
        httpx2.put(f"{address}/{name}-{area}").raise_for_status()
    for variable in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(variable, "testing")
    for variable in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(variable, "/dev/null")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    return Settings(
        env="test",
        home=str(folder),
        files_dir=str(folder / "files"),
        s3_endpoint=address,
        s3_region="us-east-1",
        s3_assets=f"{name}-assets",
        s3_quarantine=f"{name}-quarantine",
    )


def new_key() -> str:
    """Return a key as files have it in quarantine."""
    return f"{uuid4()}/{uuid4()}"


def asset_key(data: bytes) -> str:
    """Return a key of these bytes among the assets of a new account."""
    return f"{uuid4()}/{hashlib.sha256(data).hexdigest()}"


def expecting(data: bytes, media_type: str = "image/png") -> Expected:
    """Return what a declaration of these bytes says."""
    return Expected(size_bytes=len(data), media_type=media_type, sha256=hashlib.sha256(data).hexdigest())


async def streamed(data: bytes, size: int = 1000) -> AsyncIterator[bytes]:
    """Yield bytes in chunks of a size."""
    for start in range(0, len(data), size):
        yield data[start : start + size]
