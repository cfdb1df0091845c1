"""The scheduler's helper that reads the code of projects: `python -P -m launcher.queue.scheduler.code_recording HOME PIPE`.

It records the files of a project once per command that queued jobs, and compares them when jobs have started. So the
scheduler never waits for a disk or a parser. The pipe brings the numbers of the notes whose jobs have started, one per
line; an empty line means that there are new notes. The helper ends with the scheduler, which closes the pipe.
"""

import logging
import os
import select
import sqlite3
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from launcher.provenance.code_words import is_other_script
from launcher.provenance.file_digests import CHANGED_DIGEST, FileDigests
from launcher.provenance.git import find_uncommitted
from launcher.provenance.project_imports import (
    MOST_MODULES,
    ImportFinder,
    ProjectFolders,
    is_project_path,
    named_code_files,
    project_folders,
)
from launcher.provenance.snapshots.attempts import CodeCopy
from launcher.provenance.snapshots.reference import read_reference
from launcher.queue.home.paths import Home
from launcher.queue.store.queued_code import (
    MOST_BYTES,
    ONLY_IMPORTS,
    ONLY_ITSELF,
    CodeChange,
    CodeRecord,
    CodeRecording,
    QueuedCode,
    commit_of,
    open_code_recording,
)
from launcher.system.errors import StoreError

PAUSE_S = 1.0  # a project is compared at most as often
NICENESS = 10  # jobs come first
MOST_NOTES = 50  # notes that are recorded at once
MOST_CACHED_FILES = 200_000  # files of records that are kept in memory
_PIPE_BYTES = 1 << 16

logger = logging.getLogger(__name__)


class SchedulerLeft(Exception):
    """The pipe was closed."""


def main(argv: Sequence[str]) -> int:
    """Serve a scheduler until it leaves."""
    os.nice(NICENESS)
    logging.basicConfig(
        level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(levelname)s %(message)s"
    )
    home, pipe = Home(Path(argv[0])), int(argv[1])
    os.set_inheritable(pipe, False)
    try:
        with open_code_recording(home.database) as recording:
            helper = CodeHelper(recording, check=lambda: pause(pipe, 0.0))
            while True:
                started = read_requests(pipe)
                began = time.monotonic()
                helper.serve(started)
                pause(pipe, began + PAUSE_S - time.monotonic())
    except SchedulerLeft:
        return 0
    except (sqlite3.Error, StoreError) as error:  # the next request starts another helper
        logger.warning("code of jobs is not recorded: %s", error)
        return 1


def pause(pipe: int, seconds: float) -> None:
    """Sleep for a time, whatever is requested meanwhile.

    Raises:
        SchedulerLeft: The pipe was closed.
    """
    poll = select.poll()
    poll.register(pipe, 0)  # only the end of the pipe ends the sleep
    if poll.poll(max(0.0, seconds) * 1000):
        raise SchedulerLeft


def read_requests(pipe: int) -> set[int]:
    """Return the numbers of notes whose jobs have started, after the next request.

    Raises:
        SchedulerLeft: The pipe was closed.
    """
    content = os.read(pipe, _PIPE_BYTES)
    if not content:
        raise SchedulerLeft
    # a line may be cut where the read ends: nothing is known of that job then
    return {int(line) for line in content.split() if line.isdigit()}


class FileState(NamedTuple):
    """A file as it is now."""

    digest: str
    # when the file's content was written, in seconds since 1970; a copy may keep it
    written: float = 0.0
    changed: float = 0.0  # when the file or its name changed last


class CodeHelper:
    """Records and compares the code of jobs."""

    def __init__(
        self,
        recording: CodeRecording,
        *,
        check: Callable[[], None] = lambda: None,
        clock: Callable[[], float] = time.time,
        most_modules: int = MOST_MODULES,
    ) -> None:
        """Begin without having read any file.

        Args:
            recording: The database.
            check: Called between files; may raise an exception to stop.
            clock: Seconds since 1970.
            most_modules: Number of modules of one script.
        """
        self._recording, self._check, self._clock = recording, check, clock
        self._most_modules = most_modules
        self._digests, self._imports = FileDigests(), ImportFinder()
        self._records: dict[int, CodeRecord | None] = {}
        self._cached_files = 0
        self._changes: dict[int, CodeChange] = {}
        self._compared: dict[int, float] = {}
        self._states: dict[str, FileState] = {}  # states of files in one turn

    def serve(self, started_jobs: Iterable[int]) -> None:
        """Record new notes, and compare the code of started jobs.

        Args:
            started_jobs: Numbers of their notes.
        """
        self._states.clear()
        while notes := self._recording.list_unrecorded(MOST_NOTES):
            for number, code in notes:
                self._record(number, code)
        self._states.clear()  # the files may have changed before the jobs started
        for record, queued in self._recording.records_of(started_jobs).items():
            self._compare(record, queued)

    def _record(self, code_number: int, code: QueuedCode) -> None:
        places = project_folders(code.folder, code.python_path, code.program)
        reference = read_reference(code.snapshot)
        if reference is None:
            records = {
                name: self._make_record(code, starts, places) for name, starts in code.roots.items()
            }
        else:
            copy = CodeCopy(self._recording.queue_folder, reference)
            records = {
                name: self._make_copied_record(code, starts, places, copy)
                for name, starts in code.roots.items()
            }
        if code.commit is None:
            code = code._replace(commit=commit_of(code.folder, code.snapshot))
        for record in self._recording.add_records(code_number, code, records):
            self._compare(record, code.at)

    def _make_record(
        self, code: QueuedCode, starts: Sequence[str], places: ProjectFolders
    ) -> CodeRecord:
        paths, is_complete = self._files(starts, places)
        changed, is_compared = find_uncommitted(paths)
        return CodeRecord(
            files={
                path: code.digests.get(path) or self._queued_digest(path, code.at) for path in paths
            },
            uncommitted=tuple(changed),
            is_compared=is_compared,
            is_complete=is_complete,
        )

    def _make_copied_record(
        self, code: QueuedCode, starts: Sequence[str], places: ProjectFolders, copy: CodeCopy
    ) -> CodeRecord:
        """Return the files of code that jobs read from a copy, and those that they read in the working folder.

        Declared inputs are read there, and scripts that another program than Python reads.
        """
        mapped = ProjectFolders(
            tuple(copy.path_in_copy(folder) or folder for folder in places.folders),
            tuple(
                (package, copy.path_in_copy(place) or place) for package, place in places.packages
            ),
        )
        found, is_complete = self._files([_start_in_copy(start, copy) for start in starts], mapped)
        in_copy = {
            path: place
            for place in found
            if copy.find(path := copy.original(place))
            and path not in code.inputs
            and not (path in code.roots and is_other_script(path))
        }
        named = {
            path: place
            for name in dict.fromkeys(name for file in found for name in named_code_files(file))
            if (path := os.path.normpath(os.path.join(code.folder, name))) not in code.roots  # noqa: PTH118  # texts
            and path not in in_copy
            and (place := copy.find(path))
        }
        others = [path for path in map(copy.original, found) if path not in in_copy]
        changed, is_compared = find_uncommitted(others)
        copied = copy.find_uncommitted([*in_copy, *named])
        return CodeRecord(
            files={
                **{path: self._state(place).digest for path, place in {**named, **in_copy}.items()},
                **{path: self._queued_digest(path, code.at) for path in others},
            },
            uncommitted=(*(copied or ()), *changed),
            is_compared=is_compared and copied is not None,
            is_complete=is_complete,
            copied=(*in_copy, *named),
        )

    def _files(self, starts: Sequence[str], places: ProjectFolders) -> tuple[list[str], bool]:
        modules = [
            start.removesuffix(ONLY_ITSELF) for start in starts if start.endswith(ONLY_ITSELF)
        ]
        scripts = [
            start.removesuffix(ONLY_IMPORTS) for start in starts if not start.endswith(ONLY_ITSELF)
        ]
        paths, is_all = self._imports.files(scripts, places, self._most_modules)
        listed = dict.fromkeys((*paths, *self._imports.module_files(modules, places)))
        named = {*starts}  # without scripts of which only the imports count
        return [
            path
            for path in listed
            if path in named or (path not in scripts and is_project_path(path))
        ], is_all

    def _queued_digest(self, path: str, queue_time: float) -> str:
        """Return the digest of a file when its job was queued; of one that is newer, that it has changed."""
        state = self._state(path)
        return CHANGED_DIGEST if state.written > queue_time else state.digest

    def _compare(self, record: int, queue_time: float) -> None:
        """Store how the files of a record have changed since they were compared before."""
        if record not in self._records:
            if self._cached_files > MOST_CACHED_FILES:
                self._records.clear()
                self._cached_files = 0
            found = self._records[record] = self._recording.queries.record(record)
            self._cached_files += 1 + (0 if found is None else len(found.files))
            self._changes[record] = self._recording.last_change(record)
        known, now = self._records[record], self._clock()
        if known is None:
            return
        before = self._changes[record]
        since = max(before.at, self._compared.get(record, queue_time))
        states = {path: self._state(path) for path in known.files if path not in known.copied}
        changes = code_changes(before, known.files, states, since, now)
        if changes:
            self._recording.add_changes(changes)
            self._changes[record] = changes[-1]
        self._compared[record] = now

    def _state(self, path: str) -> FileState:
        if path not in self._states:
            self._check()
            digest = self._digests.digest_or_missing(path, MOST_BYTES)
            self._states[path] = FileState(digest, *_times(path))
        return self._states[path]


def _start_in_copy(start: str, copy: CodeCopy) -> str:
    """Return where a search for code starts, in a copy if the file is there."""
    path = start.removesuffix(ONLY_IMPORTS)
    if start.endswith(ONLY_ITSELF) or not os.path.isabs(path):  # noqa: PTH117  # a text
        return start
    return f"{copy.find(path) or path}{start[len(path) :]}"


def code_changes(
    last_change: CodeChange,
    known_digests: Mapping[str, str],
    states: Mapping[str, FileState],
    start_time: float,
    now: float,
) -> list[CodeChange]:
    """Return the changes of a project's files since they were compared before, each at its time.

    Args:
        last_change: The last change that was found.
        known_digests: The digests of the files in the record.
        states: The files as they are now.
        start_time: When they were compared before, in seconds since 1970.
        now: The same clock.
    """
    differing = {
        path: state.digest for path, state in states.items() if state.digest != known_digests[path]
    }
    news = [
        (min(max(states[path].changed, start_time), now), path)
        for path in {**last_change.files, **differing}
        if path in states and last_change.files.get(path) != differing.get(path)
    ]
    files, changes = dict(last_change.files), list[CodeChange]()
    for at, path in sorted(news):
        if path in differing:
            files[path] = differing[path]
        else:
            del files[path]
        if changes and changes[-1].at == at:
            changes.pop()
        changes.append(CodeChange(last_change.record, at, dict(files)))
    return changes


def _times(path: str) -> tuple[float, float]:
    """Return when a file was written and changed; of one that is gone, when its folder was. 0 if unknown."""
    for place in (path, os.path.dirname(path)):  # noqa: PTH120  # called for each of thousands
        try:
            status = os.stat(place)  # noqa: PTH116  # as above
        except OSError:
            continue
        return status.st_mtime_ns / 1e9, status.st_ctime_ns / 1e9
    return 0.0, 0.0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
