"""What a process tells its operator: structured log lines, readable on a terminal and JSON everywhere else.

Whatever is told has no key in it: lines are redacted as they leave, with their tracebacks, and so are the words with
which a process dies.
"""

import logging
import sys
import traceback
from collections.abc import Callable
from types import TracebackType

import structlog

from infra.redaction import Redactor
from infra.settings import Settings


class _Redacting(structlog.stdlib.ProcessorFormatter):
    """Makes lines without secrets, also of what other libraries log."""

    redactor: Redactor

    def format(self, record: logging.LogRecord) -> str:
        return self.redactor.text(super().format(record))


def configure(settings: Settings, process: str) -> None:
    """Send log lines of ours and of every library to standard output, each naming the `process`."""
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.PositionalArgumentsFormatter(),
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    terminal = settings.env != "production"
    # Plain tracebacks: the rich ones show local variables, and a key or a prompt may be among them.
    renderer = (
        structlog.dev.ConsoleRenderer(colors=False, exception_formatter=structlog.dev.plain_traceback)
        if terminal
        else structlog.processors.JSONRenderer()
    )
    errors: list[structlog.typing.Processor] = [] if terminal else [structlog.processors.format_exc_info]
    if terminal:
        shared.pop()  # honcho shows the time already
    handler = logging.StreamHandler(sys.stdout)
    formatter = _Redacting(
        foreign_pre_chain=shared,
        processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *errors, renderer],
    )
    formatter.redactor = Redactor(settings.secrets)
    handler.setFormatter(formatter)
    sys.excepthook = _last_words(formatter.redactor)
    logging.basicConfig(handlers=[handler], level=settings.log_level.upper(), force=True)
    # A line for every request or job of a library repeats what our own lines say.
    for noisy in ("arq", "botocore", "httpx2", "httpcore2", "openai", "anthropic", "google_genai", "_granian"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    structlog.contextvars.bind_contextvars(process=process)


def _last_words(redactor: Redactor) -> Callable[[type[BaseException], BaseException, TracebackType | None], None]:
    def tell(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        sys.stderr.write(redactor.text("".join(traceback.format_exception(kind, error, trace))))

    return tell
