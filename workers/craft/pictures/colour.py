"""Turns the colours of a picture into sRGB, which is what one without a colour profile is taken for."""

from contextlib import suppress
from io import BytesIO
from typing import Any, cast

from PIL import ImageCms

from workers.craft.pictures.pillow import Image

_MOST_PROFILE_BYTES = 4 * 1024**2
#: The colour space that a profile has to be for, by the mode of the pixels. Grey is left as it is.
_SPACES = {"RGB": b"RGB ", "RGBA": b"RGB ", "P": b"RGB ", "CMYK": b"CMYK"}
#: Where a profile says so (ICC.1, section 7.2.6).
_SPACE = slice(16, 20)


def srgb(picture: Image.Image, profile: bytes | None) -> Image.Image:
    """Return the picture in sRGB; its own colours if the profile is unusable. CMYK becomes RGB in any case."""
    if profile and len(profile) <= _MOST_PROFILE_BYTES:
        with suppress(ImageCms.PyCMSError, OSError, ValueError, TypeError):  # who cannot be read has said nothing
            picture = _converted(picture, profile)
    return picture.convert("RGB") if picture.mode == "CMYK" else picture


def _converted(picture: Image.Image, profile: bytes) -> Image.Image:
    source = ImageCms.ImageCmsProfile(BytesIO(profile))
    space = profile[_SPACE]
    if space != _SPACES.get(picture.mode) or "sRGB" in ImageCms.getProfileDescription(source):
        return picture
    if picture.mode == "P":
        return _repainted(picture, source)
    return _transformed(picture, source, "RGB" if picture.mode == "CMYK" else picture.mode)


def _repainted(picture: Image.Image, source: ImageCms.ImageCmsProfile) -> Image.Image:
    """Convert the palette, and let every pixel keep its number in it."""
    palette = bytes(picture.getpalette() or [])
    colours = Image.frombytes("RGB", (len(palette) // 3, 1), palette)
    picture.putpalette(_transformed(colours, source, "RGB").tobytes())
    return picture


def _transformed(picture: Image.Image, source: ImageCms.ImageCmsProfile, mode: str) -> Image.Image:
    made = ImageCms.createProfile("sRGB")  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
    target = ImageCms.ImageCmsProfile(cast("Any", made))
    transform = ImageCms.buildTransform(source, target, picture.mode, mode)
    return ImageCms.applyTransform(picture, transform) or picture
