"""The API stays light: what a worker loads, it does not."""

import subprocess
import sys

from infra.settings import ROOT

HEAVY = (
    "openai",
    "bpe_openai",
    "xllamacpp",
    "anthropic",
    "google.genai",
    "PIL",
    "moviepy",
    "typst",
    "pptx",
    "docx",
    "av",
    "alembic",
    "boto3",
)


def test_importing_the_api_loads_no_vendor_sdk_and_no_media_library() -> None:
    program = f"import sys, api.app; print([name for name in {HEAVY!r} if name in sys.modules])"
    loaded = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert loaded.stdout.strip() == "[]"


def test_importing_a_pool_loads_no_room_before_a_job_needs_it() -> None:
    program = (
        "import sys, workers.worker; print([name for name in ('openai', 'workers.chat.run') if name in sys.modules])"
    )
    loaded = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert loaded.stdout.strip() == "[]"
