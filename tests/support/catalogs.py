"""A catalog of three models on the operator's own server, each dearer and able to do more than the one before."""

from pathlib import Path

import msgspec

from infra.settings import Settings

_MODELS = """
defaults = ["middle", "small", "great"]

[aliases]
smart = ["great"]

[estimates]

[models.small]
vendor = "compatible"
en = "Small"
ar = "صغير"
context_tokens = 8_000
output_tokens = 4_000
tier = "simple"
auto = true
tokenizer = "bytes"
takes = ["temperature"]
weights = { input = 1, output = 1 }

[models.middle]
vendor = "compatible"
en = "Middle"
ar = "متوسط"
context_tokens = 32_000
output_tokens = 8_000
tier = "medium"
auto = true
tokenizer = "bytes"
takes = ["temperature", "images", "files", "tools", "form"]
weights = { input = 2, output = 4 }
fallbacks = ["small", "great"]

[models.great]
vendor = "compatible"
en = "Great"
ar = "كبير"
context_tokens = 128_000
output_tokens = 16_000
tier = "reasoning"
auto = true
tokenizer = "bytes"
takes = ["images", "files", "tools", "form", "effort"]
weights = { input = 10, output = 50 }
plan = "pro"
"""


def three(settings: Settings, folder: Path) -> Settings:
    """Return settings with the models `middle` (which is in nobody's way), `small` and `great` (of the plan pro)."""
    path = folder / "models.toml"
    path.write_text(_MODELS, encoding="utf-8")
    return msgspec.structs.replace(
        settings,
        models_file=str(path),
        compatible_models="middle",
        compatible_url=settings.compatible_url or "http://127.0.0.1:1/v1",
    )
