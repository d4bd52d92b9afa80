"""Those whom webhooks are sent to: real servers on loopback that answer as a test says, and keep what they got."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager

from msgspec import Struct

from tests.support.strangers import Script, Stranger, answer

#: What a receiver is content with.
FINE = answer(status="204 No Content")


class Received(Struct, frozen=True, kw_only=True):
    """One request; names of `headers` are in small letters."""

    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def id(self) -> str:
        """Which message it is."""
        return self.headers["webhook-id"]


class Receiver:
    """A server that gives its `answers` in order, the last of them again and again."""

    def __init__(self, stranger: Stranger, answers: Sequence[bytes | Script]) -> None:
        """Answer by `answers`."""
        self.answers = list(answers)
        self._stranger = stranger
        self._most_at_once = self._at_once = 0

    @classmethod
    @asynccontextmanager
    async def serving(cls, *answers: bytes | Script, port: int = 0) -> AsyncGenerator["Receiver"]:
        """Serve for the length of a block."""
        async with Stranger.serving(port=port) as stranger:
            receiver = cls(stranger, answers or (FINE,))
            stranger.script = receiver._answer
            yield receiver

    async def _answer(self, writer: asyncio.StreamWriter) -> None:
        script = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        self._at_once += 1
        self._most_at_once = max(self._most_at_once, self._at_once)
        try:
            if isinstance(script, bytes):
                writer.write(script)
                await writer.drain()
            else:
                await script(writer)
        finally:
            self._at_once -= 1

    @property
    def port(self) -> int:
        """Where it listens."""
        return self._stranger.port

    @property
    def url(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self.port}/told"

    @property
    def most_at_once(self) -> int:
        """How many it answered at a time at most."""
        return self._most_at_once

    @property
    def received(self) -> list[Received]:
        """What it got until now, in order."""
        return [_read(request) for request in self._stranger.requests]

    async def got(self, count: int, within_s: float = 15) -> list[Received]:
        """Wait until it has got so many requests, and return them."""
        async with asyncio.timeout(within_s):
            while len(self._stranger.requests) < count:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        return self.received


def slowly(then: bytes = FINE, *, after_s: float = 60.0) -> Script:
    """Return a script that answers late."""

    async def script(writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(after_s)
        writer.write(then)
        await writer.drain()

    return script


def _read(request: bytes) -> Received:
    head, _, body = request.partition(b"\r\n\r\n")
    first, *lines = head.decode().split("\r\n")
    pairs = (line.split(": ", 1) for line in lines)
    return Received(path=first.split()[1], headers={name.lower(): value for name, value in pairs}, body=body)
