"""Fixtures of the launcher's tests."""

import json
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from launcher.queue.home.paths import Home, make_home
from launcher.queue.home.scheduler_start import ensure_scheduler
from launcher.queue.jobs.states import State
from launcher.queue.store import client
from launcher.queue.store.queue import Store
from launcher.queue.workers.fork_server_handles import ForkServer
from tests.build import PLAIN, end_everything


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Home]:
    """A queue of its own in the environment; whatever still runs in it is killed afterwards."""
    home = Home(tmp_path / "home")
    monkeypatch.setenv("LAUNCHER_HOME", str(home.folder))
    make_home(home)
    yield home
    end_everything(home)


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The database of a new queue."""
    home = Home(tmp_path_factory.mktemp("empty"))
    make_home(home)
    Store(home, durable=False).close()
    return home.database.read_bytes()


@pytest.fixture
def store(home: Home, empty_database: bytes) -> Iterator[Store]:
    """The queue's database; not synced, no test cuts the power."""
    if not home.database.exists():  # a shared queue has one, in use
        home.database.touch(0o600)
        home.database.write_bytes(empty_database)  # a quarter of the time that its creation takes
    store = Store(home, durable=False)
    yield store
    store.close()


@pytest.fixture(scope="module")
def fork_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ForkServer]:
    """A fork server without modules, shared by the tests of a file."""
    home = Home(tmp_path_factory.mktemp("fork-server"))
    fork_server = ForkServer(home, PLAIN)
    yield fork_server
    fork_server.close()


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """The output and exit code of a command."""

    code: int
    out: str
    err: str


@dataclass(frozen=True, slots=True)
class Launcher:
    """The command line, run in this process."""

    capsys: pytest.CaptureFixture[str]

    def __call__(self, *words: str) -> Answer:
        from launcher.frontends.cli.main import (
            main,  # tests of the queue run without this package, too
        )

        self.capsys.readouterr()
        with pytest.raises(SystemExit) as leaving:
            main(words)
        said = self.capsys.readouterr()
        code = leaving.value.code
        assert isinstance(code, int)
        return Answer(code=code, out=said.out, err=said.err)

    def well(self, *words: str) -> Answer:
        """Return the answer of a successful command."""
        answer = self(*words)
        assert answer.code == 0, answer
        return answer

    def refused(self, *words: str) -> str:
        """Return what is said of a command line that is refused; nothing else is printed."""
        answer = self(*words)
        assert (answer.code, answer.out) == (2, ""), answer
        return answer.err

    def json(self, *words: str) -> Any:
        """Return what a program is answered."""
        return json.loads(self(*words, "--json").out)


@pytest.fixture
def launcher(
    home: Home, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Launcher:
    """The command line on the test's queue. No scheduler is started while all of its jobs are held."""

    def ensure_if_needed(place: Home) -> None:
        with closing(Store(place, durable=False)) as queue:
            counts = queue.read.counts()
        if any(counts.get(state) for state in State if state != State.HELD) or not counts:
            ensure_scheduler(place)

    monkeypatch.setattr(client, "ensure_scheduler", ensure_if_needed)
    return Launcher(capsys)
