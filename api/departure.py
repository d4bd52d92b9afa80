"""Hears when a client leaves: the server says so to nobody who does not ask."""

from litestar.types import Receive


async def left(receive: Receive) -> None:
    """Return when the client has left; what it still sends is passed over."""
    while (await receive())["type"] != "http.disconnect":
        pass
