"""Reads the one thing that is wanted of a camera's notes: which way up the picture is."""

import struct

_ORIENTATION = 0x0112
_UPRIGHT = 1
_ORDERS = {b"II*\0": "<", b"MM\0*": ">"}


def orientation(exif: bytes) -> int:
    """Return 1 (upright) to 8, as in the standard (EXIF 2.32, tag 274); 1 where the notes do not say, or wrongly."""
    notes = exif.removeprefix(b"Exif\0\0")
    order = _ORDERS.get(notes[:4])
    if order is None:
        return _UPRIGHT
    try:
        (start,) = struct.unpack_from(order + "I", notes, 4)
        (count,) = struct.unpack_from(order + "H", notes, start)
        for place in range(start + 2, start + 2 + 12 * count, 12):
            tag, _kind, _count, value = struct.unpack_from(order + "HHIH", notes, place)
            if tag == _ORIENTATION:
                return value if 1 <= value <= 8 else _UPRIGHT
    except struct.error:
        pass
    return _UPRIGHT
