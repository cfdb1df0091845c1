"""Jobs that write the same path, or a folder and a path in it, do not run at the same time.

A job that is about to start waits while another one that runs writes one of its outputs. A row of `needs` says so. It is
deleted when the attempt of the other job has ended, whatever its end, so no job waits for one that does not run.
"""

import os
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import NamedTuple

from launcher.provenance.folder_contents import FOLDER_END
from launcher.queue.jobs.context import OUTPUTS, folders_above, output_folders
from launcher.queue.jobs.job import Spec
from launcher.queue.jobs.states import Reason, ReasonCode, State
from launcher.queue.store.connection import Connection, known_record, reason_columns
from launcher.system.real_paths import RealPaths

WHILE_RUNNING = 2  # in `needs.any_end`: the job waits only for the end of the attempt that runs
_CACHED_SPECS = 4096  # the running jobs of all pilots; their specs do not change meanwhile


class OutputWriter(NamedTuple):
    """A running job that writes a path."""

    job: int
    name: str
    path: str


def find_writer(db: Connection, specs: Mapping[int, Spec]) -> OutputWriter | None:
    """Return a running job that writes an output of other jobs, None if there is none.

    The outputs of an entry function in the folder of its run do not count: each attempt writes them in its own staging folder.

    Args:
        db: The queue.
        specs: Number of a job → its spec.
    """
    real, shared = RealPaths(), set[str]()
    for spec in specs.values():
        own = f"{spec.run_folder}/"
        shared.update(
            real.locate(os.path.normpath(path))
            for path in spec.outputs
            if not (spec.entry and path.startswith(own))
        )
    if not shared:
        return None
    folders = frozenset(
        real.locate(folder) for spec in specs.values() for folder in output_folders(spec)
    )
    running = db.execute("SELECT id, name, spec FROM jobs WHERE state = 'running' ORDER BY id")
    for number, name, text in running:
        if number in specs:
            continue
        theirs = _outputs_of(text)
        same = shared & theirs.paths
        if folders or theirs.folders:
            same |= _select_inside(shared, theirs.folders) | _select_inside(theirs.paths, folders)
        if same:
            return OutputWriter(number, name, min(same, key=len))
    return None


def _select_inside(paths: Iterable[str], folders: frozenset[str]) -> set[str]:
    """Return the paths that are in one of the folders."""
    return {path for path in paths if not folders.isdisjoint(folders_above(path))}


def wait_for_writer(db: Connection, job: int, writer: OutputWriter, now: float) -> None:
    """Let a queued job wait while another one writes the same path. Inside `writing`."""
    reason = Reason(
        code=ReasonCode.OUTPUT_IN_USE,
        text=f"waiting for job {writer.job} ({writer.name}), which writes {writer.path}",
        data={"need": writer.job, "path": writer.path},
    )
    insert = "INSERT OR IGNORE INTO needs (job, need, any_end) VALUES (?, ?, ?)"
    db.execute(insert, (job, writer.job, WHILE_RUNNING))
    db.recount_waits([job])
    update = "UPDATE jobs SET reason_code = ?, reason = ?, reason_data = ? WHERE id = ?"
    db.execute(update, (*reason_columns(reason), job))
    db.add_event(job, State.QUEUED, reason, now)


def release_jobs_waiting_for(db: Connection, writer: int) -> None:
    """Let the jobs start that waited while a job ran that writes the same path. Inside `writing`."""
    of_writer = "FROM needs WHERE need = ? AND any_end = ?"
    waiting = db.query_numbers(f"SELECT job {of_writer}", writer, WHILE_RUNNING)
    if waiting:
        db.execute(f"DELETE {of_writer}", (writer, WHILE_RUNNING))
        db.recount_waits(waiting)


class _Outputs(NamedTuple):
    """The outputs of a job."""

    paths: frozenset[str]
    folders: frozenset[str]  # those that a program makes with everything in them


@lru_cache(maxsize=_CACHED_SPECS)
def _outputs_of(spec_text: str) -> _Outputs:
    record = known_record(spec_text)
    outputs, settings = record.get("outputs"), record.get("settings")
    listed = (
        [path for path in outputs if isinstance(path, str)] if isinstance(outputs, list) else []
    )
    names = (
        settings.get(OUTPUTS) if isinstance(settings, dict) and not record.get("entry") else None
    )
    real = RealPaths()
    paths = [real.locate(os.path.normpath(path)) for path in listed]
    named = zip(names, paths, strict=False) if isinstance(names, list) else ()
    return _Outputs(
        frozenset(paths), frozenset(path for name, path in named if str(name).endswith(FOLDER_END))
    )
