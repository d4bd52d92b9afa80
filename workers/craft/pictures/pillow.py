"""The Pillow that opens strangers' pictures: new enough, hardened, and each format only by its own reader.

`Image.open` is never used: it tries formats by itself, and takes a JPEG for a series of pictures if it says so.
"""

import struct
import warnings
import zlib
from collections.abc import Generator
from contextlib import contextmanager

import PIL
from PIL import AvifImagePlugin, Image, ImageFile
from PIL.AvifImagePlugin import AvifImageFile
from PIL.GifImagePlugin import GifImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.WebPImagePlugin import WebPImageFile

from workers.craft.pictures.faults import Damaged

_OLDEST = 13

if int(PIL.__version__.partition(".")[0]) < _OLDEST:
    raise ImportError(f"Pillow {PIL.__version__} must not open strangers' pictures: it takes {_OLDEST} or newer")

# Every picture is measured before it is decoded (`faults.Budget`). These stand behind that.
Image.MAX_IMAGE_PIXELS = 40_000_000
ImageFile.LOAD_TRUNCATED_IMAGES = False
AvifImagePlugin.DEFAULT_MAX_THREADS = 1

READERS: dict[str, type[ImageFile.ImageFile]] = {
    "image/png": PngImageFile,
    "image/jpeg": JpegImageFile,
    "image/webp": WebPImageFile,
    "image/gif": GifImageFile,
    "image/avif": AvifImageFile,
}

# What Pillow and its libraries raise of a picture that is not as it should be.
_FAULTS = (
    ArithmeticError,
    EOFError,
    Image.DecompressionBombError,
    IndexError,
    KeyError,
    OSError,
    RuntimeError,
    SyntaxError,
    TypeError,
    ValueError,
    Warning,
    struct.error,
    zlib.error,
)


@contextmanager
def reading() -> Generator[None]:
    """Turn whatever Pillow says against a picture that it reads from memory in this block into `Damaged`."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # most are about a camera's notes, which are thrown away
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            yield
    except _FAULTS as error:
        raise Damaged(f"{type(error).__name__}: {error}") from error
