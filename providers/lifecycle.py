"""Whether every name of the catalog leads to a model that lives: `python -m providers.lifecycle [DAY]`."""

import sys
from collections.abc import Iterator
from datetime import date, timedelta

from infra import settings as config
from infra.settings import Settings
from providers import catalog
from providers.catalog import Catalog
from providers.models import today

# So long before a model goes is worth a word.
_SOON = timedelta(days=30)


def faults(known: Catalog, on: date) -> Iterator[str]:
    """Yield what leads to a model that does not answer on that day: a default, an alias, a fallback, a replacement.

    What a model leads to that is itself past its day is nobody's way any more, but for what takes its place.
    """
    for name, target in known.names():
        source = known.models.get(name.removeprefix("fallback of "))
        if known.models[target].is_alive(on) or (source is not None and not source.is_alive(on)):
            continue
        yield f"{name} leads to {target}, which was shut down on {known.models[target].shutdown}"
    for key, model in known.models.items():
        if model.shutdown is not None and model.replaced_by is None:
            yield f"{key} is shut down on {model.shutdown}, and nothing takes its place"


def soon(known: Catalog, on: date) -> Iterator[str]:
    """Yield the models that live on that day and will not in a month."""
    for key, model in known.models.items():
        if model.shutdown is not None and on < model.shutdown <= on + _SOON:
            yield f"{key} is shut down on {model.shutdown}; {model.replaced_by} takes its place"


def report(settings: Settings, on: date) -> int:
    """Write what is wrong to stderr and what will be to stdout, and return the exit code."""
    known = catalog.load(settings)
    wrong = [*faults(known, on)]
    for line in soon(known, on):
        sys.stdout.write(f"{line}\n")
    for line in wrong:
        sys.stderr.write(f"{line}\n")
    return 1 if wrong else 0


def main() -> None:
    """Check the catalog of this installation."""
    sys.exit(report(config.load(), date.fromisoformat(sys.argv[1]) if len(sys.argv) > 1 else today()))


if __name__ == "__main__":
    main()
