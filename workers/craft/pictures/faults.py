"""What can be wrong with a picture, and what one may cost: said by size and frames before anything is decoded."""

from msgspec import Struct


class Damaged(Exception):
    """The picture cannot be read as what it should be."""


class TooLarge(Exception):
    """The picture has more pixels than it may."""

    def __init__(self, width: int, height: int) -> None:
        super().__init__(width, height)
        self.width, self.height = width, height


class TooLong(Exception):
    """The picture moves through more frames, or more pixels in all its frames, than it may."""

    def __init__(self, frames: int, width: int, height: int) -> None:
        super().__init__(frames, width, height)
        self.frames, self.width, self.height = frames, width, height


class TooCostly(Exception):
    """The picture is made so that decoding it takes many times what its size would take."""


class Budget(Struct, frozen=True, kw_only=True):
    """What one picture may cost: pixels, pixels of all its frames, and frames."""

    most_pixels: int
    most_moving_pixels: int
    most_frames: int

    def afford(self, width: int, height: int, frames: int = 1) -> None:
        """Raise `Damaged`, `TooLarge` or `TooLong` for a picture of this size and as many frames as were seen."""
        if not (width and height):
            raise Damaged("a side of no length")
        if width * height > self.most_pixels:
            raise TooLarge(width, height)
        if frames > self.most_frames or (frames > 1 and frames * width * height > self.most_moving_pixels):
            raise TooLong(frames, width, height)
