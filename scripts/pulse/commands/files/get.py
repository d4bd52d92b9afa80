"""`pulse files get`: a file by its id or name, whole and right or not at all."""

import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import partial
from typing import Any, Literal
from uuid import UUID

import click
from rich.console import Console

from scripts.pulse import shelf, sources, target, transfer, words
from scripts.pulse.answers import File, Files
from scripts.pulse.bar import Bar
from scripts.pulse.client import Client
from scripts.pulse.command import Command, connect, json_option, language
from scripts.pulse.lines import write
from scripts.pulse.problems import Ending
from scripts.pulse.screen import note
from scripts.pulse.target import Wanted
from workers import media


class NoFileCalled(Ending):
    """No file that is ready is called {name}."""

    ar = "لا ملف جاهز باسم {name}."


class SeveralFilesCalled(Ending):
    """{count} files are called {name}. Say which by its id."""

    ar = "أكثر من ملف باسم {name}، وعددها {count}. حدّد المقصود بمعرّفه."


@click.command("get", cls=Command)
@click.argument("which", metavar="ID|NAME")
@click.option("--output", "-o", metavar="PATH", help="Where to write it: a file, a folder, or - for stdout.")
@click.option("--variant", type=click.Choice(["thumbnail", "poster"]), help="A small picture of it instead.")
@click.option("--force", is_flag=True, help="Write over what is there.")
@json_option
def get(
    *, which: str, output: str | None, variant: Literal["thumbnail", "poster"] | None, force: bool, as_json: bool
) -> None:
    """Download a file and print where it is. It goes by its id, or by its name where only one file has it.

    What came is in PATH.part until it is whole and its SHA-256 is right; the same command goes on with what an earlier
    one left there. What is there already is written over only with --force.

    \b
    Examples:
      pulse files get 01a2...
      pulse files get photo.jpg -o ~/pictures/
      pulse files get lines.jsonl -o - | head
      pulse files get film.mp4 --variant poster
    """
    if as_json and output == "-":
        raise click.UsageError("Only one of --json and -o - can have stdout.")
    client, said = connect(), words.of(language())
    file = _find(client, which, as_json=as_json)
    link = partial(client.link, file.id, variant or "content")
    url = link()  # a file that is not ready is told at once
    if file.sha256 is None:
        # It became so since it was looked up, and only now is told what is served.
        file = client.read(client.file(file.id), File)
    if variant:
        wanted = Wanted(name=file.name, link=link, size_bytes=None, sha256=None)
    else:
        wanted = Wanted(name=file.name, link=link, size_bytes=file.size_bytes, sha256=file.sha256)
    with Bar(said, shown=not as_json) as bar:
        if output == "-":
            target.pour(wanted, sys.stdout.buffer, said, bar)
            return
        name = _variant_name(file, variant, transfer.media_type(url, language())) if variant else file.name
        path = target.choose(output, target.safe_name(name, str(file.id)), force=force)
        size_bytes = target.save(wanted, path, said, bar, force=force)
    shown = sources.readable(str(path))
    if as_json:
        write({"path": shown, "file": client.read(client.file(file.id), dict[str, Any])})
        return
    print(shown)
    note(said.saved.format(size=shelf.size(size_bytes, said), path=shown))


def _variant_name(file: File, variant: str, media_type: str) -> str:
    stem = file.name.rpartition(".")[0] or file.name
    return f"{stem}.{variant}{media.ENDINGS.get(media_type, ('',))[0]}"


def _find(client: Client, which: str, *, as_json: bool) -> File:
    """Return the file of an id or a name; raises `NoFileCalled` or `SeveralFilesCalled`, which are listed."""
    if _is_id(which):
        return client.read(client.file(UUID(which)), File)
    called = shelf.one_line(sources.readable(which))
    found = [file for file in _search(client, called) if called in {shelf.one_line(file.name), shelf.path(file)}]
    if not found:
        raise NoFileCalled(name=called)
    if len(found) > 1:
        if not as_json:
            listed = shelf.table(found, datetime.now(UTC))
            shelf.show(listed, Console(stderr=True, highlight=False))
        raise SeveralFilesCalled(name=called, count=len(found), ids=[str(file.id) for file in found])
    return found[0]


def _is_id(which: str) -> bool:
    try:
        return str(UUID(which)) == which.lower()
    except ValueError:
        return False


def _search(client: Client, called: str) -> Iterator[File]:
    cursor: str | None = None
    while True:
        answer = client.files(q=called.rpartition("/")[2], state="ready", limit=100, cursor=cursor)
        page = client.read(answer, Files)
        yield from page.files
        if (cursor := page.next_cursor) is None:
            return
