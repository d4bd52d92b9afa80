"""Server-sent events, read as they come (WHATWG HTML, 9.2.6): only what they say."""

from collections.abc import AsyncGenerator, AsyncIterator


async def events(chunks: AsyncIterator[bytes]) -> AsyncGenerator[str]:
    """Yield the data of every event that has some and is whole; raises `UnicodeDecodeError`."""
    data: list[str] = []
    async for line in _lines(chunks):
        name, _, value = line.partition(":")
        if not line:
            if data:
                yield "\n".join(data)
            data = []
        elif name == "data":
            data.append(value.removeprefix(" "))


async def _lines(chunks: AsyncIterator[bytes]) -> AsyncGenerator[str]:
    """Yield the lines that are whole; `bytes.splitlines` ends them where the standard does, unlike that of `str`."""
    rest = b""
    async for chunk in chunks:
        rest += chunk
        sure = len(rest) - rest.endswith(b"\r")  # a carriage return at the end may be half of an end of line
        whole = max(rest.rfind(b"\n", 0, sure), rest.rfind(b"\r", 0, sure)) + 1
        for line in rest[:whole].splitlines():
            yield line.decode()
        rest = rest[whole:]
