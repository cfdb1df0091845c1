"""Notes about the code of jobs: files that were changed after they were queued, and rows that ran different code."""

from collections.abc import Iterable, Mapping, Sequence
from math import inf
from pathlib import Path
from typing import NamedTuple

from launcher.provenance.file_digests import CHANGED_DIGEST, MISSING_DIGEST
from launcher.queue.jobs.states import OPEN_STATES
from launcher.queue.store.queue import Store
from launcher.queue.store.queued_code import CodeChange, CodeQueries, code_roots
from launcher.queue.store.rows import JobRow
from launcher.system.errors import pluralize
from launcher.system.files import Json
from launcher.system.text import sanitize_terminal

_QUEUED = "after this job was queued"
_NO_FILES: Mapping[str, Json] = {"files": None, "uncommitted": None, "complete": None}


class _StartedCode(NamedTuple):
    """The code of a job at its newest start."""

    folder: str  # in which the job was queued
    started: float  # infinite if the job has not started
    digests: Mapping[str, str]  # path → digest at the start, of the files whose digest is known
    # path → digest at the start, of the files that were changed after the job was queued
    edited: Mapping[str, str]


class _CodeReader:
    """Reads the code of jobs; jobs of a sweep share all of it."""

    def __init__(self, store: Store, jobs: Sequence[JobRow]) -> None:
        self._store, self._queries = store, CodeQueries(store.database)
        codes = {job.code for job in jobs if job.code is not None}
        self._queued_codes = self._queries.queued_codes(codes) if codes else {}
        records = {
            record for _, by_name in self._queued_codes.values() for record in by_name.values()
        }
        self.are_equal = (
            len({tuple(by_name.items()) for _, by_name in self._queued_codes.values()}) < 2
        )
        self.changes = self._queries.changes(records) if records else {}
        self._folders: dict[int, str] = {}
        self._records: dict[int, Mapping[str, str]] = {}

    def read(self, jobs: Iterable[JobRow], *, with_unchanged: bool) -> dict[int, _StartedCode]:
        """Return job → its code, of jobs whose code was recorded and that have started or may start.

        Args:
            jobs: The jobs.
            with_unchanged: Include the jobs of which no file has changed.
        """
        chosen = []
        for job in jobs:
            at, by_name = self._queued_codes.get(job.code or 0, (0.0, {}))
            if with_unchanged or not self.changes.keys().isdisjoint(by_name.values()):
                names = _roots_of(job, self._folder_of(job))
                records = [by_name[name] for name in names if name in by_name]
                chosen += [(job, at, records)] if records else []
        starts = self._store.read.newest_attempts(job.id for job, _, _ in chosen) if chosen else {}
        found: dict[int, _StartedCode] = {}
        for job, at, records in chosen:
            attempt = starts.get(job.id)
            started = inf if attempt is None or attempt.claimed < at else attempt.claimed
            if started < inf or job.state in OPEN_STATES:
                found[job.id] = self._code_at(started, at, records, self._folder_of(job))
        return found

    def _code_at(
        self, start_time: float, queue_time: float, records: Sequence[int], folder: str
    ) -> _StartedCode:
        digests, edited = dict[str, str](), dict[str, str]()
        for record in records:
            change = _last_change(self.changes.get(record, ()), start_time)
            changed = {} if change is None else change.files
            digests |= {**self._files(record), **changed}
            if change is not None and change.at >= queue_time:
                edited |= {path: changed[path] for path in self._files(record) if path in changed}
        known = {path: digest for path, digest in digests.items() if digest != CHANGED_DIGEST}
        return _StartedCode(folder, start_time, known, edited)

    def _files(self, record: int) -> Mapping[str, str]:
        if record not in self._records:
            found = self._queries.record(record)
            self._records[record] = {} if found is None else found.files
        return self._records[record]

    def _folder_of(self, job: JobRow) -> str:
        code = job.code or 0
        if code not in self._folders:
            queued = self._queries.queued_code(code)
            self._folders[code] = "" if queued is None else queued.folder
        return self._folders[code]


def _roots_of(job: JobRow, folder: str) -> tuple[str, ...]:
    spec = job.spec_without_sources
    return code_roots(job.spec if spec.entry else spec, folder)


def _last_change(changes: Sequence[CodeChange], timestamp: float) -> CodeChange | None:
    return next((each for each in reversed(changes) if each.at <= timestamp), None)


def code_change_notes(store: Store, jobs: Sequence[JobRow]) -> dict[int, str]:
    """Return job → a sentence about code that was not as it was when the job was queued.

    It names files that were changed before the job started, and files that a snapshot could not hold.
    """
    reader, unheld = _CodeReader(store, jobs), _unheld_texts(store, jobs)
    found = reader.read(jobs, with_unchanged=False) if reader.changes else {}
    edited = {
        job: _change_text(code.edited, code.folder) for job, code in found.items() if code.edited
    }
    return {
        job: "; ".join(filter(None, (edited.get(job), unheld.get(job))))
        for job in {**edited, **unheld}
    }


def _unheld_texts(store: Store, jobs: Iterable[JobRow]) -> Mapping[int, str]:
    if not store.home.snapshots.is_dir():
        return {}
    from launcher.frontends.screens.snapshot_notes import (
        unheld_texts,  # 1 ms; most queues have no snapshots
    )

    return unheld_texts(store, [job.id for job in jobs])


def _change_text(changed_digests: Mapping[str, str], folder: str) -> str:
    path, digest = next(iter(changed_digests.items()))
    name = _shown_name(path, folder)
    if len(changed_digests) > 1:
        return (
            f"{name} and {pluralize(len(changed_digests) - 1, 'more file')} were changed {_QUEUED}"
        )
    return f"{name} was {'deleted' if digest == MISSING_DIGEST else 'changed'} {_QUEUED}"


def _shown_name(path: str, folder: str) -> str:
    below = Path(path).is_relative_to(folder) if folder else False
    return sanitize_terminal(str(Path(path).relative_to(folder)) if below else path)


def code_record(store: Store, job: JobRow) -> dict[str, Json] | None:
    """Return what is known of the code with which a job was queued, as JSON; None if nothing is."""
    queries = CodeQueries(store.database)
    queued = queries.queued_code(job.code)
    snapshot = store.read.snapshots([job.id]).get(job.id)
    own = {"snapshot": None if snapshot is None else str(store.home.folder / snapshot.copy)}
    if queued is None or job.code is None:
        return None if snapshot is None else {"commit": snapshot.commit, **_NO_FILES, **own}
    commit = queued.commit if snapshot is None else snapshot.commit
    _, by_name = queries.queued_codes([job.code]).get(job.code, (0.0, {}))
    names = [name for name in _roots_of(job, queued.folder) if name in by_name]
    records = [record for name in names if (record := queries.record(by_name[name])) is not None]
    if not records:
        return {"commit": commit, **_NO_FILES, **own}
    uncommitted = dict.fromkeys(path for record in records for path in record.uncommitted)
    is_compared = all(record.is_compared for record in records)
    return {
        "commit": commit,
        "files": len({path for record in records for path in record.files}),
        "uncommitted": [_shown_name(path, queued.folder) for path in uncommitted]
        if is_compared
        else None,
        "complete": all(record.is_complete for record in records),
        **own,
    }


def commit_text(record: Mapping[str, Json]) -> str:
    """Return the commit of a job's code and its files that were not committed; '' if it is unknown."""
    commit, uncommitted = record["commit"], record["uncommitted"]
    if not commit:
        return ""
    if not isinstance(uncommitted, list) or not uncommitted:
        return str(commit)
    more = f" and {pluralize(len(uncommitted) - 1, 'more file')}" if len(uncommitted) > 1 else ""
    return f"{commit}, with uncommitted changes in {uncommitted[0]}{more}"


def different_code_notes(store: Store, jobs: Sequence[JobRow]) -> list[str]:
    """Return notes about the snapshots of a table's jobs, and about different versions of a file that they ran."""
    from launcher.frontends.screens.snapshot_notes import (
        snapshot_notes,  # 1 ms, only for tables of results
    )

    return [*snapshot_notes(store, jobs), *_version_notes(store, jobs)]


def _version_notes(store: Store, jobs: Sequence[JobRow]) -> list[str]:
    """Return a note about a table whose jobs ran different versions of a file; none if all versions are equal."""
    reader = _CodeReader(store, jobs)
    if reader.are_equal and not reader.changes:
        return []
    found = reader.read(jobs, with_unchanged=True)
    newest: dict[str, tuple[str, int]] = {}  # path → digest, and the job that started last with it
    differing: dict[str, None] = {}
    contents = {job: code.digests for job, code in found.items() if code.started < inf}
    for job in sorted(contents, key=lambda job: (found[job].started, job)):
        for path, digest in contents[job].items():
            if newest.get(path, (digest,))[0] != digest:
                differing[path] = None
            newest[path] = digest, job
    if not differing:
        return []
    others = [
        job
        for job, content in contents.items()
        if any(content.get(path, newest[path][0]) != newest[path][0] for path in differing)
    ]
    first = next(iter(differing))
    last = newest[first][1]
    name = _shown_name(first, found[last].folder)
    more = f" and {pluralize(len(differing) - 1, 'more file')}" if len(differing) > 1 else ""
    return [
        f"{len(others):,} of {pluralize(len(contents), 'job')} ran another version of {name}{more} than "
        f"job {last}, which started last. For each job: launcher show JOB"
    ]
