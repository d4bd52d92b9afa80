"""What every job request has in common; each room's `spec.py` derives its own kind from it."""

from typing import Annotated

from msgspec import Meta, Struct

from infra.settings import Settings

_Key = Annotated[str, Meta(min_length=1, max_length=64)]
_Value = Annotated[str, Meta(max_length=512)]


class Request(Struct, kw_only=True, forbid_unknown_fields=True, tag_field="kind"):
    """A request to make something: its `kind`, the kind's own `input`, and what all kinds take."""

    metadata: Annotated[
        dict[_Key, _Value], Meta(max_length=16, description="Your own labels; given back with the job as they came.")
    ] = {}

    def resolved(self, settings: Settings) -> "Request":
        """Return the request with every automatic choice made, as it is kept; raises where there is no such choice."""
        raise NotImplementedError

    def most(self, settings: Settings) -> dict[str, int]:
        """Return the most that a resolved request can cost, in units per meter."""
        raise NotImplementedError
