"""Makes a JPEG anew: the first picture in it, if it is a series of them."""

from io import BytesIO
from mmap import mmap

from workers.craft.pictures import writing
from workers.craft.pictures.bare import bare
from workers.craft.pictures.exif import orientation
from workers.craft.pictures.faults import Budget, TooCostly
from workers.craft.pictures.pillow import Image, JpegImageFile, reading
from workers.craft.pictures.writing import Rounding

_SCAN = b"\xff\xda"
#: A camera's progressive JPEG has ten scans; each costs about a quarter of what decoding the pixels once does.
_SCANS_FOR_A_FRAME = 4
_TURNED_OVER = {5, 6, 7, 8}


def made(data: mmap, budget: Budget) -> bytes:
    """Return the new JPEG; raises `Damaged`, `TooLarge` or `TooCostly`."""
    return writing.jpeg(*_read(data, budget))


def _read(data: mmap, budget: Budget) -> tuple[Image.Image, Rounding]:
    with reading():
        source = JpegImageFile(BytesIO(data))
    budget.afford(source.width, source.height)
    _afford_scans(data, source.width * source.height, budget)
    upright = orientation(source.info.get("exif", b""))
    rounding = Rounding(
        tables=_tables(source, turned_over=upright in _TURNED_OVER),
        subsampling=_subsampling(source),
        progressive="progressive" in source.info,
    )
    with reading():
        return bare(source, upright), rounding


def _afford_scans(data: mmap, pixels: int, budget: Budget) -> None:
    """Refuse a JPEG that goes over its pixels again and again: each of its scans may be a few bytes long."""
    scans, at = 0, -1
    while (at := data.find(_SCAN, at + 1)) >= 0:
        scans += 1
        if scans * pixels > budget.most_moving_pixels * _SCANS_FOR_A_FRAME:
            raise TooCostly(f"{scans} scans")


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
