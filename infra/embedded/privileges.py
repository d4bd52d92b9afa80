"""Decides as whom a server runs, and that it does not outlive the process that started it."""

import os
import pwd
import shutil
import signal

from infra.errors import PulseError

#: `nobody` keeps the one right to pass folders such as /root, so that no folder has to be opened to everyone for it.
#: no_setuid_fixup: otherwise access(2), by which initdb looks for its own binaries, forgets that right.
_AS_NOBODY = (
    "--clear-groups",
    "--inh-caps=-all,+dac_override",
    "--ambient-caps=-all,+dac_override",
    "--securebits=+no_setuid_fixup",
    "--no-new-privs",
)


class SetprivMissing(PulseError):
    """PostgreSQL refuses to run as root; setpriv (package util-linux), which runs it as nobody, is not installed."""

    ar = "يرفض PostgreSQL العمل بحساب root، والأداة setpriv (من حزمة util-linux) التي تشغّله بحساب nobody غير مثبّتة."


def is_root() -> bool:
    """Say whether this process is root's."""
    return os.geteuid() == 0


def nobody() -> tuple[int, int]:
    """Return the user and group ids of `nobody`."""
    entry = pwd.getpwnam("nobody")
    return entry.pw_uid, entry.pw_gid


def bound(command: list[str], on_death: signal.Signals) -> list[str]:
    """Return `command` such that the kernel sends it `on_death` when its parent dies, where the platform can."""
    setpriv = shutil.which("setpriv")
    return command if setpriv is None else [setpriv, f"--pdeathsig={_short(on_death)}", "--", *command]


def unprivileged(command: list[str], on_death: signal.Signals) -> list[str]:
    """Return `command`, bound as above, such that it runs as `nobody` when we are root. Raises `SetprivMissing`."""
    if not is_root():
        return bound(command, on_death)
    setpriv = shutil.which("setpriv")
    if setpriv is None:
        raise SetprivMissing
    uid, gid = nobody()
    who = [f"--reuid={uid}", f"--regid={gid}", *_AS_NOBODY, f"--pdeathsig={_short(on_death)}"]
    return [setpriv, *who, "--", *command]


def _short(number: signal.Signals) -> str:
    return number.name.removeprefix("SIG")
