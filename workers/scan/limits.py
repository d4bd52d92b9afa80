"""How much a file may ask for: every budget of an examination, and what the child that makes it may use."""

from typing import Final

from workers.craft.wire import Limits

_MIB: Final = 1024**2

#: Of one picture, width times height; read off its header, before anything is decoded.
MOST_MEGAPIXELS: Final = 40
#: Of a moving picture: its frames times its size, and the frames alone.
MOST_MOVING_MEGAPIXELS: Final = 400
MOST_FRAMES: Final = 1000

#: Of a clip: as long as it says it is, the frames that decoding would make of that, and the size of one frame.
CLIP_MOST_S: Final = 3600
CLIP_MOST_FRAMES: Final = 250_000
CLIP_MOST_MEGAPIXELS: Final = 9

#: Of a PDF.
MOST_PAGES: Final = 2000

#: Of an Office document, which is an archive: parts, their size when unpacked, and how many times its own size that is.
MOST_PARTS: Final = 10_000
MOST_UNPACKED_MIB: Final = 512
MOST_RATIO: Final = 200

#: Of a JSON text, and of one line of JSON Lines.
JSON_MOST_BYTES: Final = 16 * _MIB

#: The child: what is made of a file is hardly ever longer than the file, and a file that is kept is at most 2 GiB. To
#: encode an AVIF takes most memory: 28 bytes a pixel.
LIMITS: Final = Limits(seconds=60, cpu_s=60, memory_bytes=1280 * _MIB, file_bytes=2048 * _MIB + 64 * _MIB)
