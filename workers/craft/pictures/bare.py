"""Takes everything from a picture but its pixels: words, places, profiles and colours that no pixel has."""

from workers.craft.pictures.colour import srgb
from workers.craft.pictures.pillow import Image, ImageFile

_UNNAMED_COLOUR = bytes(3)
#: What turns a picture upright, by its orientation (EXIF 2.32, tag 274).
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def bare(picture: ImageFile.ImageFile, orientation: int = 1) -> Image.Image:
    """Decode a picture and return it upright, in sRGB, with nothing else in it than which colour is transparent."""
    picture.load()
    profile, transparent = picture.info.get("icc_profile"), picture.info.get("transparency")
    plain = srgb(picture, profile)
    if plain is not picture and picture.mode == "RGB" and transparent is not None:
        # No colour is the one that was named any more, or others are too: the pixels have to say it.
        plain, transparent = srgb(picture.convert("RGBA"), profile), None
    if orientation in _TURNS:
        plain = plain.transpose(_TURNS[orientation])
    elif plain is picture:
        plain = picture.copy()
    plain.info = {} if transparent is None else {"transparency": transparent}
    if plain.mode == "P":
        _prune(plain)
    return plain


def _prune(picture: Image.Image) -> None:
    """Blacken the colours that no pixel has: a palette is room for 768 bytes of anything."""
    palette = bytes(picture.getpalette() or [])
    colours = [palette[at : at + 3] for at in range(0, len(palette), 3)]
    counts = picture.histogram()
    picture.putpalette(b"".join(c if count else _UNNAMED_COLOUR for c, count in zip(colours, counts, strict=False)))
