"""What a scheduler survives, and that its log tells of it without flooding."""

import logging
import sqlite3
import time

import pytest

from launcher.scheduler.loop import Scheduler
from launcher.states import State
from launcher.store.queue import Store
from launcher.system.daemon_control import ensure_scheduler, revive, scheduler_pid, wake
from launcher.system.error_log import Troubles
from launcher.system.paths import Home
from launcher.workers.started_file import recorded_outcome
from tests.build import Clock, a_spec, enqueue, in_state, shell, until

UNTIL = 'until [ -e "$1" ]; do sleep 0.01; done'


def running(home: Home, store: Store) -> int:
    """Have a job run that ends when its home has a file `gate`."""
    (job,) = enqueue(store, a_spec(*shell(UNTIL, str(home.folder / "gate"))))
    ensure_scheduler(home)
    wake(home)
    until(lambda: in_state(store, job, State.RUNNING), "it runs")
    return job


def woken(home: Home) -> bool:
    """Wake the scheduler while something is waited for."""
    wake(home)
    return True


def log_of(home: Home) -> str:
    return home.scheduler_log.read_text()


def test_a_lock_that_cannot_be_made_again_stops_nothing(home: Home, store: Store) -> None:
    job = running(home, store)
    home.scheduler_lock.unlink()
    home.scheduler_lock.mkdir()
    (home.folder / "gate").touch()
    until(lambda: in_state(store, job, State.DONE), "its end is taken in")
    (later,) = enqueue(store, a_spec(name="command/2"))
    wake(home)
    until(lambda: in_state(store, later, State.DONE), "others start")
    assert log_of(home).count("trouble=") == 1
    home.scheduler_lock.rmdir()
    until(lambda: woken(home) and scheduler_pid(home) is not None, "it locks a new file")


def test_a_scheduler_whose_turns_all_fail_neither_spins_nor_floods_its_log(
    home: Home, store: Store
) -> None:
    job = running(home, store)
    home.stop.mkdir()  # what people ask for cannot be read
    until(lambda: woken(home) and "trouble=" in log_of(home), "it is in trouble")
    (home.folder / "gate").touch()
    until(lambda: recorded_outcome(home.attempt(job, 1)), "the program has ended")
    time.sleep(1.5)
    assert log_of(home).count("trouble=") == 1
    home.stop.rmdir()
    until(lambda: in_state(store, job, State.DONE), "its end is taken in when the trouble is over")


def test_what_nobody_foresaw_ends_no_scheduler(
    home: Home, store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    looks = []

    def housekeeping() -> None:
        looks.append(time.monotonic())
        if len(looks) == 1:
            raise TypeError("a fault of ours")
        scheduler.leave()

    scheduler = Scheduler(home, store, snapshot=tuple, cpus=1, housekeeping=housekeeping)
    scheduler.run()
    assert len(looks) == 2
    (told,) = [one for one in caplog.records if "a fault of ours" in one.getMessage()]
    assert told.exc_info, "it is told where it arose"


def test_a_trouble_that_stays_is_told_once_a_minute(caplog: pytest.LogCaptureFixture) -> None:
    clock = Clock()
    troubles = Troubles(clock)
    caplog.set_level(logging.WARNING)
    for number in range(3):  # of one kind, in other words each time
        troubles.tell(OSError(28, "No space left on device", f"/home/.{number}.tmp"))
    troubles.tell(OSError(13, "Permission denied"))
    troubles.tell(sqlite3.OperationalError("disk I/O error"))
    assert len(caplog.records) == 3
    clock.now += 61
    troubles.tell(OSError(28, "No space left on device", "/home/.9.tmp"))
    assert len(caplog.records) == 4
    assert not any(record.exc_info for record in caplog.records)
    troubles.tell(TypeError("a fault"))
    assert caplog.records[-1].exc_info


def test_a_home_that_became_a_file_ends_no_helper(home: Home) -> None:
    home.folder.rename(home.folder.with_name("away"))
    home.folder.touch()
    revive(home)
    home.folder.unlink()
