"""Processes and servers that are killed, frozen and restarted at random under load: nothing is lost or doubled."""

import asyncio
import itertools
import os
import random
import tempfile
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any
from uuid import UUID

import httpx2
import msgspec
import pytest
import pytest_asyncio
from sqlalchemy import select

from infra import ground as grounds
from infra import queue, schema
from infra.ground import Ground
from infra.models import Job
from infra.settings import Settings
from quotas import accounts, keys
from tests.support import load
from tests.support.books import assert_charged_once, assert_even
from tests.support.chats import Client, chat
from tests.support.faults import Fate, draw
from tests.support.fleet import Backend, Backends, Fleet
from tests.support.load import Errand, Load, Question, over, persist
from tests.support.serving import free_port
from tests.support.vendor import Vendor
from tests.support.viewer import Viewer, place

pytestmark = [pytest.mark.slow, pytest.mark.asyncio(loop_scope="module")]

#: Another one every time, unless a failure is to be repeated.
SEED = int(os.environ.get("CHAOS_SEED", random.randrange(10**9)))
_numbers = itertools.count(1)
#: pytest's `record_property`: what a test measured, for its report.
type Property = Callable[[str, object], None]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def backends() -> AsyncGenerator[Backends]:
    """A PostgreSQL, with a migrated database to copy, and a Valkey that no other test uses."""
    # pytest's own folders are too deep for a unix socket's path.
    with tempfile.TemporaryDirectory(prefix="pulse-faults-") as folder:
        backends = Backends(Settings(env="test", home=folder))
        await backends.start()
        try:
            await asyncio.to_thread(schema.migrate, backends.settings)
            yield backends
        finally:
            await backends.stop()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def studio(backends: Backends, tmp_path_factory: pytest.TempPathFactory) -> AsyncGenerator[tuple[Fleet, Vendor]]:
    """A studio of three workers with short leases, and the vendor that it asks, which answers what is asked."""
    async with Vendor.serving() as vendor:
        vendor.otherwise = load.answer
        settings = msgspec.structs.replace(
            backends.settings,
            port=free_port(),
            compatible_url=vendor.url,
            compatible_models="wire-1",
            heartbeat_s=2.0,
            lease_s=2.0,
            grace_s=2.0,
            tend_every_s=0.5,
            retry_base_s=0.1,
        )
        log = tmp_path_factory.mktemp("studio") / "log"
        async with Fleet.running(settings, backends, log, workers=3) as fleet:
            yield fleet, vendor


@pytest_asyncio.fixture(loop_scope="module")
async def fleet(studio: tuple[Fleet, Vendor]) -> Fleet:
    """The studio, with all of its processes running and nothing in its log yet."""
    fleet, _ = studio
    await fleet.complete()
    fleet.log.write_bytes(b"")
    return fleet


@pytest_asyncio.fixture(loop_scope="module")
async def vendor(studio: tuple[Fleet, Vendor]) -> Vendor:
    """The studio's vendor, asked nothing yet."""
    _, vendor = studio
    vendor.requests.clear()
    vendor.speaking.clear()
    return vendor


@asynccontextmanager
async def _client(fleet: Fleet) -> AsyncGenerator[Client]:
    """Give a client of the API, for a new account."""
    settings = fleet.settings
    async with grounds.opened(settings) as ground, ground.database.begin() as session:
        account = await accounts.create(session, f"account-{next(_numbers)}@example.com")
        key = await keys.issue(session, settings, account.id, name="test")
    async with Client(
        base_url=f"http://127.0.0.1:{settings.port}",
        headers={"Authorization": f"Bearer {key}"},
        timeout=5,
        limits=httpx2.Limits(max_connections=None),
    ) as client:
        yield client


@pytest_asyncio.fixture(loop_scope="module")
async def client(fleet: Fleet) -> AsyncGenerator[Client]:
    """A client of the API, for an account of its own."""
    async with _client(fleet) as client:
        yield client


async def _ask(client: Client, *questions: Question) -> list[dict[str, Any]]:
    """Submit the questions and return their jobs."""
    asked = [chat(str(question), max_output_tokens=64) for question in questions]
    return [(await persist(client, "POST", "/v1/jobs", json=request)).json()["job"] for request in asked]


async def _answered(client: Client, jobs: list[dict[str, Any]], *questions: Question) -> list[int]:
    """Wait until the questions are answered as they should be, and return which attempt did it."""
    async with asyncio.timeout(60):
        done = [await over(client, job) for job in jobs]
    for job, question in zip(done, questions, strict=True):
        assert (job["state"], job["error"]) == ("succeeded", None)
        assert job["result"]["text"] == "".join(question.deltas)
        assert job["charged"] == {"chat_tokens": question.charge}
    return [job["attempt"] for job in done]


@asynccontextmanager
async def _frozen(server: Backend) -> AsyncGenerator[None]:
    server.freeze()
    try:
        yield
    finally:
        server.thaw()


@asynccontextmanager
async def _gone(server: Backend) -> AsyncGenerator[None]:
    await server.kill()
    try:
        yield
    finally:
        await server.start()


async def _books_are_right(fleet: Fleet) -> None:
    async with grounds.opened(fleet.settings) as ground:
        await assert_charged_once(ground)
        await assert_even(ground)


async def _round(fleet: Fleet, seed: str, *, faults: int, longest_s: float) -> None:
    """Let faults happen under load, heal everything, and look at what became of it."""
    drawn = draw(random.Random(f"{seed} faults"), fleet, faults, longest_s)
    told = f"CHAOS_SEED={SEED}, log {fleet.log}:\n" + "\n".join(map(str, drawn))
    try:
        async with AsyncExitStack() as stack:
            clients = [await stack.enter_async_context(_client(fleet)) for _ in range(3)]
            fate, running = Fate(fleet), Load(clients, random.Random(f"{seed} load"))
            try:
                await fate.befall(drawn)
            finally:
                await running.over(within_s=60)
            assert fleet.fallen() == []
            assert set(fate.codes) <= {0}
            assert fleet.traceback() == "", "an outage is no bug"
            async with grounds.opened(fleet.settings) as ground:
                await _assert_right(ground, running.errands)
    except BaseException as error:
        error.add_note(told)
        raise


async def _assert_right(ground: Ground, errands: list[Errand]) -> None:
    for errand in errands:
        _assert_done(errand)
        for viewer in errand.viewers:
            _assert_told_once(errand, viewer)
        await _assert_agreed(errand)
    await assert_charged_once(ground)
    await assert_even(ground)
    await _assert_idle(ground)
    await ground.redis.flushall()  # pyright: ignore[reportUnknownMemberType]
    for errand in errands:
        await _assert_agreed(errand)


def _assert_done(errand: Errand) -> None:
    job, whole = errand.job, "".join(errand.question.deltas)
    if job["state"] == "canceled":
        assert errand.cancelled
        assert job["result"] is None or whole.startswith(job["result"]["text"])
    else:
        assert (job["state"], job["error"]) == ("succeeded", None), job
        assert job["result"]["text"] == whole
        assert job["charged"] == {"chat_tokens": errand.question.charge}


def _assert_told_once(errand: Errand, viewer: Viewer) -> None:
    places = [place(name) for name, _ in viewer.told]
    assert places == sorted(set(places)), "once, in order"
    for _, some in itertools.groupby(places, key=lambda at: at[0]):
        numbers = [n for _, n in some]
        assert numbers == list(range(1, len(numbers) + 1)), "without a gap"
    assert viewer.told[-1][1]["type"] == errand.job["state"]
    if errand.job["state"] == "succeeded":
        assert viewer.text == errand.job["result"]["text"]
        assert viewer.told[-1][1]["charged"] == errand.job["charged"]


async def _assert_agreed(errand: Errand) -> None:
    """Fail unless everyone who followed a job was told the same of its last attempt, and whoever comes now is too."""
    late = Viewer(errand.client, errand.job["urls"]["events"])
    async with asyncio.timeout(20):
        await late.watch()
    _assert_told_once(errand, late)
    for viewer in errand.viewers:
        if errand.job["state"] == "succeeded":
            assert viewer.last_attempt == late.last_attempt
        else:  # of what was cancelled while it waited nothing is kept but that
            assert viewer.told[-1][1] == late.told[-1][1]


async def _assert_idle(ground: Ground) -> None:
    """Fail unless the queue forgets every job that is over, also those that came back with an old snapshot."""
    base, left = queue.base(queue.name("chat")), {"?": 1}
    keys = {name: f"{base}{name}" for name in ("leases", "owners", "who", "losses", "running")}
    async with asyncio.timeout(20):
        while left:
            kinds = {name: (key, (await ground.redis.type(key)).decode()) for name, key in keys.items()}
            left = {name: kind for name, kind in kinds.items() if kind[1] != "none"}
            await asyncio.sleep(0.2)


async def test_random_faults_under_load_lose_and_double_nothing(fleet: Fleet) -> None:
    await _round(fleet, f"{SEED}", faults=6, longest_s=2.5)


@pytest.mark.parametrize("away_s", [3.0, pytest.param(30.0, marks=pytest.mark.chaos)])
async def test_valkey_gone_for_a_while_ends_no_process_and_disturbs_no_running_job(
    fleet: Fleet, client: Client, vendor: Vendor, away_s: float, record_property: Property
) -> None:
    # They are in the middle of their answers before, through and after the outage, which is longer than a lease.
    running = [Question(n, 40, int((away_s + 5) * 1000 / 40)) for n in range(4)]
    during, after = Question(4, 3, 10), Question(5, 3, 10)
    jobs = await _ask(client, *running)
    await asyncio.wait_for(vendor.asked(4), 20)
    async with _gone(fleet.valkey):
        jobs += await _ask(client, during)
        await asyncio.sleep(away_s)
        assert fleet.fallen() == []
    back_s = time.monotonic()
    jobs += await _ask(client, after)
    attempts = await _answered(client, jobs[-1:], after)
    record_property("valkey_back_to_next_job_s", round(time.monotonic() - back_s, 2))
    attempts += await _answered(client, jobs[:-1], *running, during)
    assert fleet.fallen() == []
    assert attempts == [1] * 6
    assert len(vendor.requests) == 6
    await _books_are_right(fleet)


@pytest.mark.chaos
async def test_a_server_that_hangs_keeps_nobody_waiting_for_long(fleet: Fleet, client: Client) -> None:
    question = Question(1, 3, 10)
    async with _frozen(fleet.valkey):
        unready = [await client.get("/readyz", timeout=8)]
        asked = chat(str(question), max_output_tokens=64)
        admitted = await client.post("/v1/jobs", json=asked, timeout=15)
    async with _frozen(fleet.postgres):
        unready.append(await client.get("/readyz", timeout=8))
    assert [answer.status_code for answer in unready] == [503, 503]
    await _answered(client, [admitted.json()["job"]], question)
    await _books_are_right(fleet)


async def test_postgresql_gone_while_jobs_finish_is_waited_for_with_their_results_in_hand(
    fleet: Fleet, client: Client, vendor: Vendor
) -> None:
    questions = [Question(n, 10, 60) for n in range(4)]
    jobs = await _ask(client, *questions)
    viewers = [Viewer(client, job["urls"]["events"]) for job in jobs]
    watching = [asyncio.create_task(viewer.watch()) for viewer in viewers]
    await asyncio.wait_for(vendor.asked(4), 20)
    async with _gone(fleet.postgres):
        await asyncio.sleep(2.5)  # longer than the answers take, and than a lease
        assert fleet.fallen() == []
    assert await _answered(client, jobs, *questions) == [1] * 4
    await asyncio.wait_for(asyncio.gather(*watching), 20)
    assert len(vendor.requests) == 4, "nothing was asked again"
    assert [viewer.text for viewer in viewers] == ["".join(question.deltas) for question in questions]
    await _books_are_right(fleet)


async def test_a_worker_frozen_for_longer_than_its_lease_says_ends_and_charges_nothing_and_serves_on(
    fleet: Fleet, client: Client, vendor: Vendor
) -> None:
    question, later = Question(1, 10, 60), Question(2, 3, 10)
    jobs = await _ask(client, question)
    viewer = Viewer(client, jobs[0]["urls"]["events"])
    watching = asyncio.create_task(viewer.watch())
    await asyncio.wait_for(vendor.speaking.wait(), 20)
    frozen = await fleet.holder(jobs[0]["id"])
    fleet.freeze(frozen)  # the rest of the answer waits for it in its socket
    try:
        assert await _answered(client, jobs, question) == [2]
        await asyncio.wait_for(watching, 20)
    finally:
        fleet.thaw(frozen)
    await asyncio.sleep(1.0)  # it has the answer in hand at once
    late = Viewer(client, jobs[0]["urls"]["events"])
    await late.watch()
    assert late.told == viewer.told
    for name in set(fleet.workers) - {frozen}:
        fleet.kill(name)
    jobs += await _ask(client, later)
    assert await _answered(client, jobs, question, later) == [2, 1]
    assert fleet.fallen() == []
    await _books_are_right(fleet)


async def test_a_worker_told_to_stop_under_load_loses_no_job_and_counts_no_failure(
    fleet: Fleet, client: Client, vendor: Vendor
) -> None:
    short, long = [Question(n, 10, 60) for n in range(6)], [Question(n, 40, 80) for n in range(6, 12)]
    jobs = await _ask(client, *short, *long)
    told = await fleet.holder(jobs[-1]["id"])
    assert await fleet.terminate(told) == 0
    attempts = await _answered(client, jobs, *short, *long)
    assert fleet.fallen() == []
    assert attempts[:6] == [1] * 6, "what could end within the grace did"
    assert 1 < attempts[-1] == max(attempts)
    ids = [UUID(job["id"]) for job in jobs]
    async with grounds.opened(fleet.settings) as ground, ground.database.begin() as session:
        counted = await session.execute(select(Job.tries, Job.losses).where(Job.id.in_(ids)).distinct())
        assert [tuple(row) for row in counted] == [(0, 0)]
    await _books_are_right(fleet)


async def test_a_killed_workers_job_runs_again_soon_by_default(
    fleet: Fleet, client: Client, vendor: Vendor, record_property: Property
) -> None:
    async with _with_default_leases(fleet):
        question = Question(1, 10, 60)
        jobs = await _ask(client, question)
        await asyncio.wait_for(vendor.speaking.wait(), 20)
        fleet.kill(await fleet.holder(jobs[0]["id"]))
        killed_s = time.monotonic()
        await asyncio.wait_for(vendor.asked(2), 30)
        record_property("kill_to_rerun_s", round(time.monotonic() - killed_s, 2))
        assert await _answered(client, jobs, question) == [2]
    await _books_are_right(fleet)


@asynccontextmanager
async def _with_default_leases(fleet: Fleet) -> AsyncGenerator[None]:
    """Exchange the workers for such as have the lease of the defaults."""
    short = fleet.settings
    for name in fleet.workers:
        fleet.kill(name)
    fleet.settings = msgspec.structs.replace(short, lease_s=Settings().lease_s)
    await fleet.complete()
    try:
        yield
    finally:
        fleet.settings = short
        for name in fleet.workers:
            fleet.kill(name)


@pytest.mark.chaos
@pytest.mark.parametrize("number", range(15))
async def test_round_after_round_of_random_faults_loses_and_doubles_nothing(fleet: Fleet, number: int) -> None:
    await _round(fleet, f"{SEED} {number}", faults=12, longest_s=8.0)
