"""Help in the person's language: a command that has Arabic help shows it where the terminal is Arabic."""

import os
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from typing import Any

import click
from msgspec import Struct

from scripts.pulse import words
from scripts.pulse.words import Language

_COMMON = {"as_json": "للبرامج: JSON في الخرج القياسي ولا شيء سواه.", "help": "عرض هذه الرسالة والخروج."}


class Arabic(Struct, frozen=True):
    """A command's help in Arabic: its text, whose first sentence stands in lists, and of its options by their names."""

    text: str
    options: Mapping[str, str] = {}


class Bilingual(click.Command):
    """Shows its help in Arabic where it has it and the person reads it."""

    def __init__(self, *args: Any, ar: Arabic | None = None, **attributes: Any) -> None:
        """Take the help in Arabic beside what a command takes."""
        super().__init__(*args, **attributes)
        self.ar = ar

    def format_help(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the help."""
        with ExitStack() as stack:
            if language() == "ar":
                for thing, text in self._translated(ctx):
                    stack.callback(setattr, thing, "help", thing.help)
                    thing.help = text
            super().format_help(ctx, formatter)

    def _translated(self, ctx: click.Context) -> Iterator[tuple[click.Command | click.Option, str]]:
        """Yield what there is Arabic help of: the command, its options, and what it is a group of."""
        listed = self.commands.values() if isinstance(self, click.Group) else ()
        for command in (self, *listed):
            if isinstance(command, Bilingual) and command.ar is not None:
                yield command, command.ar.text
        if self.ar is None:
            return
        texts = {**_COMMON, **self.ar.options}
        for parameter in self.get_params(ctx):
            if isinstance(parameter, click.Option) and parameter.name in texts:
                yield parameter, texts[parameter.name]


def language() -> Language:
    """Return the language of this terminal."""
    return words.language(os.environ)
