"""Real commands in real processes: fixtures of the end-to-end tests."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from launcher.store.queue import Store
from launcher.system.paths import Home
from tests.build import end_everything
from tests.forked import BIN, call_launcher

TOYLAB = Path(__file__).parents[1] / "launcher" / "toylab.py"
TOY_KINDS = ["shapes", "poison", "train", "unlearn", "test"]


@dataclass(frozen=True, kw_only=True)
class Project:
    """A person's project folder and queue, with the installed commands."""

    folder: Path
    home: Home
    environment: dict[str, str]
    commands: Path = BIN  # where those that are installed lie

    def start(self, *words: str, **options: object) -> subprocess.Popen[str]:
        """Start one of the installed commands here."""
        return subprocess.Popen(
            [self.commands / words[0], *words[1:]],
            cwd=self.folder,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def call(self, *words: str, timeout_s: float = 300) -> subprocess.CompletedProcess[str]:
        """Run one of the installed commands here to its end.

        Raises:
            subprocess.TimeoutExpired: it takes longer.
        """
        if words[0] == "launcher" and self.commands == BIN:
            return call_launcher(
                *words[1:],
                folder=self.folder,
                environment=self.environment,
                timeout_s=timeout_s,
            )
        with self.start(*words) as process:
            out, err = process.communicate(timeout=timeout_s)
        return subprocess.CompletedProcess(words, process.returncode, out, err)

    def write(self, name: str, text: str) -> str:
        """Write a file of the project and return its name."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        return name


@contextmanager
def a_project(place: Path) -> Iterator[Project]:
    """An empty project with a queue of its own; whatever still runs in it is killed afterwards."""
    folder = place / "project"
    folder.mkdir()
    home = Home(place / "home")
    environment = {**os.environ, "LAUNCHER_HOME": str(home.folder), "TRUEFACE_WEIGHTS": "none"}
    try:
        yield Project(folder=folder, home=home, environment=environment)
    finally:
        end_everything(home)


@contextmanager
def reading(home: Home) -> Iterator[Store]:
    """A look into a queue's database that changes nothing; no command has to start for it."""
    store = Store(home, reading=True)
    try:
        yield store
    finally:
        store.close()


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    """A new project."""
    with a_project(tmp_path) as project:
        yield project


@pytest.fixture
def toys(project: Project, tmp_path: Path) -> Project:
    """The same, with another laboratory installed beside trueface."""
    install_toys(project, tmp_path / "site", TOYLAB)
    return project


def install_toys(project: Project, site: Path, laboratory: Path) -> None:
    """Install a laboratory of toys for a project: one file with kinds."""
    package = site / "toylab-1.0.dist-info"
    package.mkdir(parents=True)
    (site / "toylab.py").write_text(laboratory.read_text(encoding="utf-8"), encoding="utf-8")
    (package / "METADATA").write_text("Metadata-Version: 2.1\nName: toylab\nVersion: 1.0\n")
    points = "\n".join(f"toy{kind} = toylab:{kind.upper()}" for kind in TOY_KINDS)
    (package / "entry_points.txt").write_text(f"[launcher.kinds]\n{points}\n")
    project.environment["PYTHONPATH"] = str(site)
