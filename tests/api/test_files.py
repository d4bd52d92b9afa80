"""Files over HTTP: announced, uploaded, scanned, found, served, deleted; and one account's never another's."""

import asyncio
import hashlib
from collections.abc import AsyncGenerator
from typing import Any

import httpx2
import pytest
from httpx2 import AsyncClient as Client
from sqlalchemy import text

from infra.ground import Ground
from infra.models import Account
from infra.settings import Settings
from quotas import accounts, keys
from tests.support.books import assert_even, balance_of
from tests.support.uploads import TEXT, announce, decided, download, kept, picture, said, send, uploaded
from tests.support.work import work_off, working
from workers import intake
from workers.desk import Desk

STORAGE = "storage_bytes"


@pytest.fixture
async def scanning(settings: Settings) -> AsyncGenerator[None]:
    """A worker that scans."""
    async with working(settings, "scan", slots=2):
        yield


@pytest.fixture
async def other(client: Client, ground: Ground) -> AsyncGenerator[Client]:
    """A client of the same API that speaks for somebody else."""
    async with ground.database.begin() as session:
        somebody = await accounts.create(session, "zayd@example.com")
        key = await keys.issue(session, ground.settings, somebody.id, name="test")
    headers = {"Authorization": f"Bearer {key}"}
    async with httpx2.AsyncClient(base_url=client.base_url, headers=headers, timeout=30) as speaks:
        yield speaks


async def storage(ground: Ground, account: Account) -> tuple[int, int]:
    """Return the bytes that are held and used."""
    balance = await balance_of(ground, account, STORAGE)
    return balance.held, balance.used


@pytest.mark.usefixtures("scanning")
async def test_a_file_goes_from_its_announcement_to_its_bytes(client: Client, ground: Ground, account: Account) -> None:
    answer = await announce(client, folder="رسائل")
    assert (answer["file"]["state"], answer["warnings"]) == ("uploading", [])
    assert answer["quota"][STORAGE]["held"] == len(TEXT)
    assert await storage(ground, account) == (len(TEXT), 0)
    assert (await send(answer["upload"], TEXT)).is_success
    completed = await client.post(answer["file"]["urls"]["complete"])
    assert completed.status_code == 202
    file = await decided(client, completed.json())
    assert (file["state"], file["media_type"], file["lines"]) == ("ready", "text/plain", 1)
    assert file["sha256"] == file["declared_sha256"] == hashlib.sha256(TEXT).hexdigest()
    assert await storage(ground, account) == (0, len(TEXT))
    served = await download(client, file["urls"]["content"])
    assert served.content == TEXT
    assert served.headers["content-disposition"].startswith("attachment")
    assert served.headers["x-content-type-options"] == "nosniff"
    scan = (await client.get(f"/v1/jobs/{file['job_id']}")).json()
    assert (scan["kind"], scan["state"], scan["charged"]) == ("scan", "succeeded", {})
    await assert_even(ground)


@pytest.mark.usefixtures("scanning")
async def test_a_small_file_comes_in_one_request(client: Client, ground: Ground, account: Account) -> None:
    data = picture(form="JPEG")
    answer = await client.post(
        "/v1/files",
        data={"purpose": "photo", "folder": "رحلات/٢٠٢٦"},
        files={"file": ("صورة.jpg", data, "image/jpeg")},
    )
    assert answer.status_code == 201, answer.text
    assert answer.json()["upload"] is None
    file = await decided(client, answer.json()["file"])
    assert (file["state"], file["name"], file["folder"]) == ("ready", "صورة.jpg", "رحلات/٢٠٢٦")
    assert (file["width"], file["height"], file["variants"]) == (64, 48, ["thumbnail"])
    assert file["blurhash"]
    assert await storage(ground, account) == (0, min(len(data), file["size_bytes"]))
    small = await download(client, file["urls"]["thumbnail"])
    assert (small.headers["content-type"], small.content[:4]) == ("image/webp", b"RIFF")
    await assert_even(ground)


async def test_nothing_can_be_read_before_it_is_ready(client: Client) -> None:
    file = (await announce(client))["file"]
    waiting = await uploaded(client)
    for each in (file, waiting):
        for way in ("content", "thumbnail", "link"):
            answer = await client.get(f"{each['urls']['self']}/{way}")
            assert (answer.status_code, answer.json()["code"]) == (409, "file_not_ready")


@pytest.mark.usefixtures("scanning")
async def test_completing_again_answers_how_the_file_stands(client: Client) -> None:
    answer = await announce(client)
    url = answer["file"]["urls"]["complete"]
    missing = await client.post(url)
    assert (missing.status_code, missing.json()["code"]) == (409, "upload_missing")
    await send(answer["upload"], TEXT)
    at_once = await asyncio.gather(*(client.post(url) for _ in range(8)))
    assert {each.status_code for each in at_once} == {202}
    file = await decided(client, answer["file"])
    again = (await client.post(url)).json()
    assert (again["state"], again["job_id"]) == ("ready", file["job_id"])
    jobs = (await client.get("/v1/jobs")).json()["jobs"]
    assert len(jobs) == 1


@pytest.mark.usefixtures("scanning")
async def test_a_rejected_file_says_why_in_both_languages_and_gives_its_room_back(
    client: Client, ground: Ground, account: Account
) -> None:
    file = await decided(client, await uploaded(client, b"<svg xmlns='http://www.w3.org/2000/svg'/>", name="a.png"))
    assert file["state"] == "rejected"
    arabic = (await client.get(file["urls"]["self"], headers={"Accept-Language": "ar"})).json()
    assert file["error"]["code"] == arabic["error"]["code"] == "type_mismatch"
    assert file["error"]["detail"] != arabic["error"]["detail"]
    assert "image/png" in arabic["error"]["detail"]
    assert (await client.get(file["urls"]["content"])).json()["code"] == "file_not_ready"
    assert await storage(ground, account) == (0, 0)
    await assert_even(ground)


async def test_what_does_not_fit_is_refused_before_it_is_sent(client: Client, ground: Ground, account: Account) -> None:
    clip = {"name": "رحلة.mp4", "purpose": "clip", "sha256": "0" * 64}
    first = await client.post("/v1/files", json=clip | {"size_bytes": 900_000_000})
    assert first.json()["warnings"] == ["quota_80"]
    both = await asyncio.gather(
        *(client.post("/v1/files", json=clip | {"size_bytes": 173_741_824}) for _ in range(2)),
    )
    assert sorted(each.status_code for each in both) == [201, 402]
    refused = next(each.json() for each in both if each.status_code == 402)
    assert (refused["code"], refused["meter"], refused["remaining"]) == ("quota_exceeded", STORAGE, 0)
    for file in (await client.get("/v1/files")).json()["files"]:
        assert (await client.delete(file["urls"]["self"])).status_code == 204
    assert await storage(ground, account) == (0, 0)
    await assert_even(ground)


@pytest.mark.usefixtures("scanning")
async def test_deleting_frees_the_room_and_the_bytes(client: Client, ground: Ground, account: Account) -> None:
    one, same = await kept(client), await kept(client, name="نسخة.txt")
    assert await storage(ground, account) == (0, 2 * len(TEXT))
    assert (await client.delete(one["urls"]["self"])).status_code == 204
    await intake.tend(ground, Desk(ground))
    assert (await client.get(one["urls"]["self"])).json()["code"] == "file_not_found"
    assert (await client.delete(one["urls"]["self"])).json()["code"] == "file_not_found"
    served = await download(client, same["urls"]["content"])
    assert served.content == TEXT, "equal bytes are one object, and somebody still needs it"
    link = (await client.get(same["urls"]["link"])).json()
    await client.delete(same["urls"]["self"])
    assert await storage(ground, account) == (0, 0)
    await intake.tend(ground, Desk(ground))
    async with httpx2.AsyncClient() as stranger:
        assert (await stranger.get(link["url"])).status_code == 404
    await assert_even(ground)


@pytest.mark.usefixtures("scanning")
async def test_two_accounts_never_see_each_others_bytes(client: Client, other: Client, ground: Ground) -> None:
    mine, theirs = await kept(client), await kept(other, TEXT + b"x")
    for file, stranger in ((mine, other), (theirs, client)):
        paths = [file["urls"]["self"], *(f"{file['urls']['self']}/{way}" for way in ("content", "thumbnail", "link"))]
        answers = [await stranger.get(path) for path in paths]
        answers += [
            await stranger.delete(file["urls"]["self"]),
            await stranger.post(file["urls"]["complete"]),
            await stranger.patch(file["urls"]["self"], json={"name": "x.txt"}),
            await stranger.get(f"/v1/jobs/{file['job_id']}"),
        ]
        assert {each.status_code for each in answers} == {404}
    assert [each["id"] for each in (await client.get("/v1/files")).json()["files"]] == [mine["id"]]
    moved = await other.patch("/v1/files/folders", json={"folder": "a", "to": "b"})
    assert moved.json()["code"] == "folder_not_found"
    link = (await client.get(mine["urls"]["link"])).json()["url"]
    their_id = (await _account_of(ground, "zayd@example.com")).hex
    async with httpx2.AsyncClient() as stranger:
        forged = link.replace(mine_id := str(await _account_of(ground, "layla@example.com")), str(their_id))
        assert mine_id in link
        assert (await stranger.get(forged)).status_code in {403, 404}


async def _account_of(ground: Ground, email: str) -> Any:
    async with ground.database.begin() as session:
        return await session.scalar(text("SELECT id FROM accounts WHERE email = :email"), {"email": email})


@pytest.mark.usefixtures("scanning")
async def test_equal_bytes_of_two_accounts_are_two_objects(client: Client, other: Client) -> None:
    mine, theirs = await kept(client), await kept(other)
    assert mine["sha256"] == theirs["sha256"]
    await client.delete(mine["urls"]["self"])
    assert (await download(other, theirs["urls"]["content"])).content == TEXT


async def test_files_are_listed_searched_renamed_and_moved(client: Client) -> None:
    names = ["تقرير أحمد ٢٠٢٦.txt", "report.txt", "مُسَوَّدة.md"]
    made = [(await announce(client, name=name, folder="أعمال/قديم"))["file"] for name in names]

    async def found(**query: str) -> list[str]:
        return [file["name"] for file in (await client.get("/v1/files", params=query)).json()["files"]]

    assert await found() == names[::-1]
    assert await found(q="احمد 2026") == [names[0]]
    assert await found(q="مسوده") == [names[2]]
    assert await found(q="REPORT") == ["report.txt"]
    assert await found(q="100%") == []
    assert await found(folder="أعمال") == []
    assert await found(state="ready") == []
    renamed = await client.patch(made[1]["urls"]["self"], json={"name": "خطة.txt", "folder": ""})
    assert (renamed.json()["name"], renamed.json()["folder"]) == ("خطة.txt", "")
    assert (await client.get("/v1/files/folders")).json()["folders"] == [
        {"folder": "", "files": 1, "size_bytes": len(TEXT)},
        {"folder": "أعمال/قديم", "files": 2, "size_bytes": 2 * len(TEXT)},
    ]
    moved = await client.patch("/v1/files/folders", json={"folder": "أعمال", "to": "أرشيف"})
    assert moved.json() == {"moved": 2}
    assert await found(folder="أرشيف/قديم") == [names[2], names[0]]
    page = (await client.get("/v1/files", params={"limit": "2"})).json()
    rest = (await client.get("/v1/files", params={"limit": "2", "cursor": page["next_cursor"]})).json()
    assert [len(page["files"]), len(rest["files"]), rest["next_cursor"]] == [2, 1, None]


BAD = [
    ({"name": "../x.txt"}, 400, "invalid_file_name", "name"),
    ({"name": "a\u202etxt.txt"}, 400, "invalid_file_name", "name"),
    ({"name": "x.exe"}, 415, "type_not_taken", "name"),
    ({"name": "x.svg"}, 415, "type_not_taken", "name"),
    ({"media_type": "image/svg+xml"}, 415, "type_not_taken", "media_type"),
    ({"media_type": "text/html"}, 415, "type_not_taken", "media_type"),
    ({"purpose": "photo"}, 415, "type_not_taken", "name"),
    ({"purpose": "fun"}, 400, "unknown_purpose", "purpose"),
    ({"sha256": "abc"}, 400, "invalid_sha256", "sha256"),
    ({"sha256": "A" * 64}, 400, "invalid_sha256", "sha256"),
    ({"size_bytes": 0}, 400, "out_of_range", "size_bytes"),
    ({"size_bytes": -1}, 400, "out_of_range", "size_bytes"),
    ({"size_bytes": "many"}, 400, "wrong_type", "size_bytes"),
    ({"size_bytes": 101 * 2**20}, 413, "file_too_large", "size_bytes"),
    ({"folder": "a/../b"}, 400, "invalid_folder", "folder"),
    ({"folder": "/".join("x" * 20)}, 400, "invalid_folder", "folder"),
    ({"colour": "red"}, 400, "unknown_field", "colour"),
    ({"name": "a\x00.txt"}, 400, "invalid_text", "name"),
]


@pytest.mark.parametrize(("wrong", "status", "code", "field"), BAD)
async def test_a_wrong_announcement_is_refused_by_field_in_both_languages_and_holds_nothing(
    client: Client, ground: Ground, wrong: dict[str, Any], status: int, code: str, field: str
) -> None:
    texts: set[str] = set()
    for language in ("ar", "en"):
        answer = await client.post("/v1/files", json=said(TEXT) | wrong, headers={"Accept-Language": language})
        problem = answer.json()
        assert (answer.status_code, problem["code"], problem["field"]) == (status, code, field), problem
        texts.add(problem["detail"])
    assert len(texts) == 2
    assert (await client.get("/v1/files")).json()["files"] == []
    await assert_even(ground)


async def test_more_uploads_than_may_wait_are_refused(client: Client, ground: Ground) -> None:
    for _ in range(ground.settings.pending_uploads):
        await announce(client, b"x")
    answer = await client.post("/v1/files", json=said(b"x"))
    assert (answer.status_code, answer.json()["code"]) == (429, "too_many_uploads")
    assert answer.headers["retry-after"]


async def test_an_upload_that_does_not_come_expires_and_frees_its_room(
    client: Client, ground: Ground, account: Account
) -> None:
    late, came = await announce(client), await announce(client)
    await send(came["upload"], TEXT)
    async with ground.database.begin() as session:
        await session.execute(text("UPDATE files SET upload_until = upload_until - interval '20 minutes'"))
    gone = await client.post(late["file"]["urls"]["complete"])
    assert (gone.status_code, gone.json()["code"]) == (410, "upload_expired")
    async with ground.database.begin() as session:
        await session.execute(text("UPDATE files SET upload_until = upload_until - interval '2 hours'"))
    await intake.tend(ground, Desk(ground))
    for each in (late, came):
        assert (await client.get(each["file"]["urls"]["self"])).json()["state"] == "expired"
    assert await storage(ground, account) == (0, 0)
    assert await ground.storage.size("quarantine", f"{account.id}/{came['file']['id']}") is None
    await assert_even(ground)


async def test_a_cancelled_scan_rejects_its_file(client: Client, ground: Ground) -> None:
    file = await uploaded(client)
    await client.post(f"/v1/jobs/{file['job_id']}/cancel")
    await intake.tend(ground, Desk(ground))
    shown = await decided(client, file)
    assert (shown["state"], shown["error"]["code"]) == ("rejected", "scan_broken_off")
    await assert_even(ground)


async def test_a_file_whose_upload_is_lost_is_rejected(client: Client, ground: Ground, settings: Settings) -> None:
    file = await uploaded(client)
    async with ground.database.begin() as session:
        account_id = await session.scalar(text("SELECT account_id FROM files"))
    await ground.storage.delete("quarantine", f"{account_id}/{file['id']}")
    await work_off(settings, "scan")
    shown = await decided(client, file)
    assert (shown["state"], shown["error"]["code"]) == ("rejected", "object_not_found")


async def test_a_scan_that_was_not_submitted_is_submitted_by_the_tender(
    client: Client, ground: Ground, settings: Settings
) -> None:
    file = await uploaded(client)
    async with ground.database.begin() as session:
        await session.execute(text("UPDATE files SET job_id = NULL"))
    await intake.tend(ground, Desk(ground))
    assert (await client.get(file["urls"]["self"])).json()["job_id"] == file["job_id"], "it is the same scan"
    await work_off(settings, "scan")
    assert (await decided(client, file))["state"] == "ready"


async def test_a_scan_cannot_be_submitted_by_a_caller(client: Client) -> None:
    answer = await client.post("/v1/jobs", json={"kind": "scan", "input": {"file": "x"}})
    assert (answer.status_code, answer.json()["code"]) == (400, "unknown_kind")
