"""Files: the only writer of what accounts keep as bytes, and of the store behind it.

    uploading -> scanning -> ready | rejected
    uploading -> expired

Room is held when a file is announced, settled when it is ready, and freed when it is rejected, expires or is deleted.
Locks are taken in one order: the file's row, then names (Idempotency-Keys), then what may be removed from the store (by
key), then balances.
docs/decisions/0008 says why it is built like this.
"""

from workers.files.announcement import NOT_KNOWN_YET, Announcement, check_purpose
from workers.files.direct import LONGEST_UPLOAD_S, receive
from workers.files.discards import MOST_AT_ONCE, clear
from workers.files.keys import quarantine_key
from workers.files.shelf import (
    FileNotFound,
    Folder,
    Wanted,
    delete,
    folders,
    get,
    link,
    move,
    page,
    rename,
    variants,
)
from workers.files.uploads import (
    Announced,
    UploadExpired,
    UploadMissing,
    announce,
    arrive,
    expire,
    forget,
    is_awaited,
)
from workers.files.verdicts import Part, keep, reject, undecided
from workers.media import media_type_of

__all__ = [
    "LONGEST_UPLOAD_S",
    "MOST_AT_ONCE",
    "NOT_KNOWN_YET",
    "Announced",
    "Announcement",
    "FileNotFound",
    "Folder",
    "Part",
    "UploadExpired",
    "UploadMissing",
    "Wanted",
    "announce",
    "arrive",
    "check_purpose",
    "clear",
    "delete",
    "expire",
    "folders",
    "forget",
    "get",
    "is_awaited",
    "keep",
    "link",
    "media_type_of",
    "move",
    "page",
    "quarantine_key",
    "receive",
    "reject",
    "rename",
    "undecided",
    "variants",
]
