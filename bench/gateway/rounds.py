"""Runs `bench gateway`: each contender in turn, round after round, against one upstream."""

import asyncio
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from contextlib import aclosing, asynccontextmanager, contextmanager
from typing import Any

import openai
import uvloop
from msgspec import Struct, field

from bench.queue.figures import percentile
from infra import redis as road
from infra import telemetry
from infra.embedded import valkey
from infra.settings import ROOT, Settings
from providers import catalog, compatible, deployments, types
from providers.gateway import Gateway
from tests.support.serving import free_port

SHORT, LONG = "chunks-5", "chunks-500"
_AT_ONCE = 20
_SDK, _ADAPTER, _ALONE, _GATEWAY = "sdk", "adapter", "gateway without redis", "gateway"

#: Asks a model, reads the answer to its end, and returns the seconds until its first words and how many pieces came.
type Ask = Callable[[str], Awaitable[tuple[float, int]]]


class Found(Struct):
    """What one contender took: milliseconds of calls, and chunks a second of each round."""

    call_ms: list[float] = field(default_factory=list[float])
    first_ms: list[float] = field(default_factory=list[float])
    crowd_ms: list[float] = field(default_factory=list[float])
    chunks_per_s: list[float] = field(default_factory=list[float])
    cpu_us_per_chunk: list[float] = field(default_factory=list[float])


def run(*, quick: bool) -> dict[str, object]:
    """Return what a call and a chunk cost by the gateway, and by the SDK alone."""
    rounds, calls, answers = (2, 30, 1) if quick else (9, 100, 3)
    with tempfile.TemporaryDirectory(prefix="pulse-bench-") as folder, _upstream() as url:
        settings = Settings(
            env="test", home=folder, log_level="error", compatible_url=url, compatible_models=f"{SHORT},{LONG}"
        )
        telemetry.configure(settings, "bench")
        server = valkey.server(settings)
        server.launch(lambda _text: None)
        try:
            server.wait()
            found = uvloop.run(_measured(settings, rounds, calls, answers))
        finally:
            server.stop()
    return _summary(found) | {"rounds": rounds, "calls": rounds * calls}


async def _measured(settings: Settings, rounds: int, calls: int, answers: int) -> dict[str, Found]:
    async with _contenders(settings) as asks:
        found = {name: Found() for name in asks}
        for ask in asks.values():  # connections, caches
            await asyncio.gather(*(ask(LONG) for _ in range(_AT_ONCE)))
        for number in range(rounds):
            order = list(asks)[number % len(asks) :] + list(asks)[: number % len(asks)]
            # Call by call in turn, so that whatever else the machine does befalls all alike.
            for _ in range(calls):
                for name in order:
                    await _call(asks[name], found[name])
            for name in order:
                await _crowd(asks[name], found[name], calls)
            for name in order:
                await _relay(asks[name], found[name], answers)
    return found


async def _call(ask: Ask, found: Found) -> None:
    began_s = time.perf_counter()
    first_s, _ = await ask(SHORT)
    found.call_ms.append((time.perf_counter() - began_s) * 1000)
    found.first_ms.append(first_s * 1000)


async def _crowd(ask: Ask, found: Found, calls: int) -> None:
    left = calls * 2

    async def one_after_the_other() -> None:
        nonlocal left
        while left > 0:
            left -= 1
            began_s = time.perf_counter()
            await ask(SHORT)
            found.crowd_ms.append((time.perf_counter() - began_s) * 1000)

    await asyncio.gather(*(one_after_the_other() for _ in range(_AT_ONCE)))


async def _relay(ask: Ask, found: Found, answers: int) -> None:
    async def one_after_the_other() -> int:
        return sum([(await ask(LONG))[1] for _ in range(answers)])

    began_s, cpu_s = time.perf_counter(), time.process_time()
    chunks = sum(await asyncio.gather(*(one_after_the_other() for _ in range(_AT_ONCE))))
    found.chunks_per_s.append(chunks / (time.perf_counter() - began_s))
    found.cpu_us_per_chunk.append((time.process_time() - cpu_s) / chunks * 1e6)


@asynccontextmanager
async def _contenders(settings: Settings) -> AsyncGenerator[dict[str, Ask]]:
    """Give what asks, by name."""
    client = openai.AsyncOpenAI(base_url=settings.compatible_url, api_key="none", max_retries=0)
    adapter = compatible.connect(deployments.of(settings)["compatible"][0])
    redis = road.connect(settings)
    shared, alone = Gateway(settings, redis), Gateway(settings)
    models = catalog.offered(settings)
    turns = [types.Turn("user", [types.Text("hi")])]

    def call(model: str) -> types.ChatCall:
        return types.ChatCall(model=model, turns=turns, output_tokens=1000)

    async def by_sdk(model: str) -> tuple[float, int]:
        began_s, first_s, count = time.perf_counter(), 0.0, 0
        stream = await client.chat.completions.create(
            model=model,
            messages=[{"role": "user", "content": "hi"}],
            max_tokens=1000,
            stream=True,
            stream_options={"include_usage": True},
        )
        async with stream as chunks:
            async for chunk in chunks:
                if chunk.choices and chunk.choices[0].delta.content:
                    first_s = first_s or time.perf_counter() - began_s
                    count += 1
        return first_s, count

    async def read(said: Any) -> tuple[float, int]:
        began_s, first_s, count = time.perf_counter(), 0.0, 0
        async with aclosing(said) as chunks:
            async for chunk in chunks:
                if isinstance(chunk, types.TextDelta):
                    first_s = first_s or time.perf_counter() - began_s
                    count += 1
        return first_s, count

    yield {
        _SDK: by_sdk,
        _ADAPTER: lambda model: read(adapter.stream(call(model))),
        _ALONE: lambda model: read(alone.stream([models[model]], call(model))),
        _GATEWAY: lambda model: read(shared.stream([models[model]], call(model))),
    }
    for one in (shared, alone, adapter, client):
        await one.close()
    await redis.aclose()


def _summary(found: dict[str, Found]) -> dict[str, object]:
    """Return the figures: what is added is the difference of the medians of calls made in turn."""

    def median(name: str, what: str) -> float:
        return statistics.median(getattr(found[name], what))

    ours = found[_GATEWAY]
    return {
        "added_ms": round(median(_GATEWAY, "call_ms") - median(_SDK, "call_ms"), 2),
        "added_to_first_ms": round(median(_GATEWAY, "first_ms") - median(_SDK, "first_ms"), 2),
        "added_at_20_ms": round(median(_GATEWAY, "crowd_ms") - median(_SDK, "crowd_ms"), 2),
        "chunks_per_s": round(median(_GATEWAY, "chunks_per_s")),
        "chunks_per_s_least": round(min(ours.chunks_per_s)),
        "chunks_per_cpu_s": round(1e6 / median(_GATEWAY, "cpu_us_per_chunk")),
        "to_sdk": round(median(_GATEWAY, "chunks_per_s") / median(_SDK, "chunks_per_s"), 2),
        "by_contender": {
            name: {
                "call_ms": {"p50": round(median(name, "call_ms"), 2), "p99": round(_p99(each.call_ms), 2)},
                "first_ms": round(median(name, "first_ms"), 2),
                "at_20_ms": {"p50": round(median(name, "crowd_ms"), 2), "p99": round(_p99(each.crowd_ms), 2)},
                "chunks_per_s": round(median(name, "chunks_per_s")),
                "cpu_us_per_chunk": round(median(name, "cpu_us_per_chunk"), 1),
            }
            for name, each in found.items()
        },
    }


def _p99(values: list[float]) -> float:
    return percentile(sorted(values), 0.99)


@contextmanager
def _upstream() -> Generator[str]:
    """Run the upstream for the length of a block; gives its base URL."""
    port = free_port()
    command = [sys.executable, "-m", "bench.gateway.upstream", str(port)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            process.stdout.readline()
            yield f"http://127.0.0.1:{port}/v1"
        finally:
            process.kill()
