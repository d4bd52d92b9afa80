"""Blanks what encoders and cameras write about themselves and their place inside of streams, changing no picture.

In H.264 (ITU-T H.264 annex D) and HEVC (H.265 annex D) that is the message "user data unregistered": x264 and x265 tell
their settings in it, some cameras the position. Its place and length stay, so that nothing else of the stream moves.
In Vorbis it is the comment header (Vorbis I, section 5), which WebM keeps among the stream's parameters.
"""

from collections.abc import Iterator

_USER_DATA_UNREGISTERED = 5
_BLANK = 0x20
_GUARDED = b"\x00\x00\x03"
_LONGEST_SEI = 65_536
_XIPH_HEADERS = 3
_EMPTY_COMMENT = b"\x03vorbis" + bytes(8) + b"\x01"


class Units:
    """Where a stream keeps its NAL units, as its parameters (`avcC`, `hvcC`: ISO/IEC 14496-15) say."""

    def __init__(self, *, codec: str, parameters: bytes) -> None:
        """Read how long the lengths before the units are."""
        self._hevc = codec == "hevc"
        place = 21 if self._hevc else 4
        known = len(parameters) > place and parameters[0] == 1
        self._length_bytes = (parameters[place] & 3) + 1 if known else 0

    def blank(self, data: memoryview) -> None:
        """Blank such messages in a packet's data, in place."""
        for start, end in self._messages(data):
            data[start:end] = _filled(bytes(data[start:end]))

    def blanked(self, parameters: bytes) -> bytes:
        """Return the parameters without them: HEVC may keep some there."""
        if not self._hevc or not self._length_bytes:
            return parameters
        changed = bytearray(parameters)
        for start, end in _units_of_hvcc(parameters):
            for first, last in _user_data(parameters[start:end], hevc=True):
                changed[start + first : start + last] = _filled(parameters[start + first : start + last])
        return bytes(changed)

    def _messages(self, data: memoryview) -> Iterator[tuple[int, int]]:
        place, width = 0, self._length_bytes
        while width and place + width < len(data):
            start = place + width
            place = start + int.from_bytes(data[place:start], "big")
            if place > len(data):
                return
            if self._is_sei(data[start]):
                for first, last in _user_data(bytes(data[start : min(place, start + _LONGEST_SEI)]), hevc=self._hevc):
                    yield start + first, start + last

    def _is_sei(self, head: int) -> bool:
        return (head >> 1) & 0x3F in {39, 40} if self._hevc else head & 0x1F == 6


def without_comment(parameters: bytes) -> bytes:
    """Return Vorbis parameters (three headers, Xiph-laced) with an empty comment. Raises `ValueError` for others."""
    headers = _xiph(parameters)
    if len(headers) != _XIPH_HEADERS or not headers[1].startswith(b"\x03vorbis"):
        raise ValueError("these are no Vorbis headers")
    first, _, last = headers
    lengths = b"".join(b"\xff" * (len(each) // 255) + bytes([len(each) % 255]) for each in (first, _EMPTY_COMMENT))
    return b"\x02" + lengths + first + _EMPTY_COMMENT + last


def _xiph(parameters: bytes) -> list[bytes]:
    """Split laced headers: their number less one, the length of each but the last, and then they themselves."""
    if not parameters or parameters[0] != _XIPH_HEADERS - 1:
        return []
    place, lengths = 1, list[int]()
    while len(lengths) < _XIPH_HEADERS - 1 and place < len(parameters):
        run = place
        while run < len(parameters) and parameters[run] == 0xFF:
            run += 1
        lengths.append(255 * (run - place) + (parameters[run] if run < len(parameters) else 0))
        place = run + 1
    headers = list[bytes]()
    for length in lengths:
        headers.append(parameters[place : place + length])
        place += length
    return [*headers, parameters[place:]]


def _units_of_hvcc(parameters: bytes) -> Iterator[tuple[int, int]]:
    place = 23
    for _ in range(parameters[22] if len(parameters) > place else 0):
        kind, count = parameters[place] & 0x3F, int.from_bytes(parameters[place + 1 : place + 3], "big")
        place += 3
        for _ in range(count):
            start = place + 2
            place = start + int.from_bytes(parameters[place:start], "big")
            if place > len(parameters):
                return
            if kind in {39, 40}:
                yield start, place
        if place + 3 > len(parameters):
            return


def _user_data(unit: bytes, *, hevc: bool) -> Iterator[tuple[int, int]]:
    """Return where in a SEI unit the payloads of "user data unregistered" are."""
    place = 2 if hevc else 1
    while place < len(unit) - 2:
        kind, place = _number(unit, place)
        size, place = _number(unit, place)
        end = _after(unit, place, size)
        if kind == _USER_DATA_UNREGISTERED:
            yield place, end
        place = end


def _number(unit: bytes, place: int) -> tuple[int, int]:
    value = 0
    while place < len(unit) and unit[place] == 0xFF:
        value, place = value + 255, place + 1
    return value + (unit[place] if place < len(unit) else 0), place + 1


def _after(unit: bytes, place: int, size: int) -> int:
    """Return where `size` bytes of payload end; the 3 that follows two zeros only guards them and does not count."""
    end = place + size
    guarded = unit.find(_GUARDED, place)
    while 0 <= guarded < end - 2:
        end += 1
        guarded = unit.find(_GUARDED, guarded + len(_GUARDED))
    return min(end, len(unit))


def _filled(data: bytes) -> bytes:
    """Return as many blanks; guarded zeros stay, for without them the guards would begin to count."""
    pieces = data.split(_GUARDED)
    return _GUARDED.join(bytes([_BLANK]) * len(piece) for piece in pieces)
