"""What became of a batch, in a person's words: the sum of it, the first lines that went wrong, and lists of batches."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import cast

import msgspec
from msgspec import Struct
from rich.table import Table
from rich.text import Text

from scripts.pulse.batch import calls, wording
from scripts.pulse.batch.answers import Batch
from scripts.pulse.client import Client
from scripts.pulse.listing import span
from scripts.pulse.problems import Problem, StudioAway
from scripts.pulse.screen import harmless, units
from scripts.pulse.words import Language, Words

#: How the states of batches look.
STYLES = {
    "validating": "cyan",
    "running": "cyan",
    "completed": "green",
    "failed": "red",
    **dict.fromkeys(("canceling", "canceled", "expired"), "yellow"),
}

_MOST_TOLD = 5
_HEAD_BYTES = 64 * 1024


class Failure(Struct, frozen=True, kw_only=True):
    """A line that did not succeed: its number, its name, and why."""

    line: int
    custom_id: str
    code: str
    text: str


def sum_up(batch: Batch, words: Words) -> str:
    """Return what became of a batch that is over: counts, what was charged, how long it took."""
    said, counts = wording.of(words.language), batch.counts
    state = said.states.get(batch.state, batch.state)
    parts = [said.succeeded.format(count=f"{counts.succeeded:,}", total=f"{counts.lines:,}")]
    for outcome, template in said.others.items():
        if count := getattr(counts, outcome):
            parts.append(template.format(count=f"{count:,}"))
    if batch.charged:
        parts.append(words.charged.format(units=units(batch.charged, words.language)))
    if batch.finished_at:
        seconds = (batch.finished_at - batch.created_at).total_seconds()
        parts.append(said.took.format(seconds=f"{seconds:,.1f}"))
    return f"{state}: {' · '.join(parts)}"


def failures(client: Client, batch: Batch, language: Language) -> list[Failure]:
    """Return the first lines that did not succeed, in the order in which they ended; none that cannot be had now."""
    if not batch.errors_bytes:
        return []
    try:
        told = calls.head(client, batch.id, "errors", _HEAD_BYTES)
    except (Problem, StudioAway):  # not kept any more, or away: what became of the batch is known all the same
        return []
    whole = told[: told.rfind(b"\n") + 1].splitlines()[:_MOST_TOLD]
    ends = wording.of(language).ends
    return [_failure(client.read(line, dict[str, object]), language, ends) for line in whole]


def explain(batch: Batch, found: Sequence[Failure], words: Words) -> list[str]:
    """Return the lines that tell what went wrong."""
    said = wording.of(words.language)
    lines = [f"{batch.error.detail} ({batch.error.code})"] if batch.error else []
    for each in found:
        about = ", ".join(part for part in (each.code, each.custom_id) if part)
        lines.append(said.line.format(line=f"{each.line:,}", text=each.text, about=about))
    if found and batch.counts.bad > len(found):
        command = f"pulse batch results {batch.id} --errors"
        lines.append(said.more.format(count=f"{batch.counts.bad - len(found):,}", command=command))
    return [harmless(line) for line in lines]


def _failure(told: dict[str, object], language: Language, ends: Mapping[str, str]) -> Failure:
    """Read a line of the errors, whichever shape it was asked in."""
    error, state, line = _inner(told), str(told.get("state") or ""), told.get("line")
    text = error.get(language) or error.get("message") or error.get("en") or ends.get(state, state)
    return Failure(
        line=line if isinstance(line, int) else 0,
        custom_id=str(told.get("custom_id") or ""),
        code=str(error.get("code") or error.get("type") or state),
        text=str(text),
    )


def _inner(told: dict[str, object]) -> dict[str, object]:
    """Return the innermost `error`, empty where there is none; Anthropic's shape has it in its `result`."""
    found: dict[str, object] = {}
    within = told.get("error") if "error" in told else told.get("result")
    while isinstance(within, dict):
        found = cast("dict[str, object]", within)
        within = found.get("error")
    return found


def table(batches: Iterable[Batch], now: datetime) -> Table:
    """Return a table of batches: how old they are at `now`, how long they took, how many lines did what."""
    table = Table(box=None, pad_edge=False)
    for name in ("id", "state"):
        table.add_column(name, no_wrap=True)
    for name in ("lines", "ok", "bad", "age", "took"):
        table.add_column(name, justify="right", no_wrap=True)
    for batch in batches:
        state = Text(harmless(batch.state), style=STYLES.get(batch.state, ""))
        counts = [f"{count:,}" for count in (batch.counts.lines, batch.counts.succeeded, batch.counts.bad)]
        took = ((batch.finished_at or now) - batch.created_at).total_seconds()
        age = (now - batch.created_at).total_seconds()
        table.add_row(str(batch.id), state, *counts, span(age), span(took))
    return table


def pretty(metadata: dict[str, object]) -> str:
    """Return the caller's own labels on one line."""
    return msgspec.json.encode(metadata).decode() if metadata else ""
