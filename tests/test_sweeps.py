"""A process is killed at every chunk of an answer while people watch: each of them sees the same text, byte by byte."""

import asyncio
import itertools
import tempfile
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any, Literal

import msgspec
import pytest
import pytest_asyncio

from infra import ground as grounds
from infra import schema
from infra.settings import Settings
from quotas import accounts, keys
from tests.support.books import assert_charged_once, assert_even
from tests.support.chats import Client, chat
from tests.support.fleet import Backends, Fleet
from tests.support.load import over, persist
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


class Upstream:
    """A vendor that stops after so many pieces as the question says, until it is let go."""

    def __init__(self, vendor: Vendor) -> None:
        """Answer what `vendor` is asked."""
        self._vendor = vendor
        self._go = asyncio.Event()
        vendor.otherwise = self._answer

    def hold(self) -> None:
        """Stop in the answers to come."""
        self._vendor.requests.clear()
        self._go = asyncio.Event()

    def let_go(self) -> None:
        """Go on with everything."""
        self._go.set()

    @property
    def generations(self) -> int:
        """How many answers were begun."""
        return len(self._vendor.requests)

    def _answer(self, request: dict[str, Any]) -> Answer:
        return Answer(deltas=PIECES, hold=self._go, hold_after=int(request["messages"][-1]["content"]))


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def upstream() -> AsyncGenerator[tuple[Upstream, str]]:
    """The vendor, and where it is."""
    async with Vendor.serving() as vendor:
        yield Upstream(vendor), vendor.url


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def fleet(
    backends: Backends, upstream: tuple[Upstream, str], tmp_path_factory: pytest.TempPathFactory
) -> AsyncGenerator[Fleet]:
    """A studio of one worker, in which every answer has a slot."""
    settings = msgspec.structs.replace(
        backends.settings,
        port=free_port(),
        compatible_url=upstream[1],
        compatible_models="wire-1",
        chat_slots=2 * len(PIECES),
        account_cap=2 * len(PIECES),
        heartbeat_s=2.0,
        lease_s=2.0,
        grace_s=2.0,
        tend_every_s=0.5,
        retry_base_s=0.1,
    )
    log: Path = tmp_path_factory.mktemp("sweeps") / "log"
    async with Fleet.running(settings, backends, log, workers=1) as fleet:
        yield fleet


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def client(fleet: Fleet) -> AsyncGenerator[Client]:
    """A client of the API, for an account."""
    settings = fleet.settings
    async with grounds.opened(settings) as ground, ground.database.begin() as session:
        account = await accounts.create(session, "sweeps@example.com")
        key = await keys.issue(session, settings, account.id, name="test")
    headers = {"Authorization": f"Bearer {key}"}
    async with Client(base_url=f"http://127.0.0.1:{settings.port}", headers=headers, timeout=5) as client:
        yield client


async def _sweep(fleet: Fleet, client: Client, upstream: Upstream, victim: Literal["api", "worker 1"]) -> list[int]:
    """Kill `victim` when every answer has come to another piece; returns which attempts made the answers."""
    upstream.hold()
    asked = [chat(str(n), max_output_tokens=64) for n in range(len(PIECES) + 1)]
    jobs = [(await persist(client, "POST", "/v1/jobs", json=request)).json()["job"] for request in asked]
    viewers = [[Viewer(client, job["urls"]["events"]) for _ in range(1 + n % 5)] for n, job in enumerate(jobs)]
    everybody = list(itertools.chain.from_iterable(viewers))
    async with asyncio.TaskGroup() as group, asyncio.timeout(60):
        for viewer in everybody:
            group.create_task(viewer.watch())
        for n, few in enumerate(viewers):
            while any(viewer.text != "".join(PIECES[:n]) for viewer in few):  # noqa: ASYNC110
                await asyncio.sleep(0.02)
        fleet.kill(victim)
        upstream.let_go()
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


async def test_the_api_dies_at_every_chunk(fleet: Fleet, client: Client, upstream: tuple[Upstream, str]) -> None:
    vendor, _ = upstream
    assert set(await _sweep(fleet, client, vendor, "api")) == {1}
    assert vendor.generations == len(PIECES) + 1, "who watches an answer has no part in its making"


async def test_the_worker_dies_at_every_chunk(fleet: Fleet, client: Client, upstream: tuple[Upstream, str]) -> None:
    vendor, _ = upstream
    assert set(await _sweep(fleet, client, vendor, "worker 1")) == {2}
    assert vendor.generations == 2 * (len(PIECES) + 1), "where nothing can be resumed, it is made anew"
