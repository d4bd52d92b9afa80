"""The local model: llama.cpp's own server, speaking the OpenAI wire (`python -m providers.local`)."""

import os
import signal
import sys
from typing import Any

import xllamacpp

from infra import settings as config
from infra.errors import PulseError
from infra.settings import Settings
from providers import catalog
from providers.gguf import gguf

SLOTS = 4
CONTEXT_TOKENS = 8192  # of all slots together
_PROMPT_CACHE_MIB = 256  # llama.cpp's own default is 8 GiB
_LOG_ERRORS_ONLY = 1
_STOP = {signal.SIGTERM, signal.SIGINT}


class ModelUnloadable(PulseError):
    """The local model did not start: {path} is no usable GGUF file, or port {port} is taken."""

    ar = "لم يبدأ النموذج المحلي: الملف {path} ليس ملف GGUF صالحًا، أو المنفذ {port} مشغول."


def serve(settings: Settings) -> object:
    """Start the server and return what keeps it alive. Raises `ModelMissing` or `ModelUnloadable`."""
    path = gguf(settings)
    llama: Any = xllamacpp  # compiled, without type information
    options = llama.CommonParams()
    options.model.path = str(path)
    options.model_alias = {catalog.LOCAL}
    options.hostnames = ["127.0.0.1"]
    options.port = settings.local_port
    options.cors_origins = "http://127.0.0.1"  # the default lets any page open in a browser here use the model
    options.n_ctx = CONTEXT_TOKENS
    options.n_parallel = SLOTS
    options.cache_ram_mib = _PROMPT_CACHE_MIB
    options.fit_params = False  # measuring free memory first costs as much time as loading this small model
    options.verbosity = _LOG_ERRORS_ONLY
    options.ui = False
    options.endpoint_slots = False
    options.offline = True
    if settings.local_threads:
        options.cpuparams.n_threads = settings.local_threads
    try:
        return llama.Server(options)
    except RuntimeError as error:
        raise ModelUnloadable(path=path, port=settings.local_port) from error


def main() -> None:
    """Serve until SIGTERM or Ctrl-C."""
    signal.pthread_sigmask(signal.SIG_BLOCK, _STOP)  # before llama.cpp's threads start: they inherit it
    try:
        _kept_alive = serve(config.load())
    except PulseError as error:
        sys.exit(str(error))
    signal.sigwait(_STOP)
    # The server's destructor waits up to 30 s for open streams. It keeps nothing, and whoever reads a stream takes one
    # that lacks its end for a failure: so leave at once.
    os._exit(0)


if __name__ == "__main__":
    main()
