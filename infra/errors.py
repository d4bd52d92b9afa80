"""What an error is: one class per fact, told in English and Arabic, with a stable machine code.

    PulseError
    ├── infra.settings.InvalidSetting           (the process does not start)
    ├── infra.database.DatabaseUnavailable      503
    ├── infra.redis.RedisUnavailable            503
    ├── infra.streams.InvalidEventId            400
    ├── infra.storage and its local, signing    400, 403, 404, 409, 410, 413, 503
    ├── infra.fetch and its urls, dial, answer  400, 502 (the latter a job's reason to fail)
    ├── quotas.accounts, keys, ledger, limits   400, 401, 402, 403, 409, 429, 503
    ├── providers.catalog, moderation           400, 403 (a catalog that makes no sense starts no process)
    ├── providers.prices.UnknownPrice           (the process does not start)
    ├── providers.types.ProviderError           (a job's reason to fail, as are those of workers.perform
    │                                           and workers.craft.child)
    ├── workers.request, jobs, dead, lifecycle  400, 404, 409, 422, 429, 503
    ├── workers.chat and its parts, schemas,    400
    │   attachments, routing, foreign
    ├── workers.batches                         400, 404, 408, 409, 410, 413, 429
    └── api.batches, body, edge, given, jobs,   400, 401, 404, 405, 408, 413, 414, 415, 416, 431, 500
        multipart, problems, ranges

The class name is the code (`QuotaExceeded` -> `quota_exceeded`), the docstring is the English text, `ar` is the
Arabic text and `status` the HTTP status. Both texts are `str.format` templates over the keyword arguments.
"""

import re
from typing import ClassVar

_WORD_START = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")


class PulseError(Exception):
    """Something went wrong."""

    ar: ClassVar[str] = "حدث خطأ ما."
    status: ClassVar[int] = 500
    code: ClassVar[str] = "pulse_error"
    #: Whether a job that failed with it is worth another try, and how many times the usual wait to give it before.
    retryable: ClassVar[bool] = False
    patience: ClassVar[float] = 1.0
    #: Facts that fill the texts but are no members of the problem.
    hidden: ClassVar[frozenset[str]] = frozenset()
    facts: dict[str, object]

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        cls.code = _WORD_START.sub("_", cls.__name__).lower()

    def __init__(self, **facts: object) -> None:
        """Keep the `facts`: they fill the texts and are shown as members of the problem (`field`, `remaining`, ...)."""
        self.facts = facts
        super().__init__(self.text("en"))

    def text(self, language: str) -> str:
        """Return the message in `language` ("ar"; anything else is English), its placeholders filled from the facts."""
        template = self.ar if language == "ar" else " ".join((type(self).__doc__ or "").split())
        return template.format(**self.facts)
