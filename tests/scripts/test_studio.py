"""The studio: stand-ins for the Procfile's processes, real servers, real signals."""

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Generator
from pathlib import Path

import pytest
from redis import Redis

from infra import embedded, pidfile
from infra.settings import ROOT, Settings
from tests.support.studio import KEY, Studio

pytestmark = pytest.mark.slow

API = f"api: exec {sys.executable} -m tests.support.answering PULSE_PORT\n"
MODEL = f"model: exec {sys.executable} -m tests.support.answering PULSE_LOCAL_PORT\n"
CHAT = "chat: echo chat is here; exec sleep 1000\n"
ALL = API + CHAT + MODEL
BOTH_SERVERS = {"PULSE_DATABASE_URL": ""}


@pytest.fixture
def folder() -> Generator[Path]:
    """A folder whose path is short enough for sockets, which pytest's own is not."""
    with tempfile.TemporaryDirectory(prefix="pulse-") as made:
        yield Path(made)


def ready(studio: Studio) -> Studio:
    """Wait for the block that says how to use it."""
    studio.until("Pulse AI Studio is ready")
    studio.until("Stop  Ctrl-C")
    return studio


def test_it_says_once_how_to_use_it_when_everything_answers(folder: Path) -> None:
    with Studio.started(folder, ALL) as studio:
        ready(studio)
        address = f"http://127.0.0.1:{studio.port()}"
        assert "chat is here" in studio.log
        assert f"{address}/docs" in studio.log
        assert f"API key  {KEY}" in studio.log
        assert ".venv/bin/pulse chat" in studio.log
        curl = next(line for line in studio.log.splitlines() if "curl" in line)
        assert f"{address}/v1/jobs" in curl
        assert f"Authorization: Bearer {KEY}" in curl
        where = json.loads((studio.folder / "studio.json").read_text())
        assert where["url"] == address
        assert where["pid"] == studio.process.pid
        assert where["local_port"] > 0
        assert (studio.folder / "studio.json").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_ctrl_c_ends_all_of_it_and_is_no_failure(folder: Path, how: signal.Signals) -> None:
    with Studio.started(folder, ALL, BOTH_SERVERS) as studio:
        os.killpg(ready(studio).process.pid, how)  # as a terminal does: the forks hear it too
        assert studio.ended() == 0
        assert studio.held() == []
        assert "stopped; the data is kept" in studio.log
        assert "Traceback" not in studio.log
        assert not (studio.folder / "studio.json").exists()


def test_a_ctrl_c_while_it_starts_ends_what_was_started(folder: Path) -> None:
    with Studio.started(folder, ALL) as studio:
        studio.until("ready")
        os.killpg(studio.process.pid, signal.SIGINT)
        studio.ended()
        assert studio.held() == []


def test_the_next_start_finds_the_data_of_the_last_one(folder: Path) -> None:
    settings = Settings(home=str(folder / "data"))
    with Studio.started(folder, ALL) as studio:
        ready(studio)
        with Redis.from_url(embedded.redis_url(settings)) as client:  # pyright: ignore[reportUnknownMemberType]
            client.set("kept", "yes")
        studio.process.terminate()
        studio.ended()
    with Studio.started(folder, ALL) as studio:
        ready(studio)
        with Redis.from_url(embedded.redis_url(settings)) as client:  # pyright: ignore[reportUnknownMemberType]
            assert client.get("kept") == b"yes"


def test_a_taken_port_is_told_and_another_one_is_used(folder: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with Studio.started(folder, ALL, {"PULSE_PORT": str(port)}) as studio:
            assert f"port {port} is taken; using" in studio.until("is taken")
            assert ready(studio).port() != port


def test_a_second_one_on_the_same_folder_is_refused_and_told_where_the_first_is(folder: Path) -> None:
    with Studio.started(folder, ALL) as first:
        ready(first)
        with Studio.started(folder, ALL) as second:
            assert second.ended() == 1
            (line,) = second.log.splitlines()
            assert f"http://127.0.0.1:{first.port()}" in line
            assert str(first.process.pid) in line
            assert len(first.held()) == 4, "the first one goes on"


def test_nothing_outlives_a_studio_that_is_killed(folder: Path) -> None:
    with Studio.started(folder, ALL, BOTH_SERVERS) as studio:
        ready(studio).process.kill()
        assert studio.leaves_nothing()


def test_what_a_kill_of_everything_around_it_left_is_cleared_by_the_next_start(folder: Path) -> None:
    deaf = "chat: trap '' TERM; echo deaf; while :; do sleep 1; done\n"
    with Studio.started(folder, API + deaf + MODEL) as studio:
        ready(studio)
        os.killpg(studio.process.pid, signal.SIGKILL)
        left = pidfile.named(studio.folder / "run" / "pools" / "chat.pid")
        assert studio.folder / "run" / "pools" / "chat.pid" in studio.held()
        with Studio.started(folder, ALL) as again:
            ready(again)
            assert pidfile.named(studio.folder / "run" / "pools" / "chat.pid") != left
            again.process.terminate()
            assert again.ended() == 0


def test_a_process_that_ends_by_itself_is_named_and_ends_the_rest(folder: Path) -> None:
    with Studio.started(folder, API + MODEL + "chat: sleep 0.5; exit 3\n") as studio:
        assert studio.ended() == 1
        assert "chat ended by itself (exit code 3)" in studio.log
        assert studio.held() == []


def test_a_server_that_ends_by_itself_is_named_and_ends_the_rest(folder: Path) -> None:
    with Studio.started(folder, ALL) as studio:
        server = pidfile.named(ready(studio).folder / "run" / "valkey.pid")
        assert server is not None
        os.kill(server, signal.SIGKILL)
        assert studio.ended() == 1
        assert "Valkey ended by itself" in studio.log
        assert studio.held() == []


def test_a_process_that_does_not_listen_is_killed_by_a_second_ctrl_c(folder: Path) -> None:
    deaf = "chat: trap 'echo heard' TERM; while :; do sleep 0.1; done\n"
    with Studio.started(folder, API + deaf + MODEL, {"PULSE_GRACE_S": "600"}) as studio:
        ready(studio).process.send_signal(signal.SIGINT)
        studio.until("heard")
        studio.process.send_signal(signal.SIGINT)
        assert studio.ended() == 0
        assert studio.held() == []


def test_the_local_model_stays_out_when_a_cloud_is_set(folder: Path) -> None:
    with Studio.started(folder, ALL, {"PULSE_COMPATIBLE_URL": "http://127.0.0.1:9/v1"}) as studio:
        ready(studio)
        assert not (studio.folder / "run" / "pools" / "model.pid").exists()


def test_it_goes_on_when_nobody_reads_what_it_prints(folder: Path) -> None:
    talking = "chat: while :; do echo talking; sleep 0.1; done\n"
    with Studio.started(folder, API + talking + MODEL) as studio:
        ready(studio)
        assert studio.process.stdout is not None
        studio.process.stdout.close()
        time.sleep(0.5)
        assert studio.process.poll() is None
        studio.process.terminate()
        assert studio.process.wait() == 0
        assert studio.held() == []


def test_a_wrong_setting_is_one_line_that_names_it() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "scripts.studio"],
        cwd=ROOT,
        env={**os.environ, "PULSE_PROT": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith("PULSE_PROT: ")
    assert "PULSE_PORT" in line


def test_it_refuses_production_by_the_name_of_the_key() -> None:
    production = {
        "PULSE_ENV": "production",
        "PULSE_DATABASE_URL": "postgresql://x/y",
        "PULSE_REDIS_URL": "redis://x",
        "PULSE_SECRET": "s" * 32,
        "PULSE_OPENAI_API_KEY": "k",
        "PULSE_FILES_DIR": "/srv/files",
        "PULSE_PUBLIC_URL": "https://files.example.com",
    }
    refused = subprocess.run(
        [sys.executable, "-m", "scripts.studio"],
        cwd=ROOT,
        env=os.environ | production,
        capture_output=True,
        text=True,
        check=False,
    )
    assert refused.returncode == 2
    assert refused.stderr.startswith("PULSE_ENV: make run is for development")
