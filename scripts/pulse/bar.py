"""What a person sees of a transfer while it goes on: a bar on stderr, which only a terminal has."""

from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.text import Text

from scripts.pulse.screen import harmless
from scripts.pulse.shelf import size
from scripts.pulse.words import Words


class _Amount(ProgressColumn):
    """How much is done, and how fast it goes."""

    def __init__(self, words: Words) -> None:
        super().__init__()
        self._words = words

    def render(self, task: Task) -> Text:
        """Show them."""
        if task.total is None and not task.completed:
            return Text()
        amounts = [size(amount, self._words) for amount in (task.completed, task.total) if amount is not None]
        rate = self._words.rate.format(size=size(task.speed, self._words)) if task.speed else ""
        return Text(f"{' / '.join(amounts)} {rate}".rstrip(), style="cyan")


class Bar:
    """Shows one transfer; a context manager, so that the terminal is left in order."""

    def __init__(self, words: Words, *, shown: bool) -> None:
        """Prepare. Where it is not `shown`, a program reads and nothing at all is said."""
        self._words, self._shown = words, shown
        self._notes = Console(stderr=True, highlight=False, soft_wrap=True)
        # The name comes last: a terminal that turns Arabic around would take the numbers after it along.
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=20),
            TaskProgressColumn(),
            _Amount(words),
            TimeRemainingColumn(),
            TextColumn("{task.fields[name]}", markup=False),
            console=Console(stderr=True, highlight=False),
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
            disable=not (shown and self._notes.is_terminal),
        )

    def __enter__(self) -> Self:
        """Begin."""
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Take it away."""
        self._progress.stop()

    def begin(self, doing: str, name: str, size_bytes: int | None, *, done_bytes: int = 0) -> None:
        """Show that something new is done, of which nobody knows how long it takes where there is no size."""
        for task in self._progress.task_ids:
            self._progress.remove_task(task)
        self._progress.add_task(doing, total=size_bytes, completed=done_bytes, name=harmless(name))

    def advance(self, count: int) -> None:
        """Show that so many more bytes are done."""
        for task in self._progress.task_ids:
            self._progress.advance(task, count)

    def lost(self) -> None:
        """Say that the connection is being made again."""
        self.note(self._words.lost)

    def note(self, text: str) -> None:
        """Say something that stays."""
        if self._shown:
            # Through the bar's own console, so that the line stands above it.
            self._progress.console.print(Text(harmless(text), style="dim"), soft_wrap=True)
