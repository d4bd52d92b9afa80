"""What is sealed opens for its row and under its secret alone."""

import pytest

from infra.seal import Seal, SealBroken

CLEAR = "سرّ".encode()


def test_what_is_sealed_opens_again_and_is_another_every_time() -> None:
    seal = Seal("s" * 40)
    one, other = seal.seal(CLEAR, about=b"row"), seal.seal(CLEAR, about=b"row")
    assert one != other
    assert CLEAR not in one
    assert Seal("s" * 40).open(one, about=b"row") == seal.open(other, about=b"row") == CLEAR


def test_it_opens_neither_under_another_secret_nor_for_another_row() -> None:
    sealed = Seal("s" * 40).seal(CLEAR, about=b"row")
    for seal, about in ((Seal("t" * 40), b"row"), (Seal("s" * 40), b"other")):
        with pytest.raises(SealBroken):
            seal.open(sealed, about=about)


def test_one_bit_less_or_more_and_it_does_not_open() -> None:
    seal = Seal("s" * 40)
    sealed = seal.seal(CLEAR, about=b"row")
    changed = [bytes([*sealed[:n], sealed[n] ^ 1, *sealed[n + 1 :]]) for n in range(len(sealed))]
    for each in [*changed, *(sealed[:n] for n in range(len(sealed))), sealed + b"\0"]:
        with pytest.raises(SealBroken):
            seal.open(each, about=b"row")
