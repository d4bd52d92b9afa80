"""What a person sees of a batch while it goes on: a bar in a terminal, and a line now and then elsewhere."""

import time
from collections.abc import Iterable
from types import TracebackType
from typing import Self

from rich.console import Console, RenderableType
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn
from rich.text import Text

from scripts.pulse.batch import wording
from scripts.pulse.batch.answers import Batch
from scripts.pulse.batch.pace import Pace, clock
from scripts.pulse.lines import members, write
from scripts.pulse.screen import FAILURES_TO_TELL, harmless, note
from scripts.pulse.shelf import size
from scripts.pulse.words import Words

#: How often a line is written where there is no terminal.
_EVERY_S = 10.0


class Sketch:
    """What there is to say of a running batch: how far it is, how fast it goes, what went wrong."""

    def __init__(self, words: Words) -> None:
        """Begin with nothing seen."""
        self._words, self._said = words, wording.of(words.language)
        self._pace, self._state = Pace(), ""

    def see(self, batch: Batch) -> None:
        """Take in how a batch stands now."""
        if batch.state != self._state:
            self._pace, self._state = Pace(), batch.state
        self._pace.see(self._far(batch)[0])

    def state(self, batch: Batch) -> str:
        """Return what it does."""
        return harmless(self._said.states.get(batch.state, batch.state))

    def steps(self, batch: Batch) -> tuple[int, int | None]:
        """Return how much is done of how much; without a total where nobody knows it yet."""
        done, total = self._far(batch)
        return done, total or None

    def amount(self, batch: Batch) -> str:
        """Return how far it is and how fast it goes."""
        done, total = self._far(batch)
        rate = self._pace.rate
        if batch.state == "validating":
            parts = [size(done, self._words), *([size(total, self._words)] if total else [])]
            pace = self._words.rate.format(size=size(rate, self._words))
            lines = self._said.read.format(lines=f"{batch.counts.lines:,}")
            return f"{' / '.join(parts)}{f' · {pace}' if rate else ''} · {lines}"
        # As a person says it: what takes longer than a second each goes by the minute.
        pace, often = (self._said.pace, rate) if rate >= 1 else (self._said.slow_pace, rate * 60)
        told = pace.format(rate=f"{often:,.0f}" if often >= 10 else f"{often:.1f}")
        return f"{done:,} / {total:,}{f' · {told}' if rate else ''}"

    def left(self, batch: Batch) -> str:
        """Return how long it will take."""
        left_s = self._pace.left_s(self._far(batch)[1])
        return "" if left_s is None or batch.is_over else self._said.left.format(time=clock(left_s))

    def bad(self, batch: Batch) -> str:
        """Return how many lines were refused, and how many are over in another way without a success."""
        rejected = batch.counts.rejected
        counts = {"rejected": rejected, "failed": batch.counts.bad - rejected}
        told = [self._said.others[name].format(count=f"{count:,}") for name, count in counts.items() if count]
        return " · ".join(told)

    @staticmethod
    def _far(batch: Batch) -> tuple[int, int]:
        if batch.state == "validating":
            return batch.read_bytes, batch.size_bytes
        return batch.counts.done, batch.counts.lines


class _Progress(Progress):
    """A bar, and a line of numbers below it: side by side they would not fit a terminal of 80 columns."""

    below = ""

    def get_renderables(self) -> Iterable[RenderableType]:
        """Yield both."""
        yield from super().get_renderables()
        if self.below:
            yield Text(f"  {self.below}", style="cyan", no_wrap=True, overflow="ellipsis")


class Board:
    """Shows a batch in a terminal; a context manager, so that the terminal is left in order."""

    def __init__(self, words: Words) -> None:
        """Prepare."""
        self._words, self._sketch = words, Sketch(words)
        self._batch: Batch | None = None
        self._progress = _Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=20),
            TaskProgressColumn(),
            TextColumn("{task.fields[left]}", style="cyan", markup=False),
            console=Console(stderr=True, highlight=False),
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
        )
        self._task = self._progress.add_task("", total=None, left="")

    def __enter__(self) -> Self:
        """Begin."""
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Take it away."""
        self._progress.stop()

    def show(self, batch: Batch, answer: bytes) -> None:  # noqa: ARG002 (what a program is shown)
        """Show how the batch stands now."""
        self._batch = batch
        self._sketch.see(batch)
        self._draw(batch)

    def same(self) -> None:
        """Show that nothing has changed: the rate sinks, and a connection that was lost is there again."""
        if self._batch is not None:
            self._draw(self._batch)

    def lost(self, failures: int) -> None:
        """Say in the line that the connection is being made again, unless the first try already does it."""
        if failures >= FAILURES_TO_TELL:
            self._progress.update(self._task, description=self._words.lost, left="")

    def _draw(self, batch: Batch) -> None:
        sketch, (done, total) = self._sketch, self._sketch.steps(batch)
        self._progress.below = " · ".join(part for part in (sketch.amount(batch), sketch.bad(batch)) if part)
        state, left = sketch.state(batch), sketch.left(batch)
        self._progress.update(self._task, description=state, completed=done, total=total, left=left)


class Notes:
    """Shows a batch where there is no terminal: a line at each change of state and now and then between them."""

    def __init__(self, words: Words) -> None:
        """Prepare."""
        self._words, self._sketch = words, Sketch(words)
        self._said = wording.of(words.language)
        self._state, self._told_s, self._is_lost = "", 0.0, False

    def __enter__(self) -> Self:
        """Begin."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Every line is complete already."""

    def show(self, batch: Batch, answer: bytes) -> None:  # noqa: ARG002 (what a program is shown)
        """Write how the batch stands now, unless that was done a moment ago."""
        self.same()
        self._sketch.see(batch)
        now_s = time.monotonic()
        if batch.state == self._state and now_s - self._told_s < _EVERY_S:
            return
        self._state, self._told_s = batch.state, now_s
        sketch = self._sketch
        if not batch.is_over:  # what became of it is told by whoever sums up
            parts = [sketch.amount(batch), sketch.left(batch), sketch.bad(batch)]
            note(f"{sketch.state(batch)}: {' · '.join(part for part in parts if part)}")

    def same(self) -> None:
        """Say that a connection that was lost is there again."""
        if self._is_lost:
            note(self._said.back)
        self._is_lost = False

    def lost(self, failures: int) -> None:
        """Say once that the connection is being made again, unless the first try already does it."""
        if failures == FAILURES_TO_TELL:
            note(self._words.lost)
            self._is_lost = True


class Lines:
    """Shows a batch to a program: one JSON object a line, when it is first seen and at each change of its state."""

    def __init__(self) -> None:
        """Prepare."""
        self._state = ""

    def __enter__(self) -> Self:
        """Begin."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Every line is complete already."""

    def show(self, batch: Batch, answer: bytes) -> None:
        """Write the batch as it came."""
        if batch.state != self._state:
            write(members(answer.decode()))
            self._state = batch.state

    def same(self) -> None:
        """Say nothing."""

    def lost(self, failures: int) -> None:
        """Say nothing: a program waits."""


def choose(words: Words, *, as_json: bool) -> Board | Notes | Lines:
    """Return who shows a batch here."""
    if as_json:
        return Lines()
    return Board(words) if Console(stderr=True).is_terminal else Notes(words)
