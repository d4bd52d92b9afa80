"""Judges a picture: what is kept is a new one made of its pixels, with a thumbnail and a BlurHash beside it."""

from workers.craft import pictures
from workers.craft.pictures import Budget, Damaged, TooCostly, TooLarge, TooLong
from workers.scan import limits
from workers.scan.findings import Asked, Findings, Pictured
from workers.scan.refusals import TooComplex, TooManyFrames, TooManyPixels, UnreadableFile

_MEGA = 1_000_000
_BUDGET = Budget(
    most_pixels=limits.MOST_MEGAPIXELS * _MEGA,
    most_moving_pixels=limits.MOST_MOVING_MEGAPIXELS * _MEGA,
    most_frames=limits.MOST_FRAMES,
)


def examine(asked: Asked) -> Findings:
    """Make the picture anew; raises a `FileRefused`."""
    clean = asked.folder / f"clean.{asked.media_type.removeprefix('image/')}"
    try:
        remade = pictures.remade(asked.path, asked.media_type, clean, _BUDGET)
    except Damaged as error:
        raise UnreadableFile(media_type=asked.media_type) from error
    except TooLarge as error:
        limit = limits.MOST_MEGAPIXELS
        raise TooManyPixels(width=error.width, height=error.height, limit_megapixels=limit) from error
    except TooLong as error:
        raise TooManyFrames(
            frames=error.frames,
            width=error.width,
            height=error.height,
            limit=limits.MOST_FRAMES,
            limit_megapixels=limits.MOST_MOVING_MEGAPIXELS,
        ) from error
    except TooCostly as error:
        raise TooComplex from error
    small = asked.folder / "thumbnail.webp"
    width, height = pictures.thumbnail(remade.shown, small)
    return Findings(
        path=clean,
        media_type=asked.media_type,
        facts={
            "width": remade.shown.width,
            "height": remade.shown.height,
            "frames": remade.frames,
            "blurhash": pictures.blurhash(remade.shown),
        },
        pictures=[Pictured(name="thumbnail", path=small, media_type="image/webp", width=width, height=height)],
    )
