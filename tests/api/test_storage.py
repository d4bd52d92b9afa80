"""The local store over HTTP: takes what its forms declare and nothing else, and serves what its links say, harmless."""

import asyncio
import hashlib
import os
import socket
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlsplit

import httpx2
import msgspec
import pytest
from litestar import Litestar

from api import storage
from api.app import create_app
from infra import ids
from infra.ground import Ground
from infra.models import Account, File
from infra.settings import Settings
from infra.storage import Form
from infra.storage.local import LocalStorage
from tests.support import stores
from tests.support.chats import Client
from tests.support.process import environ, peak_mib, started
from tests.support.serving import free_port, serving, until_serving
from tests.support.stores import asset_key, expecting, new_key

DATA = b"\x89PNG " + bytes(range(256)) * 2000
MIB = 1024**2


@pytest.fixture
def configured(settings: Settings) -> Settings:
    """Settings of an API that knows where it is found."""
    port = free_port()
    return msgspec.structs.replace(settings, port=port, public_url=f"http://127.0.0.1:{port}")


@pytest.fixture
async def app(configured: Settings) -> Litestar:
    """The API on a local store, which awaits whatever is uploaded."""

    async def always(_key: str) -> bool:
        return True

    built = create_app(configured)
    built.state["awaited"] = always
    return built


@pytest.fixture
def local(app: Litestar) -> LocalStorage:
    """The store of the API."""
    return app.state.ground.storage


@pytest.fixture
async def stranger(app: Litestar, configured: Settings) -> AsyncGenerator[Client]:
    """A client of the served API that has no key."""
    async with serving(app, configured.port) as url, Client(base_url=url, timeout=30) as client:
        yield client


@pytest.fixture
async def asset(local: LocalStorage, tmp_path: Path) -> str:
    """The key of an asset with `DATA`."""
    path = tmp_path / "clean"
    path.write_bytes(DATA)
    await local.put("assets", key := asset_key(DATA), path)
    return key


@pytest.fixture
async def link(local: LocalStorage, asset: str) -> str:
    """A link to `asset`."""
    return (await local.link(asset, filename="صورة.png", media_type="image/png", seconds=60)).url


async def post(client: Client, form: Form, data: bytes | AsyncIterator[bytes], **changed: str) -> httpx2.Response:
    """Post a form, with changes of its fields."""
    boundary = b"b" * 30
    fields = form.fields | {name.replace("_", "-"): value for name, value in changed.items()}

    async def body() -> AsyncIterator[bytes]:
        for name, value in fields.items():
            head = f'Content-Disposition: form-data; name="{name}"'
            yield b"--%s\r\n%s\r\n\r\n%s\r\n" % (boundary, head.encode(), value.encode())
        yield b'--%s\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n' % boundary
        async for chunk in stores.streamed(data, MIB) if isinstance(data, bytes) else data:
            yield chunk
        yield b"\r\n--%s--\r\n" % boundary

    headers = {"Content-Type": f"multipart/form-data; boundary={boundary.decode()}"}
    return await client.post(form.url, content=body(), headers=headers)


def left_behind(configured: Settings) -> list[Path]:
    """Return all files that lie in the store."""
    return [path for path in configured.files.rglob("*") if path.is_file()]


async def until(condition: Callable[[], bool]) -> None:
    """Wait until something is so."""
    async with asyncio.timeout(20):
        while True:
            if condition():
                return
            await asyncio.sleep(0.01)


async def test_what_is_uploaded_by_a_form_lies_in_quarantine(stranger: Client, local: LocalStorage) -> None:
    key = new_key()
    form = await local.form(key, expecting(DATA), seconds=60)
    answer = await stranger.post(form.url, data=form.fields, files={"file": ("صورة.png", DATA, "text/html")})
    assert (answer.status_code, answer.content) == (204, b"")
    async with local.opened("quarantine", key) as path:
        assert path.read_bytes() == DATA


WRONG: list[tuple[str, bytes, dict[str, str], int, str]] = [
    ("a byte too many", DATA + b".", {}, 413, "upload_too_large"),
    ("megabytes too many", DATA + bytes(10 * MIB), {}, 413, "upload_too_large"),
    ("a byte too few", DATA[:-1], {}, 400, "upload_incomplete"),
    ("nothing", b"", {}, 400, "upload_incomplete"),
    ("other bytes", DATA[:-1] + b".", {}, 400, "upload_hash_wrong"),
    ("another type", DATA, {"Content_Type": "text/html"}, 400, "upload_type_wrong"),
    ("another key", DATA, {"key": "../../etc/passwd"}, 403, "signature_invalid"),
    ("another signature", DATA, {"x_pulse_signature": "0" * 64}, 403, "signature_invalid"),
    ("a signature in Arabic", DATA, {"x_pulse_signature": "توقيع"}, 403, "signature_invalid"),
    ("another policy", DATA, {"policy": "e30="}, 403, "signature_invalid"),
    ("a field more", DATA, {"success_action_redirect": "https://evil.example"}, 403, "signature_invalid"),
]


@pytest.mark.parametrize(("data", "changed", "status", "code"), [w[1:] for w in WRONG], ids=[w[0] for w in WRONG])
async def test_what_was_not_declared_is_refused_and_leaves_nothing(
    stranger: Client,
    local: LocalStorage,
    configured: Settings,
    data: bytes,
    changed: dict[str, str],
    status: int,
    code: str,
) -> None:
    key = new_key()
    form = await local.form(key, expecting(DATA), seconds=60)
    for language in ("ar", "en"):
        stranger.headers["Accept-Language"] = language
        answer = await post(stranger, form, data, **changed)
        assert (answer.status_code, answer.json()["code"]) == (status, code)
        assert answer.headers["content-type"] == "application/problem+json"
        assert any("\u0600" <= letter <= "\u06ff" for letter in answer.json()["detail"]) is (language == "ar")
    assert left_behind(configured) == []
    assert (await post(stranger, form, DATA)).status_code == 204, "the form is still good for the right bytes"


async def test_a_form_is_good_once_and_only_for_its_time(
    stranger: Client, local: LocalStorage, configured: Settings
) -> None:
    form = await local.form(key := new_key(), expecting(DATA), seconds=60)
    assert (await post(stranger, form, DATA)).status_code == 204
    again = await post(stranger, form, DATA)
    assert (again.status_code, again.json()["code"]) == (409, "upload_replayed")
    await local.delete("quarantine", key)
    late = await post(stranger, await local.form(key, expecting(DATA), seconds=0), DATA)
    assert (late.status_code, late.json()["code"]) == (410, "form_expired")
    assert left_behind(configured) == []


async def test_a_form_of_what_is_no_longer_awaited_is_refused_before_its_bytes(
    stranger: Client, app: Litestar, local: LocalStorage, configured: Settings
) -> None:
    asked: list[str] = []

    async def never(key: str) -> bool:
        asked.append(key)
        return False

    app.state["awaited"] = never
    form = await local.form(key := new_key(), expecting(DATA), seconds=60)
    answer = await post(stranger, form, DATA)
    assert (answer.status_code, answer.json()["code"]) == (409, "upload_replayed")
    assert asked == [key]
    assert not configured.files.exists()
    await post(stranger, form, DATA, x_pulse_signature="0" * 64)
    assert asked == [key], "nobody is asked for a form that is not ours"


async def test_a_body_that_is_no_form_is_refused(stranger: Client) -> None:
    for media_type in ("application/json", "application/x-www-form-urlencoded"):
        answer = await stranger.post("/storage/quarantine", content=b"{}", headers={"Content-Type": media_type})
        assert (answer.status_code, answer.json()["code"]) == (415, "form_required")
    answer = await stranger.post("/storage/quarantine", data={"key": "x"}, files={"other": b"x"})
    assert (answer.status_code, answer.json()["code"]) == (400, "missing_field")


async def test_a_client_that_hears_no_while_it_sends_gets_its_answer(
    stranger: Client, local: LocalStorage, configured: Settings
) -> None:
    form = await local.form(new_key(), expecting(DATA), seconds=60)
    host, port = str(urlsplit(form.url).hostname), configured.port

    def send_all_then_listen() -> bytes:
        with socket.create_connection((host, port), timeout=30) as connection:
            size = len(DATA) + 12 * MIB
            head = "POST /storage/quarantine HTTP/1.1\r\nHost: x\r\nContent-Type: multipart/form-data; boundary=b\r\n"
            connection.sendall(f"{head}Content-Length: {size}\r\n\r\n".encode())
            body = b"--b\r\nbroken\r\n"
            connection.sendall(body + bytes(size - len(body)))
            return connection.recv(100)

    assert (await asyncio.to_thread(send_all_then_listen)).startswith(b"HTTP/1.1 400 ")


async def test_an_upload_that_breaks_off_leaves_nothing(
    stranger: Client, local: LocalStorage, configured: Settings
) -> None:
    form = await local.form(new_key(), expecting(bytes(20 * MIB)), seconds=60)
    begun = asyncio.Event()

    async def half() -> AsyncIterator[bytes]:
        for _ in range(10):
            yield bytes(MIB)
        await until(lambda: left_behind(configured) != [])
        begun.set()
        await asyncio.Event().wait()

    upload = asyncio.create_task(post(stranger, form, half()))
    await begun.wait()
    upload.cancel()
    await asyncio.gather(upload, return_exceptions=True)
    await until(lambda: left_behind(configured) == [])
    assert (await stranger.get("/healthz")).status_code == 200


async def test_a_link_serves_an_attachment_that_no_browser_takes_for_anything_else(
    stranger: Client, link: str, asset: str
) -> None:
    answer = await stranger.get(link)
    assert (answer.status_code, answer.content) == (200, DATA)
    max_age = int(answer.headers["cache-control"].split("max-age=")[1].split(",")[0])
    assert 50 <= max_age <= 60, "no longer than the link"
    wanted = {
        "content-type": "image/png",
        "content-length": str(len(DATA)),
        "content-disposition": "attachment; filename=\"_.png\"; filename*=UTF-8''%D8%B5%D9%88%D8%B1%D8%A9.png",
        "etag": f'"{asset.partition("/")[2]}"',
        "accept-ranges": "bytes",
        "cache-control": f"private, max-age={max_age}, immutable",
        "x-content-type-options": "nosniff",
        "content-security-policy": "sandbox; default-src 'none'",
        "cross-origin-resource-policy": "cross-origin",
    }
    assert {name: answer.headers.get_list(name) for name in wanted} == {name: [text] for name, text in wanted.items()}


async def test_ranges_are_served(stranger: Client, link: str) -> None:
    last = len(DATA) - 1
    for asked, first, end in [("bytes=0-0", 0, 0), ("bytes=10-300099", 10, 300_099), ("bytes=-7", last - 6, last)]:
        answer = await stranger.get(link, headers={"Range": asked})
        assert (answer.status_code, answer.content) == (206, DATA[first : end + 1])
        assert answer.headers["content-range"] == f"bytes {first}-{end}/{len(DATA)}"
        assert answer.headers["content-length"] == str(end - first + 1)
        assert answer.headers["x-content-type-options"] == "nosniff"
    answer = await stranger.get(link, headers={"Range": f"bytes={len(DATA)}-"})
    assert (answer.status_code, answer.json()["code"]) == (416, "range_not_satisfiable")
    assert answer.headers["content-range"] == f"bytes */{len(DATA)}"
    whole = await stranger.get(link, headers={"Range": "bytes=0-5", "If-Range": '"another"'})
    assert (whole.status_code, len(whole.content)) == (200, len(DATA))


async def test_a_download_goes_on_where_it_broke_off(stranger: Client, link: str) -> None:
    async with stranger.stream("GET", link) as answer:
        etag = answer.headers["etag"]
        begin = await anext(answer.aiter_bytes(1000))
    rest = await stranger.get(link, headers={"Range": f"bytes={len(begin)}-", "If-Range": etag})
    assert rest.status_code == 206
    assert begin + rest.content == DATA


async def test_what_a_client_has_is_not_sent_again(stranger: Client, link: str) -> None:
    etag = (await stranger.head(link)).headers["etag"]
    answer = await stranger.get(link, headers={"If-None-Match": etag, "Range": "bytes=0-5"})
    assert (answer.status_code, answer.content, answer.headers["etag"]) == (304, b"", etag)


async def test_head_tells_everything_but_the_bytes(stranger: Client, link: str) -> None:
    head, get = await stranger.head(link, headers={"Range": "bytes=0-5"}), await stranger.get(link)
    assert (head.status_code, head.content) == (200, b"")
    headers = {name: value for name, value in get.headers.items() if name not in {"date", "cache-control"}}
    assert {name: head.headers.get(name) for name in headers} == headers


async def test_a_link_is_good_for_one_asset_as_signed_and_for_its_time(
    stranger: Client, local: LocalStorage, link: str, asset: str
) -> None:
    theirs = asset_key(DATA)
    expired = (await local.link(asset, filename="a", media_type="image/png", seconds=0)).url
    for url, status, code in [
        (link.replace(asset, theirs), 403, "signature_invalid"),
        (link.replace("image", "text"), 403, "signature_invalid"),
        (link + "0", 403, "signature_invalid"),
        (link + "&type=text/html", 403, "signature_invalid"),
        (link.partition("?")[0], 403, "signature_invalid"),
        (expired, 410, "link_expired"),
    ]:
        answer = await stranger.get(url)
        assert (answer.status_code, answer.json()["code"]) == (status, code)
        assert answer.headers["cache-control"] == "no-store"
    await local.delete("assets", asset)
    answer = await stranger.get(link)
    assert (answer.status_code, answer.json()["code"]) == (404, "object_not_found")


@pytest.mark.parametrize(
    "path",
    [
        "/storage/assets/../quarantine/{key}",
        "/storage/assets/%2e%2e/quarantine/{key}",
        "/storage/assets/..%2fquarantine%2f{key}",
        "/storage/quarantine/{key}",
        "/storage/tmp/{key}",
        "/storage/assets/{key}",
        "/storage/assets/%00/%ff",
        "/storage/assets/a/b/c",
        "/storage/assets/",
        "/storage",
    ],
)
async def test_no_path_leads_to_what_was_not_signed(
    stranger: Client, local: LocalStorage, configured: Settings, link: str, path: str
) -> None:
    key = new_key()
    await local.receive(key, stores.streamed(DATA), most_bytes=len(DATA))
    target = path.format(key=key) + "?" + urlsplit(link).query

    def ask() -> bytes:  # a client would tidy the path up
        with socket.create_connection(("127.0.0.1", configured.port), timeout=30) as connection:
            connection.sendall(f"GET {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
            return connection.recv(65_536)

    answer = await asyncio.to_thread(ask)
    assert answer.split(b" ")[1] in {b"400", b"403", b"404", b"405"}, answer
    assert b"PNG" not in answer


async def test_a_store_without_room_is_a_503_that_says_when_to_come_back(
    stranger: Client, local: LocalStorage, configured: Settings
) -> None:
    configured.files.write_text("in the way")
    answer = await post(stranger, await local.form(new_key(), expecting(DATA), seconds=60), DATA)
    assert (answer.status_code, answer.json()["code"]) == (503, "storage_unavailable")
    assert answer.headers["retry-after"] == "2"


def open_files(path: Path) -> int:
    """Return how often this process has a file open."""
    links = [f"/proc/self/fd/{fd}" for fd in os.listdir("/proc/self/fd")]  # noqa: PTH208 (the listing's own is gone)
    return sum(1 for link in links if os.path.lexists(link) and os.path.realpath(link) == str(path.resolve()))


async def test_nothing_stays_open_for_a_client_that_has_left_or_takes_nothing(
    stranger: Client, local: LocalStorage, configured: Settings, asset: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    at = configured.files / "assets" / asset
    os.truncate(at, 2**40)  # a terabyte of nothing: whoever reads on for nobody is still at it when the time is up
    url = urlsplit((await local.link(asset, filename="a", media_type="video/mp4", seconds=60)).url)
    ask = f"GET {url.path}?{url.query} HTTP/1.1\r\nHost: x\r\n\r\n".encode()

    _, leaving = await asyncio.open_connection("127.0.0.1", configured.port, limit=1000)
    leaving.write(ask)
    await until(lambda: open_files(at) == 1)
    leaving.close()
    await until(lambda: open_files(at) == 0)
    monkeypatch.setattr(storage, "_SILENCE_S", 0.2)
    _, idle = await asyncio.open_connection("127.0.0.1", configured.port, limit=1000)
    idle.write(ask)
    await until(lambda: open_files(at) == 1)
    await until(lambda: open_files(at) == 0)
    idle.close()


async def test_with_s3_the_api_serves_no_files_itself(
    settings: Settings, s3_address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    buckets = stores.in_buckets(s3_address, tmp_path, monkeypatch)
    names = ("s3_endpoint", "s3_region", "s3_assets", "s3_quarantine")
    app = create_app(msgspec.structs.replace(settings, **{name: getattr(buckets, name) for name in names}))
    async with serving(app) as url, Client(base_url=url) as client:
        assert (await client.post("/storage/quarantine")).json()["code"] == "no_such_route"
        assert (await client.get(f"/storage/assets/{asset_key(b'x')}")).json()["code"] == "no_such_route"


async def awaited(ground: Ground, account: Account) -> str:
    """Return the key of an upload that is waited for."""
    file_id = ids.new()
    async with ground.database.begin() as session:
        session.add(
            File(
                id=file_id,
                account_id=account.id,
                purpose="clip",
                name="a.mp4",
                searched="a.mp4",
                media_type="video/mp4",
                size_bytes=1,
                declared_sha256=bytes(32),
                upload_until=datetime.now(UTC),
            )
        )
    return f"{account.id}/{file_id}"


@pytest.mark.slow
async def test_a_large_file_goes_up_and_down_in_flat_memory(
    configured: Settings, ground: Ground, account: Account, tmp_path: Path
) -> None:
    size, piece = 96 * MIB, os.urandom(MIB)
    digest = hashlib.sha256(piece * (size // MIB)).hexdigest()
    local = LocalStorage(configured.files, address=configured.address, secret=configured.secret)

    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(size // MIB):
            yield piece

    with started("api", env=environ(configured), log=tmp_path / "api.log") as process:
        async with Client(base_url=configured.address, timeout=60) as client:
            await until_serving(client)
            await _round(client, local, await awaited(ground, account), DATA)
            before = peak_mib(process)
            expected = msgspec.structs.replace(expecting(b""), size_bytes=size, sha256=digest)
            form = await local.form(await awaited(ground, account), expected, seconds=60)
            assert (await post(client, form, pieces())).status_code == 204
            after_upload = peak_mib(process)
            async with local.opened("quarantine", form.fields["key"]) as path:
                await local.put("assets", key := f"{new_key()[:36]}/{digest}", path)
            shown = await local.link(key, filename="a.mp4", media_type="video/mp4", seconds=60)
            got = hashlib.sha256()
            async with client.stream("GET", shown.url) as answer:
                async for chunk in answer.aiter_bytes():
                    got.update(chunk)
            assert got.hexdigest() == digest
            after_download = peak_mib(process)
    await local.close()
    assert after_upload - before < 32, (before, after_upload)
    assert after_download - before < 32, (before, after_download)


async def _round(client: Client, local: LocalStorage, key: str, data: bytes) -> None:
    """Upload and download something small, so that everything is loaded that ever will be."""
    form = await local.form(key, expecting(data), seconds=60)
    assert (await post(client, form, data)).status_code == 204
    async with local.opened("quarantine", form.fields["key"]) as path:
        await local.put("assets", asset := asset_key(data), path)
    assert (await client.get((await local.link(asset, filename="a", media_type="a/b", seconds=60)).url)).content == data
