"""What a job can say, told apart by `type`; each event is numbered by its stream id, not by itself."""

import msgspec
from msgspec import Struct

from infra.models import Document
from infra.streams import Line


class Said(Struct, frozen=True, kw_only=True, tag_field="type", tag=str.lower, omit_defaults=True):
    """One event of a job."""


class Queued(Said, frozen=True):
    """The job was admitted and waits."""


class Started(Said, frozen=True):
    """A worker took the job, for the `attempt`th time."""

    attempt: int


class Restarted(Said, frozen=True):
    """The work began again from nothing: text said before this is void."""

    attempt: int


class Delta(Said, frozen=True):
    """The next piece of text."""

    text: str


class ToolCall(Said, frozen=True, tag="tool_call"):
    """The model wants a tool used; `arguments` are a JSON object, as text, and whole."""

    id: str
    name: str
    arguments: str


class Progress(Said, frozen=True):
    """`done` of `total` steps of a `stage` are through."""

    done: int
    total: int
    stage: str


class Usage(Said, frozen=True):
    """What the model counted, in its own tokens (`estimated` where it counted nothing), and why it stopped.

    `cached_tokens` are a part of the input, `reasoning_tokens` of the output. `finish_reason` is `stop`, `length` (the
    output cap), `filtered`, `tools` (it wants some used), or `canceled`.
    """

    model: str
    input_tokens: int
    output_tokens: int
    finish_reason: str
    estimated: bool = False
    cached_tokens: int = 0
    reasoning_tokens: int = 0


class Warning(Said, frozen=True):  # noqa: A001 (the event's name on the wire)
    """Something that the viewer should know, by its stable code."""

    code: str
    detail: Document = {}


def quota_warning(meter: str, percent: int) -> Warning:
    """Return what is said when so much of a meter's grant is taken."""
    return Warning(code=f"quota_{percent}", detail={"meter": meter})


class Succeeded(Said, frozen=True):
    """The job is done; `charged` are units per meter."""

    charged: dict[str, int]


class Failed(Said, frozen=True):
    """The job is given up: a stable code and the message in both languages. Nothing was charged."""

    code: str
    en: str
    ar: str


class Canceled(Said, frozen=True):
    """The job was cancelled; what had been used until then was charged."""

    charged: dict[str, int]


class Expired(Said, frozen=True):
    """The job was not started in time. Nothing was charged."""


class Batch(Said, frozen=True):
    """How a batch stands; said by itself on the account's stream, where its jobs say nothing each for itself.

    `done` of its `lines` are over: `rejected`, `succeeded`, `failed`, `canceled` or `expired`.
    """

    state: str
    lines: int
    done: int
    rejected: int
    succeeded: int
    failed: int
    canceled: int
    expired: int


AnySaid = (
    Queued
    | Started
    | Restarted
    | Delta
    | ToolCall
    | Progress
    | Usage
    | Warning
    | Succeeded
    | Failed
    | Canceled
    | Expired
    | Batch
)
TERMINAL = frozenset({"succeeded", "failed", "canceled", "expired"})


def encode(said: Said) -> bytes:
    """Return the event as JSON."""
    return msgspec.json.encode(said)


def line(said: Said) -> Line:
    """Return the event as its streams get it: an answer and its count concern nobody but the job's followers."""
    return Line(encode(said), shared=not isinstance(said, Delta | ToolCall | Usage))


def decode(data: bytes) -> AnySaid:
    """Read an event that `encode` wrote."""
    return msgspec.json.decode(data, type=AnySaid)
