"""`python -m bench.stage.bare PORT`: the least that the framework can do for a submission, and so the limit of any.

It decodes the same JSON into a Struct and answers a small JSON, on the API's own server settings.
"""

import sys
from typing import Any

import uvloop
from litestar import Litestar, post
from litestar.params import JSONBody
from msgspec import Struct

from api.server import build

_ID = "0198f0aa-0000-7000-8000-000000000000"


class Asked(Struct, frozen=True):
    """A submission, undecided."""

    kind: str
    input: dict[str, Any]


@post("/v1/jobs", status_code=202)
async def submit(data: JSONBody[Asked]) -> dict[str, str]:
    """Answer."""
    return {"id": _ID, "kind": data.kind, "state": "queued"}


async def serve(port: int) -> None:
    """Serve until killed."""
    await build(Litestar([submit], openapi_config=None, logging_config=None), "127.0.0.1", port).serve()


def main() -> None:
    """Serve on the port that is named."""
    uvloop.run(serve(int(sys.argv[1])))


if __name__ == "__main__":
    main()
