"""Fixtures for the tests of functions."""

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from launcher.experiments.functions.future import FOLLOWER
from launcher.queue.home.daemon_control import wake
from launcher.queue.home.paths import Home, make_home
from launcher.queue.store.queue import Store
from tests.build import end_everything, until
from tests.shortened import QUICK_KILLS, shortened


@pytest.fixture(scope="module")
def one_queue(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Home]:
    """A queue for all tests of a file that asks for it: its scheduler and its fork server are started once."""
    home = Home(tmp_path_factory.mktemp("functions") / "home")
    make_home(home)
    yield home
    end_everything(home)


@pytest.fixture
def alone() -> None:
    """Leaves a test of such a file a queue in which nothing was before."""


@pytest.fixture
def home(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Home]:
    """The file's queue or one of its own, in the environment."""
    shared = {"one_queue", "alone"} & {*request.fixturenames} == {"one_queue"}
    home = request.getfixturevalue("one_queue") if shared else Home(tmp_path / "home")
    monkeypatch.setenv("LAUNCHER_HOME", str(home.folder))
    monkeypatch.setattr(
        "launcher.queue.store.feed.CHECK_EVERY_S", 0.2
    )  # a stopped queue is noticed soon
    make_home(home)
    with shortened(QUICK_KILLS):
        yield home
    if not shared:
        end_everything(home)


@pytest.fixture
def queue(home: Home) -> Iterator[Home]:
    """A queue of its own; in the end nobody follows its jobs any more, who would start a scheduler again."""
    yield home
    store = Store(home, durable=False)
    try:
        store.job_control.cancel([job.id for job in store.read.open_jobs()], time.time())
        wake(home)
    finally:
        store.close()
    until(lambda: not followers(), "all futures know that their jobs have ended")


def followers() -> list[threading.Thread]:
    """Return the threads that follow jobs for futures."""
    return [thread for thread in threading.enumerate() if thread.name == FOLLOWER]
