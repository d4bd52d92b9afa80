"""The local model: the real one, over the wire that the chat room reads."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx2
import pytest

from infra.settings import ROOT, Settings
from providers import catalog, gguf, local

pytestmark = pytest.mark.slow

_Process = subprocess.Popen[str]


def start(port: int, **environ: str) -> _Process:
    """Start `python -m providers.local`."""
    return subprocess.Popen(
        [sys.executable, "-m", "providers.local"],
        cwd=ROOT,
        env={**os.environ, "PULSE_LOCAL_PORT": str(port), **environ},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def free_port() -> int:
    """Return a port that nobody has right now."""
    with socket.create_server(("127.0.0.1", 0)) as found:
        return found.getsockname()[1]


def client(port: int) -> httpx2.Client:
    """Return a client of the server."""
    return httpx2.Client(base_url=f"http://127.0.0.1:{port}", timeout=60)


def healthy(port: int) -> bool:
    """Say whether the server has its model."""
    with client(port) as line:
        try:
            return line.get("/health").status_code == 200
        except httpx2.TransportError:
            return False


def question(content: str, **options: object) -> dict[str, object]:
    """Return a request for a streamed answer."""
    said = [{"role": "user", "content": content}]
    return {
        "model": catalog.LOCAL,
        "messages": said,
        "stream": True,
        "stream_options": {"include_usage": True},
    } | options


def ask(port: int, content: str, **options: object) -> list[Any]:
    """Return the events of an answer; the terminal marker as it is."""
    with client(port) as line:
        answer = line.post("/v1/chat/completions", json=question(content, **options)).raise_for_status()
    events = [each.removeprefix("data: ") for each in answer.text.splitlines() if each.startswith("data: ")]
    return [event if event == "[DONE]" else json.loads(event) for event in events]


@pytest.fixture(scope="module")
def port() -> Generator[int]:
    """The port of a server that is ready."""
    port = free_port()
    with start(port) as process:
        while not healthy(port):
            assert process.poll() is None, process.communicate()[0]
            time.sleep(0.05)
        yield port
        process.terminate()


def test_an_answer_comes_in_pieces_with_a_reason_to_finish_and_what_it_used(port: int) -> None:
    *said, usage, done = ask(port, "Say hello.", max_tokens=16, temperature=0)
    deltas = [chunk["choices"][0]["delta"].get("content") or "" for chunk in said]
    assert len([delta for delta in deltas if delta]) > 1
    assert [chunk["choices"][0]["finish_reason"] for chunk in said][-1] in {"stop", "length"}
    assert usage["choices"] == []
    assert 0 < usage["usage"]["completion_tokens"] <= 16
    assert usage["usage"]["prompt_tokens"] > 0
    assert {chunk["model"] for chunk in said} == {catalog.LOCAL}
    assert done == "[DONE]"


def test_as_many_are_answered_at_once_as_there_are_slots(port: int) -> None:
    with ThreadPoolExecutor(local.SLOTS) as threads:
        answers = [threads.submit(ask, port, "Count to ten.", max_tokens=24) for _ in range(local.SLOTS)]
    assert [answer.result()[-1] for answer in answers] == ["[DONE]"] * local.SLOTS


def test_a_slot_holds_what_the_catalog_promises(port: int) -> None:
    with client(port) as line:
        (model,) = line.get("/v1/models").json()["data"]
        too_long = line.post("/v1/chat/completions", json=question("word " * 4000))
    assert model["meta"]["n_ctx"] >= catalog.offered(Settings())[catalog.LOCAL].context_tokens
    assert too_long.status_code == 400
    assert too_long.json()["error"]["type"] == "exceed_context_size_error"


def test_a_page_in_a_browser_cannot_use_it(port: int) -> None:
    with client(port) as line:
        answer = line.get("/v1/models", headers={"Origin": "https://elsewhere.example"})
    assert answer.headers["Access-Control-Allow-Origin"] == "http://127.0.0.1"


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
def test_it_ends_at_once_when_told_to_even_while_it_answers(how: signal.Signals) -> None:
    port = free_port()
    with start(port) as process:
        while not healthy(port):
            time.sleep(0.05)
        story = question("Tell me a very long story.", max_tokens=2000, ignore_eos=True)
        with client(port) as line, line.stream("POST", "/v1/chat/completions", json=story) as answer:
            lines = answer.iter_lines()
            assert [next(lines)[:6] for _ in range(40)] == ["data: ", ""] * 20
            process.send_signal(how)
            assert process.wait(10) == 0, "llama.cpp's own end takes 30 s"


def test_a_file_that_is_not_there_is_one_line_that_names_the_setting(tmp_path: Path) -> None:
    with start(free_port(), PULSE_LOCAL_GGUF=str(tmp_path / "none.gguf")) as process:
        said = process.communicate()[0]
    assert process.returncode == 1
    (line,) = said.splitlines()
    assert "none.gguf" in line
    assert "PULSE_LOCAL_GGUF" in line


def test_a_file_that_is_no_model_is_told_as_such(tmp_path: Path) -> None:
    (tmp_path / "poem.gguf").write_text("no model")
    with start(free_port(), PULSE_LOCAL_GGUF=str(tmp_path / "poem.gguf")) as process:
        said = process.communicate()[0]
    assert process.returncode == 1
    assert "poem.gguf is no usable GGUF file" in said.splitlines()[-1]
    assert "Traceback" not in said


def test_the_file_is_the_wheel_s_unless_another_one_is_set(tmp_path: Path) -> None:
    assert gguf.gguf(Settings()).name == "SmolLM2-135M-Instruct.Q4_1.gguf"
    mine = tmp_path / "mine.gguf"
    mine.touch()
    assert gguf.gguf(Settings(local_gguf=str(mine))) == mine
    with pytest.raises(gguf.ModelMissing):
        gguf.gguf(Settings(local_gguf=str(tmp_path)))
