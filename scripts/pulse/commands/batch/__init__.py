"""`pulse batch`: many jobs handed over in one file, and their results brought home."""

import click

from scripts.pulse.commands.batch import arabic, order, results, status, submit
from scripts.pulse.group import ListByDefault


@click.group("batch", cls=ListByDefault, ar=arabic.BATCH)
def command() -> None:
    """Hand over a file of requests, watch them being worked off, and get what became of each. Without a subcommand:
    the list.

    A batch goes on whoever watches it. What breaks on the way, in this command's connection or in the studio, is gone
    on with: no line is done twice and none is lost.

    \b
    Examples:
      pulse batch submit requests.jsonl -o results.jsonl
      pulse batch
      pulse batch status 01a2... --follow
      pulse batch results 01a2... -o results.jsonl
      pulse batch cancel 01a2...
    """


for _subcommand in (submit.submit, status.status, results.results, order.cancel, order.retry, order.list_batches):
    command.add_command(_subcommand)
