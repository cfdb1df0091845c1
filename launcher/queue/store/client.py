"""State of this machine for a command: the queue folder, the queue, a running scheduler."""

import os
import sqlite3
import sys
import time
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path

from launcher import __version__
from launcher.queue.home.daemon_control import scheduler_pid, start_scheduler, wake
from launcher.queue.home.home_checks import relocation
from launcher.queue.home.paths import Attempt, Home, check_home, find_home, make_home
from launcher.queue.home.scheduler_start import ensure_scheduler, this_version, version_of
from launcher.queue.jobs.context import Context, current_context
from launcher.queue.jobs.states import State
from launcher.queue.store.queue import Store
from launcher.queue.store.recovery import (
    missing_database_text,
    queue_database_error,
    refuse_damaged,
)
from launcher.queue.store.relocation import count_held_in_copy
from launcher.queue.store.rows import JobRow
from launcher.system.errors import MachineError, UsageError, suggestion_or_known_names
from launcher.system.files import device_and_inode, read_json
from launcher.system.process_trees import ATTEMPT_VARIABLE
from launcher.system.processes import usable_cores
from launcher.system.remembered_variables import filter_environment, omitted_variables_note
from launcher.system.text import sanitize_terminal

HOW_TO_START = "To start jobs again: launcher start"


@contextmanager
def open_queue(*, make: bool = False) -> Iterator[tuple[Home, Store]]:
    """Open the caller's queue.

    Args:
        make: Create the queue folder if it is missing. Otherwise that is an error.

    Raises:
        UsageError: The queue does not exist yet.
        MachineError: The queue folder belongs to another user or machine, or its database is
            damaged.
    """
    home = find_home(os.environ)
    if make:
        make_home(home)
    elif not home.exists():
        raise UsageError(
            f"there is no queue in {home.folder}. "
            "Create one with `launcher run TASKFILE` or `launcher add`."
        )
    else:
        check_home(home)
    where = relocation(home.record)
    if make and (attempt := enclosing_attempt(home)) is not None:
        with suppress(OSError):  # only reasons of waiting jobs need the file
            attempt.queued_jobs.touch()
    with open_home(home) as store:
        if where is not None and where.is_copy:
            _print_note(
                sanitize_terminal(
                    _copied_home_note(home, where.former_folder, count_held_in_copy(store.database))
                )
            )
        yield home, store


def enclosing_attempt(home: Home) -> Attempt | None:
    """Return the attempt of this queue inside which this process runs; None if there is none."""
    folder = Path(os.environ.get(ATTEMPT_VARIABLE, ""))
    job, _, number = folder.name.partition("-")
    if not (job.isdecimal() and number.isdecimal()):
        return None
    attempt = home.attempt(int(job), int(number))
    ours = device_and_inode(attempt.folder)
    return attempt if ours is not None and ours == device_and_inode(folder) else None


def without_own_job(home: Home, jobs: Iterable[int]) -> list[int]:
    """Return jobs without the one inside which this process runs; print a note if it is among them."""
    listed = [*jobs]
    attempt = enclosing_attempt(home)
    own = None if attempt is None else int(attempt.folder.name.partition("-")[0])
    if own in listed:
        _print_note(f"note: not waiting for job {own}, because this program runs inside it")
    return [job for job in listed if job != own]


def _copied_home_note(home: Home, original: str, held_count: int) -> str:
    """Return what to print when a command finds that its queue folder is a copy."""
    text = f"note: the queue folder {home.folder} is a copy of {original}"
    if not held_count:
        return text
    its, them = "Its unfinished job is", "it"
    if held_count > 1:
        its, them = f"Its {held_count:,} unfinished jobs are", "them"
    return (
        f"{text}. {its} held, because the original may have run {them}. "
        "List them: launcher status --state held. Start one here: launcher release JOB"
    )


@contextmanager
def open_home(home: Home) -> Iterator[Store]:
    """Open the queue of an existing folder of our own.

    Raises:
        MachineError: Its database is damaged.
        UsageError: A name or folder that the block uses is not UTF-8 text.
    """
    store = Store(home)
    try:
        yield store
    except sqlite3.Error as error:  # the check may find damage, or a failing disk
        raise queue_database_error(home.database, error) from error
    except UnicodeEncodeError as error:  # SQLite stores and compares UTF-8 only
        raise _not_utf8(error) from error
    finally:
        store.close()


@contextmanager
def open_queue_readonly(home: Home) -> Iterator[tuple[Home, Store]]:
    """Open a queue for reading only. No byte of the database is changed.

    Later changes may be invisible. To follow a queue, use `open_home`.

    Raises:
        MachineError: The queue folder belongs to another user, or its database is damaged, newer, or of a
            development version.
        UsageError: A name or folder that the block uses is not UTF-8 text.
    """
    store = Store(home, reading=True)
    try:
        yield home, store
    except sqlite3.Error as error:
        raise MachineError(f"cannot read the queue {home.database}: {error}") from error
    except UnicodeEncodeError as error:
        raise _not_utf8(error) from error
    finally:
        store.close()


def _not_utf8(error: UnicodeEncodeError) -> UsageError:
    return UsageError(
        f"{error.object!r} is not UTF-8 text, so a queue cannot store it. Use another name, or rename "
        "the folder."
    )


def find_run_jobs(store: Store, name: str) -> list[JobRow]:
    """Return the jobs of the run of a name: that of this folder, otherwise the newest. Print where others are.

    Raises:
        UsageError: There is no such run.
    """
    rows = store.read.jobs_of_runs_named(name)
    if not rows:
        raise UsageError(missing_run_text(store, name))
    root = max(rows, key=lambda row: row.submitted).root
    if others := {row.root for row in rows} - {root}:
        if (here := str(Path.cwd())) in others:
            others, root = others - {here} | {root}, here
        _print_note(
            sanitize_terminal(
                f"note: this is the run {name} of {root}. For the runs of the same name, change to "
                f"{', '.join(sorted(others))}"
            )
        )
    return [row for row in rows if row.root == root]


def missing_run_text(store: Store, name: str, prefix: str = "") -> str:
    """Return what is said where no job is of a run of that name, which was typed behind a prefix."""
    names = sorted(store.read.runs())
    if store.searches.open_searches_in_runs(name):
        return f"the search of run {name!r} has not queued its first trial yet. Run this command again."
    if name in names:
        return f"the jobs of run {name!r} were deleted by launcher clean"
    return f"run {name!r} does not exist{suggestion_or_known_names(name, names, prefix)}"


def check_database_current(home: Home, store: Store) -> None:
    """Check that an open database is still that of the queue folder.

    Raises:
        MachineError: It was deleted, replaced, or found damaged and renamed.
    """
    refuse_damaged(home)
    if not store.is_current():
        if home.database.exists():
            raise MachineError(f"the queue {home.database} was replaced. Run this command again.")
        raise MachineError(missing_database_text(home))


def context_to_store(pass_env: Collection[str] = ()) -> Context:
    """Return the context that is stored with a new job. Print the variables that were left out.

    Args:
        pass_env: Variables that the job requests although they look like secrets.

    Raises:
        UsageError: A variable is not set.
    """
    kept, left_out = filter_environment(os.environ, pass_env)
    if left_out:
        _note_once(omitted_variables_note(left_out))
    return current_context(kept)


@cache
def _note_once(note: str) -> None:
    _print_note(sanitize_terminal(note))


def wake_or_start_scheduler(home: Home) -> None:
    """Wake the scheduler after a commit. Start one if none is running."""
    wake(home)  # first: an idle scheduler starts the program within milliseconds
    ensure_scheduler_with_note(home)


def ensure_scheduler_with_note(home: Home) -> None:
    """See that a scheduler lives; say so where it is a newer launcher's, which goes on.

    Raises:
        MachineError: it does not come up.
    """
    ensure_scheduler(home)
    record = read_json(home.scheduler_record) or {}
    if version_of(record).has_higher_number_than(this_version()):
        _note_once(
            f"note: the scheduler of this queue is launcher {record.get('version')}, "
            f"newer than this command ({__version__})"
        )


def restart_scheduler_if_dead(home: Home, store: Store) -> None:
    """Start a scheduler where one has died with jobs in hand; it is not waited for."""
    dead = home.scheduler_record.exists() and scheduler_pid(home) is None
    if dead and not home.stop_record.exists():
        counts = store.read.counts()
        is_open = counts.get(State.QUEUED) or counts.get(State.RUNNING)
        if is_open or store.searches.active_numbers():
            start_scheduler(home)


def note_if_stopped(home: Home) -> bool:
    """Print a note if the queue is stopped and starts no jobs. Return whether it is."""
    if home.stop_record.exists():
        _print_note(f"note: the queue is stopped{_stop_time_text(home)}. {HOW_TO_START}")
        return True
    return False


def clear_stop(home: Home) -> None:
    """Restart a stopped queue for a user who requested jobs to run, and print that."""
    if home.stop_record.exists():
        _print_note(f"note: the queue was stopped{_stop_time_text(home)} and starts jobs again now")
        home.stop_record.unlink(missing_ok=True)


def _stop_time_text(home: Home) -> str:
    at = (read_json(home.stop_record) or {}).get("at")
    if not isinstance(at, int | float) or at <= 0:
        return ""
    return f" since {time.strftime('%d %b %H:%M', time.localtime(at))}"


def ensure_scheduler_alive(home: Home, store: Store) -> bool:
    """Replace a scheduler that was killed. False if the queue was stopped and nothing runs.

    Raises:
        MachineError: The database behind `store` no longer belongs to the queue folder.
    """
    check_database_current(home, store)
    if home.stop_record.exists():
        return scheduler_pid(home) is not None
    ensure_scheduler(home)
    return True


def queue_stopped_error() -> MachineError:
    """Return the exception for a command that waits for jobs of a stopped queue."""
    return MachineError(f"the queue is stopped, so these jobs wait. {HOW_TO_START}")


def cores_for_jobs(home: Home) -> int:
    """Return the number of cores for jobs: from a running scheduler, otherwise from the limits of this process."""
    pid, record = scheduler_pid(home), read_json(home.scheduler_record) or {}
    cpus = record.get("cpus")
    return cpus if pid and record.get("pid") == pid and isinstance(cpus, int) else usable_cores()


def _print_note(line: str) -> None:
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()
