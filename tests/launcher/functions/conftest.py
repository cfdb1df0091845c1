"""What the tests of functions can ask for."""

import threading
import time
from collections.abc import Iterator

import pytest

from launcher.functions.future import FOLLOWER
from launcher.store.queue import Store
from launcher.system.daemon_control import wake
from launcher.system.paths import Home
from tests.build import until


@pytest.fixture
def queue(home: Home) -> Iterator[Home]:
    """A queue of its own; in the end nobody follows its jobs any more, who would start a scheduler again."""
    yield home
    store = Store(home, durable=False)
    try:
        store.owning.cancel([job.id for job in store.read.jobs_open()], time.time())
        wake(home)
    finally:
        store.close()
    until(lambda: not followers(), "all futures know that their jobs have ended")


def followers() -> list[threading.Thread]:
    """Return the threads that follow jobs for futures."""
    return [thread for thread in threading.enumerate() if thread.name == FOLLOWER]
