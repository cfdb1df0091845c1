import contextlib
import fcntl
import os
import signal
import time
from itertools import combinations

import pytest

from launcher.queue.home import scheduler_start
from launcher.queue.home.daemon_control import (
    MOST_RESTARTS,
    restart_scheduler,
    scheduler_pid,
    start_scheduler,
    wake,
)
from launcher.queue.home.paths import Home
from launcher.queue.home.scheduler_start import (
    LauncherVersion,
    ensure_scheduler,
    version_of,
)
from launcher.queue.jobs.states import State
from launcher.queue.store.queue import Store
from launcher.system.errors import MachineError
from launcher.system.files import Json, read_json, write_json
from launcher.system.processes import identity
from tests.build import (
    DEADLINE_S,
    a_spec,
    endings,
    enqueue,
    program_of,
    reaches,
    until,
)
from tests.launcher.conftest import Launcher


def exit_code(pid: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def test_wake_never_blocks_on_an_unresponsive_scheduler(home: Home) -> None:
    os.mkfifo(home.wake_pipe)
    reader = os.open(home.wake_pipe, os.O_RDWR | os.O_NONBLOCK)
    fcntl.fcntl(reader, fcntl.F_SETPIPE_SZ, 4096)
    for _ in range(5000):  # more than it holds
        wake(home)
    os.close(reader)


def test_failed_scheduler_start_is_reported_with_its_last_output(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scheduler_start, "START_TIMEOUT_S", 10 * DEADLINE_S)
    home.database.write_bytes(b"no database at all, but long enough to look like one " * 100)
    before = time.monotonic()
    with pytest.raises(MachineError, match="file is not a database"):
        ensure_scheduler(home)
    assert time.monotonic() - before < DEADLINE_S, "it must not wait for one that has died"


def test_scheduler_of_another_version_is_replaced_and_its_jobs_continue(
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


def test_dead_scheduler_is_restarted_a_limited_number_of_times(home: Home, store: Store) -> None:
    write_json(home.restarts, {"schema": 1, "times": [time.time()] * MOST_RESTARTS})
    restart_scheduler(home)
    assert scheduler_pid(home) is None
    write_json(home.restarts, {"schema": 1, "times": [time.time() - 1000] * MOST_RESTARTS})
    restart_scheduler(home)
    assert scheduler_pid(home) is not None


def test_scheduler_that_dies_unnoticed_is_restarted_by_the_same_helper(
    home: Home, store: Store
) -> None:
    mine = home.record.read_text()
    write_json(home.record, {"schema": 1, "machine": "another", "host": "gpu3"})
    restart_scheduler(home)  # each one that it starts leaves at once
    assert home.scheduler_log.read_text().count("belongs to machine 'gpu3'") == MOST_RESTARTS
    home.record.write_text(mine)
    restart_scheduler(home)
    assert scheduler_pid(home) is None, "there were enough lately"


def test_scheduler_with_a_deleted_record_is_found_and_writes_a_new_one(
    home: Home, store: Store
) -> None:
    pid = ensure_scheduler(home)
    home.scheduler_record.unlink()
    assert ensure_scheduler(home) == pid
    until(home.scheduler_record.exists, "it has written another")


def test_concurrent_restarts_start_one_scheduler(home: Home, store: Store) -> None:
    begin, end = os.pipe()
    helpers = []
    for _ in range(4):
        helper = os.fork()
        if not helper:
            code = 1
            with contextlib.suppress(BaseException):
                os.close(end)
                os.read(begin, 1)  # until all are there
                restart_scheduler(home)
                code = 0
            os._exit(code)
        helpers.append(helper)
    os.close(end)
    assert [exit_code(helper) for helper in helpers] == [0] * 4
    os.close(begin)
    assert scheduler_pid(home) is not None
    record = read_json(home.restarts)
    assert record is not None
    assert len(record["times"]) == 1  # type: ignore[arg-type]  # a list, as the code reads it


def test_stopped_queue_is_not_restarted(home: Home, store: Store) -> None:
    write_json(home.stop_record, {"schema": 1, "now": False})
    restart_scheduler(home)
    assert scheduler_pid(home) is None
    assert not home.restarts.exists()


def test_deleted_home_is_not_restarted(home: Home) -> None:
    restart_scheduler(Home(home.folder / "gone"))
    assert not (home.folder / "gone").exists()


# --- whose scheduler goes on


def as_if_it_ran(home: Home, **changes: Json) -> dict[str, Json]:
    """Change values in the record of the running scheduler, for example its version."""
    record = read_json(home.scheduler_record)
    assert record is not None
    write_json(home.scheduler_record, {**record, **changes})
    return record


@pytest.mark.parametrize("changes", [{"version": "0.1.9"}, {"code": 1}])
def test_newer_launcher_replaces_an_older_scheduler(
    home: Home, store: Store, changes: dict[str, Json]
) -> None:
    pid = ensure_scheduler(home)
    as_if_it_ran(home, **changes)
    new = ensure_scheduler(home)
    assert new != pid
    assert exit_code(pid) == 0
    assert ensure_scheduler(home) == new


# from old to new, as PEP 440 orders them; an invalid version comes first
ORDERED = (
    "odd",
    "0.2.0",
    "0.2.1",
    "0.3.0.dev2",
    "0.3.0.dev9",
    "0.3.0.dev10",
    "0.3.0a1.dev1",
    "0.3.0a1",
    "0.3.0b2",
    "0.3.0rc9",
    "0.3.0rc10",
    "0.3.0",
    "0.3.0+local",
    "0.3.0.post1",
    "0.10.0",
    "1!0.1",
)


def version(text: str, code: int = 1) -> LauncherVersion:
    return version_of({"version": text, "code": code})


def test_versions_are_ordered_as_in_pep_440() -> None:
    for older, newer in combinations(ORDERED, 2):
        assert version(newer).is_newer_than(version(older)), (older, newer)
        assert not version(older).is_newer_than(version(newer)), (older, newer)


@pytest.mark.parametrize(
    ("one", "other"),
    [("0.3.0", "0.3.0"), ("0.3", "0.3.0"), ("0.3.0.dev1", "0.3.0dev1"), ("", "odd")],
)
def test_newer_code_wins_between_equal_versions(one: str, other: str) -> None:
    assert version(one, 2).is_newer_than(version(other, 1))
    assert not version(one, 1).is_newer_than(version(other, 2))
    assert not version(one, 1).is_newer_than(version(other, 1))


def test_newer_scheduler_is_reported_once(home: Home, store: Store, launcher: Launcher) -> None:
    pid = ensure_scheduler(home)
    as_if_it_ran(home, version="9.9")
    answer = launcher.well("add", "--", "true")
    assert answer.out == "1\tcommand/1\n"
    assert (
        answer.err.count("the scheduler of this queue is launcher 9.9, newer than this command (1.")
        == 1
    )
    assert scheduler_pid(home) == pid


# --- files that somebody deletes or replaces


def test_deleted_lock_does_not_allow_a_second_scheduler(home: Home, store: Store) -> None:
    pid = ensure_scheduler(home)
    home.scheduler_lock.unlink()
    assert scheduler_pid(home) is None
    second = start_scheduler(home)
    assert exit_code(second) == 0, "it sees on record that another serves"
    until(lambda: scheduler_pid(home) == pid, "the first has locked the new file")
    assert ensure_scheduler(home) == pid
    home.scheduler_lock.unlink()
    wake(home)
    until(lambda: scheduler_pid(home) == pid, "it has locked the third file, too")
    (job,) = enqueue(store, a_spec())
    wake(home)
    reaches(store, job, State.DONE)


def test_one_scheduler_remains_after_lock_and_record_were_deleted(home: Home, store: Store) -> None:
    first = ensure_scheduler(home)
    home.scheduler_lock.unlink()
    home.scheduler_record.unlink()
    second = start_scheduler(home)

    def one_left() -> bool:
        wake(home)
        return (identity(first) is None) != (identity(second) is None)

    until(one_left, "one of the two has left")
    until(lambda: scheduler_pid(home) in {first, second}, "the other one has the lock")
    time.sleep(0.5)
    assert one_left()


@pytest.mark.parametrize("what", ["file", "folder", "link"])
def test_file_in_place_of_the_pipe_is_moved_away(home: Home, store: Store, what: str) -> None:
    """Its end would be readable all the time, and the scheduler would never sleep."""
    if what == "file":
        home.wake_pipe.write_text("x")
    elif what == "folder":
        home.wake_pipe.mkdir()
    else:
        home.wake_pipe.symlink_to("/dev/null")
    wake(home)
    ensure_scheduler(home)
    until(home.wake_pipe.is_fifo, "it has made a pipe")
    (job,) = enqueue(store, a_spec())
    wake(home)
    reaches(store, job, State.DONE)
    home.wake_pipe.unlink()
    home.wake_pipe.write_text("y")
    (later,) = enqueue(store, "command/2")
    os.kill(ensure_scheduler(home), signal.SIGTERM)  # the next one finds the file
    until(lambda: scheduler_pid(home) is None, "it has left")
    ensure_scheduler(home)
    reaches(store, later, State.DONE)
    assert home.wake_pipe.is_fifo()


def test_scheduler_death_during_wake_is_not_an_error(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    os.mkfifo(home.wake_pipe)
    reader, write = os.open(home.wake_pipe, os.O_RDONLY | os.O_NONBLOCK), os.write

    def after_its_death(descriptor: int, data: bytes) -> int:
        os.close(reader)
        return write(descriptor, data)

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", after_its_death)
        wake(home)
