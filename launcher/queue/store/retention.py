"""Deletion of ended jobs: the retention rules, and deleting the attempts' folders."""

import contextlib
import json
import os
import shutil
import stat
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

from launcher.queue.home.paths import Attempt, Home
from launcher.queue.jobs.states import ENDED_STATES, State
from launcher.queue.store.backups import backups
from launcher.queue.store.rows import JobRow

LARGEST_ORDER = 64 << 20  # bytes; a larger file was not written by a scheduler
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC  # a named pipe must not block


class RetentionRules(NamedTuple):
    """Which ended jobs are to go; each rule leaves out more of them."""

    min_age_s: float = 0.0  # seconds since the end of the jobs
    states: frozenset[State] = ENDED_STATES
    keep_newest: int = 0  # number of newest jobs of each run that are kept


class SkippedFolder(NamedTuple):
    """A folder that was not deleted, and why."""

    attempt: Attempt
    why: str


def select_deletable(
    jobs: Iterable[JobRow],
    rules: RetentionRules,
    *,
    ended_jobs: Iterable[JobRow],
    now: float,
) -> list[JobRow]:
    """Return which of `jobs` the rules let go.

    Args:
        jobs: jobs that were asked for; open ones among them stay.
        rules: the rules.
        ended_jobs: all that have ended, among which the newest of each run are found.
        now: seconds since 1970.
    """
    kept = _newest(ended_jobs, rules.keep_newest) if rules.keep_newest else set()
    return [
        job
        for job in jobs
        if job.state in rules.states
        and job.state in ENDED_STATES
        and job.ended is not None
        and job.ended <= now - rules.min_age_s
        and job.id not in kept
    ]


def _newest(ended_jobs: Iterable[JobRow], most: int) -> set[int]:
    kept: set[int] = set()
    seen: Counter[int] = Counter()
    for job in sorted(ended_jobs, key=lambda job: (job.ended or 0.0, job.id), reverse=True):
        if seen[job.run_id] < most:
            kept.add(job.id)
        seen[job.run_id] += 1
    return kept


class HasAttempts(Protocol):
    """A job that had attempts, in the queue or forgotten."""

    @property
    def id(self) -> int:
        """Its number."""

    @property
    def attempts(self) -> int:
        """How many it had."""


def attempt_folders(home: Home, job: HasAttempts) -> list[Attempt]:
    """Return the folders of a job's attempts, as far as there are any."""
    attempts = [home.attempt(job.id, number) for number in range(1, job.attempts + 1)]
    there = [on_pilot for attempt in attempts if (on_pilot := _pilot_folder(attempt)) is not None]
    # a link to a pilot's folder goes after what it leads to
    folders = [*there, *map(_deletion_path, there), *attempts, *map(_deletion_path, attempts)]
    return [attempt for attempt in folders if os.path.lexists(attempt.folder)]


def _pilot_folder(attempt: Attempt) -> Attempt | None:
    """Return the folder on a pilot to which the link of an attempt points, None if it is not such a link."""
    try:
        there = Path(os.readlink(attempt.folder))  # noqa: PTH115  # the text alone
    except OSError:
        return None
    fits = there.is_absolute() and there.parent.name == attempt.folder.parent.name
    return Attempt(there) if fits and there.name == attempt.folder.name else None


def _deletion_path(attempt: Attempt) -> Attempt:
    """Return where a folder lies while it is deleted."""
    return Attempt(attempt.folder.with_name(f".{attempt.folder.name}.gone"))


def deletion_refusal(attempt: Attempt) -> str | None:
    """Return why a folder must not be deleted, None when it is an attempt's and nothing of it lives.

    An attempt's folder is a real one of ours that carries its order; an empty one is what a
    deletion leaves that was cut short.
    """
    if _pilot_folder(attempt) is not None:
        return None  # a link, which is deleted after its target
    try:
        with _open_folder(attempt) as folder:
            return _refuse_folder(folder, attempt)
    except OSError as error:
        return error.strerror or str(error)


def deletable_bytes(attempt: Attempt) -> int:
    """Return how many bytes deleting a folder would free. Files with another hard link are not freed."""
    with contextlib.suppress(OSError), _open_folder(attempt) as folder:
        return _folder_bytes(folder)
    return 0


def delete_attempt_folder(attempt: Attempt) -> SkippedFolder | None:
    """Delete an attempt's folder with all that is in it; links in it are removed, not followed.

    Returns what was left, and None when nothing was. It gets another name first, so that no process can
    start what is half deleted; the order goes last, so that what a crash leaves is known again.
    """
    doomed = attempt if attempt.folder.name.startswith(".") else _deletion_path(attempt)
    there = _pilot_folder(attempt)
    try:
        if there is not None:
            if os.path.lexists(there.folder):
                return SkippedFolder(attempt=attempt, why=f"{there.folder} still exists")
            attempt.folder.unlink()
            return None
        with _open_folder(attempt) as folder:
            why = _refuse_folder(folder, attempt)
            if why is not None:
                return SkippedFolder(attempt=attempt, why=why)
            attempt.folder.rename(doomed.folder)
            for name in _entry_names(folder):
                if name != attempt.spec.name:
                    _remove_entry(name, folder)
            with contextlib.suppress(FileNotFoundError):
                os.unlink(attempt.spec.name, dir_fd=folder)
        doomed.folder.rmdir()
    except FileNotFoundError:
        return None  # another process deleted the folder first
    except OSError as error:
        return SkippedFolder(attempt=attempt, why=error.strerror or str(error))
    return None


@contextlib.contextmanager
def _open_folder(attempt: Attempt) -> Iterator[int]:
    """Hold the folder itself: what its name means may change meanwhile."""
    folder = os.open(attempt.folder, _FOLDER)
    try:
        yield folder
    finally:
        os.close(folder)


def _refuse_folder(folder: int, attempt: Attempt) -> str | None:
    if os.fstat(folder).st_uid != os.geteuid():
        return "belongs to another user"
    names = _entry_names(folder)
    if not names:
        return None
    if not _has_own_spec(folder, attempt):
        return "is not the folder of an attempt"
    return None


def _entry_names(folder: int) -> list[str]:
    with os.scandir(folder) as entries:
        return [entry.name for entry in entries]


def _has_own_spec(folder: int, attempt: Attempt) -> bool:
    job, _, number = attempt.folder.name.strip(".").removesuffix(".gone").partition("-")
    match _read_spec_record(folder, attempt.spec.name):
        case {"spec": dict(), "context": dict(), "job": int(whose), "number": int(carried)}:
            return (str(whose), str(carried)) == (job, number)
    return False


def _read_spec_record(folder: int, name: str) -> object:
    try:
        descriptor = os.open(name, _FILE, dir_fd=folder)
    except OSError:
        return None
    with open(descriptor, "rb") as file:  # noqa: PTH123  # a descriptor, not a path
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode) or status.st_size > LARGEST_ORDER:
            return None
        try:
            return json.loads(file.readline())
        except ValueError:
            return None


def _remove_entry(name: str, folder: int) -> None:
    there = os.stat(name, dir_fd=folder, follow_symlinks=False)
    if stat.S_ISDIR(there.st_mode):
        shutil.rmtree(name, dir_fd=folder)  # by descriptors: a folder that becomes a link is safe
    else:
        os.unlink(name, dir_fd=folder)


def _folder_bytes(folder: int) -> int:
    total = 0
    names = Counter[int]()  # number of names of each file, by its inode
    for _, _, files, here in os.fwalk(".", dir_fd=folder):
        for name in files:
            with contextlib.suppress(OSError):
                there = os.stat(name, dir_fd=here, follow_symlinks=False)
                names[there.st_ino] += 1
                total += there.st_blocks * 512 if names[there.st_ino] == there.st_nlink else 0
    return total


class OldCopies(NamedTuple):
    """Copies that are old enough to go, and what stays all the same."""

    old: tuple[Path, ...]
    newest_backup: Path | None = None  # the backup to which a damaged queue would go back; it stays
    undecided_damage: Path | None = None  # the damaged database whose owner has not yet decided

    @property
    def size(self) -> int:
        """How many bytes go with them."""
        return sum(map(_tree_bytes, self.old))


def find_old_copies(home: Home, timestamp: float) -> OldCopies:
    """Return which copies were made before a time, in seconds since 1970."""
    saved = backups(home.backups)
    damaged = sorted(home.damaged.iterdir()) if home.damaged.is_dir() else []
    undecided = damaged[-1] if damaged and home.damage_record.exists() else None
    newest = saved[-1] if saved else None
    candidates = [path for path in (*saved, *damaged) if path not in {newest, undecided}]
    return OldCopies(
        old=tuple(path for path in candidates if path.lstat().st_mtime < timestamp),
        newest_backup=newest if newest is not None and newest.stat().st_mtime < timestamp else None,
        undecided_damage=undecided
        if undecided is not None and undecided.stat().st_mtime < timestamp
        else None,
    )


def delete_copies(copies: Sequence[Path]) -> list[tuple[Path, str]]:
    """Delete copies; return those that are left, and why."""
    left = []
    for copy in copies:
        try:
            if copy.is_dir() and not copy.is_symlink():
                shutil.rmtree(copy)
            else:
                copy.unlink()
        except FileNotFoundError:
            continue  # another process deleted the folder first
        except OSError as error:
            left.append((copy, error.strerror or str(error)))
    return left


def _tree_bytes(path: Path) -> int:
    files = path.rglob("*") if path.is_dir() else [path]
    total = 0
    for file in files:
        with contextlib.suppress(OSError):
            total += file.lstat().st_size
    return total
