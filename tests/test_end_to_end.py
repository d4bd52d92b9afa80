"""The whole way: HTTP, queue, worker, model, events, settlement, each a real process of its own."""

import asyncio
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Generator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx2
import msgspec
import pytest

from infra.ground import Ground, opened
from infra.settings import ROOT, Settings
from tests.support import process
from tests.support.books import assert_even
from tests.support.chats import Client, chat, submit
from tests.support.serving import free_port
from tests.support.vendor import Answer, Vendor
from tests.support.viewer import Viewer, place

pytestmark = pytest.mark.slow

WORDS = [f"كلمة {n} " for n in range(40)]


async def _up(client: Client) -> None:
    async with asyncio.timeout(30):
        while True:
            try:
                if (await client.get("/readyz")).status_code == 200:
                    return
            except httpx2.TransportError:
                await asyncio.sleep(0.05)


async def _survive_deaths(settings: Settings, key: str, ground: Ground, vendor: Vendor, log: Path) -> None:
    settings = msgspec.structs.replace(settings, port=free_port(), lease_s=2.0, tend_every_s=0.5)
    env = process.environ(settings)
    vendor.speaking.clear()
    vendor.script = [Answer(deltas=list(WORDS), pause_s=0.05) for _ in range(40)]
    headers = {"Authorization": f"Bearer {key}"}
    with ExitStack() as running:

        def run(*command: str) -> "subprocess.Popen[bytes]":
            return running.enter_context(process.started(*command, env=env, log=log))

        api, first, _second = run("api"), run("workers", "chat"), run("workers", "chat")
        run("workers", "tend")
        async with Client(base_url=f"http://127.0.0.1:{settings.port}", headers=headers, timeout=30) as client:
            await _up(client)
            jobs = [await submit(client, chat(f"job {n}")) for n in range(12)]
            viewers = [Viewer(client, job["urls"]["events"]) for job in jobs for _ in range(2)]
            watching = [asyncio.create_task(viewer.watch()) for viewer in viewers]
            await asyncio.wait_for(vendor.speaking.wait(), 30)
            await asyncio.sleep(random.uniform(0.1, 1.5))
            process.kill(api)
            await asyncio.sleep(random.uniform(0, 0.5))
            process.kill(first)
            run("api")
            async with asyncio.timeout(60):
                await asyncio.gather(*watching)
            done = [(await client.get(job["urls"]["self"])).json() for job in jobs]
    assert [job["state"] for job in done] == ["succeeded"] * 12
    assert any(job["attempt"] > 1 for job in done), "the dead worker's jobs ran again"
    for viewer, other in zip(viewers[::2], viewers[1::2], strict=True):
        names = [name for name, _ in viewer.told]
        assert names == sorted(set(names), key=place), "once, in order"
        assert viewer.told == other.told
        assert viewer.text == "".join(WORDS)
    assert {job["charged"]["chat_tokens"] for job in done} == {11 + 7 * 5}
    await assert_even(ground)


async def test_jobs_and_viewers_survive_the_death_of_the_api_and_of_a_worker(
    settings: Settings, key: str, ground: Ground, vendor: Vendor, tmp_path: Path
) -> None:
    await _survive_deaths(settings, key, ground, vendor, tmp_path / "log")


@pytest.mark.chaos
async def test_jobs_and_viewers_survive_death_after_death(
    settings: Settings, key: str, ground: Ground, vendor: Vendor, tmp_path: Path
) -> None:
    for _ in range(20):
        await _survive_deaths(settings, key, ground, vendor, tmp_path / "log")


async def test_an_api_told_to_stop_ends_its_streams_cleanly_and_soon(
    settings: Settings, key: str, ground: Ground
) -> None:
    settings = msgspec.structs.replace(settings, port=free_port())
    headers = {"Authorization": f"Bearer {key}"}
    with process.started("api", env=process.environ(settings)) as api:
        async with Client(base_url=f"http://127.0.0.1:{settings.port}", headers=headers, timeout=30) as client:
            await _up(client)
            job = await submit(client)  # no worker runs: its stream would stay open
            async with client.stream("GET", job["urls"]["events"]) as answer:
                pieces = answer.aiter_text()
                assert "queued" in await anext(pieces) + await anext(pieces)
                api.send_signal(signal.SIGTERM)
                async with asyncio.timeout(10):
                    assert [piece async for piece in pieces] == [], "ended, not broken"
        assert await asyncio.to_thread(api.wait, 10) == 0


@pytest.fixture(scope="module")
def studio(tmp_path_factory: pytest.TempPathFactory) -> Generator[tuple["subprocess.Popen[bytes]", Settings]]:
    """The studio that `make run` starts, with its own servers and the real local model, in an empty folder."""
    home = tmp_path_factory.mktemp("studio")
    settings = Settings(home=str(home), port=free_port(), local_port=free_port())
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("PULSE_", "OPENAI_"))}
    env = clean | {
        "PULSE_HOME": settings.home,
        "PULSE_PORT": str(settings.port),
        "PULSE_LOCAL_PORT": str(settings.local_port),
    }
    log = home / "log"
    with process.started("scripts.studio", env=env, log=log) as running:
        deadline_s = time.monotonic() + 60
        while b"is ready" not in log.read_bytes():
            assert running.poll() is None, log.read_text()
            assert time.monotonic() < deadline_s, log.read_text()
            time.sleep(0.05)
        yield running, settings


def _pulse(settings: Settings, *arguments: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-m", "scripts.pulse", *arguments],
        cwd=ROOT,
        env=os.environ | {"PULSE_HOME": settings.home, "PULSE_LOCAL_PORT": str(settings.local_port)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def _lines(output: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in output.splitlines()]


def test_the_real_model_answers_token_by_token_and_a_killed_viewer_loses_nothing(
    studio: tuple["subprocess.Popen[bytes]", Settings],
) -> None:
    _, settings = studio
    viewer = _pulse(settings, "chat", "--json", "--max-tokens", "120", "Tell me about the sea.")
    assert viewer.stdout is not None
    seen = [json.loads(viewer.stdout.readline()) for _ in range(12)]
    viewer.kill()
    viewer.communicate()
    job_id = seen[0]["job"]["id"]
    rest, _ = _pulse(settings, "jobs", "follow", job_id, "--after", seen[-1]["id"], "--json").communicate()
    whole, _ = _pulse(settings, "jobs", "follow", job_id, "--json").communicate()
    assert seen[1:] + _lines(rest) == _lines(whole)
    deltas = [event["text"] for event in _lines(whole) if event["type"] == "delta"]
    assert len(deltas) > 20, "it came in pieces"
    assert _lines(whole)[-1]["type"] == "succeeded"
    shown, _ = _pulse(settings, "jobs", "show", job_id, "--json").communicate()
    job = json.loads(shown)
    assert job["result"]["text"] == "".join(deltas)
    usage = job["result"]["usage"]
    assert not usage["estimated"]
    assert job["charged"] == {"chat_tokens": usage["input_tokens"] + usage["output_tokens"]}


def test_arabic_goes_the_whole_way_and_comes_back_unharmed(
    studio: tuple["subprocess.Popen[bytes]", Settings],
) -> None:
    _, settings = studio
    question = "ما عاصمةُ الأردنّ؟ 🇯🇴"
    output, _ = _pulse(settings, "chat", "--json", "--max-tokens", "20", question).communicate()
    told = _lines(output)
    assert told[0]["job"]["input"]["messages"][-1]["content"] == question
    assert told[-1]["type"] == "succeeded", "SmolLM2 knows little Arabic, but it is never cut short"


async def test_the_books_of_the_studio_balance_and_ctrl_c_leaves_no_process(
    studio: tuple["subprocess.Popen[bytes]", Settings],
) -> None:
    running, settings = studio
    doctor = _pulse(settings, "doctor", "--json")
    report, _ = doctor.communicate()
    assert doctor.returncode == 0, report
    async with opened(settings) as ground:
        await assert_even(ground)
    running.send_signal(signal.SIGINT)
    assert running.wait(20) == 0
    assert _processes_of(settings) == []


def _processes_of(settings: Settings) -> list[str]:
    """Return the ids of the processes that name the studio's folder in their environment or on their command line."""
    home = settings.home.encode()
    folders = [path for path in Path("/proc").glob("[0-9]*") if path.name != str(os.getpid())]
    return [path.name for path in folders if home in _read(path / "environ") + _read(path / "cmdline")]


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""
