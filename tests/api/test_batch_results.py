"""Results over HTTP: whole, in ranges, as they come; the same bytes in every way, no longer than they are wanted."""

import asyncio
import itertools
import random
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import httpx2
import msgspec
import pytest
from httpx2 import AsyncClient as Client
from litestar import Litestar
from sqlalchemy import text

from api.app import create_app
from api.batches import results
from infra.ground import Ground
from infra.settings import Settings
from quotas import keys
from tests.support.handovers import bytes_of, code, hand_over, tell, told
from tests.support.line import until
from workers.batches import downloads
from workers.batches.results import Told

FOLLOW = {"follow": "true"}


@pytest.fixture
def app(settings: Settings) -> Litestar:
    """The API, which lets an account have three streams open."""
    return create_app(msgspec.structs.replace(settings, account_streams=3))


@pytest.fixture
async def batch(client: Client) -> dict[str, Any]:
    """A batch of which nothing is told yet."""
    return await hand_over(client)


def mixed(count: int, start: int = 0) -> list[Told]:
    """Return what is told of lines that end in all ways, of very different lengths."""
    outcomes = ("succeeded", "failed", "succeeded", "rejected", "canceled", "expired")
    dice = random.Random(start)
    lines = [told(n, outcomes[n % 6], words="كلمة " * dice.choice([0, 1, 7, 50])) for n in range(start, start + count)]
    dice.shuffle(lines)
    return lines


def errors_of(lines: list[Told]) -> list[Told]:
    """Return those of the lines that are no success."""
    return [each for each in lines if each.outcome != "succeeded"]


@asynccontextmanager
async def following(client: Client, path: str, **headers: str) -> AsyncGenerator[httpx2.Response]:
    """Follow for the length of a block."""
    async with asyncio.timeout(20), client.stream("GET", path, params=FOLLOW, headers=headers) as answer:
        yield answer


class Taken:
    """What has come of an answer by now."""

    def __init__(self, answer: httpx2.Response) -> None:
        self._chunks = answer.aiter_bytes()
        self.data = b""

    async def until(self, length: int) -> bytes:
        """Return what came as soon as it is so long."""
        while len(self.data) < length:
            self.data += await anext(self._chunks)
        return self.data

    async def all(self) -> bytes:
        """Return what came when there is no more."""
        async for chunk in self._chunks:
            self.data += chunk
        return self.data


async def test_what_is_told_is_what_is_sent_while_it_grows_and_after(
    client: Client, ground: Ground, batch: dict[str, Any]
) -> None:
    urls = batch["urls"]
    for name in ("results", "errors"):
        answer = await client.get(urls[name])
        assert (answer.status_code, answer.content) == (200, b"")
        assert answer.headers["content-type"] == "application/x-ndjson"
        assert (answer.headers["accept-ranges"], answer.headers["content-length"]) == ("bytes", "0")
    lines = list[Told]()
    for state in ("running", "running", "canceling", "canceled"):
        new = mixed(7, len(lines))
        lines += new
        await tell(ground, batch, new, state=state)
        for name, wanted in (("results", lines), ("errors", errors_of(lines))):
            answer = await client.get(urls[name])
            assert answer.content == bytes_of(wanted)
            assert answer.headers["content-length"] == str(len(answer.content))
    shown = (await client.get(urls["self"])).json()
    assert shown["results_bytes"] == len(bytes_of(lines))
    assert shown["errors_bytes"] == len(bytes_of(errors_of(lines)))


@pytest.mark.parametrize("name", ["results", "errors"])
async def test_random_ranges_make_the_whole_however_small_the_pages_are(
    client: Client, ground: Ground, batch: dict[str, Any], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = mixed(60)
    await tell(ground, batch, lines, state="completed")
    data = bytes_of(lines if name == "results" else errors_of(lines))
    url, dice = batch["urls"][name], random.Random(7)
    for page_bytes in (1, 300, 5000, 2**20):
        monkeypatch.setattr(downloads, "_PAGE_BYTES", page_bytes)
        cuts = sorted({0, len(data), *dice.sample(range(len(data)), 12)})
        pieces = list[bytes]()
        for start, end in itertools.pairwise(cuts):
            answer = await client.get(url, headers={"Range": f"bytes={start}-{end - 1}"})
            assert answer.status_code == 206
            assert answer.headers["content-range"] == f"bytes {start}-{end - 1}/{len(data)}"
            assert answer.headers["content-length"] == str(end - start)
            pieces.append(answer.content)
        assert b"".join(pieces) == data
        assert (await client.get(url)).content == data
    last = await client.get(url, headers={"Range": "bytes=-77"})
    assert (last.status_code, last.content) == (206, data[-77:])
    beyond = await client.get(url, headers={"Range": f"bytes={len(data)}-"})
    assert (*code(beyond), beyond.headers["content-range"]) == (416, "range_not_satisfiable", f"bytes */{len(data)}")


async def test_a_range_is_good_with_the_tag_of_a_running_batch_and_that_of_a_finished_one(
    client: Client, ground: Ground, batch: dict[str, Any]
) -> None:
    first, second = mixed(5), mixed(5, 5)
    await tell(ground, batch, first)
    url, data = batch["urls"]["results"], bytes_of(first + second)
    live = await client.get(url, headers={"Range": "bytes=0-9"})
    assert (live.status_code, live.headers["content-range"]) == (206, "bytes 0-9/*"), "how long it will be nobody knows"
    tag = live.headers["etag"]
    async with following(client, url, Range="bytes=5-", **{"If-Range": '"another"'}) as anew:
        assert (anew.status_code, anew.headers.get("content-range")) == (200, None)
        assert await Taken(anew).until(1) == bytes_of(first)
    assert (await client.get(url, headers={"If-None-Match": tag})).status_code == 200, "there may be more by now"
    await tell(ground, batch, second, state="completed")
    final = (await client.head(url)).headers["etag"]
    assert final != tag
    for named in (tag, final):
        rest = await client.get(url, headers={"Range": "bytes=10-", "If-Range": named})
        assert (rest.status_code, rest.content) == (206, data[10:])
        assert rest.headers["content-range"] == f"bytes 10-{len(data) - 1}/{len(data)}"
    errors = (await client.head(batch["urls"]["errors"])).headers["etag"]
    for named in (errors, '"another"'):
        whole = await client.get(url, headers={"Range": "bytes=10-", "If-Range": named})
        assert (whole.status_code, whole.content) == (200, data)
    assert (await client.get(url, headers={"If-None-Match": final})).status_code == 304
    assert (await client.get(url, headers={"If-None-Match": tag})).status_code == 200


async def test_head_tells_everything_but_the_bytes(client: Client, ground: Ground, batch: dict[str, Any]) -> None:
    await tell(ground, batch, mixed(5))
    for name in ("results", "errors"):
        head, get = await client.head(batch["urls"][name]), await client.get(batch["urls"][name])
        assert (head.status_code, head.content) == (200, b"")
        wanted = {"content-type", "content-length", "accept-ranges", "etag", "cache-control", "vary"}
        assert {each: head.headers[each] for each in wanted} == {each: get.headers[each] for each in wanted}


async def test_a_follower_is_sent_what_there_is_and_what_comes_until_the_batch_is_over(
    client: Client, app: Litestar, ground: Ground, batch: dict[str, Any]
) -> None:
    lines = mixed(9)
    await tell(ground, batch, lines)
    urls = batch["urls"]
    async with following(client, urls["results"]) as all_, following(client, urls["errors"]) as wrong:
        assert (all_.status_code, wrong.status_code) == (200, 200)
        assert "content-length" not in all_.headers
        one, other = Taken(all_), Taken(wrong)
        for n in range(1, 4):
            assert await one.until(len(bytes_of(lines))) == bytes_of(lines)
            assert await other.until(len(bytes_of(errors_of(lines)))) == bytes_of(errors_of(lines))
            new = mixed(9, 9 * n)
            lines += new
            await tell(ground, batch, new, state="completed" if n == 3 else "running")
        assert await one.all() == bytes_of(lines)
        assert await other.all() == bytes_of(errors_of(lines))
    again = await client.get(urls["results"], params=FOLLOW)
    assert (again.status_code, again.content) == (200, bytes_of(lines))
    assert again.headers["content-length"] == str(len(again.content)), "of one that is over it is known"
    await until(lambda: not app.state.streams.held)


async def test_a_follower_goes_on_where_it_broke_off_also_where_nothing_is_yet(
    client: Client, ground: Ground, batch: dict[str, Any]
) -> None:
    lines, url = mixed(9), batch["urls"]["results"]
    await tell(ground, batch, lines)
    had = len(bytes_of(lines))
    new = mixed(9, 9)
    data = bytes_of(lines + new)
    async with (
        following(client, url, Range=f"bytes={had}-") as at_end,
        following(client, url, Range="bytes=10-") as inside,
        following(client, url, Range=f"bytes=5-{had + 20}") as part,
    ):
        assert [each.status_code for each in (at_end, inside, part)] == [206] * 3
        assert inside.headers["content-range"] == f"bytes 10-{2**53 - 1}/*"
        assert at_end.headers["content-range"] == f"bytes {had}-{2**53 - 1}/*"
        assert part.headers["content-range"] == f"bytes 5-{had + 20}/*"
        await tell(ground, batch, new)
        assert await Taken(part).all() == data[5 : had + 21], "it ends with what it asked for"
        await tell(ground, batch, [], state="completed")
        assert await Taken(at_end).all() == data[had:]
        assert await Taken(inside).all() == data[10:]
    beyond = await client.get(url, params=FOLLOW, headers={"Range": f"bytes={len(data)}-"})
    assert code(beyond) == (416, "range_not_satisfiable")


async def test_what_lies_further_than_the_end_is_not_waited_for(
    client: Client, ground: Ground, batch: dict[str, Any]
) -> None:
    lines, url = mixed(3), batch["urls"]["results"]
    await tell(ground, batch, lines)
    had = len(bytes_of(lines))
    for params, start in (({}, had), (FOLLOW, had + 1)):
        beyond = await client.get(url, params=params, headers={"Range": f"bytes={start}-"})
        assert (*code(beyond), beyond.headers["content-range"]) == (416, "range_not_satisfiable", f"bytes */{had}")
    refused = await client.get(url, params={"follow": "yes"})
    assert (*code(refused), refused.json()["field"]) == (400, "invalid_follow", "follow")


async def goes_down(app: Litestar, _ground: Ground, _key: str) -> None:
    """End the process's streams."""
    app.state.hub.close()


async def is_revoked(_app: Litestar, ground: Ground, key: str) -> None:
    """Revoke the key that the follower came with."""
    async with ground.database.begin() as session:
        await keys.revoke(session, ground.settings, key)


@pytest.mark.parametrize("end", [goes_down, is_revoked])
async def test_a_follower_ends_properly_with_its_process_and_with_its_key(
    client: Client,
    app: Litestar,
    ground: Ground,
    key: str,
    batch: dict[str, Any],
    end: Callable[[Litestar, Ground, str], Awaitable[None]],
) -> None:
    lines = mixed(9)
    await tell(ground, batch, lines)
    async with following(client, batch["urls"]["results"]) as answer:
        taken = Taken(answer)
        await taken.until(len(bytes_of(lines)))
        await end(app, ground, key)
        assert await taken.all() == bytes_of(lines), "its end is an end, and no broken connection"
    await until(lambda: not app.state.streams.held)


async def test_followers_are_open_streams_of_their_account(
    client: Client, app: Litestar, ground: Ground, batch: dict[str, Any]
) -> None:
    url = batch["urls"]["results"]
    async with following(client, url), following(client, url), following(client, url):
        refused = await client.get(url, params=FOLLOW)
        assert code(refused) == (429, "too_many_streams")
        assert (await client.get(url)).status_code == 200, "whoever only takes what is there is none"
        assert app.state.streams.held == 3
    await until(lambda: not app.state.streams.held)


async def test_however_many_follow_one_question_is_asked_for_all(
    client: Client, app: Litestar, ground: Ground, batch: dict[str, Any]
) -> None:
    url, looks = batch["urls"]["results"], 0
    look = app.state.watch._look

    async def counted() -> None:
        nonlocal looks
        looks += 1
        await look()

    app.state.watch._look = counted
    async with following(client, url) as one, following(client, url) as two, following(client, url) as three:
        taken = [Taken(each) for each in (one, two, three)]
        for n in range(3):
            await tell(ground, batch, [told(n)], state="completed" if n == 2 else "running")
            await asyncio.gather(*(each.until(len(bytes_of([told(m) for m in range(n + 1)]))) for each in taken))
    assert 3 <= looks <= 3 + 5, "and at most four times a second"


async def test_a_follower_that_leaves_or_takes_nothing_is_let_go(
    client: Client, app: Litestar, ground: Ground, batch: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    async with following(client, batch["urls"]["results"]):
        await until(lambda: app.state.streams.held == 1)
    await until(lambda: not app.state.streams.held)
    await tell(ground, batch, [told(n, words="x" * 1_000_000) for n in range(24)])
    monkeypatch.setattr(results, "_SILENCE_S", 0.2)
    _, idle = await asyncio.open_connection(client.base_url.host, client.base_url.port, limit=1000)
    head = f"GET {batch['urls']['results']}?follow=true HTTP/1.1\r\nHost: x\r\n"
    idle.write(f"{head}Authorization: {client.headers['authorization']}\r\n\r\n".encode())
    await until(lambda: app.state.streams.held == 1)
    await until(lambda: not app.state.streams.held)
    idle.close()


async def test_a_download_that_cannot_be_gone_on_with_breaks_off_before_its_length(
    client: Client, ground: Ground, batch: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    await tell(ground, batch, mixed(20), state="completed")
    monkeypatch.setattr(downloads, "_PAGE_BYTES", 500)
    async with ground.database.begin() as session:
        last = text("DELETE FROM batch_results WHERE results_end = (SELECT max(results_end) FROM batch_results)")
        await session.execute(last)
    with pytest.raises(httpx2.RemoteProtocolError):
        await client.get(batch["urls"]["results"])


async def test_results_are_kept_for_their_time(client: Client, ground: Ground, batch: dict[str, Any]) -> None:
    await tell(ground, batch, [told(1), told(2, "failed")], state="completed")
    days = ground.settings.batch_keep_days
    urls = batch["urls"]
    for older, status in ((days - 1, 200), (days + 1, 410)):
        async with ground.database.begin() as session:
            await session.execute(
                text("UPDATE batches SET finished_at = now() - make_interval(days => :days)"), {"days": older}
            )
        for name in ("results", "errors"):
            answer = await client.get(urls[name])
            assert answer.status_code == status
    assert (*code(answer), answer.json()["days"]) == (410, "results_gone", days)
    assert code(await client.post(urls["retry"])) == (410, "results_gone")
    assert (await client.get(urls["self"])).status_code == 200
