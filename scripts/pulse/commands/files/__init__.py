"""`pulse files`: puts files into the studio, gets them back, and keeps them in order."""

import click

from scripts.pulse.commands.files import get, order, put
from scripts.pulse.group import LsByDefault


@click.group("files", cls=LsByDefault)
def command() -> None:
    """Upload, download, list, rename and delete files. Without a subcommand: the list.

    What is uploaded is checked before anybody can read it: its real type, its size and what is hidden in it. Of
    pictures, a clean copy is kept.

    \b
    Examples:
      pulse files put photo.jpg --folder trips/2026
      pulse files
      pulse files get photo.jpg
      pulse files rm 01a2...
    """


for _subcommand in (put.put, get.get, order.ls, order.show, order.rm, order.mv):
    command.add_command(_subcommand)
