"""A batch from now on to its end, and what is done then: it is summed up, its results are written down."""

import shlex
import sys
from pathlib import Path
from typing import Self
from uuid import UUID

import click
from msgspec import Struct

from scripts.pulse import shelf, target
from scripts.pulse.bar import Bar
from scripts.pulse.batch import harvest, report, watching
from scripts.pulse.batch.calls import Part
from scripts.pulse.batch.harvest import Wanted
from scripts.pulse.batch.watching import Viewer
from scripts.pulse.client import Client
from scripts.pulse.screen import note
from scripts.pulse.sources import readable
from scripts.pulse.words import Words

#: Not every line of a batch succeeded.
NOT_WHOLE = 3
STDOUT = "-"


class Outputs(Struct, frozen=True, kw_only=True):
    """Where the parts of a batch are written: a path, or none for stdout."""

    parts: dict[Part, Path | None]
    force: bool

    @classmethod
    def chosen(cls, results: str | None, errors: str | None, *, force: bool) -> Self:
        """Return what was asked for; raises `PathTaken` before anything is done for it."""
        asked: tuple[tuple[Part, str | None], ...] = (("results", results), ("errors", errors))
        parts: dict[Part, Path | None] = {}
        for part, output in asked:
            if output is not None:
                parts[part] = _path(part, output, force=force)
        return cls(parts=parts, force=force)

    @property
    def has_stdout(self) -> bool:
        """Whether stdout is for one of them."""
        return None in self.parts.values()


def _path(part: Part, output: str, *, force: bool) -> Path | None:
    return None if output == STDOUT else target.choose(output, f"{part}.jsonl", force=force)


def follow(client: Client, batch_id: UUID, viewer: Viewer, outputs: Outputs, words: Words, *, as_json: bool) -> None:
    """Show a batch until it is over, sum it up, write down what is wanted of it, and end the command.

    The exit code is `NOT_WHOLE` where not every line succeeded. Raises what `watching.watch` and `harvest.save` do.
    """
    batch = watching.watch(client, batch_id, viewer)
    if not as_json:
        note(report.sum_up(batch, words))
        for line in report.explain(batch, report.failures(client, batch, words.language), words):
            note(line)
    for part, path in outputs.parts.items():
        collect(client, batch_id, part, path, words, follow=False, force=outputs.force, as_json=as_json)
    if not batch.is_whole:
        click.get_current_context().exit(NOT_WHOLE)


def collect(
    client: Client,
    batch_id: UUID,
    part: Part,
    path: Path | None,
    words: Words,
    *,
    follow: bool,
    force: bool,
    as_json: bool,
) -> None:
    """Write a part of a batch to a path, or to stdout without one; raises what `harvest.save` does."""
    flags = [
        flag for flag, given in (("--errors", part == "errors"), ("--follow", follow), ("--force", force)) if given
    ]
    where = [] if path is None else ["-o", readable(str(path))]
    resume = shlex.join(["pulse", "batch", "results", str(batch_id), *flags, *where])
    wanted = Wanted(batch_id=batch_id, part=part, follow=follow, resume=resume)
    with Bar(words, shown=not as_json) as bar:
        if path is None:
            harvest.pour(client, wanted, sys.stdout.buffer, words, bar)
            return
        size_bytes = harvest.save(client, wanted, path, words, bar, force=force)
    if not as_json:
        note(words.saved.format(size=shelf.size(size_bytes, words), path=readable(str(path))))
