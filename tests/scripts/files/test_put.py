"""`pulse files put` against a studio and a store that refuse, expire and break off."""

import hashlib
import json
import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from scripts.pulse import delivery, words
from scripts.pulse.bar import Bar
from scripts.pulse.client import Client
from scripts.pulse.place import Place
from scripts.pulse.sources import CHUNK_BYTES, look
from tests.scripts.conftest import Pulse, Start
from tests.scripts.files.conftest import ARABIC, PATIENCE_S, until
from tests.scripts.files_stand_in import REJECTED, Fault, FilesStandIn
from tests.scripts.stand_in import KEY, PROBLEM, Refusal
from tests.scripts.terminal import Terminal


def test_an_upload_announces_the_file_and_tells_what_was_kept(pulse: Pulse, api: FilesStandIn, notes: Path) -> None:
    api.looks = 2
    done = pulse("files", "put", "ملاحظات.txt", "--folder", "رحلات/2026")
    [(file_id, file)] = api.files.items()
    assert (done.exit_code, done.stdout) == (0, f"{file_id}\n")
    assert done.stderr == "note: quota_80\nkept 768 KiB text/plain 8 x 6 · ملاحظات.txt\n"
    [announced] = api.asked("POST", "/v1/files")[:1]
    assert announced.body == {
        "name": "ملاحظات.txt",
        "purpose": "attachment",
        "media_type": "text/plain",
        "size_bytes": notes.stat().st_size,
        "sha256": hashlib.sha256(notes.read_bytes()).hexdigest(),
        "folder": "رحلات/2026",
    }
    assert api.uploaded[file_id] == notes.read_bytes()
    assert file["state"] == "ready"


def test_what_was_kept_is_told_in_arabic_too(pulse: Pulse, notes: Path) -> None:
    done = pulse("files", "put", str(notes), **ARABIC)
    assert "حُفظ 768 كيبي بايت text/plain" in done.stderr


@pytest.mark.parametrize(
    ("name", "options", "purpose", "media_type"),
    [
        ("a.MOV", [], "clip", "video/quicktime"),
        ("a.png", [], "attachment", "image/png"),
        ("a.png", ["--purpose", "photo"], "photo", "image/png"),
        ("a.jsonl", [], "attachment", "application/jsonl"),
        ("a.bin", ["--name", "lines.jsonl", "--purpose", "batch"], "batch", "application/jsonl"),
    ],
)
def test_what_a_file_is_for_is_said_or_guessed_from_its_type(
    pulse: Pulse, api: FilesStandIn, folder: Path, name: str, options: list[str], purpose: str, media_type: str
) -> None:
    (folder / name).write_bytes(b"x")
    assert pulse("files", "put", name, *options).exit_code == 0
    [file] = api.files.values()
    assert (file["purpose"], file["media_type"]) == (purpose, media_type)


def test_what_comes_on_stdin_is_uploaded_under_its_name(pulse: Pulse, api: FilesStandIn) -> None:
    done = pulse("files", "put", "-", "--name", "notes.md", "--no-wait", stdin=b"# a\xff\n")
    [(file_id, file)] = api.files.items()
    assert (done.exit_code, done.stdout) == (0, f"{file_id}\n")
    assert (file["name"], api.uploaded[file_id]) == ("notes.md", b"# a\xff\n")
    assert not api.asked("GET", "/v1/files"), "nobody waits for the check"


@pytest.mark.parametrize(
    ("paths", "code"),
    [
        (["nowhere.txt"], "no_such_path"),
        (["whole.txt/inside.txt"], "no_such_path"),
        (["folder.txt"], "path_is_folder"),
        (["loop.txt"], "path_unreadable"),
        (["pipe.txt"], "path_is_no_file"),
        (["empty.txt"], "file_is_empty"),
        (["program.exe"], "type_unknown"),
    ],
)
def test_what_cannot_be_uploaded_is_named_before_anything_is_announced(
    pulse: Pulse, api: FilesStandIn, folder: Path, paths: list[str], code: str
) -> None:
    (folder / "whole.txt").write_bytes(b"x")
    (folder / "folder.txt").mkdir()
    (folder / "loop.txt").symlink_to("loop.txt")
    os.mkfifo(folder / "pipe.txt")
    (folder / "empty.txt").touch()
    (folder / "program.exe").write_bytes(b"x")
    done = pulse("files", "put", "whole.txt", *paths)
    assert (done.exit_code, done.stdout) == (1, "")
    assert paths[0] in done.stderr
    assert json.loads(pulse("files", "put", "whole.txt", *paths, "--json").stderr)["code"] == code
    assert not api.calls


@pytest.mark.parametrize("arguments", [["-"], ["-", "a.txt", "--name", "b.txt"], ["a.txt", "b.txt", "--name", "c"], []])
def test_one_name_is_for_one_file(pulse: Pulse, api: FilesStandIn, arguments: list[str]) -> None:
    assert pulse("files", "put", *arguments).exit_code == 2
    assert not api.calls


def test_a_name_that_is_no_text_can_be_uploaded_and_told(pulse: Pulse, api: FilesStandIn, folder: Path) -> None:
    path = os.fsencode(folder) + b"/a\xff\x1bb.txt"
    Path(os.fsdecode(path)).write_bytes(b"x")
    done = pulse("files", "put", os.fsdecode(path), "--json")
    assert json.loads(done.stdout)["file"]["name"] == "a\ufffdb.txt"


@pytest.mark.usefixtures("hasty")
def test_a_form_that_holds_no_more_is_replaced_and_its_place_freed(
    pulse: Pulse, api: FilesStandIn, notes: Path
) -> None:
    api.upload_faults = [Fault(how=403)]
    assert pulse("files", "put", str(notes)).exit_code == 0
    assert len(api.asked("DELETE", "/v1/files/")) == 1
    assert [api.uploaded[file_id] for file_id in api.files] == [notes.read_bytes()]


@pytest.mark.usefixtures("hasty")
@pytest.mark.parametrize("gone", [True, False])
def test_an_announcement_that_expired_is_made_anew(pulse: Pulse, api: FilesStandIn, notes: Path, *, gone: bool) -> None:
    api.upload_faults = [Fault(CHUNK_BYTES)]
    expired = {"status": 410, "code": "upload_expired", "detail": "Too late."}
    api.refusals = [None, Refusal(410, expired)] if gone else []
    if not gone:
        answered = {
            **api.announce(
                {**dict.fromkeys(("name", "folder", "purpose", "media_type", "sha256"), "")} | {"size_bytes": 1}
            ),
            "state": "expired",
        }
        api.files.clear()
        api.refusals = [None, Refusal(202, answered)]
    assert pulse("files", "put", str(notes)).exit_code == 0
    assert len([call for call in api.calls if (call.method, call.path) == ("POST", "/v1/files")]) == 2
    assert list(api.uploaded.values()) == [notes.read_bytes()]


@pytest.mark.usefixtures("hasty")
def test_an_upload_that_stays_lost_is_given_up_and_taken_back(pulse: Pulse, api: FilesStandIn, notes: Path) -> None:
    api.upload_faults = [Fault(100_000)] * 9
    done = pulse("files", "put", str(notes))
    assert done.exit_code == 1
    assert done.stderr.endswith(f"The upload of {notes} broke off 5 times. Nothing of it was kept; try again later.\n")
    assert done.stderr.count("the connection is lost; trying again") == 5
    assert api.files == {}


@pytest.mark.usefixtures("hasty")
@pytest.mark.parametrize(
    ("fault", "code", "tries"),
    [
        (
            Fault(how=400, body=b"<Error><Code>EntityTooLarge</Code>\n<Message>Too large.</Message>"),
            "EntityTooLarge",
            1,
        ),
        (Fault(how=413, body=json.dumps({"code": "upload_too_large", "detail": "Too large."}).encode()), "upload_t", 1),
        (Fault(how=403), "http_403", 2),
        (Fault(how=302, headers={"Location": "/v1/files/folders"}), "http_302", 1),
    ],
)
def test_a_refusal_of_the_store_is_told_and_the_file_taken_back(
    pulse: Pulse, api: FilesStandIn, notes: Path, fault: Fault, code: str, tries: int
) -> None:
    api.upload_faults = [fault] * tries
    done = pulse("files", "put", str(notes))
    assert done.exit_code == 1
    assert f"code {code}" in done.stderr
    assert "s3cr3t" not in done.stderr
    assert api.files == {}
    assert len(api.asked("POST", "/store/")) == tries
    assert not api.asked("GET", "/v1/files/folders"), "nobody is led elsewhere"


def test_a_studio_that_is_away_for_a_moment_is_waited_for(pulse: Pulse, api: FilesStandIn, notes: Path) -> None:
    api.refusals = [Refusal(503, PROBLEM, {"Retry-After": "0"}), None, Refusal("drop"), None, Refusal(502)]
    assert pulse("files", "put", str(notes)).exit_code == 0
    assert len(api.files) == 1


def test_a_quota_that_is_used_up_is_told_with_its_code(pulse: Pulse, api: FilesStandIn, notes: Path) -> None:
    api.refusals = [Refusal(402, PROBLEM)]
    done = pulse("files", "put", str(notes), **ARABIC)
    assert (done.exit_code, done.stdout) == (1, "")
    assert done.stderr == "لا يتبقى ما يكفي.\n  code quota_exceeded, field input.messages\n"
    assert not api.asked("POST", "/store/")


def test_each_of_several_files_is_tried_for_itself(pulse: Pulse, api: FilesStandIn, folder: Path) -> None:
    for name in "abc":
        (folder / f"{name}.txt").write_bytes(name.encode())
    api.rejects = 1
    done = pulse("files", "put", "a.txt", "b.txt", "c.txt", **ARABIC)
    assert done.exit_code == 1
    assert done.stdout.split() == [file_id for file_id, file in api.files.items() if file["state"] == "ready"]
    assert f"a.txt: {REJECTED['ar']} (type_mismatch)\n" in done.stderr
    assert done.stderr.endswith("المحفوظ 2 والمرفوض 1\n")


def test_a_program_reads_a_line_a_file(pulse: Pulse, api: FilesStandIn, folder: Path) -> None:
    for name in "ab":
        (folder / f"{name}.txt").write_bytes(name.encode())
    api.rejects = 1
    done = pulse("files", "put", "a.txt", "b.txt", "--json")
    assert (done.exit_code, done.stderr) == (1, "")
    refused, kept = map(json.loads, done.stdout.splitlines())
    assert (refused["path"], refused["file"], refused["error"]["code"]) == ("a.txt", None, "type_mismatch")
    assert refused["error"]["detail"] == REJECTED["en"]
    assert kept == {"path": "b.txt", "file": list(api.files.values())[1], "error": None}


def test_a_wrong_key_ends_it_at_once(pulse: Pulse, api: FilesStandIn, folder: Path) -> None:
    for name in "ab":
        (folder / f"{name}.txt").write_bytes(name.encode())
    api.refusals = [Refusal(401, {"status": 401, "code": "invalid_api_key", "detail": "Wrong key."})] * 2
    assert pulse("files", "put", "a.txt", "b.txt").stderr == "Wrong key.\n  code invalid_api_key\n"
    assert len(api.calls) == 1


def test_a_file_that_changes_while_it_is_uploaded_is_told_and_not_kept(
    start: Start, api: FilesStandIn, folder: Path
) -> None:
    growing = folder / "log.txt"
    growing.write_bytes(b"x" * 32 * 1024 * 1024)  # more than sockets hold
    api.hold.clear()
    process = start("files", "put", str(growing))
    until(lambda: api.asked("POST", "/store/"))
    with growing.open("r+b") as file:
        file.seek(-1, os.SEEK_END)
        file.write(b"y")
    api.hold.set()
    _, stderr = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 1
    assert f"{growing} changed while it was being uploaded." in stderr
    assert (api.files, api.uploaded) == ({}, {})
    assert len(api.asked("POST", "/store/")) == 1


@pytest.mark.parametrize("how", ["written over", "longer", "shorter"])
def test_a_body_is_never_completed_with_other_bytes_than_were_announced(
    pulse: Pulse, api: FilesStandIn, notes: Path, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def change(client: Client, request: object) -> bytes:
        content = notes.read_bytes()
        notes.write_bytes({"written over": b"y" + content[1:], "longer": content + b"y"}.get(how, content[:-1]))
        return announce(client, request)

    announce: Callable[[Client, object], bytes] = Client.announce  # pyright: ignore[reportAssignmentType]
    monkeypatch.setattr(Client, "announce", change)
    done = pulse("files", "put", str(notes), "--json")
    assert json.loads(done.stdout)["error"]["code"] == "file_changed"
    assert (api.files, api.uploaded) == ({}, {})


def test_ctrl_c_leaves_no_half_upload(start: Start, api: FilesStandIn, folder: Path) -> None:
    film = folder / "film.mp4"
    film.write_bytes(b"x" * 32 * 1024 * 1024)
    api.hold.clear()
    process = start("files", "put", str(film))
    until(lambda: api.asked("POST", "/store/"))
    process.send_signal(signal.SIGINT)
    stdout, stderr = process.communicate(timeout=PATIENCE_S)
    assert (process.returncode, stdout) == (130, "")
    assert stderr.endswith(f"{film} was not uploaded, and nothing of it was kept.\n")
    assert api.files == {}


def test_ctrl_c_tells_what_it_could_not_take_back(start: Start, api: FilesStandIn, folder: Path) -> None:
    film = folder / "film.mp4"
    film.write_bytes(b"x" * 32 * 1024 * 1024)
    api.hold.clear()
    process = start("files", "put", str(film))
    until(lambda: api.asked("POST", "/store/"))
    api.refusals = [Refusal(503)]
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 130
    [file_id] = api.files
    assert f"pulse files rm {file_id}" in stderr


def test_ctrl_c_during_the_check_says_how_to_come_back(start: Start, api: FilesStandIn, notes: Path) -> None:
    api.looks = 10_000
    process = start("files", "put", str(notes))
    until(lambda: len(api.asked("GET", "/v1/files/")) > 1)
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 130
    [file_id] = api.files
    assert f"pulse files show {file_id}" in stderr


def test_a_decision_that_does_not_come_is_left_with_the_way_back(api: FilesStandIn, notes: Path) -> None:
    client, said = Client(Place(api.url, KEY), "en"), words.of("en")
    with Bar(said, shown=False) as bar:
        sent = delivery.Delivery(client, look(notes), said, bar)
        api.looks = 10_000
        file = json.loads(sent.send(delivery.Asked(folder="", purpose=None)))
        with pytest.raises(delivery.NotDecidedYet, match=f"pulse files show {file['id']}"):
            sent.wait(file["id"], patience_s=0.0)
    client.close()


def test_a_terminal_sees_how_an_upload_goes(terminal: Callable[..., Terminal], api: FilesStandIn, folder: Path) -> None:
    film = folder / "فيلم.mp4"
    film.write_bytes(b"x" * 32 * 1024 * 1024)
    api.hold.clear()
    api.looks = 2
    screen = terminal("files", "put", str(film), COLUMNS="120")
    screen.until("uploading")
    screen.until("/ 32.0 MiB")
    screen.until("MiB/s")
    api.hold.set()
    screen.until("being checked")
    shown = screen.wait()
    [file_id] = api.files
    assert f"{file_id}\r\n" in shown
    assert shown.endswith(f"kept 32.0 MiB video/mp4 8 x 6 · {film}\x1b[0m\r\n")


def test_a_program_on_a_terminal_sees_no_bar(terminal: Callable[..., Terminal], api: FilesStandIn, notes: Path) -> None:
    shown = terminal("files", "put", str(notes), "--json").wait()
    assert json.loads(shown)["file"]["state"] == "ready"
