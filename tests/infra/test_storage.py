"""The contract of a store, kept by both: what is written is there whole or not at all, and nothing is overwritten."""

import asyncio
import base64
import hashlib
import json
import os
import signal
import stat
import threading
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import httpx2
import msgspec
import pytest

from infra import storage
from infra.settings import Settings
from infra.storage import (
    Expected,
    ObjectNotFound,
    Received,
    Storage,
    StorageUnavailable,
    UploadReplayed,
    UploadTooLarge,
    local,
    s3,
)
from infra.storage.local import LocalStorage, UploadHashWrong, UploadIncomplete
from infra.storage.s3 import S3Storage
from infra.storage.threads import Threads
from tests.support import stores
from tests.support.process import piped
from tests.support.stores import asset_key, expecting, new_key, streamed

DATA = b"\x89PNG " + bytes(range(256)) * 5000
MIB = 1024**2


class Broke(Exception):
    """The stream of a test broke."""


async def breaking(data: bytes) -> AsyncIterator[bytes]:
    """Yield bytes, and break."""
    yield data
    raise Broke


def on_disk(settings: Settings) -> list[Path]:
    """Return all files of the store's folder."""
    return [path for path in settings.files.rglob("*") if path.is_file()]


def left_behind(settings: Settings) -> list[Path]:
    """Return what lies in the folder of files on their way."""
    return [path for path in on_disk(settings) if path.parent.name == "tmp"]


async def content(store: Storage, area: storage.Area, key: str) -> bytes:
    """Return the bytes of an object."""
    async with store.opened(area, key) as path:
        return path.read_bytes()


async def test_a_store_touches_nothing_before_it_is_used(stored: Settings) -> None:
    connected = storage.connect(stored)
    await connected.close()
    assert not stored.files.exists()


async def test_what_was_received_is_there_with_its_length_and_hash(store: Storage, stored: Settings) -> None:
    key = new_key()
    assert await store.size("quarantine", key) is None
    received = await store.receive(key, streamed(DATA), most_bytes=len(DATA))
    assert received == Received(size_bytes=len(DATA), sha256=hashlib.sha256(DATA).hexdigest())
    assert await store.size("quarantine", key) == len(DATA)
    assert await content(store, "quarantine", key) == DATA
    assert await store.size("assets", key) is None, "the areas are apart"
    assert left_behind(stored) == []


@pytest.mark.parametrize("size", [1, 7, 65_536, MIB, 10 * MIB])
async def test_it_does_not_matter_in_which_chunks_it_comes(tmp_path: Path, size: int) -> None:
    store = storage.connect(stores.in_folder(tmp_path))
    key, data = new_key(), os.urandom(MIB // 4 if size < 1000 else 3 * MIB + 5)
    received = await store.receive(key, streamed(data, size), most_bytes=len(data))
    assert received.sha256 == hashlib.sha256(data).hexdigest()
    assert await content(store, "quarantine", key) == data
    await store.close()


async def test_what_is_longer_than_it_may_be_is_refused_at_the_first_byte_too_many(
    store: Storage, stored: Settings
) -> None:
    taken = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal taken
        while True:
            taken += 1000
            yield bytes(1000)

    key = new_key()
    with pytest.raises(UploadTooLarge) as refusal:
        await store.receive(key, endless(), most_bytes=2_500_000)
    assert taken == 2_501_000
    assert refusal.value.facts == {"limit_bytes": 2_500_000}
    assert await store.size("quarantine", key) is None
    assert left_behind(stored) == []


async def test_a_stream_that_breaks_off_leaves_nothing(store: Storage, stored: Settings) -> None:
    key = new_key()
    with pytest.raises(Broke):
        await store.receive(key, breaking(DATA), most_bytes=len(DATA))
    assert await store.size("quarantine", key) is None
    assert left_behind(stored) == []


async def test_a_canceled_upload_leaves_nothing(store: Storage, stored: Settings) -> None:
    key, begun = new_key(), asyncio.Event()

    async def hanging() -> AsyncIterator[bytes]:
        yield bytes(3 * MIB)
        begun.set()
        await asyncio.Event().wait()

    upload = asyncio.create_task(store.receive(key, hanging(), most_bytes=5 * MIB))
    await begun.wait()
    assert len(left_behind(stored)) == 1
    upload.cancel()
    with pytest.raises(asyncio.CancelledError):
        await upload
    assert left_behind(stored) == []
    assert await store.size("quarantine", key) is None


async def test_a_second_upload_of_a_key_changes_nothing(store: Storage, stored: Settings) -> None:
    key = new_key()
    await store.receive(key, streamed(DATA), most_bytes=len(DATA))
    with pytest.raises(UploadReplayed):
        await store.receive(key, streamed(b"other"), most_bytes=len(DATA))
    assert await content(store, "quarantine", key) == DATA
    assert left_behind(stored) == []


async def test_of_two_uploads_at_once_one_wins_whole(store: Storage) -> None:
    key, both = new_key(), asyncio.Barrier(2)

    async def together(data: bytes) -> AsyncIterator[bytes]:
        yield data[:10]
        await both.wait()  # each has seen that there is nothing yet
        yield data[10:]

    answers = await asyncio.gather(
        *(store.receive(key, together(byte * 2_000_000), most_bytes=2_000_000) for byte in (b"a", b"b")),
        return_exceptions=True,
    )
    won = [answer for answer in answers if isinstance(answer, Received)]
    lost = [answer for answer in answers if isinstance(answer, UploadReplayed)]
    assert (len(won), len(lost)) == (1, 1)
    assert hashlib.sha256(await content(store, "quarantine", key)).hexdigest() == won[0].sha256


async def test_equal_bytes_are_put_once_and_the_first_stay(store: Storage, stored: Settings, tmp_path: Path) -> None:
    key = asset_key(DATA)
    path = tmp_path / "clean"
    path.write_bytes(DATA)
    await store.put("assets", key, path)
    await store.put("assets", key, path)
    path.unlink()
    await store.put("assets", key, path)  # it is there, so nobody looks
    assert await content(store, "assets", key) == DATA
    assert left_behind(stored) == []


async def test_an_asset_is_never_named_by_the_hash_of_other_bytes(
    store: Storage, stored: Settings, tmp_path: Path
) -> None:
    key = asset_key(DATA)
    path = tmp_path / "other"
    path.write_bytes(DATA + b".")
    with pytest.raises(ValueError, match="SHA-256"):
        await store.put("assets", key, path)
    assert await store.size("assets", key) is None
    assert left_behind(stored) == []


async def test_what_was_deleted_is_gone_and_may_be_deleted_again(store: Storage) -> None:
    key = new_key()
    await store.receive(key, streamed(DATA), most_bytes=len(DATA))
    await store.delete("quarantine", key)
    await store.delete("quarantine", key)
    assert await store.size("quarantine", key) is None
    with pytest.raises(ObjectNotFound):
        await content(store, "quarantine", key)


async def test_what_is_opened_for_a_block_leaves_nothing_after_it(store: Storage, stored: Settings) -> None:
    key = new_key()
    await store.receive(key, streamed(DATA), most_bytes=len(DATA))
    async with store.opened("quarantine", key) as path:
        assert path.stat().st_size == len(DATA)
    with pytest.raises(Broke):
        async with store.opened("quarantine", key):
            raise Broke
    assert left_behind(stored) == []
    assert await store.size("quarantine", key) == len(DATA)


@pytest.mark.parametrize(
    "key",
    [
        "",
        "a",
        "../../etc/passwd",
        "01a20721-c5bf-74af-bffc-60491c094db7",
        "01a20721-c5bf-74af-bffc-60491c094db7/",
        "01a20721-c5bf-74af-bffc-60491c094db7/..",
        "01a20721-c5bf-74af-bffc-60491c094db7/../01a20721-c5bf-74af-bffc-60491c094db7",
        "/01a20721-c5bf-74af-bffc-60491c094db7/01a20721-c5bf-74af-bffc-60491c094db7",
        "01A20721-C5BF-74AF-BFFC-60491C094DB7/01a20721-c5bf-74af-bffc-60491c094db7",
        "01a20721-c5bf-74af-bffc-60491c094db7/01a20721-c5bf-74af-bffc-60491c094db7\n",
        "01a20721-c5bf-74af-bffc-60491c094db7/01a20721-c5bf-74af-bffc-60491c094db7/x",
        "01a20721-c5bf-74af-bffc-60491c094db\u0667/01a20721-c5bf-74af-bffc-60491c094db7",
        "01a20721-c5bf-74af-bffc-60491c094db7/" + "a" * 63,
        "${filename}",
    ],
)
async def test_what_is_no_key_goes_nowhere(store: Storage, stored: Settings, tmp_path: Path, key: str) -> None:
    for deed in (
        store.receive(key, streamed(DATA), most_bytes=len(DATA)),
        store.size("assets", key),
        store.put("assets", key, tmp_path / "x"),
        store.delete("assets", key),
        content(store, "assets", key),
        store.form(key, expecting(DATA), seconds=60),
        store.link(key, filename="x", media_type="image/png", seconds=60),
    ):
        with pytest.raises(ValueError, match="no key"):
            await deed
    assert on_disk(stored) == []


async def test_tidy_removes_what_nobody_has_written_to_for_so_long(store: Storage, stored: Settings) -> None:
    key, begun, goes_on = new_key(), asyncio.Event(), asyncio.Event()

    async def slow() -> AsyncIterator[bytes]:
        yield bytes(2 * MIB)
        begun.set()
        await goes_on.wait()
        yield b"x"

    upload = asyncio.create_task(store.receive(key, slow(), most_bytes=5 * MIB))
    await begun.wait()
    old = stored.files / "tmp" / "of-a-dead-process"
    old.write_bytes(b"half")
    os.utime(old, (time.time() - 5000, time.time() - 5000))
    assert await store.tidy(older_s=3600) == 1
    assert not old.exists()
    assert await store.tidy(older_s=3600) == 0
    goes_on.set()
    assert (await upload).size_bytes == 2 * MIB + 1, "an upload under way was left alone"


async def test_a_cancel_waits_until_the_thread_is_done() -> None:
    # Else the file would be closed and removed under the hands of the thread that writes it.
    threads, begun, may_end, done = Threads(1), threading.Event(), threading.Event(), threading.Event()

    def work() -> None:
        begun.set()
        may_end.wait()
        done.set()

    task = asyncio.create_task(threads.do(work))
    try:
        await asyncio.to_thread(begun.wait)
        task.cancel()
        for _ in range(20):
            await asyncio.sleep(0)
        assert not task.done()
    finally:
        may_end.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert done.is_set()
    threads.close()


async def test_a_store_that_answers_can_be_used(store: Storage, stored: Settings) -> None:
    await store.ping()
    assert left_behind(stored) == []


async def test_a_link_gives_the_bytes_as_an_attachment_of_the_name_and_type(s3_store: S3Storage, put: str) -> None:
    link = await s3_store.link(put, filename='صورة "1".png', media_type="image/png", seconds=60)
    async with httpx2.AsyncClient() as client:
        answer = await client.get(link.url, headers={"Range": "bytes=1-3"})
        assert (answer.status_code, answer.content) == (206, DATA[1:4])
        answer = await client.get(link.url)
    assert answer.content == DATA
    assert answer.headers["content-type"] == "image/png"
    assert answer.headers["content-disposition"].startswith("attachment; ")
    assert "filename*=UTF-8''%D8%B5%D9%88%D8%B1%D8%A9%20_1_.png" in answer.headers["content-disposition"]
    assert timedelta(seconds=50) < link.expires_at - datetime.now(UTC) <= timedelta(seconds=60)


@pytest.fixture
async def s3_settings(s3_address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Settings of a store in buckets."""
    return stores.in_buckets(s3_address, tmp_path, monkeypatch)


@pytest.fixture
async def s3_store(s3_settings: Settings) -> AsyncIterator[S3Storage]:
    """A store in buckets."""
    connected = s3.connect(s3_settings)
    yield connected
    await connected.close()


@pytest.fixture
async def put(s3_store: S3Storage, tmp_path: Path) -> str:
    """The key of an asset with `DATA`."""
    path = tmp_path / "data"
    path.write_bytes(DATA)
    await s3_store.put("assets", key := asset_key(DATA), path)
    return key


async def test_the_policy_of_an_s3_form_allows_these_very_bytes_and_nothing_else(
    s3_store: S3Storage, s3_settings: Settings
) -> None:
    # moto takes whatever is posted, so this is what AWS is told to enforce.
    key, expected = new_key(), expecting(DATA, "image/webp")
    form = await s3_store.form(key, expected, seconds=120)
    policy = json.loads(base64.b64decode(form.fields["policy"]))
    digest = base64.b64encode(hashlib.sha256(DATA).digest()).decode()
    pairs: list[dict[str, str]] = [each for each in policy["conditions"] if isinstance(each, dict)]
    exact = {name: value for pair in pairs for name, value in pair.items()}
    assert exact == {
        "bucket": s3_settings.s3_quarantine,
        "key": key,
        "Content-Type": "image/webp",
        "x-amz-checksum-algorithm": "SHA256",
        "x-amz-checksum-sha256": digest,
        "x-amz-algorithm": "AWS4-HMAC-SHA256",
        "x-amz-credential": form.fields["x-amz-credential"],
        "x-amz-date": form.fields["x-amz-date"],
    }
    rest = [each for each in policy["conditions"] if not isinstance(each, dict)]
    assert rest == [["content-length-range", len(DATA), len(DATA)]]
    assert {name: form.fields[name] for name in exact if name != "bucket"} | {"bucket": exact["bucket"]} == exact
    assert set(form.fields) == {*exact, "policy", "x-amz-signature"} - {"bucket"}
    expiration = datetime.fromisoformat(policy["expiration"])
    assert abs(expiration - form.expires_at) < timedelta(seconds=3)
    assert timedelta(seconds=110) < form.expires_at - datetime.now(UTC) <= timedelta(seconds=120)
    assert form.url == f"{s3_settings.s3_endpoint}/{s3_settings.s3_quarantine}"


async def test_what_is_posted_to_an_s3_form_lies_in_quarantine(s3_store: S3Storage) -> None:
    key = new_key()
    form = await s3_store.form(key, expecting(DATA), seconds=60)
    async with httpx2.AsyncClient() as client:
        answer = await client.post(form.url, data=form.fields, files={"file": ("a.png", DATA)})
    assert answer.is_success
    assert await content(s3_store, "quarantine", key) == DATA


async def test_on_aws_a_form_and_a_link_lead_to_the_bucket_in_its_region(s3_settings: Settings) -> None:
    store = s3.connect(msgspec.structs.replace(s3_settings, s3_endpoint="", s3_region="me-south-1"))
    form = await store.form(new_key(), expecting(DATA), seconds=60)
    link = await store.link(asset_key(DATA), filename="a.png", media_type="image/png", seconds=77)
    await store.close()
    assert form.url == f"https://{s3_settings.s3_quarantine}.s3.me-south-1.amazonaws.com/"
    asked = urlsplit(link.url)
    assert asked.hostname == f"{s3_settings.s3_assets}.s3.me-south-1.amazonaws.com"
    query = parse_qs(asked.query)
    assert query["response-content-disposition"] == ["attachment; filename=\"a.png\"; filename*=UTF-8''a.png"]
    assert query["response-content-type"] == ["image/png"]
    assert query["X-Amz-Expires"] == ["77"]


async def test_large_files_go_up_in_parts_and_are_not_overwritten_either(
    s3_store: S3Storage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(s3, "_PART_BYTES", 5 * MIB)
    monkeypatch.setattr(s3, "_MOST_IN_ONE_BYTES", 5 * MIB)
    data = os.urandom(12 * MIB)
    key, name = new_key(), asset_key(data)
    received = await s3_store.receive(key, streamed(data, MIB), most_bytes=len(data))
    assert received.sha256 == hashlib.sha256(data).hexdigest()
    async with s3_store.opened("quarantine", key) as path:
        assert path.read_bytes() == data
        await s3_store.put("assets", name, path)
        buckets = s3_store.buckets
        at = buckets.at("assets", name)
        upload = buckets.begin(at)
        assert buckets.complete(upload, [buckets.send(upload, 1, b"other")]) is False
    assert await content(s3_store, "assets", name) == data
    assert await s3_store.tidy(older_s=-5) == 1, "the one that this test began, and no part of a finished one"


async def test_an_upload_in_parts_that_fails_is_aborted(s3_store: S3Storage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(s3, "_MOST_IN_ONE_BYTES", 1)

    def fails(*_: object) -> None:
        raise StorageUnavailable

    monkeypatch.setattr(s3_store.buckets, "send", fails)
    with pytest.raises(StorageUnavailable):
        await s3_store.receive(new_key(), streamed(DATA), most_bytes=len(DATA))
    assert await s3_store.tidy(older_s=-5) == 0


@pytest.mark.parametrize(
    "changed",
    [
        {"s3_endpoint": "http://127.0.0.1:1"},
        {"s3_quarantine": "no-such-bucket", "s3_assets": "no-such-bucket-either"},
    ],
    ids=["nobody listens", "no such bucket"],
)
async def test_an_s3_that_cannot_be_used_is_told_as_one_fact(
    s3_settings: Settings, changed: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("infra.storage.buckets._TRIES", 1)
    store = s3.connect(msgspec.structs.replace(s3_settings, **changed))
    path = tmp_path / "data"
    path.write_bytes(DATA)
    for deed in (store.ping(), store.put("assets", asset_key(DATA), path), content(store, "assets", asset_key(DATA))):
        with pytest.raises(StorageUnavailable):
            await deed
    await store.close()


async def test_without_credentials_s3_is_away(s3_settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    store = s3.connect(s3_settings)
    for deed in (
        store.ping(),
        store.form(new_key(), expecting(DATA), seconds=60),
        store.link(asset_key(DATA), filename="x", media_type="image/png", seconds=60),
    ):
        with pytest.raises(StorageUnavailable):
            await deed
    await store.close()


@pytest.fixture
async def folder_store(tmp_path: Path) -> AsyncIterator[LocalStorage]:
    """A store in a folder."""
    connected = local.connect(stores.in_folder(tmp_path))
    yield connected
    await connected.close()


async def taken(store: LocalStorage, expected: Expected, data: bytes) -> Received:
    """Upload bytes by a form for what is expected."""
    form = await store.form(new_key(), expected, seconds=60)
    return await store.take(store.admit(form.fields), streamed(data))


async def test_a_local_upload_is_to_the_byte_what_was_declared(folder_store: LocalStorage) -> None:
    assert (await taken(folder_store, expecting(DATA), DATA)).size_bytes == len(DATA)
    with pytest.raises(UploadTooLarge):
        await taken(folder_store, expecting(DATA), DATA + b".")
    with pytest.raises(UploadIncomplete) as short:
        await taken(folder_store, expecting(DATA), DATA[:-1])
    assert short.value.facts == {"actual_bytes": len(DATA) - 1, "declared_bytes": len(DATA)}
    with pytest.raises(UploadHashWrong):
        await taken(folder_store, expecting(DATA), DATA[:-1] + b".")


async def test_what_lies_on_the_disk_is_for_nobody_else(folder_store: LocalStorage, tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        await folder_store.receive(new_key(), streamed(DATA), most_bytes=len(DATA))
    finally:
        os.umask(before)
    modes = {stat.S_IMODE(path.stat().st_mode) for path in [tmp_path / "files", *(tmp_path / "files").rglob("*")]}
    assert modes == {0o700, 0o600}
    assert [path.stat().st_nlink for path in (tmp_path / "files").rglob("*") if path.is_file()] == [1]


async def test_a_disk_that_is_full_or_closed_is_told_as_one_fact(tmp_path: Path) -> None:
    blocked = tmp_path / "files"
    blocked.write_text("not a folder")
    store = local.connect(stores.in_folder(tmp_path))
    for deed in (store.ping(), store.receive(new_key(), streamed(DATA), most_bytes=len(DATA))):
        with pytest.raises(StorageUnavailable):
            await deed
    await store.close()


_FULL = """
import asyncio, resource, signal, sys
from infra.storage import StorageUnavailable
from infra.storage.local import LocalStorage
from pathlib import Path
from tests.support.stores import new_key, streamed
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (2_000_000, 2_000_000))
async def main():
    store = LocalStorage(Path({folder!r}), address="http://127.0.0.1", secret="s")
    try:
        await store.receive(new_key(), streamed(bytes(9_000_000), 1_000_000), most_bytes=9_000_000)
    except StorageUnavailable as error:
        print("away", type(error.__cause__).__name__)
asyncio.run(main())
"""


def test_a_write_that_the_disk_refuses_halfway_leaves_nothing(tmp_path: Path) -> None:
    with piped(_FULL.format(folder=str(tmp_path / "files"))) as process:
        assert process.communicate()[0].split() == ["away", "OSError"]
    assert [path for path in (tmp_path / "files").rglob("*") if path.is_file()] == []


_KILLED = """
import asyncio, sys
from infra.storage.local import LocalStorage
from pathlib import Path
from tests.support.stores import new_key
async def endless():
    while True:
        yield bytes(300_000)
        print("going", flush=True)
        await asyncio.sleep(0.01)
store = LocalStorage(Path({folder!r}), address="http://127.0.0.1", secret="s")
asyncio.run(store.receive(new_key(), endless(), most_bytes=2**40))
"""


async def test_a_process_that_is_killed_leaves_a_file_that_tidy_removes_and_nothing_else(
    folder_store: LocalStorage, tmp_path: Path
) -> None:
    with piped(_KILLED.format(folder=str(tmp_path / "files"))) as process:
        assert process.stdout is not None
        for _ in range(10):
            assert process.stdout.readline() == "going\n"
        process.send_signal(signal.SIGKILL)
        process.wait()
    left = [path for path in (tmp_path / "files").rglob("*") if path.is_file()]
    assert [path.parent.name for path in left] == ["tmp"]
    assert await folder_store.tidy(older_s=-5) == 1
    assert not left[0].exists()


async def test_an_asset_that_is_deleted_while_it_is_read_is_read_to_its_end(
    folder_store: LocalStorage, tmp_path: Path
) -> None:
    path = tmp_path / "data"
    path.write_bytes(DATA)
    await folder_store.put("assets", key := asset_key(DATA), path)
    async with folder_store.reading(key) as reading:
        await folder_store.delete("assets", key)
        assert b"".join([chunk async for chunk in reading.chunks(3, len(DATA))]) == DATA[3:]
    with pytest.raises(ObjectNotFound):
        async with folder_store.reading(key):
            pass
