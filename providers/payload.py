"""Reads what a vendor sent, of which its SDK checks nothing: what is missing or of another kind is passed by."""

from collections.abc import Mapping, Sequence
from typing import Any, cast


def text(value: Any, *path: str) -> str:
    """Return the text at `path`; empty where there is none."""
    found = at(value, *path)
    return found if isinstance(found, str) else ""


def number(value: Any, *path: str) -> int | None:
    """Return the count at `path`; None where there is none that can be one."""
    found = at(value, *path)
    return found if isinstance(found, int) and 0 <= found < 2**31 else None


def items(value: Any, *path: str) -> Sequence[object]:
    """Return the list at `path`; empty where there is none."""
    found = at(value, *path)
    return cast("list[object]", found) if isinstance(found, list) else ()


def at(value: Any, *path: str) -> Any:
    """Return whatever is at `path`; None where there is nothing."""
    for name in path:
        if value is None:
            return None
        if type(value) is dict or isinstance(value, Mapping):  # such a check of an instance costs ten times as much
            value = cast("Any", value).get(name)
        else:
            value = getattr(value, name, None)
    return value
