"""`pulse files ls|show|rm|mv`, and how sizes are said."""

import json
from collections.abc import Callable

import pytest

from scripts.pulse import shelf, words
from tests.scripts.conftest import Pulse
from tests.scripts.files.conftest import ARABIC
from tests.scripts.files_stand_in import FilesStandIn
from tests.scripts.terminal import Terminal


def test_the_list_names_each_file_whole(pulse: Pulse, api: FilesStandIn) -> None:
    long = "تقرير " * 30 + "\x1b[2J\u202e.txt"
    api.add(b"1" * 2048, name=long, folder="رحلات/2026")
    api.add(b"2", name="صُورة.png", media_type="image/png", state="rejected")
    done = pulse("files", **ARABIC)
    head, second, first = (line.rstrip() for line in done.stdout.splitlines())
    assert head.split() == ["id", "size", "type", "state", "age", "name"]
    assert first.split()[1:5] == ["2.0", "KiB", "txt", "ready"]
    assert first.endswith("رحلات/2026/" + "تقرير " * 30 + "[2J.txt")
    assert second.split()[1:5] == ["1", "B", "png", "rejected"]
    assert first.index("رحلات") == second.index("صُورة") == head.index("name")


def test_a_narrow_terminal_cuts_no_id_and_no_name(terminal: Callable[..., Terminal], api: FilesStandIn) -> None:
    file = api.add(b"1", name="a-long-name-" * 6 + ".txt")
    lines = terminal("files", COLUMNS="40", NO_COLOR="1", TERM="dumb").wait().split("\r\n")
    assert lines[1].startswith(file["id"])
    place = lines[0].index("name")
    assert "".join(line[place:].strip() for line in lines[1:]) == file["name"]


def test_the_next_page_is_named_with_the_same_choice(pulse: Pulse, api: FilesStandIn) -> None:
    api.pages = 1
    api.add(b"1")
    api.add(b"2")
    done = pulse("files", "ls", "my trips", "--search", "notes", "--state", "ready", "--limit", "1")
    assert api.calls[-1].path == "/v1/files?folder=my+trips&q=notes&state=ready&limit=1"
    assert done.stderr == ("more: pulse files ls 'my trips' --search notes --state ready --limit 1 --cursor 1\n")
    assert json.loads(pulse("files", "ls", "--json").stdout)["next_cursor"] == "1"


def test_folders_are_listed_with_how_much_is_in_them(pulse: Pulse, api: FilesStandIn) -> None:
    api.add(b"1" * 3000, folder="رحلات")
    api.add(b"2")
    lines = [line.split() for line in pulse("files", "ls", "--folders").stdout.splitlines()]
    assert lines[0] == ["files", "size", "folder"]
    assert sorted(lines[1:]) == [["1", "1", "B", "/"], ["1", "2.9", "KiB", "رحلات"]]
    assert pulse("files", "--folders", "--json").stdout.startswith('{"folders"')


def test_one_file_is_shown_with_what_it_is_or_why_it_was_refused(pulse: Pulse, api: FilesStandIn) -> None:
    film = api.add(b"1" * 1234, name="film.mp4", media_type="video/mp4", width=64, height=48, duration_s=90.0, frames=9)
    done = pulse("files", "show", film["id"])
    assert "    type  video/mp4 64 x 48 90 s\n" in done.stdout
    assert "    size  1.2 KiB (1,234)\n  frames  9\n" in done.stdout
    assert film["sha256"] in done.stdout
    refused = api.add(b"2", state="rejected", sha256=None, error={"code": "type_mismatch", "detail": "A program."})
    assert "   error  A program. (type_mismatch)\n" in pulse("files", "show", refused["id"]).stdout
    assert json.loads(pulse("files", "show", refused["id"], "--json").stdout) == refused


def test_files_are_deleted_each_for_itself(pulse: Pulse, api: FilesStandIn) -> None:
    one, two = api.add(b"1"), api.add(b"2")
    assert pulse("files", "rm", one["id"]).exit_code == 0
    done = pulse("files", "rm", one["id"], two["id"])
    assert (done.exit_code, done.stderr) == (1, f"{one['id']}: There is no such file. (file_not_found)\n")
    assert api.files == {}
    told = json.loads(pulse("files", "rm", one["id"], "--json").stdout)
    assert told == {
        "files": [{"id": one["id"], "deleted": False, "code": "file_not_found", "detail": "There is no such file."}]
    }


def test_a_terminal_is_asked_before_files_are_deleted(terminal: Callable[..., Terminal], api: FilesStandIn) -> None:
    file = api.add(b"1", name="صورة.txt")
    for answer, left in (("n\n", 1), ("y\n", 0)):
        screen = terminal("files", "rm", file["id"])
        screen.until("Delete صورة.txt?")
        assert len(api.files) == 1
        screen.type(answer)
        screen.wait()
        assert len(api.files) == left
    file = api.add(b"1")
    assert terminal("files", "rm", "--yes", file["id"]).wait() == ""
    assert api.files == {}


@pytest.mark.parametrize(
    ("arguments", "changes", "shown"),
    [
        (["بحر.txt"], {"name": "بحر.txt"}, "a/بحر.txt"),
        (["--folder", ""], {"folder": ""}, "notes.txt"),
        (["b.txt", "--folder", "b"], {"name": "b.txt", "folder": "b"}, "b/b.txt"),
    ],
)
def test_a_file_gets_another_name_or_folder(
    pulse: Pulse, api: FilesStandIn, arguments: list[str], changes: dict[str, str], shown: str
) -> None:
    file = api.add(b"1", folder="a")
    assert pulse("files", "mv", file["id"], *arguments).stdout == f"{file['id']}: {shown}\n"
    [call] = api.calls
    assert (call.method, call.body) == ("PATCH", changes)
    assert json.loads(pulse("files", "mv", file["id"], *arguments, "--json").stdout) == api.files[file["id"]]
    assert pulse("files", "mv", file["id"]).exit_code == 2


@pytest.mark.parametrize(
    ("size_bytes", "en", "ar"),
    [
        (1, "1 B", "1 بايت"),
        (999, "999 B", "999 بايت"),
        (1000, "1.0 KiB", "1.0 كيبي بايت"),
        (102_348, "99.9 KiB", "99.9 كيبي بايت"),
        (102_400, "100 KiB", "100 كيبي بايت"),
        (1024 * 1024 - 1, "1.0 MiB", "1.0 ميبي بايت"),
        (3 * 1024**3, "3.0 GiB", "3.0 غيبي بايت"),
        (5000 * 1024**4, "5,000 TiB", "5,000 تيبي بايت"),
    ],
)
def test_a_size_is_said_as_a_person_says_it(size_bytes: int, en: str, ar: str) -> None:
    assert shelf.size(size_bytes, words.of("en")) == en
    assert shelf.size(size_bytes, words.of("ar")) == ar
