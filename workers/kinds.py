"""The kinds of jobs: one line a room. The API sees only what may be asked; a worker loads how it is made."""

import importlib
from collections.abc import Coroutine
from typing import Any, Protocol

import msgspec

from infra.models import Document
from infra.settings import Settings
from workers.batch.spec import ReadBatch
from workers.chat.spec import Chat
from workers.context import Made, Run
from workers.request import Request
from workers.scan.spec import Scan

#: kind -> what may be asked of it: everything that `POST /v1/jobs` takes.
SPECS: dict[str, type[Request]] = {"chat": Chat}
#: The same for the kinds that only the studio itself submits.
OWN: dict[str, type[Request]] = {"scan": Scan, "batch": ReadBatch}


class Room(Protocol):
    """`workers/<kind>/run.py`: how a kind is made, and how long one try may take."""

    def timeout_s(self, settings: Settings) -> float:
        """Return the longest that one try may run."""
        ...

    def make(self, request: Request, run: Run) -> Coroutine[Any, Any, Made]:
        """Make what was asked; what it says on the way goes through `run`."""
        ...


def room(kind: str) -> Room:
    """Load the room of a kind, with its heavy libraries."""
    return importlib.import_module(f"workers.{kind}.run")  # type: ignore[return-value]


def read(kind: str, spec: Document) -> Request:
    """Return the request that a job's row keeps."""
    return msgspec.convert(spec, (SPECS | OWN)[kind])
