"""How a served file is named: `Content-Disposition: attachment`, for names in any script (RFC 6266, RFC 8187)."""

import re
import unicodedata
from urllib.parse import quote

# RFC 8187's attr-char, beyond what `quote` leaves as it is anyway.
_PLAIN = "!#$&+^`|"
_UNFIT_FOR_QUOTES = re.compile(r'[^\x20-\x7e]+|["%\\]')
# What would lead out of a folder, and what no name on a disk may have.
_SEPARATORS = re.compile(r'[/\\:*?"<>|]')


def attachment(filename: str) -> str:
    """Return the header's value: the name as it is, and in ASCII for those who cannot read that.

    Characters that nobody sees, such as those that turn the direction of text so that `exe.pdf` is read where
    `fdp.exe` is meant, are left out.
    """
    name = "".join(letter for letter in filename if unicodedata.category(letter)[0] != "C" or letter in "\u200c\u200d")
    name = _SEPARATORS.sub("_", name).strip(" .") or "file"
    return f"attachment; filename=\"{_UNFIT_FOR_QUOTES.sub('_', name)}\"; filename*=UTF-8''{quote(name, safe=_PLAIN)}"
