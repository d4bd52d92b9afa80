"""What a check found: one line, and what to do about it."""

import asyncio
from collections.abc import Awaitable
from typing import Literal

from msgspec import Struct
from redis.exceptions import ConnectionError as RedisConnectionError

_PATIENCE_S = 8.0


class Finding(Struct, frozen=True, kw_only=True):
    """`failed` keeps the studio from working; a `warning` does not, today. `advice` is empty where all is well."""

    name: str
    state: Literal["ok", "warning", "failed"]
    detail: str
    advice: str = ""


def ok(name: str, detail: str) -> Finding:
    """All is well."""
    return Finding(name=name, state="ok", detail=detail)


def warning(name: str, detail: str, advice: str) -> Finding:
    """The studio works, but somebody should look."""
    return Finding(name=name, state="warning", detail=detail, advice=advice)


def failed(name: str, detail: str, advice: str) -> Finding:
    """The studio does not work like this."""
    return Finding(name=name, state="failed", detail=detail, advice=advice)


async def attempt(name: str, check: Awaitable[Finding], advice: str) -> Finding:
    """Return what `check` finds; an error or a long silence in it is a failed finding with this `advice`."""
    try:
        async with asyncio.timeout(_PATIENCE_S):
            return await check
    except TimeoutError:
        return failed(name, f"no answer in {_PATIENCE_S:.0f} s", advice)
    except Exception as error:  # noqa: BLE001 (a doctor reports whatever is wrong, and goes on to the next check)
        return failed(name, _reason(error), advice)


def _reason(error: BaseException) -> str:
    """Return what lies at the bottom: our own errors tell what it means, their cause tells why."""
    while error.__cause__ is not None:
        error = error.__cause__
    told = " ".join(str(error).split()) or type(error).__name__
    return f"does not answer ({told})" if isinstance(error, OSError | RedisConnectionError) else told
