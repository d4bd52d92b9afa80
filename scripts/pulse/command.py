"""What every command has in common: how it tells errors, its `--json`, and the studio it talks to."""

from typing import Any

import click
import rich_click

from infra import settings as config
from infra.errors import PulseError
from scripts.pulse import place, problems
from scripts.pulse.bilingual import Bilingual, language
from scripts.pulse.client import Client

__all__ = ["Command", "connect", "json_option", "language"]

json_option = click.option("--json", "as_json", is_flag=True, help="For programs: JSON on stdout and nothing else.")


class Command(Bilingual, rich_click.RichCommand):
    """A command that ends with a problem on stderr where its function raises one."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command."""
        try:
            return super().invoke(ctx)
        except (PulseError, problems.Problem) as error:
            problems.show(error, language(), as_json=ctx.params.get("as_json", False))
            ctx.exit(problems.exit_code(error))
        except KeyboardInterrupt:
            click.echo(err=True)
            ctx.exit(problems.Interrupted.exit_code)


def connect() -> Client:
    """Return the studio that the environment names, or the one of this folder; it is closed with the command."""
    client = Client(place.find(config.load()), language())
    click.get_current_context().call_on_close(client.close)
    return client
