"""Runs the rounds of `bench chat`: everybody in turn, then all of it again."""

import asyncio
import os
import statistics
import subprocess
import tempfile
from collections.abc import Generator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

import msgspec
from msgspec import Struct

from bench.queue import environments
from bench.queue.figures import percentile
from bench.stage import asker, servers, usage
from bench.stage.child import Child
from bench.stage.servers import Stage
from infra import ground as grounds
from quotas import accounts, keys
from tests.support.books import grant
from tests.support.process import environ, kill, started
from tests.support.serving import free_port

_AT_ONCE, _PACED_AT_ONCE = 20, 50
_PACED = "paced-40"
# So long the vendor takes for one of those.
_PACED_S = 1.6
_PATIENCE_S = 300.0
_PROMPT = "اكتب لي قصة قصيرة عن صياد في الإسكندرية، and end it in English."
_LITELLM = """
model_list:
  - model_name: "*"
    litellm_params: {{model: "openai/*", api_base: "http://127.0.0.1:{port}/v1", api_key: none}}
litellm_settings: {{telemetry: false, drop_params: true}}
general_settings: {{master_key: sk-bench}}
"""


class Size(Struct, frozen=True, kw_only=True):
    """How much is asked: answers of `chunks` pieces each as fast as they come, and `paced` ones as vendors make them.

    The first `warm` ones are not counted.
    """

    rounds: int
    chunks: int
    answers: int
    paced: int
    warm: int

    @property
    def swift(self) -> str:
        """The model that answers as fast as it can."""
        return f"swift-{self.chunks}"


QUICK = Size(rounds=1, chunks=200, answers=60, paced=100, warm=50)
FULL = Size(rounds=3, chunks=500, answers=150, paced=700, warm=50)


class _Target(Struct, frozen=True, kw_only=True):
    """Whom to ask, and whose CPU time that takes, by process; MODEL stands in `body` for the model's name."""

    port: int
    path: str
    headers: dict[str, str]
    body: str
    first: str
    end: str
    pids: Mapping[str, int]
    is_ours: bool = False


class _Round(Struct, kw_only=True):
    """`cpu_us` is for each piece of the swift answers, `first_ms` of the paced ones."""

    per_s: float
    cpu_us: dict[str, float]
    first_ms: list[float]


def run(*, quick: bool) -> dict[str, object]:
    """Measure and return the figures."""
    size = QUICK if quick else FULL
    with ExitStack() as stack:
        stage = stack.enter_context(servers.opened())
        upstream = free_port()
        command = ("bench.stage.upstream", str(upstream))
        servers.until_it_listens(upstream, stack.enter_context(started(*command, env=os.environ)))
        targets = {
            "direct": _direct(upstream),
            "pulse": stack.enter_context(_pulse(stage, upstream, size)),
            "litellm": stack.enter_context(_litellm(upstream)),
        }
        found: dict[str, list[_Round]] = {name: [] for name in targets}
        client = stack.enter_context(Child("bench.stage.asker"))
        for _ in range(size.rounds):
            for name, target in targets.items():
                found[name].append(_measured(stage, client, target, size))
                told = found[name][-1]
                servers.tell(f"  {name}: {told.per_s:.1f} answers/s, CPU us a piece {told.cpu_us}")
    return _summary(found, size)


def _measured(stage: Stage, client: Child, target: _Target, size: Size) -> _Round:
    def used() -> dict[str, float]:
        ours = stage.servers_cpu_s() if target.is_ours else {}
        return ours | {name: usage.cpu_of_family_s(pid) for name, pid in target.pids.items()}

    _ask(client, target, size.swift, size.warm, _AT_ONCE)
    before = used()
    swift = _ask(client, target, size.swift, size.answers, _AT_ONCE)
    pieces = size.answers * size.chunks
    cpu_us = {name: round((seconds - before[name]) / pieces * 1e6, 1) for name, seconds in used().items()}
    paced = _ask(client, target, _PACED, size.paced, _PACED_AT_ONCE, spread_s=_PACED_S)
    return _Round(per_s=size.answers / swift.seconds, cpu_us=cpu_us, first_ms=paced.first_ms)


def _ask(
    client: Child, target: _Target, model: str, answers: int, at_once: int, *, spread_s: float = 0.0
) -> asker.Told:
    order = asker.Order(
        port=target.port,
        path=target.path,
        headers=target.headers,
        body=target.body.replace("MODEL", model),
        answers=answers,
        at_once=at_once,
        spread_s=spread_s,
        first=target.first,
        end=target.end,
    )
    told = client.ask(order, asker.Told, _PATIENCE_S)
    if told.error:
        raise RuntimeError(told.error)
    return told


def _direct(upstream: int) -> _Target:
    body = {"model": "MODEL", "stream": True, "messages": [{"role": "user", "content": _PROMPT}]}
    return _Target(
        port=upstream,
        path="/v1/chat/completions",
        headers={},
        body=msgspec.json.encode(body).decode(),
        first="word",
        end="[DONE]",
        pids={},
    )


@contextmanager
def _pulse(stage: Stage, upstream: int, size: Size) -> Generator[_Target]:
    settings = msgspec.structs.replace(
        stage.settings,
        openai_api_key="",
        compatible_url=f"http://127.0.0.1:{upstream}/v1",
        compatible_models=f"{size.swift},{_PACED}",
        chat_slots=_PACED_AT_ONCE,
        account_cap=_PACED_AT_ONCE,
    )
    key = asyncio.run(_account(Stage(settings=settings)))
    with Stage(settings=settings).api() as api, started("workers", "chat", env=environ(settings)) as worker:
        body = {
            "kind": "chat",
            "input": {"model": "MODEL", "messages": [{"role": "user", "content": _PROMPT}], "max_output_tokens": 4000},
        }
        yield _Target(
            port=api.port,
            path="/v1/jobs",
            headers={"Authorization": f"Bearer {key}", "Accept": "text/event-stream"},
            body=msgspec.json.encode(body).decode(),
            first='"delta"',
            end='"succeeded"',
            pids={"api": api.pid, "worker": worker.pid},
            is_ours=True,
        )


async def _account(stage: Stage) -> str:
    async with grounds.opened(stage.settings) as ground:
        async with ground.database.begin() as session:
            account = await accounts.create(session, "chats@example.com")
            key = await keys.issue(session, stage.settings, account.id, name="bench")
        await grant(ground, 10**12)
    return key


@contextmanager
def _litellm(upstream: int) -> Generator[_Target]:
    port = free_port()
    python = environments.python("litellm")
    with tempfile.TemporaryDirectory(prefix="pulse-bench-") as folder:
        config = Path(folder) / "config.yaml"
        config.write_text(_LITELLM.format(port=upstream))
        process = subprocess.Popen(
            [str(python.with_name("litellm")), "--config", str(config), "--host", "127.0.0.1", "--port", str(port)],
            cwd=folder,
            env=os.environ | {"LITELLM_LOG": "ERROR", "LITELLM_LOCAL_MODEL_COST_MAP": "True"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        try:
            servers.until_it_listens(port, process)
            direct = _direct(upstream)
            yield msgspec.structs.replace(
                direct, port=port, headers={"Authorization": "Bearer sk-bench"}, pids={"litellm": process.pid}
            )
        finally:
            kill(process)


def _summary(found: Mapping[str, list[_Round]], size: Size) -> dict[str, object]:
    def median(name: str, of: str) -> float:
        return round(statistics.median(getattr(each, of) for each in found[name]), 2)

    def cpu_us(name: str) -> float:
        return round(statistics.median(sum(each.cpu_us.values()) for each in found[name]), 1)

    firsts = {name: sum((each.first_ms for each in rounds), list[float]()) for name, rounds in found.items()}
    return {
        "answers_per_s": {name: median(name, "per_s") for name in found},
        "to_litellm": round(
            statistics.median(
                ours.per_s / theirs.per_s for ours, theirs in zip(found["pulse"], found["litellm"], strict=True)
            ),
            2,
        ),
        "pieces_per_s": {name: round(median(name, "per_s") * size.chunks) for name in found},
        "cpu_us_per_piece": {name: cpu_us(name) for name in found if name != "direct"},
        "first_text_ms": {
            name: {"p50": round(percentile(firsts[name], 0.5), 1), "p99": round(percentile(firsts[name], 0.99), 1)}
            for name in found
        },
        "samples": size.paced * size.rounds,
        "at_once": {"swift": _AT_ONCE, "paced": _PACED_AT_ONCE},
    }
