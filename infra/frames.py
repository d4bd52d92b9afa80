"""How an event looks on the wire: encoded once, however many follow it.

Server-Sent Events carry the id, the type and the JSON each in its own field. NDJSON is one line an event, the id added
to the event's members. An account's events also say whose they are.
"""

from typing import Literal

import msgspec
from msgspec import Struct

from infra.streams import Event, EventId

_TYPE = b'{"type":"'

#: The two ways in which a stream is sent.
type Form = Literal["sse", "ndjson"]

#: What fills a silence, so that neither end takes the connection for dead.
SILENCE: dict[Form, bytes] = {"sse": b": \n\n", "ndjson": b"\n"}
#: What the first event of an account's stream is where events after the id asked for are not kept any more.
MISSED: dict[Form, bytes] = {
    "sse": b'event: missed\ndata: {"type":"missed"}\n\n',
    "ndjson": b'{"type":"missed"}\n',
}
MEDIA_TYPES: dict[Form, str] = {"sse": "text/event-stream", "ndjson": "application/x-ndjson"}


class _Typed(Struct):
    type: str


def _type_of(data: bytes) -> bytes:
    if data.startswith(_TYPE):  # as every event of ours does
        return data[len(_TYPE) : data.index(b'"', len(_TYPE))]
    return msgspec.json.decode(data, type=_Typed).type.encode()


class Frame:
    """One event with its bytes on the wire, made when they are first asked for."""

    __slots__ = ("_lines", "_sse", "event", "id", "type")

    def __init__(self, event: Event) -> None:
        """Hold `event`."""
        self.event = event
        self.id = event.id
        self.type = _type_of(event.data)
        self._sse: bytes | None = None
        self._lines: bytes | None = None

    @property
    def size_bytes(self) -> int:
        """About what it takes of memory."""
        return 3 * len(self.event.data) + 400

    def bytes_of(self, form: Form) -> bytes:
        """Return it as it is sent in a form."""
        if form == "sse":
            if self._sse is None:
                event, id_ = self.event, self.id
                data = b'{%s,"event":%s}' % (event.whose, event.data) if event.whose else event.data
                self._sse = b"id: %d-%d\nevent: %s\ndata: %s\n\n" % (id_.attempt, id_.n, self.type, data)
            return self._sse
        if self._lines is None:
            event, id_ = self.event, self.id
            rest = b'%s,"event":%s}' % (event.whose, event.data) if event.whose else event.data[1:]
            self._lines = b'{"id":"%d-%d",%s\n' % (id_.attempt, id_.n, rest)
        return self._lines

    def renumbered(self, id_: EventId) -> "Frame":
        """Return it under another id."""
        return Frame(msgspec.structs.replace(self.event, id=id_))


def passed(form: Form, id_: EventId) -> bytes:
    """Return what tells a client only up to where it has been told everything it asked for."""
    if form == "sse":
        return b"id: %d-%d\n\n" % (id_.attempt, id_.n)
    return b'{"id":"%d-%d","type":"passed"}\n' % (id_.attempt, id_.n)
