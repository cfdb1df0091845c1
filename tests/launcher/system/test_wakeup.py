"""A scheduler's sleep, and what ends it."""

import signal
import threading
from collections.abc import Iterator

import pytest

from launcher.system.daemon_control import Sleeper
from launcher.system.paths import Home
from tests.build import DEADLINE_S

NUMBER = signal.SIGUSR1


@pytest.fixture
def sleeper(home: Home) -> Iterator[Sleeper]:
    """One that hears a signal, whose handler does nothing."""
    sleeper = Sleeper(home)
    before = signal.signal(NUMBER, lambda *_: None), signal.set_wakeup_fd(-1)
    sleeper.ring_at_signals()
    yield sleeper
    signal.set_wakeup_fd(before[1])
    signal.signal(NUMBER, before[0])


def test_a_signal_ends_a_sleep_that_it_does_not_interrupt(sleeper: Sleeper) -> None:
    # as one that comes just before a sleep begins, it interrupts nothing: another thread gets it
    thread = threading.Thread(target=lambda: signal.pthread_kill(threading.get_ident(), NUMBER))
    thread.start()
    sleeper.sleep((), DEADLINE_S)
    thread.join()
    assert sleeper.news, "only the time ended it"
