"""A process is killed at every chunk of an answer while people watch: each of them sees the same text, byte by byte."""

import asyncio
import itertools
import tempfile
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any, Literal, Protocol
from uuid import UUID

import msgspec
import pytest
import pytest_asyncio
from sqlalchemy import func, select

from infra import ground as grounds
from infra import schema
from infra.models import Job
from infra.settings import Settings
from quotas import accounts, keys
from tests.support.books import assert_charged_once, assert_even
from tests.support.chats import Client, chat
from tests.support.fleet import Backends, Fleet
from tests.support.load import over, persist
from tests.support.openai_wire import OpenAIWire, Script
from tests.support.serving import free_port
from tests.support.vendor import Answer, Vendor
from tests.support.viewer import Viewer

pytestmark = [pytest.mark.slow, pytest.mark.asyncio(loop_scope="module")]

#: An answer in pieces that cut words, marks from their letters and a family of emoji in two.
PIECES = ["السَّ", "لامُ ع", "ليكُم", "، this is ", "`code", "()` ", "👩", "\u200d👧", " ١٢٣", "\n- بند", " أخير", "."]
WHOLE = "".join(PIECES)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def backends() -> AsyncGenerator[Backends]:
    """A PostgreSQL, migrated, and a Valkey that no other test uses."""
    with tempfile.TemporaryDirectory(prefix="pulse-sweeps-") as folder:
        backends = Backends(Settings(env="test", home=folder))
        await backends.start()
        try:
            await asyncio.to_thread(schema.migrate, backends.settings)
            yield backends
        finally:
            await backends.stop()


class Upstream(Protocol):
    """A vendor that stops after so many pieces as the question says, until it is let go."""

    #: Whether it goes on with an answer when nobody listens.
    resumes: bool
    #: The settings that lead to it.
    settings: dict[str, str]
    model: str
    go: asyncio.Event

    @property
    def generations(self) -> int:
        """How many answers were begun."""
        ...


class _Compatible:
    """A server that forgets what nobody listens to."""

    resumes = False
    model = "wire-1"

    def __init__(self, vendor: Vendor) -> None:
        self.settings = {"compatible_url": vendor.url, "compatible_models": self.model}
        self.go = asyncio.Event()
        self._vendor = vendor
        vendor.otherwise = self._answer

    @property
    def generations(self) -> int:
        return len(self._vendor.requests)

    def _answer(self, request: dict[str, Any]) -> Answer:
        return Answer(deltas=PIECES, hold=self.go, hold_after=int(request["messages"][-1]["content"]))


class _OpenAI:
    """OpenAI, where answers are made in the background."""

    resumes = True
    model = "gpt-6-luna"

    def __init__(self, wire: OpenAIWire) -> None:
        self.settings = {"openai_base_url": wire.url, "openai_api_key": "k"}
        self.go = asyncio.Event()
        self._wire = wire
        wire.otherwise = self._script

    @property
    def generations(self) -> int:
        return self._wire.generations

    def _script(self, request: dict[str, Any]) -> Script:
        said = request["input"][-1]["content"]
        question = said if isinstance(said, str) else said[-1]["text"]
        return Script(deltas=PIECES, hold=self.go, hold_after=int(question))


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=["compatible", "openai"])
async def upstream(request: pytest.FixtureRequest) -> AsyncGenerator[Upstream]:
    """The vendor."""
    if request.param == "openai":
        async with OpenAIWire.serving() as wire:
            yield _OpenAI(wire)
    else:
        async with Vendor.serving() as vendor:
            yield _Compatible(vendor)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def fleet(
    backends: Backends, upstream: Upstream, tmp_path_factory: pytest.TempPathFactory
) -> AsyncGenerator[Fleet]:
    """A studio of one worker, in which every answer has a slot."""
    settings = msgspec.structs.replace(
        backends.settings,
        port=free_port(),
        chat_slots=2 * len(PIECES),
        account_cap=2 * len(PIECES),
        heartbeat_s=2.0,
        lease_s=2.0,
        grace_s=2.0,
        tend_every_s=0.5,
        retry_base_s=0.1,
        **upstream.settings,
    )
    log: Path = tmp_path_factory.mktemp("sweeps") / "log"
    async with Fleet.running(settings, backends, log, workers=1) as fleet:
        yield fleet


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def client(fleet: Fleet) -> AsyncGenerator[Client]:
    """A client of the API, for an account."""
    settings = fleet.settings
    async with grounds.opened(settings) as ground, ground.database.begin() as session:
        account = await accounts.create(session, f"{fleet.settings.port}@example.com")
        key = await keys.issue(session, settings, account.id, name="test")
    headers = {"Authorization": f"Bearer {key}"}
    async with Client(base_url=f"http://127.0.0.1:{settings.port}", headers=headers, timeout=5) as client:
        yield client


async def _sweep(fleet: Fleet, client: Client, upstream: Upstream, victim: Literal["api", "worker 1"]) -> list[int]:
    """Kill `victim` when every answer has come to another piece; returns which attempts made the answers."""
    upstream.go.clear()
    asked = [chat(str(n), max_output_tokens=64, model=upstream.model) for n in range(len(PIECES) + 1)]
    jobs = [(await persist(client, "POST", "/v1/jobs", json=request)).json()["job"] for request in asked]
    viewers = [[Viewer(client, job["urls"]["events"]) for _ in range(1 + n % 5)] for n, job in enumerate(jobs)]
    everybody = list(itertools.chain.from_iterable(viewers))
    async with asyncio.TaskGroup() as group, asyncio.timeout(60):
        for viewer in everybody:
            group.create_task(viewer.watch())
        for n, few in enumerate(viewers):
            while any(viewer.text != "".join(PIECES[:n]) for viewer in few):  # noqa: ASYNC110
                await asyncio.sleep(0.02)
        while upstream.resumes and not await _are_kept(fleet, jobs):  # noqa: ASYNC110
            await asyncio.sleep(0.02)
        fleet.kill(victim)
        upstream.go.set()
        await fleet.complete()
    done = [await over(client, job) for job in jobs]
    assert [(job["state"], job["result"]["text"]) for job in done] == [("succeeded", WHOLE)] * len(jobs)
    assert {viewer.text.encode() for viewer in everybody} == {WHOLE.encode()}
    for viewer in everybody:
        ids = [name for name, _ in viewer.told]
        assert len(set(ids)) == len(ids), "no event comes twice"
    async with grounds.opened(fleet.settings) as ground:
        await assert_charged_once(ground)
        await assert_even(ground)
    return [job["attempt"] for job in done]


async def _are_kept(fleet: Fleet, jobs: list[dict[str, Any]]) -> bool:
    """Tell whether it is kept for every job where its answer is to be found again."""
    query = select(func.count()).where(Job.id.in_([UUID(job["id"]) for job in jobs]), Job.checkpoint.is_not(None))
    async with grounds.opened(fleet.settings) as ground, ground.database.begin() as session:
        return await session.scalar(query) == len(jobs)


async def test_the_api_dies_at_every_chunk(fleet: Fleet, client: Client, upstream: Upstream) -> None:
    before = upstream.generations
    assert set(await _sweep(fleet, client, upstream, "api")) == {1}
    assert upstream.generations - before == len(PIECES) + 1, "who watches an answer has no part in its making"


async def test_the_worker_dies_at_every_chunk(fleet: Fleet, client: Client, upstream: Upstream) -> None:
    before = upstream.generations
    assert set(await _sweep(fleet, client, upstream, "worker 1")) == {2}
    times = 1 if upstream.resumes else 2
    assert upstream.generations - before == times * (len(PIECES) + 1), "made anew only where nothing can be resumed"


@pytest.mark.chaos
async def test_they_die_again_and_again(fleet: Fleet, client: Client, upstream: Upstream) -> None:
    for _ in range(10):
        await _sweep(fleet, client, upstream, "api")
        await _sweep(fleet, client, upstream, "worker 1")
