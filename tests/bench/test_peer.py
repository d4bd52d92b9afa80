"""The way a contender is driven, with a queue of fifty lines for a peer."""

import sys
from collections.abc import Generator
from pathlib import Path

import pytest

from bench.queue import peer as peers
from bench.queue.peer import Peer
from bench.queue.process import Process, ProcessEnded, ProcessSilent
from bench.queue.server import Valkey

_ADAPTER = Path(__file__).parent / "list_queue.py"


@pytest.fixture(scope="module")
def running() -> Generator[Valkey]:
    """A Valkey of the bench's own, for the tests of this file."""
    with Valkey() as server:
        yield server


@pytest.fixture
def valkey(running: Valkey) -> Valkey:
    """The same, empty."""
    running.clear()
    return running


@pytest.fixture
def peer(monkeypatch: pytest.MonkeyPatch) -> Peer:
    """A contender that is ready."""
    monkeypatch.setattr(peers, "_SETTLE_S", 0.2)
    made = Peer("list", _ADAPTER, lambda: Path(sys.executable))
    made.prepare()
    return made


def _process(valkey: Valkey, adapter: Path = _ADAPTER) -> Process:
    return Process(Path(sys.executable), adapter, valkey.url)


def test_what_is_enqueued_is_drained_and_paid_for(peer: Peer, valkey: Valkey) -> None:
    before_s = valkey.cpu_s()
    assert peer.enqueue(valkey, 50, bulk=False) > 0
    assert peer.enqueue(valkey, 50, bulk=True) > 0
    drained = peer.drain(valkey, 100, concurrency=4)
    assert drained.seconds > 0
    assert drained.worker_cpu_s > 0
    assert valkey.cpu_s() > before_s


def test_each_pickup_is_measured_except_the_one_that_wakes_the_worker(peer: Peer, valkey: Valkey) -> None:
    delays_ms = peer.pickup_ms(valkey, 5, seed=1)
    assert len(delays_ms) == 5
    assert all(0 < delay < 5_000 for delay in delays_ms)


def test_slots_are_counted_over_all_worker_processes(peer: Peer, valkey: Valkey) -> None:
    assert peer.most_running(valkey, jobs=6, workers=3, seconds=1.0) == 6


def test_a_job_lost_with_its_worker_is_reported_as_not_run_again(peer: Peer, valkey: Valkey) -> None:
    assert peer.rerun_s(valkey, limit_s=0.5) is None


def test_a_worker_that_comes_back_after_a_restart_is_seen_to(peer: Peer, valkey: Valkey) -> None:
    found_s = peer.resume_s(valkey, down_s=0.1, limit_s=10)
    assert found_s is not None
    assert 0 < found_s < 10


def test_a_worker_that_gives_up_is_an_error_with_its_own_words(valkey: Valkey, tmp_path: Path) -> None:
    broken = tmp_path / "broken.py"
    text = _ADAPTER.read_text().replace(
        "await asyncio.gather", "raise OSError('no luck')\n        await asyncio.gather"
    )
    broken.write_text(text)
    with _process(valkey, broken) as process:
        process.order(do="work", concurrency=1)
        with pytest.raises(ProcessEnded, match="no luck"):
            process.event("done")


def test_an_adapter_that_does_not_load_is_an_error_with_its_last_line(valkey: Valkey, tmp_path: Path) -> None:
    broken = tmp_path / "broken.py"
    broken.write_text("import nothing_of_this_name\n")
    with _process(valkey, broken) as process, pytest.raises(ProcessEnded, match="nothing_of_this_name"):
        process.event("loaded")


def test_waiting_has_an_end(valkey: Valkey) -> None:
    with _process(valkey) as process:
        process.event("loaded")
        with pytest.raises(ProcessSilent, match="no done"):
            process.event("done", within_s=0.05)


def test_workers_end_with_the_one_that_drives_them(valkey: Valkey) -> None:
    with _process(valkey) as process:
        process.order(do="work", concurrency=1, processes=3)
        for _ in range(3):
            process.event("up")
        process.leave()
        with pytest.raises(ProcessEnded):  # its output ends when the last of them has
            process.event("done", within_s=10)
