"""What is told of a batch: of each line as JSON on one line, in the shape in which it was asked, and of all of it."""

from uuid import UUID

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType
from sqlalchemy.ext.asyncio import AsyncSession

from infra import ids
from infra.ground import Ground
from infra.models import BATCH_LIVE, Batch, Document
from infra.streams import Source
from workers import events
from workers.batches.results import Outcome, Told
from workers.chat import anthropic, openai
from workers.webhooks import messages

# How often a batch that goes on is told on its account's stream at most.
_SILENT_S = 0.5
_SEPARATORS = [(mark.encode(), f"\\u{ord(mark):04x}".encode()) for mark in "\x85\u2028\u2029"]
_OPENAI = {
    "canceled": ("batch_cancelled", "This request was not executed: the batch was cancelled."),
    "expired": ("batch_expired", "This request was not executed before the completion window ended."),
}


class Own(Struct, frozen=True, kw_only=True):
    """A line of the results, where it was asked in our own shape, or in none that could be read."""

    custom_id: str | None
    line: int
    state: Outcome
    kind: str | None
    job_id: UUID | None
    result: Raw | Document | None
    error: Document | None
    charged: dict[str, int]


class Response(Struct, frozen=True, kw_only=True):
    """What OpenAI's batches tell of a request that was answered."""

    request_id: str
    body: Document
    status_code: int = 200


class OpenAI(Struct, frozen=True, kw_only=True):
    """A line of the results as OpenAI's batches tell it."""

    id: str
    custom_id: str | None
    response: Response | None
    error: Document | None
    line: int
    state: Outcome


class Ending(Struct, frozen=True, kw_only=True):
    """How a request ended, as Anthropic's batches tell it."""

    type: str
    message: Document | UnsetType = UNSET
    error: Document | UnsetType = UNSET


class Anthropic(Struct, frozen=True, kw_only=True):
    """A line of the results as Anthropic's batches tell it."""

    custom_id: str | None
    result: Ending
    line: int
    state: Outcome


def tell(
    line: int,
    custom_id: str | None,
    form: str,
    outcome: Outcome,
    *,
    kind: str | None = None,
    job_id: UUID | None = None,
    result: Raw | Document | None = None,
    error: Document | None = None,
    charged: dict[str, int] | None = None,
    is_kept: bool = True,
) -> Told:
    """Return what became of a line: `error` (`{code, en, ar, ...}`) where it failed or was rejected.

    `is_kept` says whether its request stands in `batch_lines`.
    """
    if form == "openai":
        told = _as_openai(line, custom_id, outcome, kind, job_id, _read(result), error)
    elif form == "anthropic":
        told = _as_anthropic(line, custom_id, outcome, job_id, _read(result), error)
    else:
        told = Own(
            custom_id=custom_id,
            line=line,
            state=outcome,
            kind=kind,
            job_id=job_id,
            result=result,
            error=error,
            charged=charged or {},
        )
    return Told(line=line, outcome=outcome, is_kept=is_kept, told=_on_one_line(msgspec.json.encode(told)))


def _on_one_line(told: bytes) -> bytes:
    """Escape what many readers take for the end of a line; in JSON it can only stand in a string."""
    for separator, escaped in _SEPARATORS:
        told = told.replace(separator, escaped)
    return told


def _read(result: Raw | Document | None) -> Document | None:
    return msgspec.json.decode(result) if isinstance(result, Raw) else result


def _as_openai(
    line: int,
    custom_id: str | None,
    outcome: Outcome,
    kind: str | None,
    job_id: UUID | None,
    result: Document | None,
    error: Document | None,
) -> OpenAI:
    name = f"batch_req_{job_id.hex if job_id else line}"
    response = None
    if outcome == "succeeded" and job_id is not None:
        made = result or {}
        body = openai.completion(job_id, ids.created(job_id), made) if kind == "chat" else made
        response = Response(request_id=name, body=body)
    elif error is not None:
        error = {"code": error.get("code"), "message": error.get("en")}
    else:
        code, message = _OPENAI[outcome]
        error = {"code": code, "message": message}
    return OpenAI(id=name, custom_id=custom_id, response=response, error=error, line=line, state=outcome)


def _as_anthropic(
    line: int,
    custom_id: str | None,
    outcome: Outcome,
    job_id: UUID | None,
    result: Document | None,
    error: Document | None,
) -> Anthropic:
    match outcome:
        case "succeeded" if job_id is not None:
            ending = Ending(type="succeeded", message=anthropic.message(job_id, result or {}))
        case "canceled" | "expired":
            ending = Ending(type=outcome)
        case _:
            said = error or {}
            told = {"type": said.get("code"), "message": said.get("en")}
            ending = Ending(type="errored", error={"type": "error", "error": told})
    return Anthropic(custom_id=custom_id, result=ending, line=line, state=outcome)


def counts(batch: Batch) -> dict[str, int]:
    """Return how many lines a batch has, and how many of them wait, run, and ended how."""
    over = batch.succeeded + batch.failed + batch.canceled + batch.expired
    # Of a failed batch no line waits any more, whether or not something is told of each.
    left = max(batch.lines - batch.rejected - over, 0) if batch.state in BATCH_LIVE else 0
    running = min(max(batch.drawn - over, 0), left)
    return {
        "lines": batch.lines,
        "rejected": batch.rejected,
        "waiting": left - running,
        "running": running,
        "succeeded": batch.succeeded,
        "failed": batch.failed,
        "canceled": batch.canceled,
        "expired": batch.expired,
    }


async def note_batch(session: AsyncSession, batch: Batch) -> None:
    """Write down for webhooks that a batch was accepted, where it runs, or how it ended, as it is made so."""
    data: Document = {
        "id": str(batch.id),
        "state": batch.state,
        "counts": counts(batch),
        "charged": batch.charged,
        "metadata": batch.labels,
        "results": f"/v1/batches/{batch.id}/results",
    }
    type_ = "batch.accepted" if batch.state == "running" else f"batch.{batch.state}"
    await messages.note(session, batch.account_id, type_, batch.id, data, url=batch.webhook)


async def tell_account(ground: Ground, batch: Batch) -> bool:
    """Tell how a batch stands on its account's stream; returns False where it was told just before.

    How it ended is told in any case.
    """
    told = {name: count for name, count in counts(batch).items() if name not in {"waiting", "running"}}
    done = sum(told.values()) - batch.lines
    said = events.Batch(state=batch.state, done=done, **told)
    # In the name of the job that reads it: every event of an account is some job's.
    source = Source(batch.job_id or batch.id, batch.account_id, "batch", batch.id)
    silent_s = _SILENT_S if batch.finished_at is None else 0.0
    return await ground.streams.tell(source, events.line(said), silent_s=silent_s)
