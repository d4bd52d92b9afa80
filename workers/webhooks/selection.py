"""Which types of events somebody asks for: one by its name, all of a group (`job.*`), or all that there are (`*`)."""

from collections.abc import Iterable

from infra.errors import PulseError
from workers.webhooks.messages import TYPES

ALL = "*"
#: What may be asked for beside each type for itself.
GROUPS = (ALL, *dict.fromkeys(f"{each.partition('.')[0]}.*" for each in TYPES))


class UnknownEvent(PulseError):
    """{field}: there is no event {value!r}; there are: {known}."""

    ar = "{field}: لا يوجد حدث باسم {value!r}. الأحداث المتاحة: {known}."
    status = 400


def check(asked: str, *, field: str) -> str:
    """Return what is asked for; raises `UnknownEvent`."""
    if asked not in TYPES and asked not in GROUPS:
        raise UnknownEvent(field=field, value=asked, known=", ".join((*GROUPS, *TYPES)))
    return asked


def checked(asked: Iterable[str], *, field: str) -> list[str]:
    """Return all that is asked for, each once; raises `UnknownEvent`, naming its place."""
    return list(dict.fromkeys(check(each, field=f"{field}[{place}]") for place, each in enumerate(asked)))


def types_of(asked: str) -> list[str]:
    """Return the types that something asked for means."""
    return [each for each in TYPES if asked in {ALL, each, f"{each.partition('.')[0]}.*"}]
