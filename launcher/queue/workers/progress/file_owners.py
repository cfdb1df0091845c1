"""Which files of numbers belong to a job, if other jobs may write files in the same places.

The kernel does not record who wrote a file. A file belongs to a job if no other job that may write it ran between its
creation and its last change. It also does if a process of the job was seen with a file of a pattern open. Otherwise
the owner is unknown.
"""

from collections.abc import Iterable, Mapping, Sequence
from enum import Enum
from fnmatch import fnmatchcase
from typing import NamedTuple

from launcher.queue.jobs.context import JOB_FOLDER

ON_COMMAND_LINE = "--{} {!r}"  # spelling of an option
FileId = tuple[int, int]  # device and inode


class NumberFile(NamedTuple):
    """A file that a job may have written."""

    path: str  # absolute, without links in the file's folder
    file_id: FileId
    changed: float  # seconds since 1970
    created: float | None = None  # None: the file system does not record it


class NamedPlace(NamedTuple):
    """Where a job says that it writes numbers."""

    path: str  # absolute: a file or a pattern of files, or a folder of event files
    is_folder: bool

    def covers(self, path: str) -> bool:
        """Return whether a file is one of these."""
        if self.is_folder:
            return path.startswith(f"{self.path}/")
        return path == self.path or _matches(path.split("/"), self.path.split("/"))


class OtherJob(NamedTuple):
    """A job that ran lately, or runs."""

    job: int
    name: str
    place: NamedPlace
    since: float  # seconds since 1970
    until: float  # infinite while the job runs
    seen: Mapping[str, FileId]  # files that the job's processes had open for writing


class Owner(Enum):
    """Whose a file is."""

    THIS_JOB = "this job"
    SEEN = "this job, which was seen with it"
    OTHER = "another job, which was seen with it"
    UNKNOWN = "unknown"


class Judgement(NamedTuple):
    """The owner of a file, and the other jobs that may be."""

    file: NumberFile
    owner: Owner
    others: tuple[OtherJob, ...] = ()


class OwnFiles(NamedTuple):
    """The files of a job, and those that may be."""

    files: tuple[NumberFile, ...]  # the newest first
    # files whose numbers do not count, as their owner is unknown
    unknown: tuple[Judgement, ...] = ()


def judge_file(
    file: NumberFile,
    start_time: float,
    seen_files: Mapping[str, FileId],
    others: Iterable[OtherJob],
) -> Judgement:
    """Return whose a file is.

    Args:
        file: the file.
        start_time: start of this job, in seconds since 1970.
        seen_files: files that processes of this job had open for writing.
        others: jobs that ran since then.
    """
    # a file that was there before may have been written again from its beginning
    begin = start_time if file.created is None else max(file.created, start_time)
    begin = min(begin, file.changed)
    during = tuple(
        other
        for other in others
        if other.since <= file.changed and other.until >= begin and other.place.covers(file.path)
    )
    is_seen = seen_files.get(file.path) == file.file_id
    writers = tuple(other for other in during if other.seen.get(file.path) == file.file_id)
    if not during:
        return Judgement(file, Owner.THIS_JOB)
    if is_seen:
        # a job that names this very file writes it, also if it has it open for an instant only
        rivals = writers or tuple(other for other in during if other.place.path == file.path)
        return Judgement(file, Owner.UNKNOWN if rivals else Owner.SEEN, rivals)
    return Judgement(file, Owner.OTHER if writers else Owner.UNKNOWN, writers or during)


def own_newest_file(judgements: Sequence[Judgement]) -> OwnFiles:
    """Return the file of a pattern that counts: the newest, unless another job may have written it.

    A newer file whose owner is unknown does not hide a file with which this job was seen.

    Args:
        judgements: the files of the pattern, the newest first.
    """
    left = [each for each in judgements if each.owner is not Owner.OTHER]
    if not left:
        return OwnFiles((), tuple(judgements[:1]))
    if left[0].owner is not Owner.UNKNOWN:
        return OwnFiles((left[0].file,))
    seen = next((each.file for each in left if each.owner is Owner.SEEN), None)
    return OwnFiles(() if seen is None else (seen,), () if seen else (left[0],))


def own_files(judgements: Sequence[Judgement]) -> OwnFiles:
    """Return the files of a folder that count: all that no other job may have written."""
    mine = (Owner.THIS_JOB, Owner.SEEN)
    return OwnFiles(
        tuple(each.file for each in judgements if each.owner in mine),
        tuple(each for each in judgements if each.owner is Owner.UNKNOWN),
    )


def own_folder_advice(term: str, written_path: str, spelling: str = ON_COMMAND_LINE) -> str:
    """Return how each job gets files of its own.

    Args:
        term: The option that names files.
        written_path: The files as the job names them.
        spelling: How the user writes an option.
    """
    name = (
        written_path.rpartition("/")[2]
        if written_path.startswith(("/", "~", "{"))
        else written_path
    )
    path = f"{JOB_FOLDER}/{name.removeprefix('./') or term}"
    return f"Let the program write into {JOB_FOLDER}, and add {spelling.format(term, path)}"


def _matches(names: Sequence[str], pattern: Sequence[str]) -> bool:
    """Return whether the names of a path match those of a pattern; `**` stands for any number of folders."""
    if not pattern:
        return not names
    if pattern[0] == "**":
        return any(_matches(names[begin:], pattern[1:]) for begin in range(len(names) + 1))
    return bool(names) and fnmatchcase(names[0], pattern[0]) and _matches(names[1:], pattern[1:])
