"""What files and folders may be called, and the form in which names are searched."""

import re
import unicodedata

from infra.errors import PulseError

_LONGEST = 255
_LONGEST_FOLDER = 1024
_DEEPEST = 16
# What separates folders anywhere, what cannot be seen or breaks a line, and the marks that turn the order of what
# follows: `txt.<RLO>exe` reads as `exe.txt`.
_UNFIT = re.compile(r"[/\\\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
# Letters that are written for one another, beside those that differ in a mark only.
_SAME = str.maketrans({"ٱ": "ا", "ى": "ي", "ی": "ي", "ک": "ك", "ة": "ه", "ـ": None})


class InvalidFileName(PulseError):
    """{field} must be a name of 1 to {limit} characters, that can be seen, without slashes or controls."""

    ar = "يجب أن يكون {field} اسمًا مرئيًّا من محرف إلى {limit} محرفًا، بلا شرطة مائلة ولا محارف تحكم."
    status = 400


class InvalidFolder(PulseError):
    """{field} must be at most {deepest} names with / between them, {limit} characters in all."""

    ar = "يجب أن يتكوّن {field} من {deepest} اسمًا كحد أقصى تفصل بينها /، وألا يتجاوز {limit} محرفًا."
    status = 400


def _is_name(name: str) -> bool:
    if not 1 <= len(name) <= _LONGEST or name in {".", ".."} or _UNFIT.search(name):
        return False
    return any(unicodedata.category(letter)[0] not in "CZM" for letter in name)


def checked(name: str, *, field: str) -> str:
    """Return a file's name as it is kept; raises `InvalidFileName`."""
    name = unicodedata.normalize("NFC", name).strip()
    if not _is_name(name):
        raise InvalidFileName(field=field, limit=_LONGEST)
    return name


def checked_folder(folder: str, *, field: str) -> str:
    """Return a folder's path as it is kept, empty for the top; raises `InvalidFolder`."""
    names = [name.strip() for name in unicodedata.normalize("NFC", folder).strip("/ ").split("/")]
    if names == [""]:
        return ""
    path = "/".join(names)
    if len(names) > _DEEPEST or len(path) > _LONGEST_FOLDER or not all(map(_is_name, names)):
        raise InvalidFolder(field=field, deepest=_DEEPEST, limit=_LONGEST_FOLDER)
    return path


def searched(text: str) -> str:
    """Return text without case, vowel marks, and the different ways to write the same letter or digit."""
    letters = unicodedata.normalize("NFKD", unicodedata.normalize("NFKD", text).casefold())
    bare = "".join(letter for letter in letters if unicodedata.category(letter) != "Mn").translate(_SAME)
    return "".join(str(unicodedata.digit(letter, letter)) for letter in bare)
