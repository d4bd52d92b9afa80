"""Writes bare pictures in the format that they came in: as good as they were, and hardly ever longer."""

from collections.abc import Mapping
from io import BytesIO

from workers.craft.pictures.pillow import Image, JpegImageFile

#: Tried in turn, until the picture is no longer than it was; how good a stranger's WebP or AVIF is, no header says.
_QUALITIES = (94, 86, 76, 64, 50)
_QUALITIES_IF_LARGE = (86, 64)
_JPEG_QUALITY = 88
_LARGE_PIXELS = 8_000_000
_TURNED_OVER = {5, 6, 7, 8}


def gif(picture: Image.Image) -> bytes:
    """Return a GIF of one frame, its colours by the same numbers."""
    return _written(picture, "GIF", optimize=False, interlace=0)


def png(picture: Image.Image) -> bytes:
    """Return a PNG: without loss, in the depth that Pillow has pixels in (8 bits; 16 where it is grey)."""
    return _written(picture, "PNG", transparency=picture.info.get("transparency"))


def webp(picture: Image.Image, *, lossless: bool, most_bytes: int) -> bytes:
    """Return a WebP that has no loss if that had none, and else not more than `most_bytes` if that can be had."""
    how = {"method": 2 if _large(picture) else 4}
    if lossless:
        return _written(picture, "WEBP", lossless=True, quality=50, **how)
    return _short_enough(picture, "WEBP", how, most_bytes)


def avif(picture: Image.Image, *, subsampling: str, most_bytes: int) -> bytes:
    """Return an AVIF, not more than `most_bytes` if that can be had; quick rather than short where it is large."""
    how = {"speed": 9 if _large(picture) else 8, "subsampling": subsampling}
    return _short_enough(picture, "AVIF", how, most_bytes)


def jpeg(picture: Image.Image, source: JpegImageFile, orientation: int) -> bytes:
    """Return a JPEG that rounds as the `source` did, so that it neither grows nor is seen to have been made anew."""
    tables = _tables(source, turned_over=orientation in _TURNED_OVER)
    how: dict[str, object] = {"qtables": tables} if tables else {"quality": _JPEG_QUALITY}
    how["subsampling"] = _subsampling(source)
    try:
        return _written(picture, "JPEG", optimize=True, progressive="progressive" in source.info, **how)
    except OSError:  # Pillow's guess at how long it becomes at most was too low; this way it needs none
        return _written(picture, "JPEG", **how)


def _tables(source: JpegImageFile, *, turned_over: bool) -> list[list[int]]:
    """Return what luminance and colours are rounded to; none where the source is not clear about it."""
    numbers = list(dict.fromkeys(layer[3] for layer in source.layer[:2]))
    if not numbers or any(number not in source.quantization for number in numbers):
        return []
    tables = [source.quantization[number] for number in numbers]
    return [[table[at % 8 * 8 + at // 8] for at in range(64)] for table in tables] if turned_over else tables


def _subsampling(source: JpegImageFile) -> str:
    """Return how many pixels share a colour: as in the source, or as many."""
    if source.layers < 3:
        return "4:4:4"
    _, across, down, _ = source.layer[0]
    return {1: "4:4:4", 2: "4:2:2"}.get(across * down, "4:2:0")


def _large(picture: Image.Image) -> bool:
    return picture.width * picture.height > _LARGE_PIXELS


def _short_enough(picture: Image.Image, kind: str, how: Mapping[str, object], most_bytes: int) -> bytes:
    written = b""
    for quality in _QUALITIES_IF_LARGE if _large(picture) else _QUALITIES:
        written = _written(picture, kind, quality=quality, **how)
        if len(written) <= most_bytes:
            break
    return written


def _written(picture: Image.Image, kind: str, **how: object) -> bytes:
    file = BytesIO()
    picture.save(file, kind, **how)
    return file.getvalue()
