"""`pulse files ls|show|rm|mv`: what files there are, and how they are named, placed and deleted."""

import shlex
import sys
from datetime import UTC, datetime
from uuid import UUID

import click
from rich.console import Console
from rich.text import Text

from scripts.pulse import shelf, words
from scripts.pulse.answers import File, Files, Folders
from scripts.pulse.command import Command, connect, json_option, language
from scripts.pulse.lines import write
from scripts.pulse.problems import Problem
from scripts.pulse.screen import harmless, note

_STATES = ("uploading", "scanning", "ready", "rejected", "expired")


@click.command("ls", cls=Command)
@click.argument("folder", required=False)
@click.option("--search", metavar="TEXT", help="Only files whose name or folder has this, however it is spelled.")
@click.option("--state", type=click.Choice(_STATES), help="Only files in this state.")
@click.option("--limit", default=20, show_default=True, metavar="N", help="Files a page, 1 to 100.")
@click.option("--cursor", metavar="CURSOR", help="The page after this one: `next_cursor` of the page before.")
@click.option("--folders", is_flag=True, help="The folders instead, with how much is in each.")
@json_option
def ls(
    *,
    folder: str | None,
    search: str | None,
    state: str | None,
    limit: int,
    cursor: str | None,
    folders: bool,
    as_json: bool,
) -> None:
    """List files, newest first: all of them, or those of a folder.

    \b
    Examples:
      pulse files ls trips/2026
      pulse files ls --search تقرير --state ready
      pulse files ls --folders
      pulse files ls --json | jq -r '.files[] | select(.state == "rejected").error.code'
    """
    client, said = connect(), words.of(language())
    if folders:
        answer = client.folders()
    else:
        answer = client.files(folder=folder, q=search, state=state, limit=limit, cursor=cursor)
    if as_json:
        print(answer.decode())
        return
    console = Console(highlight=False)
    if folders:
        shelf.show(shelf.folders(client.read(answer, Folders).folders), console)
        return
    page = client.read(answer, Files)
    shelf.show(shelf.table(page.files, datetime.now(UTC)), console)
    if page.next_cursor:
        given = {"--search": search, "--state": state, "--limit": str(limit), "--cursor": page.next_cursor}
        options = [part for name, value in given.items() if value is not None for part in (name, value)]
        again = shlex.join(["pulse", "files", "ls", *([folder] if folder is not None else []), *options])
        note(said.more.format(command=again))


@click.command("show", cls=Command)
@click.argument("file_id", metavar="ID", type=click.UUID)
@json_option
def show(*, file_id: UUID, as_json: bool) -> None:
    """Show one file: its state, what it is, its SHA-256, or the reason why it was refused.

    \b
    Examples:
      pulse files show 01a2...
      pulse files show 01a2... --json | jq -r .sha256
    """
    client = connect()
    answer = client.file(file_id)
    if as_json:
        print(answer.decode())
        return
    file = client.read(answer, File)
    moments = {"created": file.created_at, "decided": file.decided_at}
    counts = {"frames": file.frames, "pages": file.pages, "lines": file.lines}
    facts = {
        "id": str(file.id),
        "name": shelf.one_line(file.name),
        "folder": shelf.one_line(file.folder),
        "purpose": file.purpose,
        "state": file.state,
        "type": shelf.what(file),
        "size": f"{shelf.size(file.size_bytes, words.of(language()))} ({file.size_bytes:,})",
        **{name: f"{count:,}" for name, count in counts.items() if count is not None},
        "pictures": ", ".join(file.variants),
        "sha256": file.sha256 or "",
        **{name: moment.astimezone().isoformat(" ", "seconds") for name, moment in moments.items() if moment},
        "error": f"{file.error.detail} ({file.error.code})" if file.error else "",
        "job": str(file.job_id or ""),
    }
    console = Console(highlight=False, soft_wrap=True)
    for name, fact in facts.items():
        if fact:
            console.print(Text.assemble((f"{name:>8}  ", "bold"), harmless(fact)))


@click.command("rm", cls=Command)
@click.argument("file_ids", metavar="ID...", nargs=-1, required=True, type=click.UUID)
@click.option("--yes", "-y", is_flag=True, help="Do not ask first, as a terminal does.")
@json_option
def rm(*, file_ids: tuple[UUID, ...], yes: bool, as_json: bool) -> None:
    """Delete files for good. Each is tried for itself; the exit code is 1 where one could not be deleted.

    \b
    Examples:
      pulse files rm 01a2... 01a3...
      pulse files ls --state rejected --json | jq -r '.files[].id' | xargs pulse files rm --yes
    """
    client = connect()
    if not yes and sys.stdin.isatty():
        names = ", ".join(shelf.path(client.read(client.file(file_id), File)) for file_id in file_ids)
        if not click.confirm(words.of(language()).delete.format(names=names), err=True):
            click.get_current_context().exit(1)
    done: list[dict[str, object]] = []
    for file_id in file_ids:
        try:
            client.delete_file(file_id)
        except Problem as problem:
            code, detail = problem.members.get("code"), harmless(str(problem.members.get("detail")))
            done.append({"id": file_id, "deleted": False, "code": code, "detail": detail})
            if not as_json:
                click.echo(f"{file_id}: {detail} ({code})", err=True)
        else:
            done.append({"id": file_id, "deleted": True})
    if as_json:
        write({"files": done})
    if not all(each["deleted"] for each in done):
        click.get_current_context().exit(1)


@click.command("mv", cls=Command)
@click.argument("file_id", metavar="ID", type=click.UUID)
@click.argument("name", metavar="[NEW_NAME]", required=False)
@click.option("--folder", metavar="FOLDER", help="The folder to move it to; empty for the top.")
@json_option
def mv(*, file_id: UUID, name: str | None, folder: str | None, as_json: bool) -> None:
    """Give a file another name, another folder, or both.

    \b
    Examples:
      pulse files mv 01a2... sea.jpg
      pulse files mv 01a2... --folder trips/2026
    """
    changes = {key: value for key, value in (("name", name), ("folder", folder)) if value is not None}
    if not changes:
        raise click.UsageError("Say the new name, --folder, or both.")
    client = connect()
    answer = client.change_file(file_id, changes)
    if as_json:
        print(answer.decode())
        return
    file = client.read(answer, File)
    print(f"{file.id}: {shelf.path(file)}")
