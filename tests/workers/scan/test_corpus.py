"""The whole way of hostile files: over HTTP into quarantine, through a real worker, and never out again."""

import asyncio
from collections.abc import Generator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from infra.ground import Ground
from infra.models import Account
from infra.settings import Settings
from tests.support import beside, clamd, clips, hostile
from tests.support.books import assert_even, balance_of
from tests.support.chats import Client
from tests.support.clips import Made
from tests.support.corpus import eicar
from tests.support.corpus_clips import Canary
from tests.support.hostile import Written
from tests.support.uploads import decided, kept, picture, uploaded
from tests.support.work import working
from workers import intake
from workers.desk import Desk


@pytest.fixture
def scanner() -> Generator[str]:
    """The address of a real clamd."""
    program = clamd.found()
    if program is None:
        pytest.skip("needs clamd: install clamav-daemon, or run the tests as root where apt-get is")
    with clamd.running(program) as running:
        yield running.unix


# One of each kind; every one of them is examined in a child of its own in the tests beside this one.
SOME = (
    *("png of 144 megapixels", "gif of 20,000 frames", "ten hours of two pictures", "8192 x 8192"),
    *("a playlist (m3u8) of a file", "a playlist (m3u8) of an address", "a list of files (ffconcat)"),
    *("a manifest (mpd)", "a session (sdp)", "samples in another file", "a thousand million samples"),
)
_CLIP = ("video/", "audio/")


async def _sent(client: Client, file: Written) -> dict[str, Any]:
    """Upload a hostile file as what it says it is; its bytes are put where its declaration says."""
    purpose = "clip" if file.media_type.startswith(_CLIP) else "attachment"
    facts = {"name": "صورة من الرحلة", "purpose": purpose, "media_type": file.media_type}
    return await uploaded(client, file.path.read_bytes(), **facts)


@pytest.mark.parametrize("every", [7, pytest.param(1, marks=pytest.mark.trial)])
async def test_a_hostile_file_is_refused_with_its_reason_and_the_worker_lives(
    client: Client, settings: Settings, ground: Ground, account: Account, tmp_path: Path, every: int
) -> None:
    names = tuple(dict.fromkeys([*(name for name in SOME if name in hostile.NAMES), *hostile.NAMES[::every]]))
    (tmp_path / "hostile").mkdir()
    other = clips.write(tmp_path / "other.ts", Made(muxer="mpegts", video="libx264", seconds=0.2), {})
    async with working(settings, "scan", slots=2):
        with beside.untouched(other) as (watched, heard):
            canary = Canary(path=other, url=heard.url)
            for file in hostile.write(names, tmp_path / "hostile", canary):
                if not file.is_sent:
                    continue
                shown = await decided(client, await _sent(client, file))
                assert shown["state"] == "rejected", file.name
                assert shown["error"]["code"] in {file.code, "type_mismatch"}, file.name
                arabic = await client.get(shown["urls"]["self"], headers={"Accept-Language": "ar"})
                assert arabic.json()["error"]["detail"] != shown["error"]["detail"], file.name
                content = await client.get(shown["urls"]["content"])
                assert content.json()["code"] == "file_not_ready", file.name
            assert not watched.was_opened()
            assert heard.paths == []
        assert (await kept(client, picture(), name="ok.png", purpose="photo"))["state"] == "ready"
    await intake.tend(ground, Desk(ground))
    balance = await balance_of(ground, account, "storage_bytes")
    assert balance.held == 0
    assert len([path for path in (settings.files / "quarantine").rglob("*") if path.is_file()]) == 0
    await assert_even(ground)


async def test_what_clamav_knows_is_rejected_by_its_name(client: Client, settings: Settings, scanner: str) -> None:
    async with working(msgspec.structs.replace(settings, clamav=scanner), "scan", slots=2):
        sick, clean = await asyncio.gather(uploaded(client, eicar(), name="a.txt"), uploaded(client, name="b.txt"))
        sick, clean = await decided(client, sick), await decided(client, clean)
    assert (sick["state"], sick["error"]["code"], clean["state"]) == ("rejected", "virus_found", "ready")
    assert clamd.SIGNATURE in sick["error"]["detail"]
