"""What a worker and its child say to each other: MessagePack in frames, each word of a declared shape."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Raw, Struct

#: The longest frame, either way. What is larger goes by a file, whose path is passed.
LONGEST_BYTES = 16 * 1024 * 1024
LENGTH_BYTES = 4
_LONGEST_TRACE = 16_384

#: Tells how far a call is: steps done, steps in all, and the name of the stage.
type Say = Callable[[int, int, str], None]


class Limits(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What one call may use. Memory and CPU are counted per process, so a program that it starts has as much again."""

    #: From the call to its answer, the start of the child included.
    seconds: float = 30.0
    #: Of all threads together.
    cpu_s: float = 60.0
    #: Heap and private mappings, the interpreter's own (about 10 MB) and its libraries' included; not files in a
    #: tmpfs, shared memory, or the code of libraries.
    memory_bytes: int = 1024**3
    #: The longest file that it may write.
    file_bytes: int = 256 * 1024**2


class Call(Struct, frozen=True, kw_only=True):
    """What is asked of a child: one function, named `package.module:function`, and its arguments in their order."""

    function: str
    arguments: list[Raw]
    limits: Limits


class Said(Struct, frozen=True, kw_only=True, tag="said"):
    """The function tells how far it is."""

    done: Annotated[int, Meta(ge=0, lt=2**53)]
    total: Annotated[int, Meta(ge=0, lt=2**53)]
    stage: Annotated[str, Meta(max_length=200)]


class Returned(Struct, frozen=True, kw_only=True, tag="returned"):
    """The function returned a value, here still encoded."""

    value: Raw


class Refused(Struct, frozen=True, kw_only=True, tag="refused"):
    """The function raised the error `name` of `module`, one of ours, with these facts."""

    module: Annotated[str, Meta(max_length=200)]
    name: Annotated[str, Meta(max_length=200)]
    facts: Annotated[dict[str, Annotated[str, Meta(max_length=4096)] | int | float | None], Meta(max_length=32)]


class Exceeded(Struct, frozen=True, kw_only=True, tag="exceeded"):
    """The function was stopped by a limit, and knows it: `file` or `memory`."""

    limit: Literal["file", "memory"]


class Raised(Struct, frozen=True, kw_only=True, tag="raised"):
    """The function raised what nobody foresaw."""

    trace: Annotated[str, Meta(max_length=_LONGEST_TRACE)]


#: With one of these a child has said all.
type Last = Returned | Refused | Exceeded | Raised
type Word = Said | Last


_WORDS: msgspec.msgpack.Decoder[Word] = msgspec.msgpack.Decoder(Said | Returned | Refused | Exceeded | Raised)


def raised(trace: str) -> Raised:
    """Return the word for an exception; of a long traceback only the end."""
    return Raised(trace=trace[-_LONGEST_TRACE:])


def encode(value: object) -> bytes:
    """Return `value` as MessagePack; paths cross as text. Raises `TypeError` for what has no shape there."""
    return msgspec.msgpack.encode(value, enc_hook=_as_text)


def raw(value: object) -> Raw:
    """Return `value` encoded, to be sent inside a word."""
    return Raw(encode(value))


def decode[T](data: bytes | Raw, kind: type[T]) -> T:
    """Read a `kind`; raises `msgspec.MsgspecError` or `RecursionError` where the data is none."""
    return msgspec.msgpack.decode(data, type=kind, dec_hook=_from_text)


def decode_word(data: bytes) -> Word:
    """Read what a child said; raises as `decode` does."""
    return _WORDS.decode(data)


def frame(word: object) -> bytes:
    """Return a word as it is sent: its length, then itself. Raises `ValueError` for one that is too long."""
    data = encode(word)
    if len(data) > LONGEST_BYTES:
        raise ValueError(f"{len(data)} bytes are too many for one message; pass the path of a file")
    return len(data).to_bytes(LENGTH_BYTES, "big") + data


def _as_text(value: object) -> str:
    if isinstance(value, Path):
        return str(value)
    raise TypeError(f"{type(value).__name__} cannot cross to or from a child")


def _from_text(kind: type, value: Any) -> Any:
    if issubclass(kind, Path) and isinstance(value, str):
        return kind(value)
    raise TypeError(f"{kind.__name__} cannot cross to or from a child")
