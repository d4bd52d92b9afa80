"""A kind of job that costs what the test says, so that small numbers meet small limits."""

from collections.abc import Mapping
from typing import Any
from uuid import UUID

from infra.errors import PulseError
from infra.models import Account
from workers.lifecycle import Submission
from workers.request import Asking, Request


class Impossible(PulseError):
    """There is no such thing."""

    ar = "لا يوجد شيء كهذا."
    status = 400


class Work(Request, tag="chat"):
    """Something that holds `input`, in units per meter; without any it cannot be made."""

    input: dict[str, int] | None = None

    def resolved(self, asking: Asking) -> "Work":  # noqa: ARG002 (nothing is left to choose)
        """Return the request as it came; raises `Impossible`."""
        if self.input is None:
            raise Impossible
        return self

    def most(self, asking: Asking) -> dict[str, int]:  # noqa: ARG002
        """Return what is held."""
        return self.input or {}


def asked(
    account: Account,
    units: Mapping[str, int] | None,
    *,
    key: str | None = None,
    unique: str | None = None,
    replay_of: UUID | None = None,
    **facts: Any,
) -> Submission:
    """Return a submission of a job that holds so many units; `facts` are further members of the submission."""
    request = Work(input=None if units is None else dict(units), unique_key=unique)
    return Submission(account=account, request=request, idempotency_key=key, replay_of=replay_of, **facts)
