"""What may be said of a batch beside its lines, in whichever way it comes."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal
from uuid import UUID

import msgspec
from msgspec import Meta, Struct

from api import durations
from infra import decoding
from infra.decoding import WrongType
from infra.errors import PulseError
from infra.models import Document
from infra.settings import Settings
from workers.batches.rows import NewBatch
from workers.files import FileNotFound
from workers.request import Labels

_SHORTEST_S, _LONGEST_S = 600, 7 * 86_400


class InvalidCompletionWindow(PulseError):
    """{field} must be a length of time from 10 minutes to 7 days: 30m, 24h, 2d, or plain seconds."""

    ar = "يجب أن تكون قيمة {field} مدة من 10 دقائق إلى 7 أيام، مثل ‎30m‎ أو ‎24h‎ أو ‎2d‎، أو عدد ثوانٍ."
    status = 400


class LinesMissing(PulseError):
    """Say what the lines are: requests, the input_file_id of a file, or the lines themselves as body or form."""

    ar = "حدّد أسطر الدفعة: requests، أو input_file_id لملف، أو الأسطر نفسها في جسم الطلب أو في نموذج."
    status = 400


class LinesTwice(PulseError):
    """{field}: the lines come with the request already."""

    ar = "{field}: الأسطر مرفقة بالطلب نفسه."
    status = 400


class Options(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How a batch is to be run."""

    mode: Annotated[
        Literal["each", "all"],
        Meta(description="`each`: every line for itself; `all`: none, unless all are right and fit the quota."),
    ] = "each"
    completion_window: Annotated[
        str, Meta(description="How long it may take, 10m to 7d; what has not ended by then expires.")
    ] = "24h"
    economy: Annotated[
        bool,
        Meta(
            description="Lines for models of OpenAI and Anthropic may go to these vendors' own batches: for half of "
            "the units, and within a day."
        ),
    ] = False
    metadata: Labels = {}
    webhook: (
        Annotated[str, Meta(max_length=2048, description="Whom to tell of it: an address of yours, beginning https://")]
        | None
    ) = None
    endpoint: (
        Annotated[
            Literal["/v1/chat/completions", "/v1/jobs"],
            Meta(description="For OpenAI's clients; every line has its own."),
        ]
        | None
    ) = None
    input_file_id: Annotated[str, Meta(description="A ready file with the purpose `batch`.")] | None = None

    def asked(self, file: UUID | None = None) -> NewBatch:
        """Return what is asked; raises `InvalidCompletionWindow`."""
        window_s = durations.seconds(self.completion_window)
        if window_s is None or not _SHORTEST_S <= window_s <= _LONGEST_S:
            raise InvalidCompletionWindow(field="completion_window")
        return NewBatch(
            mode=self.mode,
            window_s=window_s,
            metadata=self.metadata,
            webhook=self.webhook,
            economy=self.economy,
            file_id=file,
        )

    def with_lines(self, settings: Settings) -> NewBatch:
        """Return what is asked where the lines come as well, checked; raises `LinesTwice` where a file is named."""
        if self.input_file_id is not None:
            raise LinesTwice(field="input_file_id")
        asked = self.asked()
        asked.check(settings)
        return asked

    def file(self) -> UUID:
        """Return the file that the lines are in; raises `LinesMissing` or `FileNotFound`."""
        if self.input_file_id is None:
            raise LinesMissing
        try:
            return UUID(self.input_file_id)
        except ValueError:
            raise FileNotFound(field="input_file_id") from None


class _Around(Options, frozen=True):
    """Options in a body whose lines have been taken out of it."""

    requests: None = None


class BatchRequest(Options, frozen=True):
    """A batch as JSON: `input_file_id`, or `requests` in our own shape, in OpenAI's or in Anthropic's."""

    requests: list[Document] | None = None


_AROUND = msgspec.json.Decoder(_Around)
_TOLD = msgspec.json.Decoder(Options)


def around(body: bytes) -> Options:
    """Decode a body whose lines have been taken out; raises the fact that is wrong with it, by its field."""
    return decoding.decode(body, _AROUND.decode)


def told(fields: Mapping[str, str]) -> Options:
    """Read options that come as text each, `metadata` as JSON; raises the fact that is wrong, by its field."""
    given: dict[str, Any] = dict(fields)
    if given.get("economy") in {"true", "false"}:
        given["economy"] = given["economy"] == "true"
    if "metadata" in given:
        try:
            given["metadata"] = msgspec.json.decode(given["metadata"], type=dict[str, Any])
        except (msgspec.DecodeError, UnicodeError, RecursionError):
            raise WrongType(field="metadata", expected="object") from None
    return decoding.decode(msgspec.json.encode(given), _TOLD.decode)
