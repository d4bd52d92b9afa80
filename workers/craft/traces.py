"""Blanks what encoders and cameras write about themselves and their place inside of streams, changing no picture.

In H.264 (ITU-T H.264 annex D) and HEVC (H.265 annex D) that are the messages "user data": x264 and x265 tell their
settings in them, some cameras the position. Only subtitles are left. Places and lengths stay, so that nothing else of
the stream moves.
In Vorbis it is the comment header (Vorbis I, section 5), which WebM keeps among the stream's parameters.
"""

from bisect import bisect_right
from collections.abc import Iterator

_USER_DATA_REGISTERED, _USER_DATA_UNREGISTERED = 4, 5
# Of the registered ones, whatever the subtitles of television are in (ATSC A/53 part 4, section 6.2.3).
_CAPTIONS = b"\xb5\x00\x31GA94"
_BLANK = b" "
_GUARDED = b"\x00\x00\x03"
_XIPH_HEADERS = 3
#: How long the head of a frame of MPEG audio is.
MP3_HEAD = 4
_HERTZ = (44_100, 48_000, 32_000)
_KBITS = (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320)
_KBITS_LOW = (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160)
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
            data[start:end] = _BLANK * (end - start)

    def blanked(self, parameters: bytes) -> bytes:
        """Return the parameters without them: HEVC may keep some there."""
        if not self._hevc or not self._length_bytes:
            return parameters
        changed = bytearray(parameters)
        for start, end in _units_of_hvcc(parameters):
            for first, last in _user_data(parameters[start:end], hevc=True):
                changed[start + first : start + last] = _BLANK * (last - first)
        return bytes(changed)

    def _messages(self, data: memoryview) -> Iterator[tuple[int, int]]:
        place, width = 0, self._length_bytes
        while width and place + width < len(data):
            start = place + width
            place = start + int.from_bytes(data[place:start], "big")
            if place > len(data):
                return
            if self._is_sei(data[start]):
                for first, last in _user_data(bytes(data[start:place]), hevc=self._hevc):
                    yield start + first, start + last

    def _is_sei(self, head: int) -> bool:
        return (head >> 1) & 0x3F in {39, 40} if self._hevc else head & 0x1F == 6


def mp3_frame_bytes(head: bytes) -> int | None:
    """Return how long the frame of MPEG audio, layer III, is that begins so; None where none does.

    Sources: ISO/IEC 11172-3, 2.4.2.3; ISO/IEC 13818-3, 2.4.2.3, for half the rates; a quarter is "MPEG 2.5".
    """
    rate = _mp3_rate(head)
    if not rate:
        return None
    version, hertz = head[1] >> 3 & 3, _HERTZ[head[2] >> 2 & 3]
    padding = head[2] >> 1 & 1
    if version == 3:
        return 144_000 * _KBITS[rate - 1] // hertz + padding
    return 72_000 * _KBITS_LOW[rate - 1] // (hertz >> (1 if version == 2 else 2)) + padding


def is_free_format(head: bytes) -> bool:
    """Whether a frame begins so that does not tell how long it is."""
    return _mp3_rate(head) == 0


def _mp3_rate(head: bytes) -> int | None:
    """Return the number of the bit rate in a frame's head; 0 for "free", None where it is no head."""
    if len(head) < MP3_HEAD or head[0] != 0xFF or head[1] & 0xE0 != 0xE0:
        return None
    version, layer, rate, sampling = head[1] >> 3 & 3, head[1] >> 1 & 3, head[2] >> 4, head[2] >> 2 & 3
    return None if version == 1 or layer != 1 or rate == 15 or sampling == 3 else rate


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
    """Return where in a SEI unit the payloads are that tell something.

    A 3 that follows two zeros only guards them: lengths do not count it, and it may stand between any two bytes.
    """
    guards = _guards(unit)
    plain = unit.replace(_GUARDED, _GUARDED[:-1])
    place = 2 if hevc else 1
    while place < len(plain) - 2:
        kind, place = _number(plain, place)
        size, place = _number(plain, place)
        end = min(place + size, len(plain))
        if place < end and _tells(kind, plain[place : place + len(_CAPTIONS)]):
            yield from _unguarded(guards, place, end)
        place = end


def _tells(kind: int, start: bytes) -> bool:
    return kind == _USER_DATA_UNREGISTERED or (kind == _USER_DATA_REGISTERED and start != _CAPTIONS)


def _guards(unit: bytes) -> list[int]:
    """Return, of each guard in a unit, before which of its other bytes it stands."""
    found = list[int]()
    guard = unit.find(_GUARDED)
    while guard >= 0:
        found.append(guard + 2 - len(found))
        guard = unit.find(_GUARDED, guard + len(_GUARDED))
    return found


def _unguarded(guards: list[int], start: int, end: int) -> Iterator[tuple[int, int]]:
    """Return where these bytes are, but for zeros that are guarded: without them the guards would begin to count."""
    for guard in guards[bisect_right(guards, start) : bisect_right(guards, end + 1)]:
        if start < guard - 2:
            yield _place(guards, start), _place(guards, guard - 3) + 1
        start = max(start, guard)
    if start < end:
        yield _place(guards, start), _place(guards, end - 1) + 1


def _place(guards: list[int], number: int) -> int:
    """Return where a byte is, when the guards before it are counted."""
    return number + bisect_right(guards, number)


def _number(unit: bytes, place: int) -> tuple[int, int]:
    value = 0
    while place < len(unit) and unit[place] == 0xFF:
        value, place = value + 255, place + 1
    return value + (unit[place] if place < len(unit) else 0), place + 1
