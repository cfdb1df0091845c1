"""Every path of a home and of an attempt, and where the home is."""

import os
import stat
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from launcher.queue.home.home_checks import (
    check_machine,
    check_owner,
    default_folder,
    refuse_other_users_parent,
    resolve_links,
    unreachable_home_error,
    unusable_home_error,
)
from launcher.system.config import read_configuration, user_folder
from launcher.system.config_tables import absolute_path
from launcher.system.errors import StoreError
from launcher.system.locks import is_in_use, lock_holder
from launcher.system.mounts import read_mountinfo

SPEC, STARTED, RESULT, LOG, STDERR = "spec.json", "started", "result.json", "log", "stderr"
NUMBER_FILES = "number_files.json"
_RECORD = "home.json"
APPLICATION_ID = 0x4C41554E  # "LAUN": marks a database of this program
SCHEMA = (
    14  # number of launcher/queue/store/schema.sql; lower ones were used by development versions
)
DEVELOPMENT_VERSION_REMEDY = (
    "Finish its jobs with that version, or set LAUNCHER_HOME to another folder"
)


class _NamedFile:
    """A file or folder of a home or an attempt, by its name there."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __get__(self, owner: "_Folder | Home", _: object = None) -> Path:
        return owner.folder / self._name


class _Folder(NamedTuple):
    folder: Path


class Attempt(_Folder):
    """The folder of one attempt; every file in it has one writer.

    spec.json (scheduler): what to run; written before any process is asked to run it
    started (supervisor): second name of spec.json, given once, by the process that may start (or by a scheduler, to
        void it). After the spec, each line has pid, boot id and start time of supervisor or program. The last line
        is how it ended.
    share.json (scheduler): its memory limit on its GPU; replaced when that changes
    progress.jsonl (worker): steps and metrics
    paused (scheduler): present while its processes are to be paused
    asked (scheduler): present when its program, whose supervisor is dead, was asked to end
    waits-PID-THREAD (that thread of the program): jobs for whose end it waits
    kill (scheduler): present when its processes are to be killed without a grace period
    termination.json (supervisor): since when its program is being ended, and which processes resist
    memory.json (worker): its memory usage on its GPU
    result.json (worker): the entry function's return value, or its error
    log (program): standard output and error
    stderr (program): standard error, if the job wants a file for it
    number_files.json (supervisor): the files of numbers that its job names, and their numbers after its end
    log.numbers, stderr.numbers (supervisor): the numbers that the program reported in a long log
    queued (commands): present when its program has queued jobs in this queue
    runs (worker): link to the staging folder of its outputs, see `launcher.queue.staging`
    runs.moved (scheduler): the same, when all of it is in the run's folder
    """

    spec = _NamedFile(SPEC)
    started = _NamedFile(STARTED)
    share = _NamedFile("share.json")
    paused = _NamedFile("paused")
    end_request = _NamedFile("asked")
    queued_jobs = _NamedFile("queued")
    kill_request = _NamedFile("kill")
    termination = _NamedFile("termination.json")
    memory = _NamedFile("memory.json")
    progress = _NamedFile("progress.jsonl")
    number_files = _NamedFile(NUMBER_FILES)
    hashing = _NamedFile("hashing")  # progress of the supervisor with the digest of a large file
    result = _NamedFile(RESULT)
    log = _NamedFile(LOG)
    stderr = _NamedFile(STDERR)

    def path_text(self, name: str) -> str:
        """Return the path of a file in it, for operations on every attempt: a Path costs 10 µs."""
        return f"{self.folder}/{name}"

    @property
    def error_log(self) -> Path:
        """The file in which its errors are: that of standard error if it is there and not empty, otherwise the log."""
        try:
            return self.stderr if self.stderr.stat().st_size else self.log
        except OSError:
            return self.log

    def is_away(self) -> bool:
        """Return whether its home or the pilot's folder that contains it is missing: deleted, or not mounted.

        If only their own record is missing, the folders were made again below an empty mount point.
        """
        home = os.path.dirname(os.path.dirname(self.folder))  # noqa: PTH120  # as above
        return not any(os.path.exists(f"{home}/{record}") for record in (_RECORD, SPEC))  # noqa: PTH110  # as above


@dataclass(frozen=True)
class Home:
    """The folder of one user's queue on one machine."""

    folder: Path

    record = _NamedFile(_RECORD)  # owner of the home: machine, boot, PID namespace
    # jobs, attempts, events; written by the command line and the scheduler only
    database = _NamedFile("queue.sqlite")
    database_log = _NamedFile("queue.sqlite-wal")
    scheduler_lock = _NamedFile("scheduler.lock")  # locked while a scheduler lives
    scheduler_record = _NamedFile("scheduler.json")  # identity of the scheduler
    scheduler_log = _NamedFile("scheduler.log")  # decisions of the scheduler, one line per change
    restarts = _NamedFile("restarts.json")  # when helpers restarted the scheduler lately
    revival_lock = _NamedFile("revival.lock")  # locked by the helper that restarts it
    # the GPUs as the scheduler last saw them, while something ran or waited for one
    gpus = _NamedFile("gpus.json")
    # digests of large files that jobs read and write, while these are as they were
    digests = _NamedFile("digests.json")
    stop_record = _NamedFile("stop.json")  # present while the queue is stopped
    policy = _NamedFile("policy.json")  # policy that decides what starts, if it is not our own
    wake_pipe = _NamedFile("wake")  # named pipe: a byte in it wakes the scheduler
    attempts = _NamedFile("attempts")  # a folder per attempt
    snapshots = _NamedFile(
        "snapshots"
    )  # copies of the code of projects, see `launcher.provenance.snapshots`
    executors = _NamedFile("executors")  # a file for each Executor of Python that has a limit
    searches = _NamedFile("searches")  # a folder per run with a search: its study for Optuna
    backups = _NamedFile("backups")  # copies of the database before migrations
    damaged = _NamedFile("damaged")  # databases that were found damaged, a folder each
    # present while the queue's owner has not decided how to go on after damage
    damage_record = _NamedFile("damaged.json")
    # locked by the process that moves a damaged database aside
    damage_lock = _NamedFile("damage.lock")
    # messages that are to be sent, and the number of the last event that they cover
    notify_record = _NamedFile("notify.json")
    notify_lock = _NamedFile("notify.lock")  # locked by the process that sends messages
    notify_log = _NamedFile("notify.log")  # the results of sending messages
    # jobs whose folders `launcher clean` has still to delete
    forgotten_record = _NamedFile("forgotten.json")
    # present until the next database counts on from the newest attempt folder
    renumber_request = _NamedFile("renumber")

    def attempt(self, job: int, number: int) -> Attempt:
        """Return the folder of attempt `number` (from 1) of job `job`."""
        return Attempt(self.attempts / f"{job}-{number}")

    def exists(self) -> bool:
        """Return whether a queue was ever kept here; True also for a damaged queue or a part of one.

        Raises:
            MachineError: it is not a folder, or cannot be read.
        """
        try:
            if not stat.S_ISDIR(self.folder.stat().st_mode):
                raise unusable_home_error(self.folder, "is not a folder")
            return any(
                path.exists() for path in (self.database, self.damage_record, self.database_log)
            )
        except FileNotFoundError:
            return False
        except OSError as error:  # no right to look, or a file where a folder should be
            raise unreachable_home_error("use", self.folder, error) from error


def find_home(environ: Mapping[str, str]) -> Home:
    """Return the home of the environment, otherwise of the user's file, otherwise on a local disk.

    Nothing is created. `check_home` checks whether it may be used.

    Raises:
        UsageError: LAUNCHER_HOME is a relative path, or the user's file cannot be read.
    """
    named = environ.get("LAUNCHER_HOME", "")
    if named:
        return Home(absolute_path("LAUNCHER_HOME", named))
    configured = read_configuration(environ).home
    if configured is not None:
        return Home(configured)
    state = resolve_links(user_folder(environ, "XDG_STATE_HOME", ".local/state") / "launcher")
    return Home(default_folder(state, read_mountinfo(), os.geteuid()))


def make_home(home: Home) -> None:
    """Create the home, readable by its owner alone and bound to this machine.

    Raises:
        MachineError: it cannot be made, or belongs to another user or to another machine.
    """
    if os.geteuid() == 0 and not _is_home_named(os.environ):
        refuse_other_users_parent(home.folder)
    try:
        home.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        check_home(home)
        home.attempts.mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        raise unreachable_home_error("make", home.folder, error) from error


def _is_home_named(environ: Mapping[str, str]) -> bool:
    """Return whether the user has named the home, so that it does not follow from HOME."""
    return bool(environ.get("LAUNCHER_HOME")) or read_configuration(environ).home is not None


def check_home(home: Home) -> None:
    """Refuse a home that is not this user's on this machine; its mode is repaired.

    A process that holds the scheduler's lock must not call this, because looking at the lock releases it.

    Raises:
        MachineError: it is another user's, another machine's, in use in another PID namespace, or
            no folder at all.
        StoreError: A development version wrote its database. Nothing was changed.
    """
    refuse_development_version(home.database)
    check_owner(home.folder)
    check_machine(home.record, lambda: _is_in_use(home))


def refuse_development_version(database: Path) -> None:
    """Refuse a database of a development version, before anything in its folder changes.

    The code that opens a database judges one that does not exist or cannot be read.
    """
    import sqlite3  # not every command that checks the home opens its database

    # immutable: SQLite creates no file beside it; the number is in the file itself from its creation on
    uri = f"{database.absolute().as_uri()}?mode=ro&immutable=1"
    try:
        with closing(sqlite3.connect(uri, uri=True)) as connection:
            (application,) = connection.execute("PRAGMA application_id").fetchone()
            (schema,) = connection.execute("PRAGMA user_version").fetchone()
    except sqlite3.Error:
        return
    if application == APPLICATION_ID and 0 < schema < SCHEMA:
        raise development_version_error(database, schema)


def development_version_error(database: Path, schema: int) -> StoreError:
    """Return the error for a database whose schema number is below `SCHEMA`."""
    return StoreError(
        f"{database} was {written_by_development_version(schema)}. {DEVELOPMENT_VERSION_REMEDY}."
    )


def written_by_development_version(schema: int) -> str:
    """Return the origin of a database whose schema number is below `SCHEMA`."""
    return f"written by a development version (schema {schema})"


def check_home_namespace(home: Home) -> None:
    """Refuse a home that is used from another PID namespace; for the process that holds the scheduler's lock.

    Raises:
        MachineError: as `check_home`.
    """
    check_machine(home.record, lambda: is_in_use(home.folder))


def _is_in_use(home: Home) -> bool:
    return is_in_use(home.folder) or lock_holder(home.scheduler_lock) is not None
