"""Looking again and again at what may have changed: cheap where it has not, and answered as soon as it has."""

import asyncio
from uuid import UUID, uuid4

import httpx2
import msgspec
import pytest
from litestar import Litestar

from api.jobs.answers import JobAnswer, tag_of
from infra.ground import Ground
from infra.models import Account
from infra.settings import Settings
from tests.support.chats import Client, chat, submit, until
from tests.support.served import speaking, until_waiting, waiting
from tests.support.statements import overheard
from tests.support.uploads import announce
from tests.support.vendor import Answer, Vendor
from tests.support.work import working
from workers.eta import Outlook, Span
from workers.jobs import JobNotFound
from workers.views import Views


async def look(client: Client, url: str, *tags: str, **headers: str) -> httpx2.Response:
    """Look at `url` with a line of `If-None-Match` for each of `tags`."""
    lines = [(b"If-None-Match", tag.encode()) for tag in tags]
    return await client.get(url, headers=[*lines, *((name.encode(), text.encode()) for name, text in headers.items())])


async def test_a_job_that_the_caller_has_as_it_stands_is_not_sent_again(client: Client) -> None:
    job = await submit(client)
    await client.post(job["urls"]["cancel"])
    url = job["urls"]["self"]
    first = await client.get(url)
    tag = first.headers["etag"]
    assert (first.status_code, first.headers["cache-control"]) == (200, "private, no-cache")
    assert first.headers["vary"] == "Authorization, Accept-Language"
    bare = tag.removeprefix("W/")
    for tags in ([tag], [bare], ["*"], [f'"a", {tag}, "b"'], ['W/"a"', tag]):
        known = await look(client, url, *tags)
        assert (known.status_code, known.content, known.headers["etag"]) == (304, b"", tag), tags
        assert known.headers["vary"] == first.headers["vary"]
    for tags in (['"a"'], [f"W/{bare[:-2]}"], [bare.strip('"')], [""]):
        other = await look(client, url, *tags)
        assert (other.status_code, other.content) == (200, first.content), tags


async def test_a_tag_is_of_what_the_caller_gets_in_its_language(
    client: Client, settings: Settings, vendor: Vendor
) -> None:
    vendor.script = [Answer(status=400)]
    async with working(settings):
        job = await until(client, await submit(client))
    tags: dict[str, str] = {}
    for language in ("ar", "en"):
        answer = await client.get(job["urls"]["self"], headers={"Accept-Language": language})
        tags[language] = answer.headers["etag"]
    assert tags["ar"] != tags["en"]
    other = await look(client, job["urls"]["self"], tags["ar"], **{"Accept-Language": "en"})
    assert other.status_code == 200
    same = await look(client, job["urls"]["self"], tags["ar"], **{"Accept-Language": "ar"})
    assert same.status_code == 304


async def test_a_tag_tells_another_place_in_the_queue_and_not_another_guess_of_the_time(client: Client) -> None:
    job = await submit(client)
    told = msgspec.convert((await client.get(job["urls"]["self"])).json(), JobAnswer)

    def tag(position: int, seconds: float) -> str:
        span = Span(p50=seconds, p90=seconds)
        waits = Outlook(position=position, starts_in_s=span, finishes_in_s=span)
        moved = msgspec.structs.replace(told, waiting=waits)
        return tag_of(moved, msgspec.json.encode(moved))

    assert tag(3, 1.5) == tag(3, 1.4) != tag(2, 1.4)


async def test_lists_and_files_are_not_sent_again_either(client: Client) -> None:
    await submit(client)
    file = (await announce(client))["file"]
    tags: dict[str, str] = {}
    for url in ("/v1/jobs", "/v1/files", file["urls"]["self"]):
        tags[url] = (await client.get(url)).headers["etag"]
        known = await look(client, url, tags[url])
        assert (known.status_code, known.content) == (304, b"")
    await submit(client)
    await client.patch(file["urls"]["self"], json={"name": "خطة.txt"})
    for url, tag in tags.items():
        assert (await look(client, url, tag)).status_code == 200


async def test_a_look_that_waits_is_answered_as_soon_as_the_job_is_over(client: Client, app: Litestar) -> None:
    job = await submit(client)
    url = job["urls"]["self"]
    call = asyncio.create_task(client.get(url, params={"wait": "25"}))
    await until_waiting(app)
    await client.post(job["urls"]["cancel"])
    answer = await call
    assert (answer.status_code, answer.json()["state"]) == (200, "canceled")
    tag = answer.headers["etag"]
    async with asyncio.timeout(10):  # nothing more will change
        assert (await look(client, f"{url}?wait=25", tag)).status_code == 304
        assert (await client.get(url, params={"wait": "25"})).json()["state"] == "canceled"
    assert waiting(app) == 0


async def test_a_look_that_knows_the_job_is_answered_as_soon_as_it_is_another(
    client: Client, app: Litestar, settings: Settings, vendor: Vendor
) -> None:
    vendor.script = [Answer(hold=(held := asyncio.Event()))]
    job = await submit(client)
    url = job["urls"]["self"]
    tag = (await client.get(url)).headers["etag"]
    async with asyncio.timeout(10):
        assert (await look(client, f"{url}?wait=25", '"another"')).status_code == 200
    call = asyncio.create_task(look(client, f"{url}?wait=25", tag))
    await until_waiting(app)
    async with working(settings):
        answer = await call  # another already when it is claimed, which its row says a moment later
        assert answer.status_code == 200
        assert answer.headers["etag"] != tag
        await vendor.speaking.wait()
        ending = asyncio.create_task(client.get(url, params={"wait": "25"}))
        await until_waiting(app)
        held.set()
        assert (await ending).json()["state"] == "succeeded"


async def test_a_look_that_has_waited_long_enough_says_that_nothing_has_changed(settings: Settings, key: str) -> None:
    async with speaking(msgspec.structs.replace(settings, wait_s=1), key) as client:
        url = (await submit(client, chat("hi")))["urls"]["self"]
        tag = (await client.get(url)).headers["etag"]
        known, plain = await asyncio.gather(
            look(client, f"{url}?wait=600", tag), client.get(url, params={"wait": "1" + "0" * 30})
        )
    assert (known.status_code, known.headers["retry-after"]) == (304, "1")
    assert (plain.status_code, plain.json()["state"]) == (200, "queued")


async def test_a_wait_that_makes_no_sense_is_refused_by_its_name(client: Client) -> None:
    for text in ("soon", "-1", "1.5", "", "\u0661", "5s"):
        told: set[str] = set()
        for language in ("ar", "en"):
            headers = {"Accept-Language": language}
            answer = await client.get(f"/v1/jobs/{uuid4()}", params={"wait": text}, headers=headers)
            problem = answer.json()
            assert (answer.status_code, problem["code"], problem["field"]) == (400, "invalid_wait", "wait"), text
            assert "wait" in problem["detail"]
            told.add(problem["detail"])
        assert len(told) == 2


async def test_a_client_that_leaves_while_it_looks_leaves_nothing_behind(
    client: Client, app: Litestar, key: str
) -> None:
    job = await submit(client)
    async with Client(base_url=client.base_url, headers={"Authorization": f"Bearer {key}"}) as hasty:
        call = asyncio.create_task(hasty.get(job["urls"]["self"], params={"wait": "30"}))
        await until_waiting(app)
        call.cancel()
        await asyncio.gather(call, return_exceptions=True)
    await until_waiting(app, 0)


async def test_many_looks_at_the_same_time_are_few_statements(client: Client, ground: Ground, account: Account) -> None:
    made = [UUID((await submit(client))["id"]) for _ in range(3)]
    asked = overheard(ground.database)
    views = Views(ground)
    found = await asyncio.gather(*(views.job(account.id, job_id) for job_id in made * 40))
    assert [job.id for job in found] == made * 40
    assert await asyncio.gather(*(views.is_over(job_id) for job_id in made)) == [False] * 3
    assert len([statement for statement in asked if "FROM jobs" in statement]) == 2
    for stranger in (views.job(uuid4(), made[0]), views.job(account.id, uuid4())):
        with pytest.raises(JobNotFound):
            await stranger
