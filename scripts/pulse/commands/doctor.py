"""`pulse doctor`: looks at everything a studio needs, and says what to do about what is wrong."""

import asyncio
from collections import Counter

import click
from rich.console import Console
from rich.text import Text

from infra import settings as config
from infra.errors import PulseError
from scripts.pulse.command import Command, json_option
from scripts.pulse.doctor import machine, servers, store, studio
from scripts.pulse.doctor.finding import Finding, failed, ok
from scripts.pulse.lines import write
from scripts.pulse.screen import harmless

_MARKS = {"ok": ("ok", "green"), "warning": ("warning", "yellow"), "failed": ("failed", "red")}


@click.command("doctor", cls=Command)
@json_option
@click.pass_context
def command(ctx: click.Context, *, as_json: bool) -> None:
    """Check this machine and the studio on it, and say what to do about what is wrong.

    Looks at Python, the settings, PostgreSQL (with its migrations, partitions and ledger), Redis or Valkey, the file
    store and ClamAV, the API, the workers, the model, and at fonts and libraries that Arabic documents, pictures and
    videos need. It changes nothing, and works also while the studio is down. Exit codes: 0 when nothing failed (there
    may be warnings), 1 otherwise.

    \b
    Examples:
      pulse doctor
      pulse doctor --json | jq '.checks[] | select(.state != "ok")'
    """
    findings = asyncio.run(_examine())
    is_well = all(finding.state != "failed" for finding in findings)
    if as_json:
        write({"ok": is_well, "checks": findings})
    else:
        _print(findings)
    ctx.exit(0 if is_well else 1)


async def _examine() -> list[Finding]:
    findings = machine.check()
    try:
        settings = config.load()
        parts = await asyncio.gather(servers.check(settings), store.check(settings), studio.check(settings))
    except PulseError as error:  # an address that cannot be read
        return [*findings, failed("settings", str(error), "correct or unset it; docs/settings.md has them all")]
    findings.append(ok("settings", f"{settings.env}, data in {settings.folder}"))
    return findings + [finding for part in parts for finding in part]


def _print(findings: list[Finding]) -> None:
    console = Console(highlight=False, soft_wrap=True)
    width = max(len(finding.name) for finding in findings)
    for finding in findings:
        mark, style = _MARKS[finding.state]
        console.print(Text.assemble((f"{mark:7}", style), f"  {finding.name:{width}}  {harmless(finding.detail)}"))
        if finding.advice:
            console.print(Text(f"{'':{width + 11}}{finding.advice}", style="dim"))
    counts = Counter(finding.state for finding in findings)
    console.print(f"\n{counts['ok']} ok, {counts['warning']} warnings, {counts['failed']} failed")
