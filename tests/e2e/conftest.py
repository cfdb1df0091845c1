"""Real commands in real processes: fixtures of the end-to-end tests."""

import os
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

import pytest

from launcher.queue.home.paths import Home
from launcher.queue.store.queue import Store
from tests.build import end_everything
from tests.forked import BIN, LAUNCHER, Process, call_launcher, start

TOYLAB = Path(__file__).parents[1] / "launcher" / "toylab.py"
TOY_KINDS = ["shapes", "poison", "train", "unlearn", "test"]


class Command:
    """A command that runs; its output goes into files, so it never waits for its reader."""

    def __init__(self, project: "Project", words: tuple[str, ...]) -> None:
        self._out, self._err = (
            tempfile.TemporaryFile("w+", encoding="utf-8")  # noqa: SIM115  # closed by __exit__
            for _ in range(2)
        )
        with Path(os.devnull).open() as nothing:
            streams = nothing.fileno(), self._out.fileno(), self._err.fileno()
            if words[0] == "launcher" and project.commands == BIN:
                self._process: Process = start(
                    LAUNCHER,
                    words[1:],
                    folder=project.folder,
                    environment=project.environment,
                    streams=streams,
                )
            else:
                self._process = subprocess.Popen(
                    [project.commands / words[0], *words[1:]],
                    cwd=project.folder,
                    env=project.environment,
                    stdin=streams[0],
                    stdout=streams[1],
                    stderr=streams[2],
                    start_new_session=True,
                )
        self.pid = self._process.pid

    def __enter__(self) -> Self:
        return self

    def __exit__(self, error: type[BaseException] | None, *_: object) -> None:
        if error:  # nothing may end it any more
            self._process.kill()
        self._process.wait()
        self._out.close()
        self._err.close()

    @property
    def returncode(self) -> int | None:
        """Its exit code, None while it runs."""
        return self.poll()

    def poll(self) -> int | None:
        """Return its exit code, or None while it runs."""
        return self._process.poll()

    def send_signal(self, number: signal.Signals) -> None:
        """Send it a signal."""
        self._process.send_signal(number)

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        """Wait for its end, and return its output and its errors.

        Raises:
            subprocess.TimeoutExpired: it takes longer.
        """
        self._process.wait(timeout)
        for file in (self._out, self._err):
            file.seek(0)
        return self._out.read(), self._err.read()


@dataclass(frozen=True, kw_only=True)
class Project:
    """A person's project folder and queue, with the installed commands."""

    folder: Path
    home: Home
    environment: dict[str, str]
    commands: Path = BIN  # folder of those that are installed

    def start(self, *words: str) -> Command:
        """Start one of the installed commands here."""
        return Command(self, words)

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
            code = process.returncode
        assert code is not None
        return subprocess.CompletedProcess(words, code, out, err)

    def with_home(self, folder: Path) -> "Project":
        """Return the project with another queue folder."""
        environment = {**self.environment, "LAUNCHER_HOME": str(folder)}
        return replace(self, home=Home(folder), environment=environment)

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
