"""Runs one function in a child process that can be killed at any moment, under limits of time, memory and file size.

    picture = await child.run(shrink, path, 256, limits=Limits(seconds=20), on_progress=run.say)

A cancelled call is over when nothing of its child is left. docs/decisions/0006 says why it is built like this.
"""

import asyncio
import contextlib
import signal
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Any, Self, get_type_hints, overload

import msgspec
import structlog

from infra.errors import PulseError
from infra.whole import whole
from workers.craft import wire
from workers.craft.process import MIB, Ended, OnProgress, Process
from workers.craft.wire import Call, Exceeded, Last, Limits, Raised, Refused, Returned, Say

__all__ = [
    "ChildDied",
    "ChildOutOfMemory",
    "ChildRaised",
    "ChildTimedOut",
    "ChildWroteTooMuch",
    "Limits",
    "Say",
    "Spares",
    "run",
]

log = structlog.stdlib.get_logger()

_NEARLY = 0.9
# What programs print that end themselves because they got no memory: Rust's, and C++'s.
_NO_MEMORY = ("memory allocation of", "bad_alloc")


class ChildTimedOut(PulseError):
    """The work took longer than the {seconds:g} seconds that it may."""

    ar = "استغرق العمل أكثر من {seconds:g} ثانية، وهو أقصى ما يُسمح به."


class ChildOutOfMemory(PulseError):
    """The work needed more memory than the {limit_mib} MiB that it may use."""

    ar = "احتاج العمل إلى ذاكرة أكثر من {limit_mib} ميبي بايت، وهو أقصى ما يُسمح به."


class ChildWroteTooMuch(PulseError):
    """The work wrote a file longer than the {limit_mib} MiB that it may."""

    ar = "كتب العمل ملفًا أكبر من {limit_mib} ميبي بايت، وهو أقصى ما يُسمح به."


class ChildDied(PulseError):
    """The work broke off for a reason that is not known."""

    ar = "انقطع العمل لسبب غير معروف."
    retryable = True


class ChildRaised(Exception):
    """The function raised what nobody foresaw: a bug, whose traceback is the message. It is for the log only."""


@overload
async def run[T](
    function: Callable[..., T],
    *arguments: object,
    limits: Limits = ...,
    on_progress: OnProgress | None = ...,
    spares: "Spares | None" = ...,
) -> T: ...
@overload
async def run[T](
    function: str,
    *arguments: object,
    returns: type[T],
    limits: Limits = ...,
    on_progress: OnProgress | None = ...,
    spares: "Spares | None" = ...,
) -> T: ...
async def run(
    function: Callable[..., Any] | str,
    *arguments: object,
    returns: Any = None,
    limits: Limits = Limits(),  # noqa: B008 (it is frozen)
    on_progress: OnProgress | None = None,
    spares: "Spares | None" = None,
) -> Any:
    """Call `function` in a child and return what it returns, checked to be what it declares.

    It is a function of a module, with annotations, or the name of one (`package.module:function`), which is then not
    loaded here. What crosses is what MessagePack and msgspec know: text, bytes, numbers, lists, dicts, Structs, and
    paths; at most 16 MiB, so whatever is large goes by a file. A parameter `say: Say` is filled with what makes
    `on_progress` hear how far it is. It runs in an empty folder, which is also its HOME and is removed afterwards.

    Raises `ChildTimedOut`, `ChildOutOfMemory`, `ChildWroteTooMuch`, `ChildDied`; an error of `workers` that the
    function raised (its class has to be loaded here); and `ChildRaised` for any other exception.
    """
    name, expected = (function, returns) if isinstance(function, str) else _named(function)
    call = wire.frame(Call(function=name, arguments=[wire.raw(each) for each in arguments], limits=limits))
    last: Last | None = None
    child = Process() if spares is None else await spares.take()
    clock = asyncio.timeout(limits.seconds)
    try:
        async with clock:
            last = await child.answer(call, on_progress)
    except TimeoutError:
        if not clock.expired():
            raise
    finally:
        child.kill()
        ended = await whole(child.end())
    try:
        return _result(last, expected, limits, ended, late=clock.expired())
    except (ChildDied, ChildOutOfMemory, ChildWroteTooMuch, ChildTimedOut) as error:
        facts = msgspec.structs.asdict(ended)
        log.warning("a child ended badly", function=name, fact=error.code, reason=str(error.__cause__), **facts)
        raise


class Spares:
    """Children that wait, started and with `modules` loaded, so that a call need not wait for that; `count` of them.

    Each serves one call, and another takes its place at once. A context manager.
    """

    def __init__(self, *modules: str, count: int = 1) -> None:
        """Choose; nothing is started before the block is entered or the first one is taken."""
        self._modules = modules
        self._count = count
        self._waiting: list[Process] = []

    async def take(self) -> Process:
        """Return a child that nobody else gets: the one that has waited longest, or else a new one."""
        child = None
        while self._waiting and child is None:
            child = self._waiting.pop(0)
            if not child.alive:
                await whole(child.end())
                child = None
        self._fill()
        return child or Process(self._modules)

    async def close(self) -> None:
        """End those that wait."""
        waiting, self._waiting = self._waiting, []
        for child in waiting:
            child.kill()
        for child in waiting:
            await whole(child.end())

    def _fill(self) -> None:
        while len(self._waiting) < self._count:
            self._waiting.append(Process(self._modules))

    async def __aenter__(self) -> Self:
        """Start them."""
        self._fill()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End them."""
        await self.close()


def _named(function: Callable[..., Any]) -> tuple[str, Any]:
    """Return the name of a function and what it returns. Raises `ValueError` where a child could not find it."""
    module, path = function.__module__, function.__qualname__
    if module == "__main__" or not all(part.isidentifier() for part in path.split(".")):
        raise ValueError(f"{module}:{path} is no function of a module; a child could not import it")
    hints = get_type_hints(function, include_extras=True)
    if "return" not in hints:
        raise ValueError(f"{module}:{path} does not declare what it returns")
    return f"{module}:{path}", hints["return"]


def _result(last: Last | None, expected: Any, limits: Limits, ended: Ended, *, late: bool) -> Any:
    if late:
        raise ChildTimedOut(seconds=limits.seconds)
    match last:
        case Returned(value=value):
            try:
                return wire.decode(value, expected)
            except (msgspec.MsgspecError, RecursionError) as error:
                raise ChildDied from error
        case Refused():
            raise _rebuilt(last)
        case Exceeded(limit="memory"):
            raise ChildOutOfMemory(limit_mib=limits.memory_bytes // MIB)
        case Exceeded():
            raise ChildWroteTooMuch(limit_mib=limits.file_bytes // MIB)
        case Raised(trace=trace):
            raise ChildRaised(trace)
        case None:
            raise _fact(limits, ended)


def _fact(limits: Limits, ended: Ended) -> PulseError:
    """Say why a child went without a word."""
    if ended.nonsense or ended.code is None:
        return ChildDied()
    if ended.code == -signal.SIGXCPU or ended.cpu_s >= limits.cpu_s:
        return ChildTimedOut(seconds=limits.cpu_s)
    if ended.code == -signal.SIGXFSZ:
        return ChildWroteTooMuch(limit_mib=limits.file_bytes // MIB)
    starved = any(sign in ended.printed for sign in _NO_MEMORY)
    if starved or ended.peak_mib * MIB >= limits.memory_bytes * _NEARLY:
        return ChildOutOfMemory(limit_mib=limits.memory_bytes // MIB)
    return ChildDied()


def _rebuilt(refused: Refused) -> Exception:
    """Return the error that the child named, if it is a loaded one of `workers`: a child never makes us load more."""
    for kind in _kinds_of(PulseError):
        if (kind.__module__, kind.__name__) == (refused.module, refused.name) and refused.module.startswith("workers."):
            with contextlib.suppress(Exception):  # facts that its texts have no place for, or too few of them
                return kind(**refused.facts)
    return ChildRaised(f"{refused.module}.{refused.name}: {refused.facts}")


def _kinds_of(error: type[PulseError]) -> Iterator[type[PulseError]]:
    for kind in error.__subclasses__():
        yield kind
        yield from _kinds_of(kind)
