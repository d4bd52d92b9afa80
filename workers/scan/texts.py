"""Judges a text: UTF-8 without control characters, and where it was declared to be JSON, that it is.

The lines of a batch are not judged here: whoever reads the batch tells of each what is wrong with it.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Final

import msgspec
from msgspec import Raw

from workers.scan import sniff
from workers.scan.findings import Asked, Findings
from workers.scan.limits import JSON_MOST_BYTES
from workers.scan.refusals import MalformedLine, TooComplex, UnreadableFile, UnreadableText

_PIECE_BYTES: Final = 1024**2
_BYTE_ORDER_MARK: Final = b"\xef\xbb\xbf"
_PLAIN: Final = bytes(byte for byte in range(256) if not sniff.CONTROL.match(bytes([byte])))
# Values are checked and passed over, not built: a list in a list in a list takes a hundred times its own length.
_ANYTHING: Final = msgspec.json.Decoder(Raw)
_OBJECT: Final = msgspec.json.Decoder(dict[str, Raw])


def examine(asked: Asked) -> Findings:
    """Read the text to its end, a piece at a time; raises `UnreadableText`, `UnreadableFile` or `MalformedLine`.

    A byte order mark at its beginning is taken for what it is. Lines end in line feeds, and the last one need not.
    """
    if asked.purpose == "batch":
        return Findings(path=asked.path, media_type=asked.media_type, facts={"lines": _lines(_pieces(asked.path))})
    checking = _checked(_pieces(asked.path))
    match asked.media_type:
        case "application/jsonl":
            lines = _json_lines(checking)
        case "application/json":
            lines = _json(checking, asked)
        case _:
            lines = _lines(checking)
    return Findings(path=asked.path, media_type=asked.media_type, facts={"lines": lines})


def _pieces(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while piece := file.read(_PIECE_BYTES):
            yield piece


def _checked(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """Yield the text in whole characters; raises `UnreadableText`."""
    place, cut = 0, b""
    for piece in pieces:
        text, cut = _whole(cut + piece, place)
        if text.translate(None, _PLAIN):
            control = sniff.CONTROL.search(text)
            raise UnreadableText(position=place + (control.start() if control else 0))
        yield text.removeprefix(_BYTE_ORDER_MARK) if not place else text
        place += len(text)
    if cut:
        raise UnreadableText(position=place)


def _whole(text: bytes, place: int) -> tuple[bytes, bytes]:
    """Return what can be read of it, and the beginning of a character whose end is still to come."""
    try:
        text.decode()
    except UnicodeDecodeError as error:
        if error.end < len(text) or error.reason != "unexpected end of data":
            raise UnreadableText(position=place + error.start) from None
        return text[: error.start], text[error.start :]
    return text, b""


def _lines(texts: Iterator[bytes]) -> int:
    lines, last = 0, b"\n"
    for text in texts:
        lines += text.count(b"\n")
        last = text[-1:] or last
    return lines + (last != b"\n")


def _json(texts: Iterator[bytes], asked: Asked) -> int:
    if asked.size_bytes > JSON_MOST_BYTES:
        raise TooComplex
    whole = b"".join(texts)
    try:
        _ANYTHING.decode(whole)
    except (msgspec.DecodeError, RecursionError) as error:
        raise UnreadableFile(media_type=asked.media_type) from error
    return _lines(iter([whole]))


def _json_lines(texts: Iterator[bytes]) -> int:
    number = 0
    for number, line in enumerate(_split(texts), 1):
        if not line or line.isspace():
            continue
        try:
            _OBJECT.decode(line)
        except (msgspec.DecodeError, RecursionError) as error:
            raise MalformedLine(line=number) from error
    return number


def _split(texts: Iterator[bytes]) -> Iterator[bytes]:
    """Yield every line; raises `TooComplex` for one that is as long as a whole text may be."""
    begun: list[bytes] = []
    length = 0
    for text in texts:
        first, *others = text.split(b"\n")
        begun.append(first)
        length += len(first)
        if length > JSON_MOST_BYTES:
            raise TooComplex
        if others:
            yield b"".join(begun)
            yield from others[:-1]
            begun, length = [others[-1]], len(others[-1])
    if length:
        yield b"".join(begun)
