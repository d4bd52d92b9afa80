"""Makes an AVIF anew, moving or not. Its frames lean on one another, so they are decoded and encoded as a whole."""

from io import BytesIO
from mmap import mmap

from workers.craft.pictures import writing
from workers.craft.pictures.bare import bare
from workers.craft.pictures.colour import srgb
from workers.craft.pictures.exif import orientation
from workers.craft.pictures.faults import Budget
from workers.craft.pictures.pillow import AvifImageFile, Image, reading

_HEAD_BYTES = 65_536
_CODING = b"av1C"
_MONOCHROME, _HALF_ACROSS, _HALF_DOWN = 0x10, 0x08, 0x04
_MOVING_QUALITY, _MOVING_SPEED = 75, 10


class _Srgb(AvifImageFile):
    """An AVIF whose frames are in sRGB as soon as they are decoded."""

    def load(self) -> "Image.core.PixelAccess | None":
        """Decode the frame that was sought."""
        is_new = bool(self.tile)
        pixels = super().load()
        if is_new and (plain := srgb(self, self.info.get("icc_profile"))) is not self:
            self.paste(plain)
        return pixels


def made(data: mmap, budget: Budget) -> tuple[int, bytes]:
    """Return the number of frames, and the new AVIF; raises `Damaged`, `TooLarge` or `TooLong`."""
    with reading():
        source = AvifImageFile(BytesIO(data))
    frames = source.n_frames
    budget.afford(source.width, source.height, frames)
    if frames > 1:
        return frames, _moving(source, data)
    with reading():
        picture = bare(source, orientation(source.info.get("exif", b"")))
    del source  # the encoder needs the memory
    return 1, writing.avif(picture, subsampling=_subsampling(data[:_HEAD_BYTES]), most_bytes=len(data))


def _moving(source: AvifImageFile, data: mmap) -> bytes:
    durations: list[int] = []
    with reading():
        for frame in range(source.n_frames):
            source.seek(frame)
            source.load()
            durations.append(source.info["duration"])
        source = _Srgb(BytesIO(data))
    file = BytesIO()
    words: dict[str, object] = {"exif": b"", "xmp": b"", "icc_profile": b""}
    how = {"quality": _MOVING_QUALITY, "speed": _MOVING_SPEED, "duration": durations}
    source.save(file, "AVIF", save_all=True, **how, **words)
    return file.getvalue()


def _subsampling(head: bytes) -> str:
    """Return how many pixels share a colour (AV1 in ISOBMFF, section 2.3): as in the first picture that has colours."""
    at = -1
    while (at := head.find(_CODING, at + 1)) >= 0:
        flags = head[at + 6] if len(head) > at + 6 else 0
        if not flags & _MONOCHROME:
            return {0: "4:4:4", _HALF_ACROSS: "4:2:2"}.get(flags & (_HALF_ACROSS | _HALF_DOWN), "4:2:0")
    return "4:0:0"
