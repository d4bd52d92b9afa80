"""What once went wrong with files, each as it was found."""

import asyncio
import hashlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from litestar import Litestar
from sqlalchemy import text

from infra.ground import Ground
from infra.models import Account, File
from infra.settings import Settings
from infra.storage import Area, UploadReplayed
from tests.support.books import assert_even, balance_of
from tests.support.chats import Client
from tests.support.uploads import TEXT, announce, decided, kept, said, send, uploaded
from tests.support.work import work_off, working
from workers import files
from workers.files import Announcement, Part, discards


async def scanned(ground: Ground, account: Account, name: str, path: Path) -> tuple[File, list[Part]]:
    """Bring a file up to its verdict; returns it, and the part that is to be kept of it."""
    data = await asyncio.to_thread(path.read_bytes)
    sha256 = hashlib.sha256(data).hexdigest()
    asked = Announcement(name=name, purpose="attachment", size_bytes=len(data), sha256=sha256)
    announced = await files.announce(ground, account, asked)

    async def chunks() -> AsyncIterator[bytes]:
        yield data

    key = files.quarantine_key(account.id, announced.file.id)
    await ground.storage.receive(key, chunks(), most_bytes=len(data))
    file = await files.arrive(ground, account.id, announced.file.id)
    part = Part(name="original", path=path, sha256=sha256, size_bytes=len(data), media_type="text/plain")
    return file, [part]


async def test_an_object_that_is_being_removed_slowly_is_not_taken_from_a_file_that_comes_to_need_it(
    ground: Ground, account: Account, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "same"
    path.write_bytes(TEXT)
    first, parts = await scanned(ground, account, "a.txt", path)
    assert await files.keep(ground, first, parts, {}) == "ready"
    second, parts = await scanned(ground, account, "b.txt", path)
    await files.delete(ground, account.id, first.id)
    remove, begun, go_on = ground.storage.delete, asyncio.Event(), asyncio.Event()

    async def slowly(area: Area, key: str) -> None:
        begun.set()
        await go_on.wait()
        await remove(area, key)

    monkeypatch.setattr(ground.storage, "delete", slowly)
    clearing = asyncio.create_task(files.clear(ground))
    await begun.wait()
    keeping = asyncio.create_task(files.keep(ground, second, parts, {}))
    await asyncio.sleep(0.3)
    assert not keeping.done(), "it waits until the old bytes are gone"
    go_on.set()
    await clearing
    assert await keeping == "ready"
    key = f"{account.id}/{parts[0].sha256}"
    assert await ground.storage.size("assets", key) == len(TEXT)
    await files.clear(ground)
    assert await ground.storage.size("assets", key) == len(TEXT)
    await assert_even(ground)


async def test_whoever_lost_the_protection_of_the_list_puts_again(
    ground: Ground, account: Account, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "same"
    path.write_bytes(TEXT)
    first, parts = await scanned(ground, account, "a.txt", path)
    second, _ = await scanned(ground, account, "b.txt", path)
    put, calls = ground.storage.put, list[str]()

    async def then_the_other_comes_and_goes(area: Area, key: str, path: Path) -> None:
        await put(area, key, path)
        calls.append(key)
        if len(calls) == 1:
            assert await files.keep(ground, first, parts, {}) == "ready"
            await files.delete(ground, account.id, first.id)
            await files.clear(ground)

    monkeypatch.setattr(ground.storage, "put", then_the_other_comes_and_goes)
    assert await files.keep(ground, second, parts, {}) == "ready"
    assert await ground.storage.size("assets", calls[0]) == len(TEXT)


async def test_one_object_that_cannot_be_removed_keeps_no_other_from_it(
    client: Client, settings: Settings, ground: Ground, account: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with working(settings, "scan"):
        stuck, fine = await kept(client, b"one\n", name="1.txt"), await kept(client, b"two\n", name="2.txt")
    for file in (stuck, fine):
        await client.delete(file["urls"]["self"])
    remove = ground.storage.delete

    async def not_that(area: Area, key: str) -> None:
        if key.endswith(stuck["sha256"]):
            raise ValueError("held by somebody")
        await remove(area, key)

    monkeypatch.setattr(ground.storage, "delete", not_that)
    await files.clear(ground)
    left = {path.name for path in (settings.files / "assets").rglob("*") if path.is_file()}
    assert left == {stuck["sha256"]}


async def test_notes_in_any_order_do_not_deadlock(ground: Ground) -> None:
    keys = [f"{'0' * 8}-0000-0000-0000-{'0' * 12}/{number:064x}" for number in range(20)]

    async def note(chosen: list[str]) -> None:
        for _ in range(20):
            async with ground.database.begin() as session:
                await discards.note(session, "assets", chosen, due=discards.ON_ITS_WAY)

    await asyncio.gather(*(note(keys[::-1] if turn % 2 else keys) for turn in range(6)))


async def test_equal_bytes_deleted_and_kept_at_once_do_not_deadlock(
    ground: Ground, account: Account, tmp_path: Path
) -> None:
    path = tmp_path / "same"
    path.write_bytes(TEXT)
    for _ in range(8):
        first, parts = await scanned(ground, account, "a.txt", path)
        await files.keep(ground, first, parts, {})
        second, _ = await scanned(ground, account, "b.txt", path)
        _, state = await asyncio.gather(
            files.delete(ground, account.id, first.id), files.keep(ground, second, parts, {})
        )
        assert state == "ready"
        await files.clear(ground)
        assert await ground.storage.size("assets", f"{account.id}/{parts[0].sha256}") == len(TEXT)
        await files.delete(ground, account.id, second.id)
        await files.clear(ground)
    await assert_even(ground)


async def test_one_form_sent_many_times_at_once_is_written_once(
    ground: Ground, settings: Settings, account: Account
) -> None:
    go_on = asyncio.Event()

    async def slowly() -> AsyncIterator[bytes]:
        yield bytes(2 * 1024**2)
        await go_on.wait()

    key = f"{account.id}/{account.id}"
    first = asyncio.create_task(ground.storage.receive(key, slowly(), most_bytes=2**22))
    await asyncio.sleep(0.2)
    for _ in range(5):
        with pytest.raises(UploadReplayed):
            await ground.storage.receive(key, slowly(), most_bytes=2**22)
    assert len(list((settings.files / "tmp").iterdir())) == 1
    go_on.set()
    assert (await first).size_bytes == 2 * 1024**2


async def test_an_upload_whose_file_was_deleted_meanwhile_leaves_nothing(
    client: Client, app: Litestar, settings: Settings
) -> None:
    answer = await announce(client)
    asked = list[str]()

    async def once(key: str) -> bool:
        asked.append(key)
        return len(asked) == 1

    app.state["awaited"] = once
    sent = await send(answer["upload"], TEXT)
    assert (sent.status_code, sent.json()["code"]) == (409, "upload_replayed")
    assert not [path for path in (settings.files / "quarantine").rglob("*") if path.is_file()]


async def test_a_level_meter_warns_anew_also_after_what_was_never_ready(
    client: Client, ground: Ground, account: Account
) -> None:
    large: dict[str, Any] = {"name": "a.mp4", "purpose": "clip", "size_bytes": 900_000_000, "sha256": "1" * 64}
    for _ in range(2):
        answer = (await client.post("/v1/files", json=large)).json()
        assert answer["warnings"] == ["quota_80"]
        assert (await client.delete(answer["file"]["urls"]["self"])).status_code == 204
    assert (await balance_of(ground, account, "storage_bytes")).warned_at is None


async def test_what_was_rejected_or_expired_counts_as_no_file_and_goes_after_a_week(
    client: Client, settings: Settings, ground: Ground
) -> None:
    await decided_badly(client, settings)
    assert (await client.get("/v1/files/folders")).json()["folders"] == []
    await files.forget(ground)
    assert len((await client.get("/v1/files")).json()["files"]) == 1
    async with ground.database.begin() as session:
        await session.execute(text("UPDATE files SET decided_at = decided_at - interval '8 days'"))
    await files.forget(ground)
    assert (await client.get("/v1/files")).json()["files"] == []
    await assert_even(ground)


async def decided_badly(client: Client, settings: Settings) -> None:
    """Have a file rejected."""
    file = await uploaded(client, b"<svg/>", name="a.png")
    await work_off(settings, "scan")
    assert (await decided(client, file))["state"] == "rejected"


@pytest.mark.parametrize(
    ("query", "code", "field"),
    [
        ({"q": "\0"}, "invalid_search", "q"),
        ({"q": "x" * 201}, "invalid_search", "q"),
        ({"q": " ".join("abcdefghijklmnopqrs")}, "invalid_search", "q"),
        ({"purpose": "\0"}, "unknown_purpose", "purpose"),
        ({"purpose": "fun"}, "unknown_purpose", "purpose"),
        ({"folder": "\0"}, "invalid_folder", "folder"),
    ],
)
async def test_a_wrong_query_is_refused_by_its_field(
    client: Client, query: dict[str, str], code: str, field: str
) -> None:
    answer = await client.get("/v1/files", params=query)
    assert (answer.status_code, answer.json()["code"], answer.json()["field"]) == (400, code, field)


async def test_a_search_for_nothing_finds_nothing_and_a_variant_that_is_none_is_not_there(client: Client) -> None:
    file = (await announce(client))["file"]
    assert (await client.get("/v1/files", params={"q": "ـ"})).json()["files"] == []
    answer = await client.get(file["urls"]["link"], params={"variant": "\0"})
    assert (answer.status_code, answer.json()["code"]) == (404, "variant_not_found")


async def test_an_empty_file_in_one_request_is_refused_by_its_field(client: Client, ground: Ground) -> None:
    answer = await client.post("/v1/files", data={"purpose": "attachment"}, files={"file": ("a.txt", b"")})
    assert (answer.status_code, answer.json()["code"], answer.json()["field"]) == (400, "empty_file", "file")
    assert (await client.get("/v1/files")).json()["files"] == []
    await assert_even(ground)


@pytest.mark.parametrize("name", ["\u200b", "\u200f\u200e", "\u00a0"])
async def test_a_name_that_nobody_can_see_is_refused(client: Client, name: str) -> None:
    answer = await client.post("/v1/files", json=said(TEXT, name=name, media_type="text/plain"))
    assert answer.json()["code"] == "invalid_file_name"
