"""How soon a cancel over HTTP reaches a running job: its coroutine, and the child process in which another computes."""

import asyncio
import os
import signal
import socket
import sys
import tempfile
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from types import ModuleType
from typing import Any

import httpx2
import msgspec
import uvloop
from granian.constants import Interfaces
from granian.server.embed import Server

from api.app import create_app
from bench import spinning
from bench.queue.figures import percentile
from infra import embedded, ground, schema, telemetry
from infra.settings import Settings
from quotas import accounts, keys
from workers import events, kinds, pools
from workers.context import Made, Run
from workers.craft import child
from workers.craft.child import Spares
from workers.request import Asking, Request
from workers.worker import StudioPool

_PATIENCE_S = 20.0
_POOL = "bench"
# A job is left alone for a moment before it is cancelled, and a spare for long enough to be ready.
_SETTLE_S = 0.02
_READY_S = 0.25


def run(*, quick: bool) -> dict[str, object]:
    """Return milliseconds from `POST /v1/jobs/{id}/cancel` to the deed, and from a child's call to its first word.

    One job at a time; the API, PostgreSQL, Valkey and the worker are real, the API and the worker in this process.
    """
    rounds = 20 if quick else 250
    with tempfile.TemporaryDirectory(prefix="pulse-bench-") as folder:
        settings = Settings(env="test", home=folder, log_level="error")
        telemetry.configure(settings, "bench")
        with embedded.Servers(settings):
            schema.migrate(settings)
            found = uvloop.run(_measured(settings, rounds))
    return found | {"rounds": rounds}


async def _measured(settings: Settings, rounds: int) -> dict[str, object]:
    async with Spares("bench.spinning") as spares:
        reached = _Reached(spares)
        _add("nap", Nap, reached.nap)
        _add("spin", Spin, reached.spin)
        async with _studio(settings) as client:
            coroutine = [await _cancel_ms(client, reached, "nap") for _ in range(rounds)]
            process = [await _cancel_ms(client, reached, "spin") for _ in range(rounds)]
        warm = [await _start_ms(spares) for _ in range(rounds)]
    cold = [await _start_ms(None) for _ in range(rounds)]
    return {
        "cancel_ms": {"coroutine": _summary(coroutine), "child": _summary(process)},
        "child_start_ms": {"cold": _summary(cold)["p50"], "warm": _summary(warm)["p50"]},
        "child_start_p95_ms": {"cold": _summary(cold)["p95"], "warm": _summary(warm)["p95"]},
    }


def _summary(values: list[float]) -> dict[str, float]:
    return {
        "p50": round(percentile(values, 0.5), 1),
        "p95": round(percentile(values, 0.95), 1),
        "most": round(max(values), 1),
    }


async def _cancel_ms(client: httpx2.AsyncClient, reached: "_Reached", kind: str) -> float:
    answer = await client.post("/v1/jobs", json={"kind": kind, "input": {}})
    answer.raise_for_status()
    job = answer.json()["job"]
    async with asyncio.timeout(_PATIENCE_S):
        await reached.running.wait()
        reached.running.clear()
        await asyncio.sleep(_SETTLE_S)
        began_s = time.perf_counter()
        answer = await client.post(job["urls"]["cancel"])
        answer.raise_for_status()
        gone_s = await reached.when
        await _until_over(client, job)
    return (gone_s - began_s) * 1000


async def _until_over(client: httpx2.AsyncClient, job: dict[str, Any]) -> None:
    while True:
        shown = (await client.get(job["urls"]["self"])).json()
        if shown["state"] == "canceled":
            return
        await asyncio.sleep(_SETTLE_S)


async def _start_ms(spares: Spares | None) -> float:
    if spares is not None:
        await asyncio.sleep(_READY_S)
    said_s: list[float] = []

    async def hear(_said: events.Progress) -> None:
        said_s.append(time.perf_counter())

    began_s = time.perf_counter()
    await child.run(spinning.nothing, on_progress=hear, spares=spares)
    return (said_s[0] - began_s) * 1000


class _Reached:
    """The two rooms, and when a cancel has reached the job that runs."""

    def __init__(self, spares: Spares) -> None:
        self._spares = spares
        self.running = asyncio.Event()
        self.when: asyncio.Future[float] = asyncio.Future()

    def _begin(self) -> None:
        self.when = asyncio.get_running_loop().create_future()
        self.running.set()

    def _reach(self) -> None:
        if not self.when.done():
            self.when.set_result(time.perf_counter())

    async def nap(self, _request: Request, _run: Run) -> Made:
        """Wait for ever."""
        self._begin()
        try:
            await asyncio.sleep(3600)
        finally:
            self._reach()
        raise AssertionError

    async def spin(self, _request: Request, _run: Run) -> Made:
        """Compute for ever in a child; it has been reached when the kernel says that the child's process has ended."""
        watched: list[int] = []

        async def hear(said: events.Progress) -> None:
            watched.append(os.pidfd_open(said.total))
            asyncio.get_running_loop().add_reader(watched[0], self._reach)
            self._begin()

        try:
            await child.run(spinning.spin, on_progress=hear, spares=self._spares)
        finally:
            for descriptor in watched:
                await asyncio.wait([self.when], timeout=_PATIENCE_S)
                asyncio.get_running_loop().remove_reader(descriptor)
                os.close(descriptor)
        raise AssertionError


class _Endless(Request):
    """Go on until it is cancelled."""

    input: dict[str, str]

    def resolved(self, asking: Asking) -> "_Endless":  # noqa: ARG002
        """Return the request as it came."""
        return self

    def most(self, asking: Asking) -> dict[str, int]:  # noqa: ARG002
        """Return one document, of which nothing will be used."""
        return {"documents": 1}


class Nap(_Endless, tag="nap"):
    """Wait in the loop."""


class Spin(_Endless, tag="spin"):
    """Compute in a child."""


def _add(kind: str, spec: type[Request], make: Any) -> None:
    """Add a kind to the studio of this process."""
    room: Any = ModuleType(f"workers.{kind}.run")
    room.make = make
    room.timeout_s = lambda _settings: 60.0  # pyright: ignore[reportUnknownLambdaType]
    sys.modules[room.__name__] = room
    kinds.SPECS[kind] = spec
    pools.POOLS[_POOL] = (*pools.POOLS.get(_POOL, ()), kind)


@asynccontextmanager
async def _studio(settings: Settings) -> AsyncGenerator[httpx2.AsyncClient]:
    """Run the API and a worker for the length of a block; gives a client with a key."""
    async with ground.opened(settings) as opened, opened.database.begin() as session:
        account = await accounts.create(session, "bench@example.com")
        key = await keys.issue(session, settings, account.id, name="bench")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    app = create_app(msgspec.structs.replace(settings, port=port))
    server = Server(app, address="127.0.0.1", port=port, interface=Interfaces.ASGI, log_enabled=False)
    serving = asyncio.create_task(server.serve())
    worker = StudioPool(settings, _POOL, slots=8, handle_signals=False)
    working = asyncio.create_task(worker.async_run())
    try:
        headers = {"Authorization": f"Bearer {key}"}
        async with httpx2.AsyncClient(base_url=f"http://127.0.0.1:{port}", headers=headers, timeout=30) as client:
            await _until_it_answers(client)
            yield client
    finally:
        worker.handle_sig(signal.SIGTERM)
        await asyncio.gather(working, return_exceptions=True)
        await worker.close()
        server.stop()
        await serving


async def _until_it_answers(client: httpx2.AsyncClient) -> None:
    async with asyncio.timeout(_PATIENCE_S):
        while True:
            try:
                await client.get("/healthz")
            except httpx2.TransportError:
                await asyncio.sleep(0.01)
            else:
                return
