"""Makes a JPEG anew: the first picture in it, if it is a series of them."""

from io import BytesIO
from mmap import mmap

from workers.craft.pictures import writing
from workers.craft.pictures.bare import bare
from workers.craft.pictures.exif import orientation
from workers.craft.pictures.faults import Budget, TooCostly
from workers.craft.pictures.pillow import JpegImageFile, reading

_SCAN = b"\xff\xda"


def made(data: mmap, budget: Budget) -> bytes:
    """Return the new JPEG; raises `Damaged`, `TooLarge` or `TooCostly`."""
    with reading():
        source = JpegImageFile(BytesIO(data))
    budget.afford(source.width, source.height)
    _afford_scans(data, source.width * source.height, budget)
    upright = orientation(source.info.get("exif", b""))
    with reading():
        picture = bare(source, upright)
    return writing.jpeg(picture, source, upright)


def _afford_scans(data: mmap, pixels: int, budget: Budget) -> None:
    """Refuse a JPEG that goes over its pixels again and again: each of its scans may be a few bytes long."""
    scans, at = 0, -1
    while (at := data.find(_SCAN, at + 1)) >= 0:
        scans += 1
        if scans * pixels > budget.most_moving_pixels * 4:
            raise TooCostly(f"{scans} scans")
