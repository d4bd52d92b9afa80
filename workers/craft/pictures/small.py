"""Makes the small pictures that stand for a large one: a thumbnail, and a BlurHash while that is loading."""

from pathlib import Path

import blurhash as hashing

from workers.craft.pictures.pillow import Image

_HASHED_EDGE = 32


def thumbnail(picture: Image.Image, path: Path, *, edge: int = 512) -> tuple[int, int]:
    """Write a small copy of `picture` to `path`, as WebP without metadata; returns its width and height."""
    small = _shrunk(picture, edge)
    small.save(path, "WEBP", quality=80, method=4)
    return small.size


def blurhash(picture: Image.Image) -> str:
    """Return the BlurHash of `picture`: some thirty letters that a blurred picture can be drawn from."""
    small = _shrunk(picture, _HASHED_EDGE)
    ground = Image.new("RGB", small.size, "white")
    ground.paste(small, mask=small if small.mode == "RGBA" else None)
    pixels = list(ground.get_flattened_data())
    rows = [pixels[start : start + ground.width] for start in range(0, len(pixels), ground.width)]
    across, down = (4, 3) if ground.width >= ground.height else (3, 4)
    return hashing.encode(rows, across, down)  # pyright: ignore[reportUnknownMemberType] (it has no types)


def _shrunk(picture: Image.Image, edge: int) -> Image.Image:
    """Return a copy in RGB or RGBA, no side of which is longer than `edge`."""
    plain = picture
    if plain.mode.startswith("I;16"):
        wide = plain.convert("I")  # to convert it right away would cut off at 255
        plain = wide.point(lambda value: value * (1 / 256)).convert("L")  # pyright: ignore[reportUnknownMemberType]
    if plain.mode not in {"RGB", "RGBA"} or "transparency" in plain.info:
        plain = plain.convert("RGBA" if plain.has_transparency_data else "RGB")
    scale = min(1.0, edge / max(plain.size))
    size = (max(1, round(plain.width * scale)), max(1, round(plain.height * scale)))
    return plain.resize(size, Image.Resampling.LANCZOS, reducing_gap=2.0)  # pyright: ignore[reportUnknownMemberType]
