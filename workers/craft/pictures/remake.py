"""Makes a stranger's picture anew, of its bare pixels: what else was in the file, or behind its end, is gone."""

from collections.abc import Callable, Iterator
from io import BytesIO
from mmap import ACCESS_READ, mmap
from pathlib import Path

from msgspec import Struct
from msgspec.structs import replace

from workers.craft.pictures import avif, jpeg, writing
from workers.craft.pictures.bare import bare
from workers.craft.pictures.container import Container, Still
from workers.craft.pictures.exif import orientation
from workers.craft.pictures.faults import Budget, Damaged, TooCostly
from workers.craft.pictures.gif import Gif
from workers.craft.pictures.pillow import READERS, Image, reading
from workers.craft.pictures.png import Png
from workers.craft.pictures.webp import Frame as WebpFrame
from workers.craft.pictures.webp import Webp

# What all frames together may repeat: each has the palette and the colour profile that the picture has once.
_SHARED_BYTES = 64 * 1024**2

type _Write[S: Still] = Callable[[Image.Image, S], bytes]


class Remade(Struct, frozen=True, kw_only=True):
    """How many frames a picture has, and the first one of its new file, as it is shown."""

    frames: int
    shown: Image.Image


def remade(path: Path, media_type: str, to: Path, budget: Budget) -> Remade:
    """Read the picture at `path` and write it anew `to` a file, in the same format.

    It is in sRGB then, as transparent and moving as it was, without metadata, and upright: of those that move nobody
    says which way up they are. They are remade a frame at a time.

    Raises `Damaged`, `TooLarge`, `TooLong` or `TooCostly`.
    """
    with path.open("rb") as file, mmap(file.fileno(), 0, access=ACCESS_READ) as data:
        frames, made = _made(data, media_type, budget)
    to.write_bytes(made)
    with reading():
        shown = READERS[media_type](BytesIO(made))
        shown.load()
    return Remade(frames=frames, shown=shown)


def _made(data: mmap, media_type: str, budget: Budget) -> tuple[int, bytes]:
    match media_type:
        case "image/png":
            return _contained(
                Png(data), media_type, budget, lambda picture, _: writing.png(picture), most_bytes=len(data)
            )
        case "image/gif":
            return _contained(
                Gif(data), media_type, budget, lambda picture, _: writing.gif(picture), most_bytes=len(data)
            )
        case "image/webp":
            return _contained(Webp(data), media_type, budget, _webp, most_bytes=len(data))
        case "image/avif":
            return avif.made(data, budget)
        case _:
            return 1, jpeg.made(data, budget)


def _contained[S: Still](
    container: Container[S], media_type: str, budget: Budget, write: _Write[S], *, most_bytes: int
) -> tuple[int, bytes]:
    """Return how many pictures a container has, and one of new ones."""
    frames = size_bytes = 0
    budget.afford(container.width, container.height)
    for still in container.stills():
        frames += 1
        budget.afford(still.width, still.height)
        budget.afford(container.width, container.height, frames)
        size_bytes += len(still.data)
        if frames > 1 and size_bytes > most_bytes + _SHARED_BYTES:
            raise TooCostly(f"{size_bytes} bytes in {frames} frames")
    if not frames:
        raise Damaged("no picture in it")
    upright = 1 if container.moving else orientation(container.exif)

    def again() -> Iterator[tuple[S, bytes]]:
        for still in container.stills():
            with reading():
                picture = bare(READERS[media_type](BytesIO(still.data)), upright)
            if picture.size not in {(still.width, still.height), (still.height, still.width)}:
                raise Damaged("another size inside than outside")
            yield replace(still, data=b""), write(picture, still)

    return frames, container.assembled(again())


def _webp(picture: Image.Image, frame: WebpFrame) -> bytes:
    return writing.webp(picture, lossless=frame.lossless, most_bytes=len(frame.data), hurry=bool(frame.place))
