"""Errors: every one of them tells its fact in both languages, under a code of its own."""

import importlib
import pkgutil
import string
from collections.abc import Iterator

import pytest

import api
import infra
import providers
import quotas
import scripts.pulse
import scripts.studio
import workers
from infra.errors import PulseError

# Modules that run when they are imported, or that alembic runs.
_PROGRAMS = ("__main__",)


def _all() -> Iterator[type[PulseError]]:
    for package in (api, infra, providers, quotas, workers, scripts.pulse, scripts.studio):
        for module in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
            if not module.name.endswith(_PROGRAMS):
                importlib.import_module(module.name)
    waiting = [PulseError]
    while waiting:
        error = waiting.pop()
        waiting += error.__subclasses__()
        yield error


# Those that are raised: a base of others only groups them.
ERRORS = sorted((e for e in set(_all()) if not e.__subclasses__()), key=lambda error: error.__qualname__)


def _placeholders(text: str) -> set[str]:
    names = {name for _, name, _, _ in string.Formatter().parse(text) if name}
    return {name.removesuffix("_ar").removesuffix("_en") for name in names}


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: error.code)
def test_an_error_tells_its_fact_in_english_and_arabic(error: type[PulseError]) -> None:
    english = error.__doc__ or ""
    assert english.strip()
    assert "ar" in vars(error), "every fact has its own Arabic text"
    assert any("\u0600" <= letter <= "\u06ff" for letter in error.ar)
    assert not any("\u0600" <= letter <= "\u06ff" for letter in english)
    # The Arabic may leave out what its grammar says otherwise (units, relations), but invents nothing.
    assert _placeholders(error.ar) <= _placeholders(english)
    assert 400 <= error.status < 600


def test_no_two_errors_have_the_same_code() -> None:
    codes = [error.code for error in ERRORS]
    assert sorted(codes) == sorted(set(codes))
