"""What tests of `pulse batch` may ask for: a stand-in for the studio's batches, a file of requests, and no waiting."""

import json
import random
from collections.abc import Generator
from pathlib import Path

import pytest

from infra import backoff
from scripts.pulse.batch import harvest, watching
from tests.scripts import batch_stand_in
from tests.scripts.batch_stand_in import BatchStandIn

ARABIC = {"LANG": "ar_EG.UTF-8"}
PATIENCE_S = 20.0


@pytest.fixture
def api() -> Generator[BatchStandIn]:
    """A stand-in for the studio's batches; a test fails where the command breaks the contract with it."""
    with batch_stand_in.standing_in() as served:
        yield served
    assert served.complaints == []


@pytest.fixture(autouse=True)
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody waits long before trying again, or before looking again."""

    def at_once(failures: int, *, base_s: float, most_s: float) -> float:
        return 0.0

    monkeypatch.setattr(backoff, "wait_s", at_once)
    monkeypatch.setattr(watching, "_FIRST_WAIT_S", 0.01)
    monkeypatch.setattr(watching, "_LONGEST_WAIT_S", 0.01)
    monkeypatch.setattr(harvest, "_POLL_S", 0.01)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder that the command runs in."""
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def requests(folder: Path) -> Path:
    """A file of requests that is some chunks long."""
    path = folder / "requests.jsonl"
    text = random.Random(6).randbytes(300_000).hex()
    asked = [{"custom_id": f"r-{n}", "kind": "chat", "input": {"text": text}} for n in range(3)]
    path.write_text("".join(json.dumps(each) + "\n" for each in asked))
    return path
