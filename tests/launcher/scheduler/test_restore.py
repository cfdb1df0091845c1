"""A queue that was restored from a backup: what ran since then decides nothing, and is not doubled."""

import contextlib
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from launcher.errors import MachineError, StoreError
from launcher.job import Spec, Terms
from launcher.states import ENDED, State
from launcher.store.client import keep_going
from launcher.store.queue import Store
from launcher.store.recovery import back_up, backups
from launcher.system.daemon_control import scheduler_pid, wake
from launcher.system.paths import Home
from launcher.system.processes import send
from tests.build import (
    a_spec,
    endings,
    enqueue,
    gone,
    in_state,
    job_row,
    lines_of,
    program_of,
    shell,
    until,
)
from tests.launcher.queued import serve, states, until_done


@contextlib.contextmanager
def opened(home: Home) -> Iterator[Store]:
    """The queue as it is now: its database is replaced now and then."""
    store = Store(home, durable=False)
    yield store
    store.close()


def queued(home: Home, *specs: Spec, served: bool = True) -> int:
    """Queue a job, and have a scheduler serve it."""
    with opened(home) as store:
        (job,) = enqueue(store, *specs)
    if served:
        serve(home)
    return job


def retry(home: Home, job: int) -> None:
    """Do what `launcher retry` does."""
    with opened(home) as store:
        assert store.steering.retry([job], time.time()) == [job]
    serve(home)


def until_it_is(home: Home, job: int, *wanted: State) -> None:
    """Wait until a job is in one of the states."""
    with opened(home) as store:
        until(lambda: in_state(store, job, *wanted), f"job {job} is {wanted}")


def no_scheduler(home: Home) -> None:
    """Kill the scheduler; what runs goes on."""
    home.stop.touch()  # nobody restarts it
    pid = scheduler_pid(home)
    if pid is not None:
        send(pid, signal.SIGKILL)
    until(lambda: scheduler_pid(home) is None, "the scheduler is dead")
    home.stop.unlink()


def save(home: Home) -> Path:
    """Make a backup as a migration does."""
    return back_up(home.database, home.backups, 2)


def replace(home: Home, content: bytes) -> None:
    """Put another file in the database's place, at once: a supervisor may revive the scheduler."""
    new = home.folder / "new"
    new.write_bytes(content)
    new.replace(home.database)
    for end in ("-wal", "-shm"):
        home.database.with_name(home.database.name + end).unlink(missing_ok=True)


def restore(home: Home, backup: Path) -> None:
    """Damage the database, and do with a backup what the damage report advises."""
    no_scheduler(home)
    replace(home, os.urandom(1 << 16))
    with pytest.raises(StoreError, match="found damaged") as report:
        Store(home)
    start = "from the newest backup: "
    (line,) = [one for one in str(report.value).splitlines() if one.startswith(start)]
    command = line.removeprefix(start).replace(str(backups(home.backups)[-1]), str(backup))
    subprocess.run(["/bin/sh", "-c", command], check=True)


def test_a_retry_really_runs_after_a_restore_from_each_backup(home: Home, tmp_path: Path) -> None:
    ran = tmp_path / "ran"
    job = queued(home, a_spec(*shell('echo x >>"$1"; exit 3', str(ran))))
    until_it_is(home, job, *ENDED)
    saved = [save(home)]
    for _ in range(2):
        retry(home, job)
        until_it_is(home, job, *ENDED)
        saved.append(save(home))
    for times, backup in enumerate(saved, 4):
        restore(home, backup)
        assert len(lines_of(ran)) == times - 1
        retry(home, job)
        until_it_is(home, job, *ENDED)
        assert len(lines_of(ran)) == times

        with opened(home) as store:
            assert job_row(store, job).attempts == times
            assert endings(store, job)[-1] == "failed"


def test_a_scheduler_does_not_go_on_with_a_database_that_another_one_replaced(home: Home) -> None:
    job = queued(home, a_spec())
    until_it_is(home, job, State.DONE)
    first = scheduler_pid(home)
    replace(home, save(home).read_bytes())

    other = queued(home, a_spec(name="command/2"))
    until_it_is(home, other, State.DONE)
    assert scheduler_pid(home) not in {first, None}
    with opened(home) as store:  # what was written since is there: no log was lost
        assert states(store) == "done done"


def test_a_scheduler_that_cannot_read_its_database_keeps_it_aside_and_leaves(home: Home) -> None:
    job = queued(home, a_spec())
    until_it_is(home, job, State.DONE)
    store = Store(home)
    store.database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    size = home.database.stat().st_size
    with home.database.open("r+b") as file:
        file.seek(4096)
        file.write(os.urandom(size - 4096))
    wake(home)

    until(home.damage_record.exists, "it is found damaged")
    until(lambda: scheduler_pid(home) is None, "the scheduler has left")
    with pytest.raises(MachineError, match="found damaged"):
        keep_going(home, store)  # whoever watches is told
    store.close()
    home.damage_record.unlink()
    other = queued(home, a_spec(name="command/2"))
    until_it_is(home, other, State.DONE)


def test_what_runs_since_before_a_restore_is_waited_for_and_not_doubled(
    home: Home, tmp_path: Path
) -> None:
    ran, gate = tmp_path / "ran", tmp_path / "gate"
    script = 'echo x >>"$1"; until [ -e "$2" ]; do sleep 0.01; done'
    job = queued(home, a_spec(*shell(script, str(ran), str(gate))), served=False)
    backup = save(home)
    serve(home)
    program = program_of(home.attempt(job, 1))
    restore(home, backup)

    other = queued(home, a_spec(name="command/2"))
    until_it_is(home, other, State.DONE)
    with opened(home) as store:
        until(lambda: "no record of still runs" in job_row(store, job).hindrance, "it is told")
        assert not gone(program)
        assert lines_of(ran) == ["x"]
        gate.touch()
        until_done(store, job)
        assert lines_of(ran) == ["x", "x"]
        assert job_row(store, job).attempts == 2


def test_what_must_never_run_twice_and_ran_before_a_restore_runs_only_when_asked_for(
    home: Home, tmp_path: Path
) -> None:
    ran = tmp_path / "ran"
    argv = shell('echo x >>"$1"', str(ran))
    job = queued(home, a_spec(*argv, terms=Terms(rerun="never")), served=False)
    backup = save(home)
    serve(home)
    until_it_is(home, job, State.DONE)
    restore(home, backup)

    serve(home)
    until_it_is(home, job, *ENDED)
    assert lines_of(ran) == ["x"]
    with opened(home) as store:
        assert states(store) == "failed"
        assert "no record of the attempt" in job_row(store, job).reason
    retry(home, job)
    until_it_is(home, job, State.DONE)
    assert lines_of(ran) == ["x", "x"]


def test_a_new_job_with_the_number_of_one_that_a_restore_forgot_runs(
    home: Home, tmp_path: Path
) -> None:
    ran = tmp_path / "ran"
    first = queued(home, a_spec())
    until_it_is(home, first, State.DONE)
    backup = save(home)
    forgotten = queued(home, a_spec(*shell('echo x >>"$1"', str(ran)), name="command/2"))
    until_it_is(home, forgotten, State.DONE)
    no_scheduler(home)
    for file in home.folder.glob("queue.sqlite*"):  # by hand, without a word to the queue
        file.unlink()
    shutil.copyfile(backup, home.database)

    job = queued(home, a_spec(*shell('echo y >>"$1"', str(ran)), name="command/2"))
    until_it_is(home, job, State.DONE)
    assert job == forgotten
    assert lines_of(ran) == ["x", "y"]


def test_folders_of_claims_that_came_to_nothing_do_not_pile_up(home: Home) -> None:
    job = queued(home, a_spec(), served=False)
    left = home.attempt(job, 1)
    left.folder.mkdir()
    left.spec.write_text("{")  # the disk was full
    serve(home)
    until_it_is(home, job, State.DONE)
    with opened(home) as store:
        assert job_row(store, job).attempts == 1
