"""What may be asked of the scan room: one file. It costs nothing; its account pays for the room that the file takes."""

from uuid import UUID

from msgspec import Struct

from workers.request import Asking, Request


class ScanInput(Struct, kw_only=True, forbid_unknown_fields=True):
    """An upload that waits in quarantine."""

    file: UUID


class Scan(Request, tag="scan"):
    """Judge an uploaded file. Asked for by the studio itself, when an upload is complete."""

    input: ScanInput

    def resolved(self, asking: Asking) -> "Scan":  # noqa: ARG002 (nothing is left to choose)
        """Return the request as it came."""
        return self

    def most(self, asking: Asking) -> dict[str, int]:  # noqa: ARG002
        """Return nothing."""
        return {}
