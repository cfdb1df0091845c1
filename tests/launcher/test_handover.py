import fcntl
import os
import signal
import subprocess
import sys
import time

import pytest

from launcher import __version__
from launcher.errors import MachineError
from launcher.handover import (
    REVIVALS,
    ensure_scheduler,
    revive,
    scheduler_pid,
    start_scheduler,
    wake,
)
from launcher.paths import Home
from launcher.processes import identity
from launcher.records import read_json, write_json
from launcher.scheduler import LOG_BYTES
from launcher.states import State
from launcher.store.store import Store
from tests.build import a_spec, endings, enqueue, in_state, program_of, until


def exit_code(pid: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def test_nobody_is_woken_where_nobody_sleeps(home: Home) -> None:
    wake(home)  # no pipe
    os.mkfifo(home.wake)
    wake(home)  # no reader
    wake(Home(home.folder / "gone"))


def test_waking_one_who_does_not_listen_never_waits(home: Home) -> None:
    os.mkfifo(home.wake)
    reader = os.open(home.wake, os.O_RDWR | os.O_NONBLOCK)
    fcntl.fcntl(reader, fcntl.F_SETPIPE_SZ, 4096)
    for _ in range(5000):  # more than it holds
        wake(home)
    os.close(reader)


def test_a_scheduler_is_started_once(home: Home, store: Store) -> None:
    pid = ensure_scheduler(home)
    assert ensure_scheduler(home) == pid == scheduler_pid(home)
    record = read_json(home.scheduler_record)
    assert record is not None
    assert (record["pid"], record["version"]) == (pid, __version__)
    assert os.getsid(pid) == pid


def test_of_two_schedulers_one_leaves(home: Home, store: Store) -> None:
    first, second = start_scheduler(home), start_scheduler(home)
    until(lambda: scheduler_pid(home) in {first, second}, "one of them has the lock")
    winner = scheduler_pid(home)
    assert winner is not None
    loser = first if winner == second else second
    assert exit_code(loser) == 0
    assert scheduler_pid(home) == winner


def test_a_scheduler_that_cannot_work_is_told_with_its_last_words(home: Home) -> None:
    home.database.write_bytes(b"no database at all, but long enough to look like one " * 100)
    before = time.monotonic()
    with pytest.raises(MachineError, match="file is not a database"):
        ensure_scheduler(home)
    assert time.monotonic() - before < 10, "it must not wait for one that has died"


def test_a_scheduler_of_another_version_hands_over_and_its_jobs_run_on(
    home: Home, store: Store
) -> None:
    (job,) = enqueue(store, a_spec("sleep", "60"))
    old = ensure_scheduler(home)
    program = program_of(home.attempt(job, 1))
    record = read_json(home.scheduler_record)
    assert record is not None
    write_json(home.scheduler_record, {**record, "version": "0.0.1"})
    new = ensure_scheduler(home)
    assert new != old
    assert exit_code(old) == 0
    until(lambda: "adopted" in home.scheduler_log.read_text(), "the job is adopted")
    assert identity(program) is not None
    assert endings(store, job) == [None]


def test_a_sleeping_scheduler_leaves_at_once_when_it_is_told_to(home: Home, store: Store) -> None:
    pid = ensure_scheduler(home)
    (job,) = enqueue(store, a_spec())
    wake(home)
    until(lambda: in_state(store, job, State.DONE), "the job is done")
    before = time.monotonic()
    os.kill(pid, signal.SIGTERM)
    assert exit_code(pid) == 0
    assert time.monotonic() - before < 10, "a signal must end its sleep"


def test_a_dead_scheduler_is_revived_a_few_times_at_most(home: Home, store: Store) -> None:
    write_json(home.restarts, {"schema": 1, "times": [time.time()] * REVIVALS})
    revive(home)
    assert scheduler_pid(home) is None
    write_json(home.restarts, {"schema": 1, "times": [time.time() - 1000] * REVIVALS})
    revive(home)
    assert scheduler_pid(home) is not None


def test_a_scheduler_that_dies_before_anyone_sees_it_is_started_again_by_the_same_helper(
    home: Home, store: Store
) -> None:
    mine = home.record.read_text()
    write_json(home.record, {"schema": 1, "machine": "another", "host": "gpu3"})
    revive(home)  # each one that it starts leaves at once
    assert home.scheduler_log.read_text().count("belongs to machine 'gpu3'") == REVIVALS
    home.record.write_text(mine)
    revive(home)
    assert scheduler_pid(home) is None, "there were enough lately"


def test_a_long_log_is_set_aside(home: Home, store: Store) -> None:
    with home.scheduler_log.open("wb") as log:
        log.truncate(LOG_BYTES + 1)
    ensure_scheduler(home)
    until(lambda: "scheduler pid=" in home.scheduler_log.read_text(), "a new one is begun")
    assert (home.folder / "scheduler.log.1").stat().st_size > LOG_BYTES
    assert home.scheduler_log.stat().st_mode & 0o777 == 0o600


def test_a_scheduler_whose_record_was_deleted_is_found_and_writes_another(
    home: Home, store: Store
) -> None:
    pid = ensure_scheduler(home)
    home.scheduler_record.unlink()
    assert ensure_scheduler(home) == pid
    until(home.scheduler_record.exists, "it has written another")


def test_many_who_notice_a_death_restart_once(home: Home, store: Store) -> None:
    script = f"from launcher.handover import *; revive(Home(Path({str(home.folder)!r})))"
    helpers = [subprocess.Popen([sys.executable, "-c", script]) for _ in range(4)]
    assert [helper.wait() for helper in helpers] == [0] * 4
    assert scheduler_pid(home) is not None
    record = read_json(home.restarts)
    assert record is not None
    assert len(record["times"]) == 1  # type: ignore[arg-type]  # a list, as the code reads it


def test_a_queue_that_was_stopped_is_not_revived(home: Home, store: Store) -> None:
    write_json(home.stop, {"schema": 1, "now": False})
    revive(home)
    assert scheduler_pid(home) is None
    assert not home.restarts.exists()


def test_a_home_that_is_gone_is_not_revived(home: Home) -> None:
    revive(Home(home.folder / "gone"))
    assert not (home.folder / "gone").exists()
