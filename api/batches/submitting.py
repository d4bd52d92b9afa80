"""A batch that is handed over: as JSON (a file's id, or the requests themselves), as its bare lines, or as a form.

Lines go where they are kept as they come, so that a large batch takes no more memory than a small one.
"""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

from litestar import Request

from api import body, idempotency, multipart
from api.batches import options
from api.batches.inline import MOST_AROUND_BYTES, Splitter
from api.batches.options import Options
from infra.errors import PulseError
from infra.ground import Ground
from infra.models import Account
from infra.settings import Settings
from workers.batches import arrivals
from workers.batches.arrivals import BatchTooLarge
from workers.batches.rows import Made

JSON = "application/json"
#: What bare lines are called.
LINES = ("application/jsonl", "application/x-ndjson", "application/x-jsonlines", "application/ndjson")
FORM = "multipart/form-data"
# So much is taken apart before others have their turn.
_SLICE_BYTES = 16_384


class BatchTypeNotTaken(PulseError):
    """Send application/json, the lines as application/jsonl or application/x-ndjson, or multipart/form-data."""

    ar = "أرسل application/json، أو الأسطر بصيغة application/jsonl أو application/x-ndjson، أو multipart/form-data."
    status = 415


async def submit(request: Request[Any, Any, Any], account: Account, ground: Ground) -> Made:
    """Make the batch that `request` hands over; its reading is still to be submitted."""
    key, settings = idempotency.key_of(request), ground.settings
    media_type = request.content_type[0]
    if media_type in {JSON, ""}:
        return await _json(request, account, ground, key)
    if media_type in LINES:
        asked = options.told({name: request.query_params[name] for name in request.query_params}).with_lines(settings)
        lines = _chunks(request, ground, "body")
        return await arrivals.receive(ground, account, lines, lambda: asked, field="body", key=key)
    if media_type != FORM:
        raise BatchTypeNotTaken
    posted = await multipart.read(request)
    asked = options.told(posted.fields).with_lines(settings)
    return await arrivals.receive(ground, account, posted.file, lambda: asked, field="file", key=key)


def _chunks(request: Request[Any, Any, Any], ground: Ground, field: str, *, around: int = 0) -> AsyncGenerator[bytes]:
    most = ground.settings.batch_bytes
    too_large = BatchTooLarge(field=field, limit_bytes=most)
    return body.chunks(request, most_bytes=most + around, too_large=too_large)


async def _json(request: Request[Any, Any, Any], account: Account, ground: Ground, key: str | None) -> Made:
    inline = _Inline(_chunks(request, ground, "requests", around=MOST_AROUND_BYTES))
    if await inline.begin(ground.settings):
        return await arrivals.receive(
            ground,
            account,
            inline.lines(),
            lambda: inline.said().with_lines(ground.settings),
            field="requests",
            key=key,
        )
    said = inline.said()
    file_id = said.file()
    return await arrivals.create(ground, account, said.asked(file_id), file_id=file_id, field="input_file_id", key=key)


class _Inline:
    """A body of JSON that is taken apart while it comes."""

    def __init__(self, chunks: AsyncGenerator[bytes]) -> None:
        self._chunks = chunks
        self._splitter = Splitter()
        self._rest: list[bytes] = []

    async def begin(self, settings: Settings) -> bool:
        """Take the body up to the first chunk that has lines; returns whether there is one.

        Raises what is wrong until there: nobody sends all of a large batch to hear of the first of its members.
        """
        async for chunk in self._chunks:
            piece = await self._split(chunk)
            if self._splitter.found:
                self._rest.append(piece)
                if self._splitter.inside:
                    options.around(self._splitter.around() + b"}").with_lines(settings)
                return True
        return False

    async def lines(self) -> AsyncGenerator[bytes]:
        """Yield the lines, in pieces; raises what is wrong with the body."""
        async with aclosing(self._chunks) as chunks:
            yield self._rest.pop()
            async for chunk in chunks:
                yield await self._split(chunk)
            self._splitter.end()

    def said(self) -> Options:
        """Return what stands around the lines, when all has come; raises what is wrong with it."""
        return options.around(self._splitter.end())

    async def _split(self, chunk: bytes) -> bytes:
        pieces: list[bytes] = []
        for start in range(0, len(chunk), _SLICE_BYTES):
            if start:
                await asyncio.sleep(0)
            pieces.append(self._splitter.feed(chunk[start : start + _SLICE_BYTES]))
        return b"".join(pieces)
