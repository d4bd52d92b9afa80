"""`pulse files put`: files one after another, and what became of each."""

from contextlib import ExitStack
from pathlib import Path

import click

from infra.errors import PulseError
from scripts.pulse import problems, shelf, sources, words
from scripts.pulse.answers import File, Reason
from scripts.pulse.bar import Bar
from scripts.pulse.client import Client
from scripts.pulse.command import Command, connect, json_option, language
from scripts.pulse.delivery import Asked, Delivery
from scripts.pulse.lines import write
from scripts.pulse.problems import NotAStudio, Problem, StudioAway
from scripts.pulse.screen import harmless, note
from scripts.pulse.sources import Source
from scripts.pulse.words import Words
from workers import media


@click.command("put", cls=Command)
@click.argument("paths", metavar="PATH...", nargs=-1, required=True)
@click.option("--folder", default="", metavar="FOLDER", help="Where to keep them, such as trips/2026.")
@click.option(
    "--purpose",
    type=click.Choice(list(media.PURPOSES)),
    help="What they are for; where it is not said, `clip` for sound and film and `attachment` for all else.",
)
@click.option("--name", metavar="NAME", help="What to call the file; its own name otherwise. Needed for stdin.")
@click.option("--wait/--no-wait", default=True, help="Wait for what the check finds, or leave when all is uploaded.")
@json_option
def put(
    *, paths: tuple[str, ...], folder: str, purpose: str | None, name: str | None, wait: bool, as_json: bool
) -> None:
    """Upload files, one after another, and print the id of each. `-` is what comes on stdin.

    A lost connection is tried again, and Ctrl-C leaves nothing half-done. What the studio refuses is told with its
    code. Exit codes: 0 all are kept, 1 one was refused, 130 left.

    With --json each file is one line: {"path": "...", "file": {...}, "error": null}; where it was refused, `file` is
    null and `error` has a `code` and a `detail`.

    \b
    Examples:
      pulse files put photo.jpg report.pdf --folder trips/2026
      pulse files put lines.jsonl --purpose batch
      pg_dump shop | pulse files put - --name shop.txt
      pulse files put *.jpg --json | jq -r .file.id
    """
    if len(paths) > 1 and (name is not None or "-" in paths):
        raise click.UsageError("Give --name and stdin (-) to one file alone.")
    if paths == ("-",) and not name:
        raise click.UsageError("What comes on stdin needs a --name, such as --name notes.txt.")
    with ExitStack() as stack:
        if name and paths == ("-",):
            found = [stack.enter_context(sources.spooled(name))]
        else:
            # All of them before the first is announced.
            found = [sources.look(Path(path), name=name or "") for path in paths]
        _put_all(connect(), found, Asked(folder=folder, purpose=purpose), wait=wait, as_json=as_json)


def _put_all(client: Client, found: list[Source], asked: Asked, *, wait: bool, as_json: bool) -> None:
    refused, said = 0, words.of(language())
    for source in found:
        try:
            with Bar(said, shown=not as_json) as bar:
                file = _put(client, Delivery(client, source, said, bar), asked, wait=wait)
            _tell_kept(client, file, source, said, as_json=as_json)
        except (PulseError, Problem) as error:
            if _ends_all(error) or (len(found) == 1 and not as_json):
                raise
            _tell_refused(error, source, as_json=as_json)
            refused += 1
    if len(found) > 1 and not as_json:
        note(said.summed.format(kept=len(found) - refused, refused=refused))
    if refused:
        click.get_current_context().exit(1)


def _put(client: Client, delivery: Delivery, asked: Asked, *, wait: bool) -> bytes:
    """Return a file that is ready, or scanned still where nobody waits for it; raises `Problem` where it is refused."""
    answer = delivery.send(asked)
    file = client.read(answer, File)
    if wait and file.state == "scanning":
        answer = delivery.wait(file.id)
        file = client.read(answer, File)
    if file.state in {"rejected", "expired"}:
        reason = file.error or Reason(code=file.state, detail=file.state)
        raise Problem({"code": reason.code, "detail": reason.detail, "id": str(file.id)})
    return answer


def _ends_all(error: PulseError | Problem) -> bool:
    """Return whether the files after this one would fare no better, or are not wanted any more."""
    if isinstance(error, Problem):
        return error.members.get("status") == 401
    return isinstance(error, StudioAway | NotAStudio) or problems.exit_code(error) == 130


def _tell_kept(client: Client, answer: bytes, source: Source, said: Words, *, as_json: bool) -> None:
    if as_json:
        write({"path": source.given, "file": client.read(answer, dict[str, object]), "error": None})
        return
    file = client.read(answer, File)
    print(file.id, flush=True)
    if file.state == "ready":
        size = shelf.size(file.size_bytes, said)
        note(said.kept.format(size=size, what=shelf.what(file), name=source.given))


def _tell_refused(error: PulseError | Problem, source: Source, *, as_json: bool) -> None:
    told = problems.members(error, language())
    if as_json:
        write({"path": source.given, "file": None, "error": told})
    else:
        click.echo(f"{source.given}: {harmless(str(told.get('detail')))} ({told.get('code')})", err=True)
