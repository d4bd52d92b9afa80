"""What is not to be asked of a model: words of the operator's list, or what OpenAI's moderation flags."""

import importlib
from collections.abc import Iterable, Sequence
from functools import lru_cache
from pathlib import Path

import structlog

from infra.errors import PulseError
from infra.settings import ROOT, Settings
from providers import deployments
from providers.types import ProviderError, ProviderMisconfigured, Verdict
from providers.wordlist import Wordlist

log = structlog.stdlib.get_logger()


class ContentRefused(PulseError):
    """{field}: this may not be asked here."""

    ar = "{field}: لا يُسمح بطلب هذا المحتوى هنا."
    status = 400


def check(settings: Settings, texts: Iterable[tuple[str, str]]) -> None:
    """Raise `ContentRefused` for the first of the texts, each with its field, that has a word of the list."""
    if settings.moderation != "list":
        return
    path = ROOT / settings.moderation_list
    found = path.stat()
    terms = _read(path, found.st_mtime_ns, found.st_size)
    for field, text in texts:
        if terms.is_in(text):
            raise ContentRefused(field=field)


@lru_cache(maxsize=4)
def _read(path: Path, changed_ns: int, size: int) -> Wordlist:  # noqa: ARG001 (a file that was changed is read again)
    return Wordlist.read(path.read_text(encoding="utf-8"))


async def ask(settings: Settings, texts: Sequence[str], *, field: str) -> None:
    """Raise `ContentRefused` where OpenAI's moderation flags what the texts say together.

    Where it cannot be asked with any key, raises `ProviderError`, or passes where the operator wants that.
    """
    if settings.moderation != "openai":
        return
    try:
        verdict = await _verdict(settings, "\n\n".join(texts))
    except ProviderError as error:
        if not settings.moderation_open:
            raise
        log.warning("a chat goes on without moderation", code=error.code)
        return
    if verdict.flagged:
        log.info("moderation flags a chat", categories=verdict.categories)
        raise ContentRefused(field=field)


async def _verdict(settings: Settings, text: str) -> Verdict:
    moderate = importlib.import_module("providers.openai").moderate  # a vendor's library, of which the API loads none
    failure: ProviderError = ProviderMisconfigured()
    for deployment in deployments.of(settings).get("openai", []):
        try:
            return await moderate(deployment, text)
        except ProviderError as error:
            failure = error
    raise failure
