"""The craft of pictures: opens strangers' pictures safely, and makes new ones of their bare pixels.

Only this package loads Pillow. Its Pillow is checked and hardened in `pillow`; what a picture may cost is a `Budget`.
"""

from workers.craft.pictures.faults import Budget, Damaged, TooCostly, TooLarge, TooLong
from workers.craft.pictures.remake import Remade, remade
from workers.craft.pictures.small import blurhash, thumbnail

__all__ = ["Budget", "Damaged", "Remade", "TooCostly", "TooLarge", "TooLong", "blurhash", "remade", "thumbnail"]
