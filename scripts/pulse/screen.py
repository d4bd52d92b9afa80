"""What a person sees of a job: the answer on stdout as it comes, and everything about it on stderr."""

import re
import sys
import time
from collections.abc import Mapping
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.text import Text

from quotas import plans
from scripts.pulse.answers import Standing
from scripts.pulse.follow import Event, Said
from scripts.pulse.words import Language, Words

# Everything that moves a terminal's cursor or state, from ESC down; a line's end and a tab stay.
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")

#: The first try to come back mostly does it; from the second on it is worth a word.
FAILURES_TO_TELL = 2


def harmless(text: str) -> str:
    """Return text without the control characters by which it could take over a terminal."""
    return _CONTROL.sub("", text)


def units(charged: Mapping[str, int], language: Language) -> str:
    """Return units per meter in words: `118 chat tokens`; a meter of a newer studio goes by its code."""
    known = plans.load().meters
    names = {meter: getattr(known[meter], language) if meter in known else meter for meter in charged}
    return ", ".join(f"{amount:,} {names[meter]}" for meter, amount in charged.items())


def note(text: str) -> None:
    """Tell a person something beside the answer."""
    Console(stderr=True, highlight=False, soft_wrap=True).print(Text(harmless(text), style="dim"))


class Screen:
    """Shows one job; a context manager, so that the terminal is left in order."""

    def __init__(self, words: Words, quota: Mapping[str, Standing] | None = None, chosen: str = "") -> None:
        """Begin now. `quota` is how the meters stood when the job was admitted; without it, nothing is timed.

        `chosen` says which model is to answer, and why.
        """
        self.answer = ""
        self._words = words
        self._quota = quota
        self._chosen = chosen
        self._usage: Said | None = None
        self._started_s = time.monotonic()
        self._first_s: float | None = None
        self._is_terminal = sys.stdout.isatty()
        self._line_open = False
        self._notes = Console(stderr=True, highlight=False, soft_wrap=True)
        self._status = self._notes.status("") if self._notes.is_terminal else None

    def __enter__(self) -> Self:
        """Begin."""
        if self._chosen:
            self._note(self._chosen)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Take the passing note away and end the line."""
        self._clear()
        self._end_line()

    def show(self, event: Event) -> None:
        """Show one event."""
        said = event.said
        match said.type:
            case "delta":
                self._write(said.text)
            case "queued":
                self._pass(self._words.waits)
            case "started":
                self._pass(self._words.works)
            case "progress":
                self._pass(f"{harmless(said.stage)} {said.done}/{said.total}")
            case "restarted":
                if self.answer:
                    self._end_line()
                    self._note(self._words.starts_again)
                self.answer, self._first_s = "", None
            case "warning":
                detail = ", ".join(map(str, said.detail.values()))
                self._note(self._words.warning.format(code=said.code, detail=detail).rstrip())
            case "tool_call":
                self._note(f"{said.name}({said.arguments})")
            case "usage":
                self._usage = said
            case "succeeded" | "canceled":
                self._end_line()
                self._note(self._sum_up(said.charged))
            case _:
                pass

    def lost(self, failures: int) -> None:
        """Say that the connection is being made again, unless the first try already does it."""
        if self._status is not None and not self._line_open:
            self._pass(self._words.lost)
        elif failures == FAILURES_TO_TELL:
            self._note(self._words.lost)

    def _write(self, text: str) -> None:
        if not text:
            return
        self._clear()
        self._first_s = self._first_s or time.monotonic()
        self.answer += text
        sys.stdout.write(harmless(text) if self._is_terminal else text)
        sys.stdout.flush()
        self._line_open = not text.endswith("\n")

    def _end_line(self) -> None:
        if self._line_open:
            sys.stdout.write("\n")
            sys.stdout.flush()
            self._line_open = False

    def _note(self, text: str) -> None:
        self._clear()
        if self._is_terminal:  # elsewhere the answer and the notes do not share a line
            self._end_line()
        if text:
            self._notes.print(Text(harmless(text), style="dim"))

    def _pass(self, text: str) -> None:
        """Show a note that the next thing to be shown takes away; only a terminal can do that."""
        # It has a line of its own, so it must not come in the middle of the answer's.
        if self._status is not None and not self._line_open:
            self._status.update(Text(text, style="dim"))
            self._status.start()

    def _clear(self) -> None:
        if self._status is not None:
            self._status.stop()

    def _sum_up(self, charged: Mapping[str, int]) -> str:
        words, usage = self._words, self._usage
        parts: list[str] = []
        if usage is not None:
            mark = "~" if usage.estimated else ""
            tokens = words.tokens.format(input=f"{mark}{usage.input_tokens:,}", output=f"{mark}{usage.output_tokens:,}")
            parts += [usage.model, tokens]
        if charged:
            parts.append(words.charged.format(units=units(charged, words.language)))
        if self._quota is not None:
            parts += self._timed(time.monotonic(), usage)
            # What other jobs hold at this moment may come back, so it is not counted as gone.
            left = {meter: at.limit - at.used - charged.get(meter, 0) for meter, at in self._quota.items()}
            parts.append(words.left.format(units=units(left, words.language)))
        return " · ".join(parts)

    def _timed(self, now_s: float, usage: Said | None) -> list[str]:
        parts = [f"{now_s - self._started_s:.1f} s"]
        if usage is not None and self._first_s is not None and now_s > self._first_s:
            parts.append(self._words.speed.format(speed=f"{usage.output_tokens / (now_s - self._first_s):,.0f}"))
        return parts
