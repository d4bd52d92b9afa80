"""What may be asked of the batch room: a batch that is to be read, for nothing; its lines hold what they need."""

from uuid import UUID

from msgspec import Struct

from workers.request import Asking, Request


class BatchInput(Struct, kw_only=True, forbid_unknown_fields=True):
    """A batch that is being validated."""

    batch: UUID


class ReadBatch(Request, tag="batch"):
    """Read a batch's lines. Asked for by the studio itself, when a batch is handed over."""

    input: BatchInput

    def resolved(self, asking: Asking) -> "ReadBatch":  # noqa: ARG002 (nothing is left to choose)
        """Return the request as it came."""
        return self

    def most(self, asking: Asking) -> dict[str, int]:  # noqa: ARG002
        """Return nothing."""
        return {}
