"""A file store or a ClamAV that is away: nothing is lost or half-done, and what was left is made up for."""

from collections.abc import Generator
from contextlib import contextmanager

import msgspec
import pytest
from sqlalchemy import text

from infra.ground import Ground
from infra.models import Account
from infra.settings import Settings
from tests.support.books import assert_even, balance_of
from tests.support.chats import Client
from tests.support.serving import free_port
from tests.support.uploads import TEXT, announce, decided, kept, send, uploaded
from tests.support.work import work_off, working
from workers import intake
from workers.desk import Desk
from workers.scan import run as room


@contextmanager
def away(settings: Settings) -> Generator[None]:
    """Put something else in the place of the store's folder: every call to it fails, as on a disk that is gone."""
    folder, aside = settings.files, settings.files.with_name("aside")
    if folder.exists():
        folder.rename(aside)
    folder.write_text("no folder")
    yield
    folder.unlink()
    if aside.exists():
        aside.rename(folder)


async def test_an_upload_to_a_store_that_is_away_can_be_made_later(
    client: Client, settings: Settings, ground: Ground
) -> None:
    answer = await announce(client)
    with away(settings):
        refused = await send(answer["upload"], TEXT)
        assert (refused.status_code, refused.json()["code"]) == (503, "storage_unavailable")
        assert refused.headers["retry-after"]
        completed = await client.post(answer["file"]["urls"]["complete"])
        assert completed.status_code in {409, 503}, "nothing has come"
        direct = await client.post("/v1/files", data={"purpose": "attachment"}, files={"file": ("a.txt", TEXT)})
        assert direct.json()["code"] == "storage_unavailable"
    assert (await send(answer["upload"], TEXT)).is_success
    assert (await client.post(answer["file"]["urls"]["complete"])).status_code == 202
    await work_off(settings, "scan")
    assert (await decided(client, answer["file"]))["state"] == "ready"
    assert len((await client.get("/v1/files")).json()["files"]) == 1, "the one that failed left nothing"
    await assert_even(ground)


async def test_a_scan_whose_store_stays_away_gives_the_room_back(
    client: Client, settings: Settings, ground: Ground, account: Account
) -> None:
    file = await uploaded(client)
    with away(settings):
        await work_off(settings, "scan")
        await intake.tend(ground, Desk(ground))
    shown = await decided(client, file)
    assert (shown["state"], shown["error"]["code"]) == ("rejected", "storage_unavailable")
    assert (await balance_of(ground, account, "storage_bytes")).held == 0
    assert (await client.get(f"/v1/jobs/{file['job_id']}")).json()["state"] == "failed"
    await assert_even(ground)


async def test_what_could_not_be_removed_is_removed_later(client: Client, settings: Settings, ground: Ground) -> None:
    async with working(settings, "scan"):
        file = await kept(client)
    with away(settings):
        assert (await client.delete(file["urls"]["self"])).status_code == 204
        await intake.tend(ground, Desk(ground))
    assert [path for path in (settings.files / "assets").rglob("*") if path.is_file()]
    async with ground.database.begin() as session:
        await session.execute(text("UPDATE discards SET due = now(), until = now() WHERE area = 'assets'"))
    await intake.tend(ground, Desk(ground))
    assert not [path for path in (settings.files / "assets").rglob("*") if path.is_file()]
    async with ground.database.begin() as session:
        left = await session.scalars(text("SELECT area FROM discards"))
        assert set(left) == {"quarantine"}, "its form still holds"


async def test_a_file_is_never_ready_without_the_look_of_the_scanner_that_is_set_up(
    client: Client, settings: Settings, ground: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(room, "_SCANNER_STARTS_S", 0.0)
    file = await uploaded(client)
    await work_off(msgspec.structs.replace(settings, clamav=f"tcp://127.0.0.1:{free_port()}"), "scan")
    assert (await client.get(file["urls"]["self"])).json()["state"] == "scanning"
    await intake.tend(ground, Desk(ground))
    shown = await decided(client, file)
    assert (shown["state"], shown["error"]["code"]) == ("rejected", "scanner_unavailable")
    await assert_even(ground)
