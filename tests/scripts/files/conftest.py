"""What tests of `pulse files` may ask for: a stand-in for the studio's files and its store, and files to upload."""

import random
import time
from collections.abc import Callable, Generator
from pathlib import Path

import pytest

from infra import backoff
from scripts.pulse.sources import CHUNK_BYTES
from tests.scripts import files_stand_in
from tests.scripts.files_stand_in import FilesStandIn

ARABIC = {"LANG": "ar_EG.UTF-8"}
PATIENCE_S = 20.0


@pytest.fixture
def api() -> Generator[FilesStandIn]:
    """A stand-in for the studio's files; a test fails where the command breaks the contract with it."""
    with files_stand_in.standing_in() as served:
        yield served
    assert served.complaints == []


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody waits before trying again."""

    def at_once(failures: int, *, base_s: float, most_s: float) -> float:
        return 0.0

    monkeypatch.setattr(backoff, "wait_s", at_once)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder that the command runs in."""
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def notes(folder: Path) -> Path:
    """A file of some chunks, with an Arabic name."""
    path = folder / "ملاحظات.txt"
    path.write_bytes(random.Random(4).randbytes(3 * CHUNK_BYTES + 17))
    return path


def until(happened: Callable[[], object]) -> None:
    """Wait until something has happened."""
    until_s = time.monotonic() + PATIENCE_S
    while not happened():
        assert time.monotonic() < until_s
        time.sleep(0.01)
