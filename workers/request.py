"""What every job request has in common; each room's `spec.py` derives its own kind from it."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Annotated, Literal, Self
from uuid import UUID

from msgspec import Meta, Struct

from infra import fetch
from infra.errors import PulseError
from infra.settings import Settings

_Key = Annotated[str, Meta(min_length=1, max_length=64)]
_Value = Annotated[str, Meta(max_length=512)]
#: The caller's own labels.
Labels = Annotated[dict[_Key, _Value], Meta(max_length=16, description="Your own labels; given back as they came.")]
_Moment = Annotated[datetime, Meta(tz=True)]
# A job's place in Redis is kept for longer than this.
_FURTHEST_DAYS = 7


class MomentTooLate(PulseError):
    """{field} may be {days} days from now at most."""

    ar = "الحد الأقصى لموعد {field} بعد {days} أيام من الآن."
    status = 400


class StartDeadlineTooEarly(PulseError):
    """{field} must be later than now, and later than run_at where that is given."""

    ar = "يجب أن يكون {field} بعد اللحظة الحالية، وبعد run_at إن وُجد."
    status = 400


class FragmentNotAllowed(PulseError):
    """{field}: the address may have no fragment (what comes after #), since no server is told of it."""

    ar = "{field}: لا يجوز أن يكون للعنوان جزء بعد #، إذ لا يُرسل هذا الجزء إلى أي خادم."
    status = 400


def check_webhook(url: str, settings: Settings) -> None:
    """Raise `FragmentNotAllowed`, or what `fetch.check` raises, where this is no address that could be told."""
    if "#" in url:
        raise FragmentNotAllowed(field="webhook")
    fetch.check(url, fetch.webhooks(settings), field="webhook")


class Attached(Struct, frozen=True, kw_only=True):
    """A file of the account's that a request names, as it stands; `pages` are those of a PDF."""

    id: UUID
    name: str
    state: str
    media_type: str
    size_bytes: int
    pages: int | None = None


class Asking(Struct, frozen=True, kw_only=True):
    """Who asks, and what is known of what is asked for: `plan` is the code of the account's.

    `files` are those of the account that the request names (`Request.file_ids`); one that is not its own is not there.
    """

    settings: Settings
    plan: str
    files: Mapping[UUID, Attached] = {}


class Request(Struct, kw_only=True, forbid_unknown_fields=True, tag_field="kind"):
    """A request to make something: its `kind`, the kind's own `input`, and what all kinds take."""

    metadata: Labels = {}
    priority: Annotated[
        Literal["interactive", "batch"], Meta(description="`batch` leaves others the way, but always moves.")
    ] = "interactive"
    run_at: Annotated[_Moment, Meta(description="Not started before; seven days from now at most.")] | None = None
    start_deadline: (
        Annotated[_Moment, Meta(description="Not started until then, the job expires and costs nothing.")] | None
    ) = None
    unique_key: (
        Annotated[
            str, Meta(min_length=1, max_length=255, description="While a job with this key lives, it is the answer.")
        ]
        | None
    ) = None
    timeout: (
        Annotated[
            int, Meta(ge=1, le=86_400, description="Seconds that one try may run, where its kind allows no less.")
        ]
        | None
    ) = None
    webhook: (
        Annotated[
            str,
            Meta(max_length=2048, description="Whom to tell of the job's end: an address of yours, beginning https://"),
        ]
        | None
    ) = None

    @property
    def kind(self) -> str:
        """What is to be made."""
        return str(self.__struct_config__.tag)

    def check(self, settings: Settings) -> None:
        """Raise what is wrong with what all kinds take.

        `MomentTooLate` or `StartDeadlineTooEarly` where the moments make no sense; `FragmentNotAllowed` and what
        `fetch.check` raises where the webhook is no address that could be told.
        """
        self._check_moments()
        if self.webhook is not None:
            check_webhook(self.webhook, settings)

    def _check_moments(self) -> None:
        now = datetime.now(UTC)
        if self.run_at is not None and self.run_at > now + timedelta(days=_FURTHEST_DAYS):
            raise MomentTooLate(field="run_at", days=_FURTHEST_DAYS)
        if self.start_deadline is not None and self.start_deadline > now + timedelta(days=2 * _FURTHEST_DAYS):
            raise MomentTooLate(field="start_deadline", days=2 * _FURTHEST_DAYS)
        if self.start_deadline is not None and self.start_deadline <= max(now, self.run_at or now):
            raise StartDeadlineTooEarly(field="start_deadline")

    def file_ids(self) -> Sequence[UUID]:
        """Return the files that are to be looked up before the request is resolved."""
        return ()

    def resolved(self, asking: Asking) -> "Request":
        """Return the request with every automatic choice made, as it is kept; raises where there is no such choice."""
        raise NotImplementedError

    def apart(self, asking: Asking) -> str | None:  # noqa: ARG002 (what most kinds answer)
        """Return the model whose vendor's own batches may make a resolved request; None where only our pools can."""
        return None

    def most(self, asking: Asking) -> dict[str, int]:
        """Return the most that a resolved request can cost, in units per meter."""
        raise NotImplementedError

    def cheaper(self, asking: Asking, than: "Request", meter: str) -> Self | None:  # noqa: ARG002 (most kinds' answer)
        """Return what a request may be resolved to instead, where a meter does not have what it costs as it was.

        It comes after `than` in the order of preference, and costs less of that meter; None: there is nothing such.
        """
        return None

    def anew(self) -> Self:
        """Return a request that was resolved as it was asked, so that its choices are made again."""
        return self
