"""Setting up: a copy of the project's scripts, a uv that only writes down what it is told, and Pythons old and new."""

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from infra.settings import ROOT

# Writes down what it is told and makes what a real one would; fails at the words in UV_FAILS.
_UV = f"""#!/bin/sh
case "$*" in
    --version) echo "uv ${{UV_SAYS:-0.13.9}} (a stand-in)"; exit;;
    *"${{UV_FAILS:-never}}"*) exit 3;;
    "python find"*) echo {sys.executable}; exit;;
    venv*) for last; do :; done; mkdir -p "$last/bin"; ln -s {sys.executable} "$last/bin/python";;
esac
echo "$*" >> "$UV_LOG"
"""

_OLD = ("2.7", "3.6", "3.7", "3.8", "3.9", "3.10", "3.11")


class Project:
    """A folder with what setting up reads, and a PATH on which nothing else is found."""

    def __init__(self, folder: Path) -> None:
        """Copy it."""
        self.folder = folder / "project"
        self.path = folder / "bin"
        self.log = folder / "uv.log"
        self.stamp = self.folder / ".venv" / "pulse-stamp"
        (self.folder / "scripts").mkdir(parents=True)
        self.path.mkdir()
        for name in ("scripts/setup.py", "scripts/environment.py", "pyproject.toml", ".python-version"):
            shutil.copy(ROOT / name, self.folder / name)
        for name in ("requirements.lock", "requirements-dev.lock"):
            (self.folder / name).write_text("")
        for name in ("sh", "mkdir", "ln"):
            (self.path / name).symlink_to(shutil.which(name) or "")

    def command(self, name: str, text: str) -> None:
        """Put a program on PATH."""
        program = self.path / name
        program.write_text(text)
        program.chmod(0o755)

    def set_up(
        self, *options: str, python: str = sys.executable, environ: Mapping[str, str] | None = None
    ) -> "subprocess.CompletedProcess[str]":
        """Run it."""
        known = {"PATH": str(self.path), "HOME": str(self.folder), "UV_LOG": str(self.log), "PIP_NO_INDEX": "1"}
        return subprocess.run(
            [python, str(self.folder / "scripts" / "setup.py"), *options],
            env=known | dict(environ or {}),
            capture_output=True,
            text=True,
            check=False,
        )

    def told(self) -> list[str]:
        """Return what uv was told since the last call."""
        lines = self.log.read_text().splitlines() if self.log.exists() else []
        self.log.unlink(missing_ok=True)
        return lines


@pytest.fixture
def bare(tmp_path: Path) -> Project:
    """A project on a machine without uv."""
    return Project(tmp_path)


@pytest.fixture
def project(bare: Project) -> Project:
    """A project on a machine with uv."""
    bare.command("uv", _UV)
    return bare


def old_pythons() -> list[str]:
    """Return the interpreters of this machine that are too old."""
    pyenv = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv") / "versions"
    folders = [*sorted(pyenv.glob("*/bin")), Path("/usr/bin"), Path("/usr/local/bin")]
    found = [folder / f"python{minor}" for minor in _OLD for folder in folders]
    return [str(path) for path in found if path.exists()]


@pytest.mark.parametrize("python", old_pythons() or [pytest.param("", marks=pytest.mark.skip("no old Python here"))])
def test_an_old_python_alone_gets_one_line_that_says_what_to_do(bare: Project, python: str) -> None:
    done = bare.set_up(python=python)
    assert done.returncode == 1
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert line.startswith("Pulse needs Python 3.12 or newer; this is ")
    assert "uv python install" in line


@pytest.mark.parametrize(
    "python", old_pythons()[:1] or [pytest.param("", marks=pytest.mark.skip("no old Python here"))]
)
def test_an_old_python_hands_over_to_a_new_one_and_a_shim_for_nothing_is_passed_over(
    project: Project, python: str
) -> None:
    project.command("python3.13", "#!/bin/sh\nexit 127\n")
    project.command("python3.12", f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    assert project.set_up(python=python).returncode == 0
    assert project.stamp.exists()


def test_the_environment_is_made_of_the_lock_and_the_project_itself(project: Project) -> None:
    done = project.set_up()
    assert done.returncode == 0, done.stderr
    venv, sync, install = project.told()
    assert venv.startswith("venv ")
    assert sync.startswith("pip sync ")
    assert sync.endswith("requirements.lock")
    assert "--compile-bytecode" in sync
    assert install.startswith("pip install ")
    assert install.endswith(f"--editable {project.folder}")


def test_a_second_run_does_nothing_and_says_nothing(project: Project) -> None:
    project.set_up()
    project.told()
    done = project.set_up()
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert project.told() == []


def test_a_changed_lock_is_installed_into_the_environment_that_is_there(project: Project) -> None:
    project.set_up()
    project.told()
    (project.folder / "requirements.lock").write_text("arq==0.28.0\n")
    project.set_up()
    assert [line.split(" --")[0] for line in project.told()] == ["pip sync", "pip install"]


def test_a_change_that_stopped_halfway_is_not_taken_for_done_when_it_is_taken_back(project: Project) -> None:
    project.set_up()
    lock = project.folder / "requirements.lock"
    lock.write_text("arq==0.28.0\n")
    project.set_up(environ={"UV_FAILS": "pip sync"})
    project.told()
    lock.write_text("")
    project.set_up()
    assert project.told() != []


def test_an_environment_with_the_tools_also_serves_to_run_and_keeps_them(project: Project) -> None:
    project.set_up("--dev")
    assert project.told()[1].endswith("requirements-dev.lock")
    project.set_up()
    assert project.told() == []
    (project.folder / "requirements-dev.lock").write_text("ruff==0.17.6\n")
    project.set_up()
    assert project.told()[0].endswith("requirements-dev.lock")


def test_one_without_the_tools_gets_them_when_they_are_wanted(project: Project) -> None:
    project.set_up()
    project.told()
    project.set_up("--dev")
    assert project.told()[0].endswith("requirements-dev.lock")


@pytest.mark.parametrize("step", ["venv", "pip sync", "pip install"])
def test_a_step_that_fails_is_named_and_the_next_run_begins_again(project: Project, step: str) -> None:
    done = project.set_up(environ={"UV_FAILS": step})
    assert done.returncode == 1
    assert done.stderr.startswith("Setup stopped at: ")
    assert "run it again" in done.stderr
    assert not project.stamp.exists()
    project.told()
    assert project.set_up().returncode == 0
    assert len(project.told()) == 3, "a half-made environment is made anew"


def test_an_environment_whose_python_is_gone_is_made_again(project: Project) -> None:
    project.set_up()
    project.told()
    (project.folder / ".venv" / "bin" / "python").unlink()
    assert project.set_up().returncode == 0
    assert project.told()[0].startswith("venv ")


def test_a_uv_that_is_too_old_is_not_used(project: Project) -> None:
    done = project.set_up(environ={"UV_SAYS": "0.4.30"})
    assert "getting uv" in done.stdout
    assert "Setup stopped at: getting uv" in done.stderr, "pip has no index here"
    assert project.told() == []


def test_the_index_that_pip_was_given_is_given_to_uv(project: Project) -> None:
    project.command("uv", _UV.replace('echo "$*"', 'echo "$UV_DEFAULT_INDEX"'))
    project.set_up(environ={"PIP_INDEX_URL": "http://127.0.0.1:9/simple"})
    assert set(project.told()) == {"http://127.0.0.1:9/simple"}
