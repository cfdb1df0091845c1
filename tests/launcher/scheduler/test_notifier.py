import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from launcher.scheduler.__main__ import Notifier
from launcher.store.queue import Store
from launcher.system.files import write_atomic
from launcher.system.paths import Home
from launcher.system.processes import lock, lock_holder
from tests.build import gone, lines_of, until

TABLE = '[notify.desk]\ncommand = ["true"]\n'


@pytest.fixture
def config(tmp_path: Path) -> Path:
    return tmp_path / "config.toml"


@pytest.fixture
def served(home: Home, store: Store) -> Iterator[Home]:  # the database
    """A home with a scheduler, as far as its lock tells."""
    held = lock(home.scheduler_lock)
    assert held is not None
    yield home
    os.close(held)


def test_the_process_is_started_where_it_is_wanted_and_again_after_a_death(
    served: Home, config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LAUNCHER_CONFIG", str(config))
    notifier = Notifier(served, os.environ)
    notifier.keep()
    assert not served.notify_log.exists()
    write_atomic(config, TABLE)  # the process leaves where it reads half a file
    notifier.keep()
    until(lambda: lock_holder(served.notify_lock), "it lives")
    pid = lock_holder(served.notify_lock) or 0
    for text in (f"{TABLE}# changed\n", f"{TABLE}# and again\n"):
        write_atomic(config, text)
        notifier.keep()
    assert lock_holder(served.notify_lock) == pid
    os.kill(pid, signal.SIGKILL)
    until(lambda: lock_holder(served.notify_lock) is None, "it is dead")
    write_atomic(config, f"{TABLE}# now\n")
    notifier.keep()
    until(lambda: lock_holder(served.notify_lock), "another one lives")
    another = lock_holder(served.notify_lock) or 0
    config.write_text("")
    notifier.keep()
    until(lambda: gone(another), "it leaves by itself where nobody is to be told")
    assert any("leaves" in line for line in lines_of(served.notify_log))


def test_a_broken_file_starts_nothing(served: Home, config: Path) -> None:
    config.write_text("[notify")
    Notifier(served, {"LAUNCHER_CONFIG": str(config)}).keep()
    assert not served.notify_log.exists()
