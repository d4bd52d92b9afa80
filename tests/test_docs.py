"""The README and docs/ say what the code says: settings, errors, events, files, commands, and the sketch of a kind."""

import importlib
import json
import pkgutil
import re
import subprocess
import sys
from collections.abc import Iterator
from importlib import util
from pathlib import Path
from types import ModuleType
from typing import get_args

import msgspec
import pytest

import workers
from infra import settings as config
from infra.errors import PulseError
from infra.settings import ROOT, Settings
from infra.storage import ObjectNotFound, StorageUnavailable
from providers.catalog import ModelRetired, UnknownModel
from providers.moderation import ContentRefused
from providers.types import ProviderError
from scripts.pulse.__main__ import build
from tests.support.chats import Client, events, submit, until
from tests.support.work import working
from workers import events as says
from workers import kinds, pools
from workers.batches.feeding import ReadingBrokenOff
from workers.batches.refusals import BatchRefused, LineRefused
from workers.chat.foreign import FieldNotSupported
from workers.intake import ScanBrokenOff
from workers.media import PURPOSES
from workers.scan.refusals import FileRefused

README = ROOT / "README.md"
API = ROOT / "docs" / "api.md"
PAGES = [README, *sorted((ROOT / "docs").rglob("*.md"))]
FOLDERS = ("api", "bench", "docs", "infra", "migrations", "providers", "quotas", "scripts", "tests", "workers")

_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
_SPAN = re.compile(r"(?<!`)`([^`\n]+)`(?!`)")
_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
_FILE = re.compile(rf"[\w-]+\.(?:lock|lua|md|py|toml)|(?:{'|'.join(FOLDERS)})/[\w./-]*")

# Everything that an API process has loaded and could answer with, as [code, status, module].
_LOADED = """
import json, api.app
from infra.errors import PulseError
waiting, found = [PulseError], []
while waiting:
    error = waiting.pop()
    waiting += error.__subclasses__()
    found.append([error.code, error.status, error.__module__])
print(json.dumps(found))
"""


def read(page: Path) -> str:
    """Return a page's text."""
    return page.read_text(encoding="utf-8")


def prose(page: Path) -> str:
    """Return a page without its fenced blocks."""
    return _FENCE.sub("", read(page))


def code(page: Path) -> str:
    """Return a page's fenced blocks, pictures aside, and its code spans, a line each."""
    blocks = [text for language, text in _FENCE.findall(read(page)) if language != "mermaid"]
    return "\n".join(blocks + _SPAN.findall(prose(page)))


def between(page: Path, name: str) -> str:
    """Return what stands between the markers `<!-- name -->` and `<!-- /name -->` of a page."""
    found = re.search(rf"^<!-- {name} -->\n(.*?)^<!-- /{name} -->$", read(page), re.DOTALL | re.MULTILINE)
    assert found is not None, f"{page.name} has no table {name}"
    return found[1]


def rows(page: Path, name: str) -> Iterator[list[str]]:
    """Yield the cells of each row of a marked table."""
    lines = between(page, name).splitlines()[2:]
    assert lines, f"the table {name} is empty"
    for line in lines:
        yield [cell.strip() for cell in line.strip("|").split("|")]


def bare(cell: str) -> str:
    """Return the code span that a cell consists of, without its ticks."""
    return cell.removeprefix("`").removesuffix("`")


def anchors(page: Path) -> set[str]:
    """Return the anchors that GitHub gives the headings of a page."""
    headings = re.findall(r"^#+ (.+)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def mentioned(pattern: str) -> set[tuple[str, str]]:
    """Return what `pattern` captures in the code of all pages, each with the page that has it; never nothing."""
    found = {(page.name, name) for page in PAGES for name in re.findall(pattern, code(page))}
    assert found, f"no page has {pattern}"
    return found


def test_the_table_of_settings_is_the_one_of_the_code() -> None:
    assert between(ROOT / "docs" / "settings.md", "settings") == config.table()


def test_every_variable_that_a_page_names_is_a_setting() -> None:
    known = {config.variable(field.name) for field in msgspec.structs.fields(Settings)}
    named = {(page.name, name) for page in PAGES for name in re.findall(r"\bPULSE_[A-Z_]*[A-Z]\b", read(page))}
    assert len(named) > len(known) / 2
    assert {(page, name) for page, name in named if name not in known} == set()


def test_the_errors_of_the_api_are_those_of_the_code_with_their_status() -> None:
    loaded = subprocess.run([sys.executable, "-c", _LOADED], cwd=ROOT, capture_output=True, text=True, check=True)
    # The lower floors' other 5xx are no answers: 500 keeps a process from starting, 502 is why a job failed.
    answered = {
        error: status
        for error, status, module in json.loads(loaded.stdout)
        if module.startswith("api.") or status < 500 or status == 503
    }
    assert {bare(row[0]): int(row[1]) for row in rows(API, "errors")} == answered
    assert sum(1 for _ in rows(API, "errors")) == len(answered), "no code stands twice"


def test_the_reasons_to_fail_are_those_of_the_code_and_so_is_which_are_tried_again() -> None:
    for module in pkgutil.walk_packages(workers.__path__, "workers."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    ours = [error for error in PulseError.__subclasses__() if error.__module__.startswith("workers.")]
    of_others = {FileRefused, ScanBrokenOff, ReadingBrokenOff}  # they are of a file or a batch, not of a job
    ours = [error for error in ours if error not in of_others]
    vendors = ProviderError.__subclasses__()
    # What has a status of its own is an answer of the API; of those, a room raises only these last ones.
    reasons = [
        *(error for error in ours if error.status == 500),
        *vendors,
        UnknownModel,
        ModelRetired,
        ContentRefused,
        StorageUnavailable,
    ]
    told = {bare(row[0]): row[1] == "yes" for row in rows(API, "failures")}
    assert told == {error.code: error.retryable for error in reasons}


def test_the_reasons_to_reject_a_file_are_those_of_the_code() -> None:
    told = [code for row in rows(ROOT / "docs" / "files.md", "refusals") for code in re.findall(r"`(\w+)`", row[0])]
    reasons = [*FileRefused.__subclasses__(), ObjectNotFound, ScanBrokenOff]
    assert sorted(told) == sorted(error.code for error in reasons)


def test_the_reasons_to_refuse_a_line_or_a_batch_are_those_of_the_code() -> None:
    page = ROOT / "docs" / "batches.md"
    told = {name: sorted(bare(row[0]) for row in rows(page, name)) for name in ("refusals", "failures")}
    lines = [*LineRefused.__subclasses__(), FieldNotSupported]
    assert told["refusals"] == sorted(error.code for error in lines)
    assert told["failures"] == sorted(error.code for error in [*BatchRefused.__subclasses__(), ReadingBrokenOff])


def test_the_purposes_of_files_are_those_of_the_code_with_their_limits() -> None:
    page = read(ROOT / "docs" / "files.md")
    told = dict(re.findall(r"^\| `(\w+)` \|.*\| (\d+ [MG]iB) \|$", page, re.MULTILINE))
    sizes = {name: purpose.most_bytes // 1024**2 for name, purpose in PURPOSES.items()}
    known = {name: f"{mib} MiB" if mib < 1024 else f"{mib // 1024} GiB" for name, mib in sizes.items()}
    assert told == known


def test_the_events_are_those_of_the_code_with_their_fields_and_an_example_of_each() -> None:
    known: dict[str, type[says.Said]] = {str(said.__struct_config__.tag): said for said in get_args(says.AnySaid)}
    assert set(known.values()) == set(says.Said.__subclasses__())
    told = {bare(row[0]): row for row in rows(API, "events")}
    assert list(told) == list(known)
    for name, (_, fields, example, _) in told.items():
        assert re.findall(r"`(\w+)`", fields) == list(known[name].__struct_fields__), name
        said = says.decode(bare(example).encode())
        assert type(said) is known[name]
        assert says.encode(said).decode() == bare(example), "as the API writes it"


def test_every_link_leads_to_a_file_and_a_heading_that_are_there() -> None:
    broken: list[str] = []
    links = [(page, link) for page in PAGES for link in _LINK.findall(prose(page)) if "://" not in link]
    for page, link in links:
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        if not target.is_file() or not target.is_relative_to(ROOT) or (anchor and anchor not in anchors(target)):
            broken.append(f"{page.name}: {link}")
    assert len(links) > 10
    assert broken == []


def test_every_file_that_a_page_names_is_there() -> None:
    names = {path.name for folder in FOLDERS for path in (ROOT / folder).rglob("*")}
    named = {(page.name, span) for page in PAGES for span in _SPAN.findall(prose(page)) if _FILE.fullmatch(span)}
    assert len(named) > 30
    assert {(page, span) for page, span in named if not ((ROOT / span).exists() or span in names)} == set()


def test_every_target_of_make_that_a_page_names_is_in_the_makefile() -> None:
    targets = set(re.findall(r"^([a-z]+):", read(ROOT / "Makefile"), re.MULTILINE))
    assert {(page, name) for page, name in mentioned(r"\bmake ([a-z]+)") if name not in targets} == set()


def test_every_pulse_command_that_a_page_names_is_one() -> None:
    commands = build().commands
    assert {(page, name) for page, name in mentioned(r"\bpulse ([a-z]+)") if name not in commands} == set()


def test_every_program_that_a_page_starts_is_one() -> None:
    programs = mentioned(r"\bpython3? -m ([\w.]+)")
    assert {(page, name) for page, name in programs if not _is_program(name)} == set()


def _is_program(name: str) -> bool:
    """Tell whether a package has a `__main__`, or a module runs as one."""
    spec = util.find_spec(name)
    if spec is None or spec.origin is None:
        return False
    if spec.submodule_search_locations is not None:
        return util.find_spec(f"{name}.__main__") is not None
    return 'if __name__ == "__main__":' in Path(spec.origin).read_text(encoding="utf-8")


def test_pictures_are_small_and_fetch_nothing() -> None:
    pictures = [path for path in (ROOT / "docs" / "pictures").iterdir() if path.is_file()]
    links = [(page, link) for page in PAGES for link in re.findall(r"!\[[^\]]+\]\(([^)]+)\)", read(page))]
    assert set(pictures) == {(page.parent / link).resolve() for page, link in links}
    for picture in pictures:
        assert picture.stat().st_size < 300_000
        if picture.suffix == ".svg":
            assert not re.search(r"@font-face|@import|url\(\s*[\"']?http|href=", read(picture))


@pytest.fixture
def sketched(monkeypatch: pytest.MonkeyPatch) -> None:
    """Add the kind that the README sketches, as the README says."""
    blocks = [text for language, text in _FENCE.findall(read(README)) if language == "python"]
    for block in blocks:
        named = re.match(r"# .*\b(workers/words/\w+)\.py", block)
        assert named is not None
        module = ModuleType(named[1].replace("/", "."))
        monkeypatch.setitem(sys.modules, module.__name__, module)
        exec(compile(block, named[0], "exec"), vars(module))
    monkeypatch.setitem(kinds.SPECS, "words", sys.modules["workers.words.spec"].Words)
    monkeypatch.setitem(pools.POOLS, "words", ("words",))


@pytest.mark.usefixtures("sketched")
async def test_the_kind_that_the_readme_sketches_goes_the_whole_way(client: Client, settings: Settings) -> None:
    async with working(settings, "words"):
        job = await until(client, await submit(client, {"kind": "words", "input": {"text": "السلام عليكم ورحمة الله"}}))
    assert (job["state"], job["result"], job["charged"]) == ("succeeded", {"words": 4}, {"documents": 1})
    told = events((await client.get(job["urls"]["events"])).text)
    assert [event["type"] for _, event in told] == ["queued", "started", "progress", "succeeded"]
