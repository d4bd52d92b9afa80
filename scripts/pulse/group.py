"""Groups of commands, listed in the order in which a person needs them."""

import click
import rich_click

from scripts.pulse.bilingual import Bilingual


class Group(Bilingual, rich_click.RichGroup):
    """Lists its commands as they were added; click would sort them by the alphabet."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 (click's signature)
        """Return the names of the commands."""
        return list(self.commands)


class ListByDefault(Group):
    """A group whose list is meant where no command is named."""

    default = "list"

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Read the command line: `pulse jobs --limit 5` is `pulse jobs list --limit 5`."""
        if not args or (args[0].startswith("-") and args[0] not in ctx.help_option_names):
            args = [self.default, *args]
        return super().parse_args(ctx, args)


class LsByDefault(ListByDefault):
    """The same where the list goes by the name that it has for files."""

    default = "ls"
