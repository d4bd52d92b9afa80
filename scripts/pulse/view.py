"""One job watched from an event on to its end, and how watching can end."""

from types import TracebackType
from typing import Protocol, Self
from uuid import UUID

from scripts.pulse.client import Client
from scripts.pulse.follow import Event, Said, follow, resume
from scripts.pulse.problems import Interrupted, JobCanceled, JobExpired, Problem
from scripts.pulse.words import Language


class Viewer(Protocol):
    """Who is shown a job: `Screen` or `Lines`."""

    def __enter__(self) -> Self:
        """Begin."""
        ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End, whatever happened."""
        ...

    def show(self, event: Event) -> None:
        """Show one event."""
        ...

    def lost(self, failures: int) -> None:
        """Hear that the connection broke or could not be made, and how often in a row."""
        ...


def watch(client: Client, job_id: UUID, viewer: Viewer, language: Language, *, after: str = "") -> None:
    """Show a job to `viewer` until it has succeeded.

    Raises `Problem` where it failed, `JobCanceled`, `JobExpired`, `StudioLost`, and `Interrupted` for a Ctrl-C: the
    job itself goes on then.
    """
    shown = after
    try:
        with viewer:
            for event in follow(client, job_id, after, on_lost=viewer.lost):
                viewer.show(event)
                # Not before: whoever resumes after it must have seen it.
                shown = event.id
                _raise_what_ends_badly(event.said, language)
    except KeyboardInterrupt:
        cancel = f"pulse jobs cancel {job_id}"
        raise Interrupted(job=job_id, after=shown, resume=resume(job_id, shown), cancel=cancel) from None


def _raise_what_ends_badly(said: Said, language: Language) -> None:
    match said.type:
        case "failed":
            raise Problem({"code": said.code, "detail": said.ar if language == "ar" else said.en})
        case "canceled":
            raise JobCanceled(charged=said.charged)
        case "expired":
            raise JobExpired
        case _:
            pass
