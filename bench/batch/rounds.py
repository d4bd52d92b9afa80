"""Runs the rounds of `bench batch`: a file handed over, accepted, run to its end, and the books looked into."""

import asyncio
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Generator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx2
import msgspec
from msgspec import Struct
from sqlalchemy import text

from bench.batch import step
from bench.batch.memory import Growth
from bench.queue.figures import percentile
from bench.stage import crowd, servers, usage
from bench.stage.servers import Stage
from infra import ground as grounds
from infra.ground import Ground
from infra.settings import ROOT
from quotas import audit
from tests.support.process import environ, started
from tests.support.serving import PLAIN

_PATIENCE_S = 900.0
_LOOK_EVERY_S = 0.05
_WARM_S = 3.0
_TEXT = "اكتب فقرة قصيرة عن البحر في الشتاء، ثم لخّصها في جملة واحدة. Write one short paragraph about the sea."


class Found(Struct, frozen=True, kw_only=True):
    """What one round found out; times in seconds where nothing else is said."""

    accepted: float
    uploaded: float
    ended: float
    growth: dict[str, float]
    waited_ms: list[float]
    turn_ms: float
    cpu: dict[str, float]


def run(*, quick: bool) -> dict[str, object]:
    """Return how long it takes until the lines are accepted, what grows, and how soon interactive jobs start."""
    rounds, lines, probes = (1, 10_000, 60) if quick else (3, 100_000, 400)
    with servers.opened() as stage, tempfile.TemporaryDirectory(prefix="pulse-bench-") as folder:
        path = _write(Path(folder) / "batch.jsonl", lines)
        found: list[Found] = []
        key = asyncio.run(crowd.make(stage.settings, 2))[0]
        for number in range(rounds):
            servers.tell(f"round {number + 1} of {rounds}")
            found.append(_round(stage, key, path, lines, probes))
            stage.settle()
        kept = stage.describe()
        size_bytes = path.stat().st_size
    waited = sorted(ms for each in found for ms in each.waited_ms)
    growth = {name: max(each.growth[name] for each in found) for name in found[0].growth}
    return {
        "lines": lines,
        "seconds": round(statistics.median(each.accepted for each in found), 2),
        "growth_mib": max(growth.values()),
        "interactive_start_ms": round(percentile(waited, 0.95), 1),
        "interactive_ms": {
            "p50": round(statistics.median(waited), 1),
            "p95": round(percentile(waited, 0.95), 1),
            "max": round(waited[-1], 1),
            "samples": len(waited),
        },
        "slot_turn_ms": round(statistics.median(each.turn_ms for each in found), 1),
        "upload_s": round(statistics.median(each.uploaded for each in found), 2),
        "all_over_s": round(statistics.median(each.ended for each in found), 1),
        "jobs_per_s": round(lines / statistics.median(each.ended for each in found)),
        "growth_by_process_mib": growth,
        "cpu_us_per_line": {
            name: round(statistics.median(each.cpu[name] for each in found) / lines * 1e6) for name in found[0].cpu
        },
        "size_mib": round(size_bytes / 1024**2, 1),
        "persistence": kept,
        "rounds": rounds,
    }


def _write(path: Path, lines: int) -> Path:
    with path.open("w", encoding="utf-8") as file:
        for number in range(lines):
            line = {"custom_id": f"line-{number}", "kind": step.KIND, "input": {"text": f"{_TEXT} {number}"}}
            file.write(json.dumps(line, ensure_ascii=False) + "\n")
    return path


def _round(stage: Stage, key: str, path: Path, lines: int, probes: int) -> Found:
    env = environ(stage.settings)
    with ExitStack() as stack:
        api = stack.enter_context(stage.api())
        pids = {"api": api.pid}
        for role in ("batch", "tend", step.KIND):
            pids[role] = stack.enter_context(started("bench.batch.process", role, env=env)).pid
        run_folder = stage.settings.folder / "run"
        pids |= {name: int((run_folder / f"{file}.pid").read_text()) for name, file in _SERVERS.items()}
        time.sleep(_WARM_S)  # until all of them wait for work
        url = f"http://127.0.0.1:{api.port}"
        client = stack.enter_context(
            httpx2.Client(base_url=url, headers={"Authorization": f"Bearer {key}"}, timeout=120, verify=PLAIN)
        )
        before = _cpu(pids)
        growth = stack.enter_context(Growth(pids))
        started_s = time.monotonic()
        batch_id, uploaded_s = _hand_over(client, path)
        _until(client, batch_id, _is_read)
        accepted_s = time.monotonic() - started_s
        servers.tell(f"  accepted after {accepted_s:.2f} s, of which {uploaded_s:.2f} s were the upload")
        with _probing(env, probes) as waited:
            seen = _until(client, batch_id, _is_over)
            ended_s = time.monotonic() - started_s
            servers.tell(f"  all over after {ended_s:.1f} s")
            told = waited()
        cpu = {name: now - before[name] for name, now in _cpu(pids).items()}
        counts = seen["counts"]
        assert seen["state"] == "completed", seen
        assert (counts["lines"], counts["succeeded"]) == (lines, lines), counts
        assert seen["charged"] == {step.METER: lines * step.USED}, seen["charged"]
        turn_ms = stage.ask(
            "SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY extract(epoch FROM finished_at - started_at) * 1000) "
            "FROM jobs WHERE batch_id = (SELECT id FROM batches ORDER BY id DESC LIMIT 1)"
        )
        asyncio.run(_assert_even(stage))
        _assert_results(client, batch_id, lines)
        return Found(
            accepted=accepted_s,
            uploaded=uploaded_s,
            ended=ended_s,
            growth=growth.mib(),
            waited_ms=told,
            turn_ms=float(turn_ms),
            cpu=cpu,
        )


_SERVERS = {"postgresql": "postgres", "valkey": "valkey"}


def _cpu(pids: dict[str, int]) -> dict[str, float]:
    return {
        name: usage.cpu_of_family_s(pid) if name == "postgresql" else usage.cpu_s(pid) for name, pid in pids.items()
    }


def _hand_over(client: httpx2.Client, path: Path) -> tuple[str, float]:
    started_s = time.monotonic()
    with path.open("rb") as file:
        headers = {"Content-Type": "application/jsonl", "Content-Length": str(path.stat().st_size)}
        response = client.post("/v1/batches", content=iter(lambda: file.read(262_144), b""), headers=headers)
    assert response.status_code == 202, response.text
    return response.json()["id"], time.monotonic() - started_s


def _is_read(seen: dict[str, Any]) -> bool:
    return seen["state"] != "validating"


def _is_over(seen: dict[str, Any]) -> bool:
    return seen["finished_at"] is not None


def _until(client: httpx2.Client, batch_id: str, is_so: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    until_s = time.monotonic() + _PATIENCE_S
    while time.monotonic() < until_s:
        seen = client.get(f"/v1/batches/{batch_id}").json()
        if is_so(seen):
            return seen
        time.sleep(_LOOK_EVERY_S)
    raise TimeoutError(f"batch {batch_id} does not move on")


@contextmanager
def _probing(env: dict[str, str], probes: int) -> Generator[Any]:
    command = [sys.executable, "-m", "bench.batch.process", "probe", str(probes)]
    process = subprocess.Popen(command, cwd=ROOT, env=env, stdout=subprocess.PIPE, text=True)
    try:
        yield lambda: msgspec.json.decode(process.communicate(timeout=_PATIENCE_S)[0], type=list[float])
    finally:
        process.kill()
        process.communicate()


async def _assert_even(stage: Stage) -> None:
    async with grounds.opened(stage.settings) as ground:
        await _look(ground)


async def _look(ground: Ground) -> None:
    async with ground.database.begin() as session:
        assert await audit.disagreements(session) == []
        held = await session.scalar(text("SELECT sum(held) FROM balances WHERE meter = 'chat_tokens'"))
        assert held == 0, held


def _assert_results(client: httpx2.Client, batch_id: str, lines: int) -> None:
    """Read the results and see every line in them exactly once."""
    names: set[str] = set()
    many = 0
    with client.stream("GET", f"/v1/batches/{batch_id}/results") as response:
        for line in response.iter_lines():
            if line:
                many += 1
                names.add(json.loads(line)["custom_id"])
    assert many == len(names) == lines, (many, len(names))
