"""`pulse files get`: the right bytes, in the right place, whatever breaks off or was left there."""

import hashlib
import json
import random
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from scripts.pulse import target
from scripts.pulse.sources import CHUNK_BYTES
from tests.scripts.conftest import Pulse, Start
from tests.scripts.files.conftest import ARABIC, PATIENCE_S, until
from tests.scripts.files_stand_in import Fault, FilesStandIn
from tests.scripts.terminal import Terminal


def test_a_download_goes_where_it_is_wanted(pulse: Pulse, api: FilesStandIn, folder: Path) -> None:
    file = api.add(b"one" * 50_000, name="صورة.txt")
    done = pulse("files", "get", file["id"])
    assert (done.exit_code, done.stdout, done.stderr) == (0, "صورة.txt\n", "saved 146 KiB · صورة.txt\n")
    (folder / "in").mkdir()
    assert pulse("files", "get", "صورة.txt", "-o", "in").stdout == "in/صورة.txt\n"
    as_json = json.loads(pulse("files", "get", file["id"], "-o", "in/b.txt", "--json").stdout)
    assert as_json == {"path": "in/b.txt", "file": file}
    poured = pulse("files", "get", file["id"], "-o", "-")
    assert (poured.stdout_bytes, poured.stderr) == (b"one" * 50_000, "")
    for path in ("صورة.txt", "in/صورة.txt", "in/b.txt"):
        assert Path(path).read_bytes() == b"one" * 50_000
    assert len(list(folder.rglob("*"))) == 4


def test_a_file_that_is_there_is_written_over_only_by_force(pulse: Pulse, api: FilesStandIn, folder: Path) -> None:
    file = api.add(b"new")
    (folder / "notes.txt").write_text("mine")
    (folder / "dangling.txt").symlink_to("nowhere")
    for output in ([], ["-o", "dangling.txt"]):
        done = pulse("files", "get", file["id"], *output)
        assert (done.exit_code, done.stdout) == (1, "")
        assert "--force" in done.stderr
    assert (folder / "notes.txt").read_text() == "mine"
    assert not api.asked("GET", "/store/")
    assert pulse("files", "get", file["id"], "--force").exit_code == 0
    assert (folder / "notes.txt").read_text() == "new"


def test_a_file_that_appears_meanwhile_is_not_written_over(start: Start, api: FilesStandIn, folder: Path) -> None:
    file = api.add(b"new" * 1000)
    api.hold.clear()
    process = start("files", "get", file["id"])
    until(lambda: api.asked("GET", "/store/"))
    (folder / "notes.txt").write_text("mine")
    api.hold.set()
    process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 1
    assert (folder / "notes.txt").read_text() == "mine"


def test_a_name_that_several_files_have_lists_them(pulse: Pulse, api: FilesStandIn, folder: Path) -> None:
    api.pages = 1
    first, second = api.add(b"1", folder="a"), api.add(b"2", folder="b")
    api.add(b"3", name="more notes.txt")
    api.add(b"4", state="rejected")
    done = pulse("files", "get", "notes.txt")
    assert (done.exit_code, done.stdout) == (1, "")
    assert [line.split()[0] for line in done.stderr.splitlines()[1:3]] == [second["id"], first["id"]]
    assert done.stderr.endswith("2 files are called notes.txt. Say which by its id.\n")
    told = json.loads(pulse("files", "get", "notes.txt", "--json").stderr)
    assert (told["code"], told["ids"]) == ("several_files_called", [second["id"], first["id"]])
    assert pulse("files", "get", "a/notes.txt").exit_code == 0
    assert (folder / "notes.txt").read_bytes() == b"1"
    assert "No file that is ready is called notes" in pulse("files", "get", "notes").stderr


def test_a_file_that_is_not_ready_is_told_at_once(pulse: Pulse, api: FilesStandIn, folder: Path) -> None:
    api.looks = 9
    file = api.add(b"1", state="scanning", sha256=None)
    done = pulse("files", "get", file["id"])
    assert (done.exit_code, list(folder.iterdir())) == (1, [])
    assert "code file_not_ready" in done.stderr


def test_what_an_earlier_try_left_is_gone_on_with(start: Start, pulse: Pulse, api: FilesStandIn, folder: Path) -> None:
    content = random.Random(5).randbytes(1_000_000)
    file = api.add(content)
    api.hold.clear()
    process = start("files", "get", file["id"])
    part = folder / "notes.txt.part"
    until(lambda: part.exists() and part.stat().st_size > CHUNK_BYTES)
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=PATIENCE_S)
    assert (process.returncode, stderr.splitlines()[-1]) == (
        130,
        "What came so far is kept in notes.txt.part. The same command goes on from there.",
    )
    left = part.read_bytes()
    assert content.startswith(left)
    api.hold.set()
    assert pulse("files", "get", file["id"]).exit_code == 0
    assert (folder / "notes.txt").read_bytes() == content
    assert api.calls[-1].headers["range"] == f"bytes={len(left)}-"
    assert not part.exists()


@pytest.mark.parametrize("left", [b"z" * 10, b"z" * 3000, b"z" * 5000, b""])
def test_what_something_else_left_is_thrown_away(pulse: Pulse, api: FilesStandIn, folder: Path, left: bytes) -> None:
    file = api.add(b"new" * 1000)
    (folder / "notes.txt.part").write_bytes(left)
    assert pulse("files", "get", file["id"]).exit_code == 0
    assert (folder / "notes.txt").read_bytes() == b"new" * 1000


def test_a_whole_part_needs_no_download(pulse: Pulse, api: FilesStandIn, folder: Path) -> None:
    file = api.add(b"new" * 1000)
    (folder / "notes.txt.part").write_bytes(b"new" * 1000)
    assert pulse("files", "get", file["id"]).exit_code == 0
    assert (folder / "notes.txt").read_bytes() == b"new" * 1000
    assert not api.asked("GET", "/store/")


def test_a_part_that_is_a_link_is_not_followed(pulse: Pulse, api: FilesStandIn, folder: Path, tmp_path: Path) -> None:
    file = api.add(b"new")
    (tmp_path / "precious").write_text("mine")
    (folder / "notes.txt.part").symlink_to(tmp_path / "precious")
    assert json.loads(pulse("files", "get", file["id"], "--json").stderr)["code"] == "path_unwritable"
    assert (tmp_path / "precious").read_text() == "mine"


def test_within_one_command_a_range_is_bound_to_the_same_bytes(
    pulse: Pulse, api: FilesStandIn, folder: Path, hasty: None
) -> None:
    file = api.add(b"new" * 100_000)
    api.download_faults = [Fault(40_000)] * 7
    assert pulse("files", "get", file["id"]).exit_code == 0, "as long as something comes, it goes on"
    first, *more = api.asked("GET", "/store/")
    assert "range" not in first.headers
    etag = hashlib.md5(b"new" * 100_000).hexdigest()
    ranges = [(call.headers["range"], call.headers["if-range"]) for call in more]
    assert ranges == [(f"bytes={40_000 * n}-", f'"{etag}"') for n in range(1, 8)]


@pytest.mark.parametrize("served", [b"old", b"newer", b"ne"])
@pytest.mark.usefixtures("hasty")
def test_what_is_not_the_file_is_never_taken_for_it(
    pulse: Pulse, api: FilesStandIn, folder: Path, served: bytes
) -> None:
    file = api.add(b"new")
    api.uploaded[file["id"]] = served
    done = pulse("files", "get", file["id"], "--json")
    assert (done.exit_code, done.stdout) == (1, "")
    code = "download_broken" if len(served) < 3 else "download_damaged"
    assert json.loads(done.stderr)["code"] == code
    assert not (folder / "notes.txt").exists()
    assert not (folder / "notes.txt.part").exists() or code == "download_broken"
    assert pulse("files", "get", file["id"], "-o", "-").exit_code == 1


@pytest.mark.usefixtures("hasty", "folder")
def test_a_download_that_stays_lost_says_how_to_go_on(pulse: Pulse, api: FilesStandIn) -> None:
    file = api.add(b"new" * 100_000)
    api.download_faults = [Fault()] * 5
    assert "broke off 5 times in a row" in pulse("files", "get", file["id"]).stderr
    api.download_faults = [Fault(how=403)] * 5
    assert "code http_403" in pulse("files", "get", file["id"]).stderr
    assert not list(Path().iterdir()), "nothing came"
    api.download_faults = [Fault(100_000), *[Fault()] * 5]
    done = pulse("files", "get", file["id"])
    assert done.exit_code == 1
    assert "kept in notes.txt.part; the same command goes on" in done.stderr
    assert Path("notes.txt.part").stat().st_size == 100_000


@pytest.mark.usefixtures("folder")
def test_a_small_picture_of_a_file_can_be_had_instead(pulse: Pulse, api: FilesStandIn) -> None:
    file = api.add(b"film", name="film.mp4")
    api.variants["poster"] = b"webp"
    assert pulse("files", "get", file["id"], "--variant", "poster").stdout == "film.poster.webp\n"
    assert Path("film.poster.webp").read_bytes() == b"webp"
    assert "variant_not_found" in pulse("files", "get", file["id"], "--variant", "thumbnail").stderr


@pytest.mark.parametrize(
    ("told", "made"),
    [
        ("صورة.jpg", "صورة.jpg"),
        ("../../etc/passwd", "passwd"),
        ("C:\\Windows\\a.txt", "a.txt"),
        ("..", "the-id"),
        ("a/", "the-id"),
        (".bashrc", "bashrc"),
        (" .. hidden", "hidden"),
        ("a\x1b[2J\nb\u202egpj.exe", "a[2J bgpj.exe"),
        ("ش" * 200 + ".jpg", "ش" * 118 + ".jpg"),
        ("x" * 300, "x" * 240),
        ("-", "-"),
    ],
)
def test_a_servers_name_for_a_file_leads_nowhere_else(told: str, made: str) -> None:
    assert target.safe_name(told, "the-id") == made


def test_a_terminal_sees_how_a_download_goes_in_its_language(
    terminal: Callable[..., Terminal], api: FilesStandIn, folder: Path
) -> None:
    api.add(b"x" * 4_000_000)
    api.hold.clear()
    screen = terminal("files", "get", "notes.txt", COLUMNS="120", **ARABIC)
    screen.until("تنزيل")
    screen.until("50%")
    screen.until("1.9 ميبي بايت / 3.8 ميبي بايت")
    screen.until("notes.txt")
    api.hold.set()
    assert "نُزّل 3.8 ميبي بايت · notes.txt" in screen.wait()
