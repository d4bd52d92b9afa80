"""Damages small pictures at random, and has them made anew: to be called in a child of its own."""

import random
import struct
import zlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from tests.support import pictured
from workers.scan import pictures
from workers.scan.findings import Asked
from workers.scan.refusals import FileRefused


def remake(seed: int, count: int, folder: Path) -> dict[str, int]:
    """Judge `count` damaged pictures of each kind; returns how often which refusal came of it, or `kept`."""
    chance = random.Random(seed)
    ends = Counter[str]()
    for media_type, data in _sound():
        for _ in range(count):
            ends[_judged(media_type, _damaged(chance, media_type, data), folder)] += 1
    return dict(ends)


def _judged(media_type: str, data: bytes, folder: Path) -> str:
    path = folder / "upload"
    path.write_bytes(data)
    try:
        pictures.examine(Asked(path=path, folder=folder, media_type=media_type, size_bytes=len(data), sha256=""))
    except FileRefused as refusal:
        return refusal.code
    return "kept"


def _sound() -> Iterator[tuple[str, bytes]]:
    photo = pictured.photo(24, 16)
    few = photo.quantize(16)
    frames = [photo.rotate(angle) for angle in (0, 90, 180)]
    clear = photo.convert("RGBA")
    clear.putalpha(100)
    for picture, how in ((photo, {}), (few, {"transparency": 3}), (clear, {}), (photo.convert("L"), {"bits": 4})):
        yield "image/png", pictured.encoded(picture, "PNG", **how)
    yield "image/png", pictured.moving("PNG", frames)
    yield "image/jpeg", pictured.encoded(photo, "JPEG", exif=pictured.exif(6), comment=b"comment")
    yield "image/jpeg", pictured.encoded(photo, "JPEG", progressive=True)
    yield "image/jpeg", pictured.encoded(photo.convert("CMYK"), "JPEG")
    yield "image/webp", pictured.encoded(photo, "WEBP")
    yield "image/webp", pictured.encoded(clear, "WEBP", lossless=True, exif=pictured.exif(3))
    yield "image/webp", pictured.moving("WEBP", frames)
    yield "image/gif", pictured.encoded(few, "GIF")
    yield "image/gif", pictured.moving("GIF", frames, duration=[10, 20, 30], loop=2)
    yield "image/avif", pictured.encoded(photo, "AVIF", speed=10, exif=pictured.exif(8))
    yield "image/avif", pictured.moving("AVIF", frames, speed=10)


def _damaged(chance: random.Random, media_type: str, data: bytes) -> bytes:
    changed = bytearray(data)
    for _ in range(chance.choice((1, 1, 2, 5, 20))):
        at = chance.randrange(len(changed))
        match chance.randrange(5):
            case 0:
                changed[at] ^= 1 << chance.randrange(8)
            case 1:
                changed[at] = chance.choice((0, 1, 0x7F, 0x80, 0xFF))
            case 2:
                changed[at : at + 4] = struct.pack(">I", chance.choice((0, 1, 0xFFFF, 0x7FFF_FFFF, 0xFFFF_FFFF)))
            case 3:
                del changed[at : at + chance.randrange(1, 20)]
            case _:
                changed[at:at] = changed[chance.randrange(len(changed)) :][: chance.randrange(1, 60)]
        if len(changed) < 16:
            return bytes(changed)
    return _checked(bytes(changed)) if media_type == "image/png" and chance.random() < 0.8 else bytes(changed)


def _checked(png: bytes) -> bytes:
    """Write the right check sums over those of a damaged PNG, so that what is in its chunks is looked at."""
    done, at = png[:8], 8
    while at + 12 <= len(png):
        length = int.from_bytes(png[at : at + 4], "big")
        end = at + 8 + length
        if end + 4 > len(png):
            break
        done += png[at:end] + struct.pack(">I", zlib.crc32(png[at + 4 : end]))
        at = end + 4
    return done + png[at:]
