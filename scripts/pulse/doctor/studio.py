"""Checks of the studio's own processes: the API, the workers, and the model that answers."""

import asyncio

import httpx2

from infra import ground, queue
from infra.settings import Settings
from providers import deployments, gguf
from scripts.pulse import place
from scripts.pulse.doctor.finding import Finding, attempt, failed, ok
from scripts.pulse.place import Place
from workers import pools, tend
from workers.webhooks import pool as webhooks

_START = "start the studio: make run"


async def check(settings: Settings) -> list[Finding]:
    """Look at everything."""
    return [
        *await asyncio.gather(
            attempt("API", _api(settings), _START),
            attempt("workers", _workers(settings), _START),
            attempt("tender", _tender(settings), _START),
            attempt("webhooks", _webhooks(settings), _START),
        ),
        *await _model(settings),
    ]


async def _get(where: Place, path: str) -> httpx2.Response:
    # A proxy that the environment names cannot reach this machine's own addresses.
    async with httpx2.AsyncClient(base_url=where.url, timeout=5, trust_env=not where.is_here) as client:
        return await client.get(path)


async def _api(settings: Settings) -> Finding:
    where = place.find(settings)
    try:
        answer = await _get(where, "/readyz")
    except httpx2.TransportError:
        return failed("API", f"nothing answers at {where.url}", _START)
    if not answer.is_success:
        return failed("API", f"{where.url} is not ready: HTTP {answer.status_code}", "see PostgreSQL and Redis above")
    return ok("API", f"ready at {where.url}")


async def _workers(settings: Settings) -> Finding:
    async with ground.opened(settings) as opened:
        # Where arq's workers say every few seconds that they live; the key goes when they do.
        dead = [pool for pool in pools.POOLS if not await opened.redis.get(f"{queue.name(pool)}:health-check")]
    if dead:
        start = " and ".join(f"python -m workers {pool}" for pool in dead)
        return failed("workers", f"none for: {', '.join(dead)}", f"{_START} (or {start})")
    return ok("workers", f"alive: {', '.join(pools.POOLS)}")


async def _tender(settings: Settings) -> Finding:
    async with ground.opened(settings) as opened:
        lives = await opened.redis.exists(tend.ALIVE)
    if not lives:
        return failed("tender", "nobody mends what is lost", f"{_START} (or python -m workers tend)")
    return ok("tender", "alive")


async def _webhooks(settings: Settings) -> Finding:
    async with ground.opened(settings) as opened:
        lives = await opened.redis.exists(webhooks.ALIVE)
    if not lives:
        return failed("webhooks", "nobody delivers them", f"{_START} (or python -m workers webhooks)")
    return ok("webhooks", "alive")


async def _model(settings: Settings) -> list[Finding]:
    if settings.cloud:
        doors = deployments.of(settings)
        return [ok("models", ", ".join(f"{vendor} ({len(keys)})" for vendor, keys in doors.items()))]
    return [
        await attempt("model file", _file(settings), "install the locked requirements again: make run"),
        await attempt("model server", _server(settings), _START),
    ]


async def _file(settings: Settings) -> Finding:
    path = gguf.gguf(settings)
    return ok("model file", f"{path.name}, {path.stat().st_size / 1e6:,.0f} MB")


async def _server(settings: Settings) -> Finding:
    studio = place.running(settings)
    port = (studio.local_port if studio else None) or settings.local_port
    try:
        answer = await _get(Place(f"http://127.0.0.1:{port}", ""), "/health")
    except httpx2.TransportError:
        return failed("model server", f"nothing answers on port {port}", f"{_START} (or python -m providers.local)")
    if not answer.is_success:
        return failed("model server", f"port {port}: HTTP {answer.status_code}", "it is loading: try again in a moment")
    return ok("model server", f"ready on port {port}")
