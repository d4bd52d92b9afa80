"""`pulse models`: which models may be asked, and what their tokens weigh."""

import click
from msgspec import Struct
from rich.console import Console
from rich.table import Table
from rich.text import Text

from scripts.pulse.bilingual import Arabic
from scripts.pulse.command import Command, connect, json_option, language
from scripts.pulse.screen import harmless, note

_ARABIC = Arabic(
    """اعرض النماذج التي يقدمها هذا الاستوديو، وبكم وحدة يُحسب كل رمز منها.

    \b
    أمثلة:
      pulse models
      pulse models --all
      pulse models --json | jq -r '.models[].id'
    """,
    {"show_all": "أظهر كذلك ما لا تشمله خطتك."},
)
_COLUMNS = {
    "en": ("model", "good for", "in", "out", "context", "plan", "until", "also"),
    "ar": ("النموذج", "يصلح لـ", "دخل", "خرج", "السياق", "الخطة", "حتى", "ويسمى"),
}
_TIERS = {"simple": "بسيط", "medium": "متوسط", "complex": "معقد", "reasoning": "استدلال"}
_AUTO = {"en": "auto: {models}", "ar": "auto (تلقائي): {models}"}


class _Weights(Struct):
    input: int
    output: int


class _Model(Struct):
    id: str
    tier: str
    context_tokens: int
    weights: _Weights
    plan: str
    allowed: bool
    shutdown: str | None = None
    aliases: list[str] = []


class _Auto(Struct):
    models: list[str]


class _Models(Struct):
    models: list[_Model]
    auto: _Auto


@click.command("models", cls=Command, ar=_ARABIC)
@click.option("--all", "show_all", is_flag=True, help="Also what your plan does not have.")
@json_option
def command(*, show_all: bool, as_json: bool) -> None:
    """List the models of this studio, and how many units of chat tokens a token of each counts.

    \b
    Examples:
      pulse models
      pulse models --all
      pulse models --json | jq -r '.models[].id'
    """
    client = connect()
    answer = client.call("GET", "/v1/chat/models")
    if as_json:
        print(answer.decode())
        return
    found = client.read(answer, _Models)
    console = Console(highlight=False)
    console.width = max(console.width, 80)
    console.print(_table([model for model in found.models if show_all or model.allowed]))
    note(_AUTO[language()].format(models=", ".join(found.auto.models)))


def _table(models: list[_Model]) -> Table:
    table = Table(box=None, pad_edge=False)
    names = _COLUMNS[language()]
    for name in names[:2]:
        table.add_column(name, no_wrap=True)
    for name in names[2:5]:
        table.add_column(name, justify="right", no_wrap=True)
    for name in names[5:7]:
        table.add_column(name, no_wrap=True)
    table.add_column(names[7], overflow="fold")
    for model in models:
        tier = _TIERS.get(model.tier, model.tier) if language() == "ar" else model.tier
        weights = (f"{model.weights.input:,}", f"{model.weights.output:,}")
        also = " ".join(model.aliases)
        row = (model.id, tier, *weights, _short(model.context_tokens), model.plan, model.shutdown or "", also)
        table.add_row(*(Text(harmless(cell)) for cell in row), style="" if model.allowed else "dim")
    return table


def _short(tokens: int) -> str:
    """Return a number of tokens the way a person says it: 1.05M, 272k."""
    return f"{tokens / 1_000_000:.3g}M" if tokens >= 1_000_000 else f"{tokens / 1000:.0f}k"
