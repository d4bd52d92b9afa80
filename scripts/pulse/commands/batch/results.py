"""`pulse batch results`: what became of each line, to a file or to stdout, also while the batch runs."""

from uuid import UUID

import click

from scripts.pulse import words
from scripts.pulse.batch import calls, ending, wording
from scripts.pulse.batch.answers import Batch
from scripts.pulse.batch.ending import Outputs
from scripts.pulse.command import Command, connect, language
from scripts.pulse.commands.batch import arabic
from scripts.pulse.screen import note


@click.command("results", cls=Command, ar=arabic.RESULTS)
@click.argument("batch_id", metavar="ID", type=click.UUID)
@click.option("--output", "-o", metavar="PATH", default="-", help="Where to write them: a file, a folder; or stdout.")
@click.option("--errors", is_flag=True, help="Only the lines that did not succeed.")
@click.option("--follow", "-f", is_flag=True, help="Go on until the batch is over, line by line as they come.")
@click.option("--force", is_flag=True, help="Write over what is there.")
def results(*, batch_id: UUID, output: str, errors: bool, follow: bool, force: bool) -> None:
    """Write the results of a batch, one JSON line for each of its lines, in the order in which they ended.

    A lost connection is gone on with where it broke, without a byte lost or repeated. In a file, what came is kept
    beside it until it is whole, and the same command goes on with what an earlier one left there.

    \b
    Examples:
      pulse batch results 01a2... -o results.jsonl
      pulse batch results 01a2... --errors | jq -r '[.line, .error.code] | @tsv'
      pulse batch results 01a2... --follow | jq -r .custom_id
    """
    client, said = connect(), words.of(language())
    batch = client.read(calls.get(client, batch_id), Batch)
    outputs = Outputs.chosen(None if errors else output, output if errors else None, force=force)
    for part, path in outputs.parts.items():
        if not follow and not batch.is_over:
            note(wording.of(language()).so_far)
        ending.collect(client, batch_id, part, path, said, follow=follow, force=force, as_json=False)
