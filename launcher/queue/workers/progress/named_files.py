"""The files in which a program writes numbers, as its job names them: a file of metrics, a folder of event files.

They belong to one job. While its program runs, its supervisor finds out which files are its own, see `file_owners`, and
records them in the folder of the attempt. After the end it reads them once, and records their numbers and their faults
there: content that is written later counts for nothing. All other processes read only that record.
"""

import json
import os
import time
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from launcher.provenance.file_patterns import is_pattern
from launcher.queue.home.paths import Attempt
from launcher.queue.jobs.context import JOB_FOLDER, attempt_job_folder
from launcher.queue.workers.attempt_spec import AttemptSpec
from launcher.queue.workers.progress.event_files import (
    event_files,
    find_mixed_tags,
    read_event_steps,
    read_newest_event,
)
from launcher.queue.workers.progress.file_owners import (
    FileId,
    Judgement,
    NamedPlace,
    NumberFile,
    Owner,
    OwnFiles,
    judge_file,
    own_files,
    own_folder_advice,
    own_newest_file,
)
from launcher.queue.workers.progress.file_registry import (
    SILENT_S,
    add_job,
    add_seen,
    end_job,
    fixed_folder,
    other_jobs,
)
from launcher.queue.workers.progress.metrics_files import MOST_BYTES, is_result, read_metrics_file
from launcher.queue.workers.progress.steps import ProgressReport
from launcher.system.files import (
    Json,
    open_descriptor,
    read_bytes,
    write_json_keeping_time,
)

METRICS, TENSORBOARD = "metrics", "tensorboard"  # stored words: the terms that name files
MOST_MATCHES = 10_000  # files that match a pattern
MOST_STEPS, MOST_VALUES = 4000, 200_000  # recorded after the end of a job
FIRST_S, LONGEST_S = 0.1, 10.0  # between two checks of a running program
CHECK_FRACTION = 0.01  # part of the time that the checks may take
NAMED_OTHERS = 3  # jobs that a fault lists
STAMP_BYTES = 64 << 10  # bytes of a file by which an appended file is recognized
_CLOCK_STEP_S = 0.01  # the kernel takes the time of a file from its last tick
_WRITABLE = 0o200  # in the mode of /proc/PID/fd/NUMBER: the file is open for writing


class AppendedFile(NamedTuple):
    """A file as it was before a program started, which may append to it."""

    file_id: FileId
    size: int  # bytes
    check: int  # checksum of the first bytes


class NamedFiles(NamedTuple):
    """What is known of the files that one term of a job names."""

    place: NamedPlace
    written: str  # names of the files, as the job gives them
    is_own: bool  # the files are in the folder of the attempt
    before: AppendedFile | None = None
    seen: Mapping[str, FileId] = {}  # files that processes of the job had open for writing
    counted: tuple[str, ...] = ()  # files that belong to the job, the newest first
    faults: tuple[str, ...] = ()
    steps: tuple[ProgressReport, ...] | None = None  # recorded after the end; None before


class FilesRecord(NamedTuple):
    """The record of an attempt."""

    job: int
    name: str
    since: float  # seconds since 1970
    files: Mapping[str, NamedFiles]  # by term
    touched: float = 0.0  # seconds since 1970 of its last change

    @property
    def has_ended(self) -> bool:
        """Whether the files were read after the end."""
        return all(named.steps is not None for named in self.files.values())


# --- for all processes


def read_metrics_steps(attempt: Attempt, most_bytes: int) -> list[ProgressReport]:
    """Return the rows of the metrics file of an attempt, the oldest first."""
    record = _read_record(attempt)
    named = None if record is None else record.files.get(METRICS)
    if record is None or named is None:
        return []
    if named.steps is not None:
        return [*named.steps]
    rows: list[ProgressReport] = []
    for path in _live_files(record, named)[:1]:
        begin = _appended_at(named, path)
        rows = read_metrics_file(Path(path), most_bytes, begin=begin).rows
    return rows


def read_event_file_steps(attempt: Attempt, most_bytes: int) -> list[ProgressReport]:
    """Return the steps of the event files of an attempt, the lowest first."""
    record = _read_record(attempt)
    named = None if record is None else record.files.get(TENSORBOARD)
    if record is None or named is None:
        return []
    if named.steps is not None:
        return [*named.steps]
    only = None if named.is_own else _live_files(record, named)
    return read_event_steps(Path(named.place.path), record.since, most_bytes, only)


def read_newest_event_file_step(attempt: Attempt, sizes: Sequence[int]) -> ProgressReport | None:
    """Return the newest step of the event files of an attempt, None if there is none.

    Args:
        attempt: The attempt.
        sizes: As of `read_newest_event`.
    """
    record = _read_record(attempt)
    named = None if record is None else record.files.get(TENSORBOARD)
    if record is None or named is None:
        return None
    if named.steps is not None:
        return named.steps[-1] if named.steps else None
    only = None if named.is_own else _live_files(record, named)
    return read_newest_event(Path(named.place.path), record.since, sizes, only)


def read_file_faults(attempt: Attempt) -> tuple[str, ...]:
    """Return why numbers of the files of an attempt do not count, a sentence each.

    While the program runs, the sentences name only files that other jobs may have written.
    """
    record = _read_record(attempt)
    files = () if record is None else record.files.values()
    return tuple(fault for named in files for fault in named.faults)


def _live_files(record: FilesRecord, named_files: NamedFiles) -> list[str]:
    """Return the files of a running job, the newest first."""
    if named_files.is_own:
        return [file.path for file in _candidates(named_files, record.since)]
    # if the supervisor died, nobody knows whose later content is
    latest = record.touched + SILENT_S
    return [path for path in named_files.counted if _read_change_time(path) <= latest]


def _read_change_time(path: str) -> float:
    with suppress(OSError):
        return Path(path).stat().st_mtime
    return 0.0


# --- for the supervisor


def begin_named_files(order: AttemptSpec, attempt: Attempt) -> None:
    """Record the files that a program names before it starts. On a full disk their numbers do not count.

    Args:
        order: Order of the attempt, with the folders that it names.
        attempt: The attempt.
    """
    folder, terms = order.context.folder, order.spec.terms
    files: dict[str, NamedFiles] = {}
    for term in (METRICS, TENSORBOARD):
        if written := getattr(terms, term):
            path = os.path.normpath(os.path.join(folder, written))  # noqa: PTH118  # as it is named
            is_own = path.startswith(f"{attempt.folder}/")
            real = _real_path(path, is_folder=term == TENSORBOARD)
            place = NamedPlace(real, is_folder=term == TENSORBOARD)
            files[term] = NamedFiles(place, _describe_files(written, order, attempt), is_own)
    earlier = _read_record(_attempt_before(order, attempt))
    with suppress(OSError):
        if (named := files.get(METRICS)) and not named.is_own and not is_pattern(named.place.path):
            known = None if earlier is None else earlier.files.get(METRICS)
            before = known.before if known else _stamp(named.place.path)
            files[METRICS] = named._replace(before=before)
    record = FilesRecord(order.job, order.spec.name, time.time(), files)
    with suppress(OSError):
        _write_record(attempt, record)
        for named in files.values():
            if not named.is_own:
                add_job(attempt, record.job, record.name, named.place, record.since)


def watch_named_files(
    attempt: Attempt, pids: Callable[[], Iterable[int]], now: float
) -> "NamedFilesWatch | None":
    """Return the watch of files that other jobs may write, too; None if there are none.

    Args:
        attempt: The running attempt.
        pids: Returns its processes.
        now: In monotonic seconds.
    """
    record = _read_record(attempt)
    if record is None or all(named.is_own for named in record.files.values()):
        return None
    return NamedFilesWatch(attempt, record, pids, now)


class NamedFilesWatch:
    """Finds out which of the files that several jobs may write belong to a running program."""

    def __init__(
        self,
        attempt: Attempt,
        record: FilesRecord,
        pids: Callable[[], Iterable[int]],
        now: float,
    ) -> None:
        self._attempt, self._record, self._pids = attempt, record, pids
        self._pause_s = FIRST_S
        self.check_at = now + FIRST_S  # monotonic

    def check(self, now: float) -> None:
        """Look at the files if a check is due."""
        if now < self.check_at:
            return
        begun = time.process_time()
        with suppress(OSError, ValueError):
            self._check()
        took_s = time.process_time() - begun
        self._pause_s = min(2 * self._pause_s, LONGEST_S)
        self.check_at = now + max(self._pause_s, took_s / CHECK_FRACTION)

    def _check(self) -> None:
        open_files = _open_files(self._pids(), self._record.files.values())
        files = dict(self._record.files)
        for term, named in files.items():
            if named.is_own:
                continue
            new = {
                path: file_id
                for path, file_id in open_files.items()
                if named.place.covers(path) and named.seen.get(path) != file_id
            }
            if new:
                add_seen(self._attempt, named.place, {**named.seen, **new})
            named = named._replace(seen={**named.seen, **new})
            files[term] = _with_own_files(self._attempt, self._record, term, named)
        if files == self._record.files:
            os.utime(self._attempt.number_files)  # a sign of life, see `file_registry`
            return
        self._record = self._record._replace(files=files)
        _write_record(self._attempt, self._record)


def end_named_files(attempt: Attempt, *, may_be_cut: bool = False) -> None:
    """Read the files of an ended program, and record their numbers and faults; done once.

    Args:
        attempt: The attempt.
        may_be_cut: The program failed or was killed, so a last line without an end does not count.
    """
    record = _read_record(attempt)
    if record is None or record.has_ended:
        return
    files = {}
    for term, named in record.files.items():
        own = _with_own_files(attempt, record, term, named)
        files[term] = (
            _end_metrics(record, own, may_be_cut=may_be_cut)
            if term == METRICS
            else _end_events(record, own)
        )
    with suppress(OSError):
        _write_record(attempt, record._replace(files=files))
    for named in files.values():
        if not named.is_own:
            with suppress(OSError):
                end_job(attempt, named.place, time.time())


def _with_own_files(
    attempt: Attempt, record: FilesRecord, term: str, named_files: NamedFiles
) -> NamedFiles:
    """Return what is known of the files of a term, with those that belong to the job now."""
    files = _candidates(named_files, record.since)
    if named_files.is_own:
        own = OwnFiles(tuple(files[:1] if term == METRICS else files))
    else:
        others = []
        with suppress(OSError):  # without the record other jobs are unknown
            others = other_jobs(attempt, record.job, (file.path for file in files))
        if others:
            files = [file._replace(created=_read_creation_time(file.path)) for file in files]
        judged = [judge_file(file, record.since, named_files.seen, others) for file in files]
        own = own_newest_file(judged) if term == METRICS else own_files(judged)
    faults = (_sharing_fault(term, named_files, own.unknown),) if own.unknown else ()
    return named_files._replace(counted=tuple(file.path for file in own.files), faults=faults)


def _candidates(named_files: NamedFiles, start_time: float) -> list[NumberFile]:
    """Return the files of a place that were changed since a time, the newest first."""
    if named_files.place.is_folder:
        found = event_files(
            Path(named_files.place.path), start_time
        )  # only a part of a very large folder
        paths: Iterable[str] = {*(str(file.path) for file in found), *named_files.seen}
    else:
        paths = _find_matching_files(named_files.place.path)
    files = []
    for path in paths:
        with suppress(OSError):
            status = os.stat(path)  # noqa: PTH116  # thousands of files
            # event files of its own may be on a file system with another clock
            is_new = status.st_mtime >= start_time - _CLOCK_STEP_S
            is_own_folder = named_files.is_own and named_files.place.is_folder
            if (is_new or is_own_folder) and os.path.isfile(path):  # noqa: PTH113  # as above
                files.append(NumberFile(path, (status.st_dev, status.st_ino), status.st_mtime))
    return sorted(files, key=lambda file: (file.changed, file.path), reverse=True)


def _find_matching_files(path: str) -> list[str]:
    """Return the path, or the existing files of a pattern."""
    if not is_pattern(path):
        return [path]
    folder = fixed_folder(path)
    found = []
    with suppress(OSError, ValueError):
        for file in Path(folder or "/").glob(path[len(folder) :].lstrip("/")):
            found.append(str(file))
            if len(found) == MOST_MATCHES:
                break
    return found


# --- reading after the end


def _end_metrics(record: FilesRecord, named_files: NamedFiles, *, may_be_cut: bool) -> NamedFiles:
    """Return what is known of a metrics file, with its numbers and faults."""
    if not named_files.counted:
        faults = named_files.faults or (_absence(record, named_files),)
        return named_files._replace(steps=(), faults=faults)
    path = named_files.counted[0]
    reading = read_metrics_file(
        Path(path),
        MOST_BYTES,
        is_complete=True,
        may_be_cut=may_be_cut,
        begin=_appended_at(named_files, path),
    )
    predicates = reading.faults
    names = {name for row in reading.rows for name in row.metrics}
    if names and not any(map(is_result, names)):
        predicates = (*predicates, "contains only counters, times, sizes or learning rates")
    faults = tuple(f"metrics file {_relative(path, named_files)} {each}" for each in predicates)
    return named_files._replace(
        steps=_thin_steps(reading.rows), faults=(*named_files.faults, *faults)
    )


def _absence(record: FilesRecord, named_files: NamedFiles) -> str:
    """Return why there is no metrics file."""
    if is_pattern(named_files.place.path):
        older = len(_find_matching_files(named_files.place.path))
        if older >= MOST_MATCHES:
            return (
                f"more than {MOST_MATCHES:,} files match {named_files.written}: none of them counts"
            )
        why = ": the files that match are older than the job" if older else ""
        return f"no metrics file that matches {named_files.written} was written{why}"
    subject = f"metrics file {named_files.written}"
    try:
        is_older = Path(named_files.place.path).stat().st_mtime < record.since
    except FileNotFoundError:
        return f"{subject} was not written"
    except OSError as error:
        return f"{subject} cannot be read: {error.strerror or error}"
    faults = read_metrics_file(Path(named_files.place.path), 0).faults
    if is_older and not Path(named_files.place.path).is_dir():
        return f"{subject} was not written: it is older than the job"
    return f"{subject} {faults[0] if faults else 'was not written'}"


def _end_events(record: FilesRecord, named_files: NamedFiles) -> NamedFiles:
    """Return what is known of event files, with their numbers and faults."""
    folder = Path(named_files.place.path)
    steps = read_event_steps(folder, record.since, MOST_BYTES, named_files.counted)
    faults = named_files.faults
    if mixed := find_mixed_tags(folder, record.since, MOST_BYTES, named_files.counted):
        more = f" and {len(mixed) - 1} more" if len(mixed) > 1 else ""
        faults = (
            *faults,
            f"event files in {named_files.written} have several series of {mixed[0]}{more} from the same time. "
            "Let each writer have a folder",
        )
    if not steps and not faults:
        faults = (_event_fault(named_files),)
    return named_files._replace(steps=_thin_steps(steps), faults=faults)


def _event_fault(named_files: NamedFiles) -> str:
    """Return why there is no number in event files."""
    folder, subject = Path(named_files.place.path), f"event files in {named_files.written}"
    if not folder.exists():
        return f"{subject} were not written: the folder does not exist"
    if not folder.is_dir():
        return f"{subject} cannot be read: {named_files.written} is not a folder"
    try:
        os.scandir(folder).close()
        for path in named_files.counted:
            with open_descriptor(path, os.O_RDONLY):
                pass
    except OSError as error:
        return f"{subject} cannot be read: {error.strerror or error}"
    return f"{subject} contain no numbers" if named_files.counted else f"{subject} were not written"


def _thin_steps(steps: Sequence[ProgressReport]) -> tuple[ProgressReport, ...]:
    """Return so many steps as are recorded, among them the last one of each number."""
    values = sum(len(step.metrics) for step in steps)
    every = max(len(steps) / MOST_STEPS, values / MOST_VALUES)
    if every <= 1:
        return tuple(steps)
    last = {name: at for at, step in enumerate(steps) for name in step.metrics}
    kept = {int(at * every) for at in range(int(len(steps) / every))} | {*last.values()}
    return tuple(step for at, step in enumerate(steps) if at in kept)


# --- sentences


def _sharing_fault(term: str, named_files: NamedFiles, unknown_jobs: Sequence[Judgement]) -> str:
    """Return which jobs may have written files whose numbers do not count."""
    jobs = dict(sorted((other.job, other.name) for each in unknown_jobs for other in each.others))
    listed = ", ".join(f"{job} ({name})" for job, name in [*jobs.items()][:NAMED_OTHERS])
    more = len(jobs) - NAMED_OTHERS
    if more > 0:
        listed += f" and {more} more"
    noun = "job" if len(jobs) == 1 else "jobs"
    first = _relative(unknown_jobs[0].file.path, named_files)
    if term == METRICS:
        what = f"metrics file {first} does not count"
    else:
        files = "event file" if len(unknown_jobs) == 1 else "event files"
        what = f"{len(unknown_jobs)} {files} in {named_files.written} do{'es' * (len(unknown_jobs) == 1)} not count"
    how = "wrote" if unknown_jobs[0].owner is Owner.OTHER else "may have written"
    it = "it" if len(unknown_jobs) == 1 else "them"
    return f"{what}: {noun} {listed} {how} {it}. {own_folder_advice(term, named_files.written)}"


def _describe_files(written_path: str, order: AttemptSpec, attempt: Attempt) -> str:
    """Return how a job names its files, with the placeholder of its folder."""
    spec = order.spec
    own = f"/{attempt_job_folder(spec, order.job).relative_to(spec.run_folder)}"
    before, found, after = written_path.partition(own)
    is_own = found and after[:1] in {"", "/"} and before.startswith(str(attempt.folder))
    return f"{JOB_FOLDER}{after}" if is_own else written_path


def _relative(path: str, named_files: NamedFiles) -> str:
    """Return the path of one of the files as the job would name it."""
    head, tail = (
        fixed_folder(named_files.written),
        path[len(fixed_folder(named_files.place.path)) :],
    )
    return f"{head}/{tail.lstrip('/')}" if head else tail.lstrip("/")


# --- files and processes


def _open_files(pids: Iterable[int], files: Iterable[NamedFiles]) -> dict[str, FileId]:
    """Return the files of some places that processes have open for writing."""
    places = [named.place for named in files]
    found: dict[str, FileId] = {}
    for pid in pids:
        folder = f"/proc/{pid}/fd"
        try:
            numbers = os.listdir(folder)  # noqa: PTH208  # done for every process
        except OSError:  # the process has ended, or belongs to another user
            continue
        for number in numbers:
            with suppress(OSError):
                link = f"{folder}/{number}"
                path = os.readlink(link)  # noqa: PTH115  # the text alone
                is_named = path.startswith("/") and any(place.covers(path) for place in places)
                if is_named and os.lstat(link).st_mode & _WRITABLE:
                    status = os.stat(link)  # noqa: PTH116  # the open file, not the link's text
                    found[path] = status.st_dev, status.st_ino
    return found


def _read_creation_time(path: str) -> float | None:
    """Return when a file was created, in seconds since 1970; None if the file system does not record it."""
    from launcher.queue.workers.progress.creation_time import (
        creation_time,  # only for files that several jobs name
    )

    return creation_time(path)


def _stamp(path: str) -> AppendedFile | None:
    """Return a file as it is; None if there is none.

    Raises:
        OSError: it cannot be read.
    """
    try:
        with open_descriptor(path, os.O_RDONLY | os.O_NONBLOCK) as file:
            status = os.fstat(file)
            size = status.st_size
            check = zlib.crc32(os.pread(file, min(size, STAMP_BYTES), 0))
    except FileNotFoundError:
        return None
    return AppendedFile((status.st_dev, status.st_ino), size, check) if size else None


def _appended_at(named_files: NamedFiles, path: str) -> int:
    """Return where the part of a file begins that the job appended; 0 if it wrote all of it."""
    before = named_files.before
    if before is None or path != named_files.place.path:
        return 0
    with suppress(OSError), open_descriptor(path, os.O_RDONLY | os.O_NONBLOCK) as file:
        status = os.fstat(file)
        if (status.st_dev, status.st_ino) == before.file_id and status.st_size > before.size:
            text = os.pread(file, min(before.size, STAMP_BYTES), 0)
            return before.size if zlib.crc32(text) == before.check else 0
    return 0


def _real_path(path: str, *, is_folder: bool) -> str:
    """Return a path without links in the part before its first wildcard."""
    if is_folder:
        return os.path.realpath(path)
    folder = fixed_folder(path)
    return os.path.join(os.path.realpath(folder or "/"), path[len(folder) :].lstrip("/"))  # noqa: PTH118  # texts


def _attempt_before(order: AttemptSpec, attempt: Attempt) -> Attempt:
    return Attempt(attempt.folder.with_name(f"{order.job}-{order.number - 1}"))


# --- the record


def _write_record(attempt: Attempt, record: FilesRecord) -> None:
    """Write the record; the time of the folder, which is that of the start, stays.

    Raises:
        OSError: the disk is full, or the folder was deleted.
    """
    text: dict[str, Json] = {
        "schema": 1,
        "job": record.job,
        "name": record.name,
        "since": record.since,
        "files": {term: _to_json(named) for term, named in record.files.items()},
    }
    write_json_keeping_time(attempt.number_files, text)


def _to_json(named_files: NamedFiles) -> dict[str, Json]:
    steps: list[Json] | None = None
    if named_files.steps is not None:
        steps = [
            [step.at, step.step, dict(step.metrics), step.rate, step.unit]
            for step in named_files.steps
        ]
    return {
        **named_files._asdict(),
        "place": named_files.place.path,
        "before": None if named_files.before is None else [*named_files.before],
        "steps": steps,
    }


def _read_record(attempt: Attempt) -> FilesRecord | None:
    """Return the record of an attempt, None if its job names no files."""
    try:
        text = read_bytes(attempt.number_files)
        touched = attempt.number_files.stat().st_mtime
        record = json.loads(text)
        return FilesRecord(
            job=record["job"],
            name=record["name"],
            since=record["since"],
            files={term: _named_files(term, each) for term, each in record["files"].items()},
            touched=touched,
        )
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return None  # a program may leave anything under that name


def _named_files(term: str, record: Mapping[str, Any]) -> NamedFiles:
    before, steps = record["before"], record["steps"]
    return NamedFiles(
        place=NamedPlace(record["place"], is_folder=term == TENSORBOARD),
        written=record["written"],
        is_own=record["is_own"],
        before=None if before is None else AppendedFile(tuple(before[0]), *before[1:]),
        seen={path: (file_id[0], file_id[1]) for path, file_id in record["seen"].items()},
        counted=tuple(record["counted"]),
        faults=tuple(record["faults"]),
        steps=None if steps is None else tuple(map(_read_step, steps)),
    )


def _read_step(record: Sequence[Any]) -> ProgressReport:
    at, step, metrics, rate, unit = record
    return ProgressReport(at, step, None, metrics, rate=rate, unit=unit)
