"""Every hostile file is refused in the child that examines it, for its own reason, and leaves nothing behind."""

import os
import tempfile
from collections.abc import Generator
from pathlib import Path

import pytest

from tests.support import examined, pictured, process
from tests.support.corpus import HOSTILE, Hostile, asked
from tests.support.examined import Opened
from workers import events
from workers.craft import child
from workers.scan import refusals
from workers.scan.findings import Findings
from workers.scan.limits import LIMITS
from workers.scan.refusals import (
    ArchiveTooLarge,
    FileRefused,
    MalformedLine,
    TooComplex,
    TooManyFrames,
    TooManyPixels,
    UnreadableFile,
)

EXAMINE = "workers.scan.examine:examine"
# A cap on what goes wrong, not the goal: the bench measures that.
MOST_PEAK_MIB = 150
GREEDY = {ArchiveTooLarge, MalformedLine, TooComplex, TooManyFrames, TooManyPixels, UnreadableFile}
BOMBS = {name: hostile for name, hostile in HOSTILE.items() if hostile.refusal in GREEDY}


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Generator[Path]:
    """Where children have their folders. After every test there is none more."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    yield folder
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("hostile", HOSTILE.values(), ids=HOSTILE)
async def test_a_hostile_file_is_refused_for_its_own_reason(hostile: Hostile, tmp_path: Path) -> None:
    given = hostile.asked(tmp_path)
    with pytest.raises(FileRefused) as refused:
        await child.run(EXAMINE, given, returns=Findings, limits=LIMITS)
    assert type(refused.value) is hostile.refusal
    for language in ("en", "ar"):
        assert "{" not in refused.value.text(language)
    assert list(given.folder.iterdir()) == []


@pytest.mark.parametrize("hostile", BOMBS.values(), ids=BOMBS)
async def test_refusing_a_hostile_file_takes_little_memory(hostile: Hostile, tmp_path: Path) -> None:
    given = hostile.asked(tmp_path)
    took = await child.run(examined.measured, given, limits=LIMITS)
    assert took.code == hostile.refusal.code
    assert took.peak_mib < MOST_PEAK_MIB


def test_the_corpus_has_every_reason_of_its_kinds() -> None:
    assert len(HOSTILE) >= 25
    elsewhere = {
        refusals.ActiveContent,
        refusals.ClipTooHeavy,
        refusals.ClipTooLong,
        refusals.CodecNotAllowed,
        refusals.EntitiesDeclared,
        refusals.TooManyPages,
        refusals.TrailingData,
        refusals.UnsafePath,
        refusals.UnscannableFile,
        refusals.VirusFound,
    }
    assert {each.refusal for each in HOSTILE.values()} >= set(FileRefused.__subclasses__()) - elsewhere


async def test_progress_is_told(tmp_path: Path) -> None:
    told = list[tuple[int, int, str]]()

    async def hear(said: events.Progress) -> None:
        told.append((said.done, said.total, said.stage))

    given = asked(tmp_path, b"abc", "text/plain")
    await child.run(EXAMINE, given, returns=Findings, limits=LIMITS, on_progress=hear)
    assert told == [(0, 3, "hash"), (1, 3, "type"), (2, 3, "content"), (3, 3, "content")]


def _files() -> list[tuple[str, bytes]]:
    photo = pictured.photo()
    return [
        ("image/png", pictured.encoded(photo, "PNG")),
        ("image/jpeg", pictured.encoded(photo, "JPEG")),
        ("image/avif", pictured.encoded(photo, "AVIF", speed=10)),
        ("text/plain", b"file secret.ts"),
        ("application/jsonl", b'{"file": "secret.ts"}'),
    ]


@pytest.mark.parametrize(("media_type", "data"), _files(), ids=[media_type for media_type, _ in _files()])
async def test_nothing_is_opened_but_the_file_and_what_is_made_of_it(
    media_type: str, data: bytes, tmp_path: Path
) -> None:
    (tmp_path / "secret.ts").write_bytes(b"canary")
    given = asked(tmp_path, data, media_type)
    opened = await child.run(examined.opened, given, limits=LIMITS)
    assert opened.connected == []
    assert str(given.path) in opened.paths
    assert {path for path in opened.paths if path != str(given.path)} <= {str(each) for each in given.folder.iterdir()}


async def test_the_watch_over_what_is_opened_sees_what_is(tmp_path: Path) -> None:
    given = asked(tmp_path, b"abc", "text/plain")
    secret = tmp_path / "secret.ts"
    secret.write_bytes(b"canary")
    seen: Opened = await child.run(examined.opens, given, secret, limits=LIMITS)
    assert seen.paths == [str(secret)]
    assert len(seen.connected) == 1


async def test_a_file_that_may_be_kept_is_found_as_it_is(tmp_path: Path) -> None:
    given = asked(tmp_path, pictured.encoded(pictured.photo(320, 240), "PNG"), "image/png")
    findings = await child.run(EXAMINE, given, returns=Findings, limits=LIMITS)
    assert findings.media_type == "image/png"
    assert findings.path.parent == given.folder
    assert {name: findings.facts[name] for name in ("width", "height", "frames")} == {
        "width": 320,
        "height": 240,
        "frames": 1,
    }
    (small,) = findings.pictures
    assert (small.name, small.media_type, small.width, small.height) == ("thumbnail", "image/webp", 320, 240)
    assert {path.name for path in given.folder.iterdir()} == {"clean.png", "thumbnail.webp"}


async def test_what_needs_too_much_memory_ends_the_child_and_nobody_else(tmp_path: Path) -> None:
    given = asked(tmp_path, pictured.png(6000, 6000), "image/png")
    with pytest.raises(child.ChildOutOfMemory):
        await child.run(EXAMINE, given, returns=Findings, limits=child.Limits(memory_bytes=40 * 1024**2))


def test_the_child_loads_neither_a_database_nor_an_event_loop() -> None:
    heavy = ("asyncio", "redis", "sqlalchemy", "structlog")
    loaded = process.printed(f"import sys, workers.scan.examine; print(*[m for m in {heavy!r} if m in sys.modules])")
    assert loaded.split() == []


def test_the_worker_that_asks_loads_no_library_that_opens_files() -> None:
    heavy = ("PIL", "av", "pypdfium2")
    program = "import sys, workers.scan.antivirus, workers.scan.findings, workers.scan.limits, workers.scan.refusals; "
    assert process.printed(f"{program}print(*[m for m in {heavy!r} if m in sys.modules])").split() == []


async def test_the_child_that_opens_uploads_has_a_pillow_without_known_holes() -> None:
    version = await child.run(examined.pillow)
    assert int(version.split(".")[0]) >= 13


def test_an_old_pillow_opens_nothing() -> None:
    program = (
        "import PIL\nfrom PIL import Image, ImageFile\nPIL.__version__ = '12.3.0'\n"
        "try: import workers.craft.pictures\n"
        "except ImportError as refused: print(refused)"
    )
    assert process.printed(program).strip() == ("Pillow 12.3.0 must not open strangers' pictures: it takes 13 or newer")


def test_only_one_package_loads_pillow() -> None:
    root = Path(__file__).parents[3]
    loading = [
        path.relative_to(root).as_posix()
        for folder in ("api", "infra", "providers", "quotas", "workers")
        for path in (root / folder).rglob("*.py")
        if any(line.split()[:2] in (["from", "PIL"], ["import", "PIL"]) for line in path.read_text().splitlines())
    ]
    assert {os.path.dirname(path) for path in loading} == {"workers/craft/pictures"}  # noqa: PTH120
