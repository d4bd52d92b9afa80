"""What a file may be for, and which types and sizes each purpose takes; the names that types have on disk."""

from msgspec import Struct

_MIB = 1024**2
_GIB = 1024**3

#: media type -> the endings that its files have, the usual one first.
ENDINGS: dict[str, tuple[str, ...]] = {
    "image/png": (".png",),
    "image/jpeg": (".jpg", ".jpeg", ".jpe", ".jfif"),
    "image/webp": (".webp",),
    "image/gif": (".gif",),
    "image/avif": (".avif",),
    "video/mp4": (".mp4", ".m4v"),
    "video/quicktime": (".mov", ".qt"),
    "video/webm": (".webm",),
    "audio/mpeg": (".mp3",),
    "audio/mp4": (".m4a",),
    "audio/wav": (".wav",),
    "audio/ogg": (".ogg", ".oga", ".opus"),
    "application/pdf": (".pdf",),
    "application/vnd.openxmlformats-officedocument.wordprocessingml.document": (".docx",),
    "application/vnd.openxmlformats-officedocument.presentationml.presentation": (".pptx",),
    "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet": (".xlsx",),
    "text/plain": (".txt", ".text", ".log", ".srt", ".vtt"),
    "text/markdown": (".md", ".markdown"),
    "text/csv": (".csv",),
    "application/json": (".json",),
    "application/jsonl": (".jsonl", ".ndjson"),
}
PICTURES = tuple(name for name in ENDINGS if name.startswith("image/"))
CLIPS = tuple(name for name in ENDINGS if name.startswith(("video/", "audio/")))
OFFICE = tuple(name for name in ENDINGS if "officedocument" in name)
TEXTS = ("text/plain", "text/markdown", "text/csv", "application/json", "application/jsonl")


class Purpose(Struct, frozen=True, kw_only=True):
    """What a purpose takes."""

    media_types: tuple[str, ...]
    most_bytes: int


PURPOSES: dict[str, Purpose] = {
    "attachment": Purpose(media_types=(*PICTURES, "application/pdf", *OFFICE, *TEXTS), most_bytes=100 * _MIB),
    "photo": Purpose(media_types=PICTURES, most_bytes=50 * _MIB),
    "clip": Purpose(media_types=CLIPS, most_bytes=2 * _GIB),
    "document": Purpose(media_types=("application/pdf", *OFFICE, "text/plain", "text/markdown"), most_bytes=100 * _MIB),
    "batch": Purpose(media_types=("application/jsonl",), most_bytes=200 * _MIB),
}


def media_type_of(name: str) -> str | None:
    """Return the media type that a file's name ends like; None where it is none of ours."""
    lowered = name.lower()
    return next((media for media, endings in ENDINGS.items() if lowered.endswith(endings)), None)


def named(name: str, media_type: str) -> str:
    """Return the name under which a file is served: one that ends like another type gets its own type's ending."""
    endings = ENDINGS[media_type]
    return name if name.lower().endswith(endings) else name + endings[0]
