"""Pictures made by hand: each format's own bytes, honest or not, and real ones to start from."""

import struct
import zlib
from collections.abc import Sequence
from io import BytesIO
from typing import Any

from PIL import Image, ImageChops

PNG = b"\x89PNG\r\n\x1a\n"


def encoded(picture: Image.Image, kind: str, **how: Any) -> bytes:
    """Return a picture as a file of a kind."""
    file = BytesIO()
    picture.save(file, kind, **how)
    return file.getvalue()


def opened(data: bytes) -> Image.Image:
    """Return the picture in a file."""
    picture = Image.open(BytesIO(data))
    picture.load()
    return picture


def colour(picture: Image.Image, x: int = 9, y: int = 9) -> tuple[int, int, int]:
    """Return red, green and blue of a pixel."""
    red, green, blue = picture.convert("RGB").crop((x, y, x + 1, y + 1)).tobytes()
    return red, green, blue


def transparent(picture: Image.Image) -> set[tuple[int, int, int]]:
    """Return the colours of the pixels that cannot be seen."""
    data = picture.convert("RGBA").tobytes()
    return {(data[at], data[at + 1], data[at + 2]) for at in range(0, len(data), 4) if not data[at + 3]}


def photo(width: int = 320, height: int = 240) -> Image.Image:
    """Return something like a photograph: slopes, shapes and noise."""
    noise = Image.effect_noise((width, height), 12)
    sources = [
        Image.effect_noise((width // 4, height // 4), 64),
        Image.linear_gradient("L"),
        Image.radial_gradient("L"),
    ]
    bands = [each.transform((width, height), Image.Transform.EXTENT, (0, 0, *each.size)) for each in sources]
    return Image.merge("RGB", [ImageChops.add(band, noise, 2) for band in bands])


def chunk(name: bytes, content: bytes) -> bytes:
    """Return a chunk of a PNG."""
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def png(width: int, height: int, *chunks: bytes, depth: int = 1, colour: int = 0, pixels: bytes | None = None) -> bytes:
    """Return a PNG of this size, one bit a pixel and black unless told otherwise, `chunks` after its head."""
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))
    return b"".join([PNG, head, *chunks, chunk(b"IDAT", black(width, height) if pixels is None else pixels), end_png()])


def end_png() -> bytes:
    """Return what a PNG ends with."""
    return chunk(b"IEND", b"")


def black(width: int, height: int) -> bytes:
    """Return the compressed pixels of a black PNG of one bit a pixel."""
    row = bytes(1 + (width + 7) // 8)
    packer = zlib.compressobj(9)
    return b"".join(packer.compress(row) for _ in range(height)) + packer.flush()


def moving_png(width: int, height: int, frames: int, *, claimed: int) -> bytes:
    """Return a PNG that moves through black frames, and claims to have another number of them."""
    pixels = black(width, height)
    chunks = [chunk(b"acTL", struct.pack(">II", claimed, 0))]
    number = 0
    for frame in range(frames):
        control = struct.pack(">IIIIIHHBB", number, width, height, 0, 0, 1, 10, 0, 0)
        chunks.append(chunk(b"fcTL", control))
        number += 1
        if frame == 0:
            chunks.append(chunk(b"IDAT", pixels))
        else:
            chunks.append(chunk(b"fdAT", struct.pack(">I", number) + pixels))
            number += 1
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0))
    return b"".join([PNG, head, *chunks, end_png()])


def profiled_png(frames: int, profile_bytes: int) -> bytes:
    """Return a PNG that moves through frames of one pixel, which all have one large colour profile."""
    data = moving_png(1, 1, frames, claimed=frames)
    at = len(PNG) + 25
    return data[:at] + chunk(b"iCCP", b"p\0\0" + bytes(profile_bytes)) + data[at:]


def gif(width: int, height: int, frames: int, frame_size: tuple[int, int] = (1, 1)) -> bytes:
    """Return a GIF of one black pixel a frame, which may claim to be larger."""
    place = struct.pack("<HHHHB", 0, 0, *frame_size, 0)
    frame = b"!\xf9\x04\0\1\0\0\0," + place + b"\x02\x02\x44\x01\0"
    return b"GIF89a" + struct.pack("<HHBBB", width, height, 0x80, 0, 0) + bytes(6) + frame * frames + b";"


def crowded_gif(frames: int, side: int) -> bytes:
    """Return a GIF that claims to be one pixel large, and has frames of this size with all their pixels."""
    one = encoded(Image.new("P", (side, side)), "GIF")
    at = one.index(b",", 13 + 3 * 2 ** ((one[10] & 7) + 1))
    return one[:6] + struct.pack("<HH", 1, 1) + one[10:at] + one[at:-1] * frames + b";"


def webp(*chunks: tuple[bytes, bytes]) -> bytes:
    """Return a WebP of these chunks."""
    return webp_file(b"".join(name + struct.pack("<I", len(c)) + c + bytes(len(c) & 1) for name, c in chunks))


def webp_file(chunks: bytes) -> bytes:
    """Return a WebP of chunks."""
    return b"RIFF" + struct.pack("<I", 4 + len(chunks)) + b"WEBP" + chunks


def webp_canvas(width: int, height: int, flags: int = 0) -> tuple[bytes, bytes]:
    """Return the head of a WebP of this size."""
    sides = ((width - 1).to_bytes(3, "little"), (height - 1).to_bytes(3, "little"))
    return b"VP8X", bytes([flags, 0, 0, 0]) + b"".join(sides)


def exif(orientation: int, *, place: bytes = b"24.7136N 46.6753E") -> bytes:
    """Return a camera's notes: which way up, and where it stood."""
    notes = Image.Exif()
    notes[0x0112] = orientation
    notes[0x010E] = place.decode()  # description
    notes.get_ifd(0x8825)[1] = "N"
    notes.get_ifd(0x8825)[2] = (24.0, 42.0, 49.0)
    return notes.tobytes()


def scans(width: int, height: int, count: int) -> bytes:
    """Return a progressive JPEG that goes over its pixels again and again, a few bytes each time."""
    whole = encoded(Image.new("L", (width, height)), "JPEG", progressive=True)
    last = whole.rindex(b"\xff\xda")
    scan = whole[last:-2]
    return whole[:-2] + scan * count + b"\xff\xd9"


def cut(data: bytes, share: float = 0.6) -> bytes:
    """Return the first part of a file."""
    return data[: int(len(data) * share)]


def moving(kind: str, frames: Sequence[Image.Image], **how: Any) -> bytes:
    """Return frames as one moving picture."""
    return encoded(frames[0], kind, save_all=True, append_images=list(frames[1:]), **how)
