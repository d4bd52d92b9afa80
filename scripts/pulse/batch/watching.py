"""A batch looked at until it is over, however long that takes and whatever becomes of the connection meanwhile."""

import time
from collections.abc import Iterator
from types import TracebackType
from typing import Protocol, Self
from uuid import UUID

from infra import backoff
from scripts.pulse.batch import calls
from scripts.pulse.batch.answers import Batch
from scripts.pulse.client import AWAY, Client
from scripts.pulse.problems import Ending, Problem, StudioAway

_FIRST_WAIT_S, _LONGEST_WAIT_S = 0.2, 1.0
_LONGEST_AWAY_S = 10.0
_TOO_MANY = 429


class BatchGoesOn(Ending):
    """The batch goes on without you. Watch it: {resume} - or stop it: {cancel}"""

    ar = "الدفعة مستمرة من دونك. تابعها بالأمر: {resume} أو أوقفها بالأمر: {cancel}"
    exit_code = 130


class Viewer(Protocol):
    """Who is shown a batch."""

    def __enter__(self) -> Self:
        """Begin."""
        ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End, whatever happened."""
        ...

    def show(self, batch: Batch, answer: bytes) -> None:
        """Show how the batch stands now; `answer` is what the API said."""
        ...

    def same(self) -> None:
        """Hear that it was looked at and has not changed."""
        ...

    def lost(self, failures: int) -> None:
        """Hear that nobody answered, and how often in a row."""
        ...


def watch(client: Client, batch_id: UUID, viewer: Viewer) -> Batch:
    """Show a batch to `viewer` until it is over, and return it.

    A studio that does not answer is waited for without an end. Raises `Problem` for a refusal, and `BatchGoesOn` for a
    Ctrl-C.
    """
    batch: Batch | None = None
    try:
        with viewer:
            for batch, answer in _looks(client, batch_id, viewer):
                viewer.show(batch, answer)
    except KeyboardInterrupt:
        resume, cancel = f"pulse batch status {batch_id} --follow", f"pulse batch cancel {batch_id}"
        raise BatchGoesOn(batch=batch_id, resume=resume, cancel=cancel) from None
    assert batch is not None
    return batch


def _looks(client: Client, batch_id: UUID, viewer: Viewer) -> Iterator[tuple[Batch, bytes]]:
    tag, failures, wait_s = "", 0, _FIRST_WAIT_S
    while True:
        try:
            seen = client.look(calls.path(batch_id), tag)
        except (StudioAway, Problem) as error:
            if not is_away(error):
                raise
            failures += 1
            viewer.lost(failures)
            time.sleep(backoff.wait_s(failures, base_s=0.5, most_s=_LONGEST_AWAY_S))
            continue
        failures = 0
        if seen is None:
            viewer.same()
        else:
            answer, tag = seen
            batch = client.read(answer, Batch)
            yield batch, answer
            if batch.is_over:
                return
        time.sleep(wait_s)
        wait_s = min(wait_s * 1.3, _LONGEST_WAIT_S)


def is_away(error: StudioAway | Problem) -> bool:
    """Return whether it passes by itself: nobody answers, or asks to come back later."""
    return isinstance(error, StudioAway) or error.members.get("status") in AWAY | {_TOO_MANY}
