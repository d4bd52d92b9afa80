"""Server-sent events, read as they come (WHATWG HTML, 9.2.6): only what they say."""

from collections.abc import AsyncGenerator, AsyncIterator


async def events(chunks: AsyncIterator[bytes]) -> AsyncGenerator[str]:
    """Yield the data of every event that has some and is whole; raises `UnicodeDecodeError`.

    `bytes.splitlines` ends lines where the standard does, unlike that of `str`.
    """
    rest = b""
    data: list[bytes] = []
    async for chunk in chunks:
        rest += chunk
        sure = len(rest) - rest.endswith(b"\r")  # a carriage return at the end may be half of an end of line
        whole = max(rest.rfind(b"\n", 0, sure), rest.rfind(b"\r", 0, sure)) + 1
        lines, rest = rest[:whole].splitlines(), rest[whole:]
        for line in lines:
            if line.startswith(b"data:"):
                data.append(line[5:].removeprefix(b" "))
            elif line == b"data":
                data.append(b"")
            elif not line and data:
                yield b"\n".join(data).decode()
                data = []
