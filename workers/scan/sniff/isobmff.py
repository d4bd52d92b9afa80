"""Tells apart what is made of boxes: MP4, its sound-only kind, QuickTime, AVIF and HEIC (ISO/IEC 14496-12)."""

from typing import Final

#: What a file may be, by its brands: the first set that its main brand is in, or else that any of the others is in.
_BRANDS: Final = (
    (frozenset({b"avif", b"avis"}), "image/avif"),
    (frozenset({b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx"}), "image/heic"),
    (frozenset({b"qt  "}), "video/quicktime"),
    (frozenset({b"M4A ", b"M4B ", b"M4P "}), "audio/mp4"),
    (
        frozenset(
            {b"isom", b"iso2", b"iso3", b"iso4", b"iso5", b"iso6", b"iso7", b"iso8", b"iso9", b"mp41", b"mp42", b"mp71"}
            | {b"avc1", b"dash", b"cmfc", b"M4V ", b"M4VH", b"M4VP", b"MSNV", b"f4v ", b"XAVC"}
        ),
        "video/mp4",
    ),
    (frozenset({b"mif1", b"msf1"}), "image/heif"),
)
#: Brands that say only how a file is built, so the others have to tell what it is.
_GENERAL: Final = frozenset({b"mif1", b"msf1"})
#: What a QuickTime file from before there were brands begins with.
_OLD_QUICKTIME: Final = frozenset({b"moov", b"mdat", b"wide", b"free", b"skip", b"pnot"})


def kind(head: bytes) -> str | None:
    """Return the media type of a file that begins with `head`; None where it is not made of boxes."""
    name = head[4:8]
    if name in _OLD_QUICKTIME and len(head) >= 16:
        return "video/quicktime"
    if name != b"ftyp":
        return None
    end = int.from_bytes(head[:4], "big")
    brands = [head[8:12], *(head[at : at + 4] for at in range(16, min(end, len(head)) - 3, 4))]
    main = [media_type for members, media_type in _BRANDS if brands[0] in members and brands[0] not in _GENERAL]
    others = [media_type for members, media_type in _BRANDS if members & set(brands)]
    return next(iter(main + others), "application/mp4")
