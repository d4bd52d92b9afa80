"""What of a vendor's text can be kept: it may cut a surrogate pair in two, or send U+0000."""


class Pieces:
    """The pieces of one text as they come; each is told whole or not yet."""

    def __init__(self) -> None:
        """Nothing waits yet."""
        self._waiting = ""

    def take(self, piece: str) -> str:
        """Return the next piece; one that ends in the first half of a pair waits for the second."""
        piece, self._waiting = self._waiting + piece, ""
        if piece and "\ud800" <= piece[-1] <= "\udbff":
            piece, self._waiting = "", piece
        return kept(piece)

    def rest(self) -> str:
        """Return what still waits at the end."""
        piece, self._waiting = self._waiting, ""
        return kept(piece)


def kept(text: str) -> str:
    """Join surrogate pairs, and put U+FFFD for a lone surrogate or U+0000, which PostgreSQL's JSON refuses."""
    if text.isascii() and "\0" not in text:
        return text
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace").replace("\0", "\ufffd")
