"""A group of commands, listed in the order in which a person needs them."""

import click
import rich_click


class Group(rich_click.RichGroup):
    """Lists its commands as they were added; click would sort them by the alphabet."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 (click's signature)
        """Return the names of the commands."""
        return list(self.commands)
