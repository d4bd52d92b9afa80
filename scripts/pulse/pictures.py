"""Pictures that are shown to a model, as parts of a message."""

import base64
from pathlib import Path

from scripts.pulse.problems import Ending
from scripts.pulse.sources import PathUnreadable
from workers.media import media_type_of

_TYPES = ("image/png", "image/jpeg", "image/webp", "image/gif")


class NotAPicture(Ending):
    """{path} is no picture that can be shown: PNG, JPEG, WebP or GIF."""

    ar = "{path} ليس صورة يمكن عرضها: PNG أو JPEG أو WebP أو GIF."


def part(path: str) -> dict[str, object]:
    """Return a picture of this machine as a part; raises `NotAPicture` by its name, and `PathUnreadable`."""
    media_type = media_type_of(path)
    if media_type not in _TYPES:
        raise NotAPicture(path=path)
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise PathUnreadable(path=path, reason=error.strerror) from error
    return {"type": "image", "data": base64.b64encode(data).decode(), "media_type": media_type}
