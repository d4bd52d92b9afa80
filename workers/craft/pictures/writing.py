"""Writes bare pictures in the format that they came in: as good as they were, and hardly ever longer."""

from collections.abc import Mapping
from io import BytesIO

from msgspec import Struct

from workers.craft.pictures.pillow import Image

#: Tried in turn, until the picture is no longer than it was; how good a stranger's WebP or AVIF is, no header says.
_QUALITIES = (94, 86, 76, 64, 50)
_QUALITIES_IN_A_HURRY = (86, 64)
_JPEG_QUALITY = 88
_LARGE_PIXELS = 8_000_000
#: What encoders say that got no memory: WebP's by number, AVIF's not at all, but it has no other reason.
_STARVED = ("encoding error 1", "encoding error 2", "Failed to encode image")


def gif(picture: Image.Image) -> bytes:
    """Return a GIF of one frame, its colours by the same numbers."""
    return _written(picture, "GIF", optimize=False, interlace=0)


def png(picture: Image.Image) -> bytes:
    """Return a PNG: without loss, in the depth that Pillow has pixels in (8 bits; 16 where it is grey)."""
    return _written(picture, "PNG", transparency=picture.info.get("transparency"))


def webp(picture: Image.Image, *, lossless: bool, most_bytes: int, hurry: bool) -> bytes:
    """Return a WebP that has no loss if that had none, and else not more than `most_bytes` if that can be had."""
    hurry = hurry or _large(picture)
    if lossless:
        # Effort costs memory too: at the highest 40 bytes a pixel, at the lowest 20.
        effort = {"method": 0, "quality": 0} if hurry else {"method": 4, "quality": 50}
        return _written(picture, "WEBP", lossless=True, **effort)
    return _short_enough(picture, "WEBP", {"method": 2 if hurry else 4}, most_bytes, hurry=hurry)


def avif(picture: Image.Image, *, subsampling: str, most_bytes: int) -> bytes:
    """Return an AVIF, not more than `most_bytes` if that can be had; quick rather than short where it is large."""
    hurry = _large(picture)
    how = {"speed": 9 if hurry else 8, "subsampling": subsampling}
    return _short_enough(picture, "AVIF", how, most_bytes, hurry=hurry)


class Rounding(Struct, frozen=True, kw_only=True):
    """How a JPEG loses what it loses: what luminance and colours are rounded to, and how many pixels share a colour."""

    tables: list[list[int]]
    subsampling: str
    progressive: bool


def jpeg(picture: Image.Image, rounding: Rounding) -> bytes:
    """Return a JPEG that rounds as another did, so that it neither grows nor is seen to have been made anew."""
    how: dict[str, object] = {"qtables": rounding.tables} if rounding.tables else {"quality": _JPEG_QUALITY}
    how["subsampling"] = rounding.subsampling
    try:
        return _written(picture, "JPEG", optimize=True, progressive=rounding.progressive, **how)
    except OSError:  # Pillow's guess at how long it becomes at most was too low; this way it needs none
        return _written(picture, "JPEG", **how)


def _large(picture: Image.Image) -> bool:
    return picture.width * picture.height > _LARGE_PIXELS


def _short_enough(picture: Image.Image, kind: str, how: Mapping[str, object], most_bytes: int, *, hurry: bool) -> bytes:
    written = b""
    for quality in _QUALITIES_IN_A_HURRY if hurry else _QUALITIES:
        written = _written(picture, kind, quality=quality, **how)
        if len(written) <= most_bytes:
            break
    return written


def _written(picture: Image.Image, kind: str, **how: object) -> bytes:
    file = BytesIO()
    try:
        picture.save(file, kind, **how)
    except (RuntimeError, ValueError) as error:
        if str(error).startswith(_STARVED):
            raise MemoryError(str(error)) from error
        raise
    return file.getvalue()
