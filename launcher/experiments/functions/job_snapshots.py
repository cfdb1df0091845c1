"""Jobs that run the code as it was when they were queued: the check of their programs, and the copy of the code."""

import os
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

from launcher.provenance.code_words import has_code_suffix
from launcher.provenance.git import find_uncommitted
from launcher.provenance.git_files import find_repository, read_commit
from launcher.provenance.snapshots.copies import (
    Manifest,
    Snapshot,
    Source,
    delete_unused,
    describe_source,
    keep_snapshots,
    locked_snapshots,
    note_queueing,
    read_manifest,
    take_snapshot,
)
from launcher.provenance.snapshots.programs import (
    StartedProgram,
    check_program,
    find_top,
    unheld_script,
)
from launcher.provenance.snapshots.reference import SnapshotReference
from launcher.provenance.snapshots.startup.launcher_snapshot.processes import lost_variables
from launcher.queue.home.paths import Home
from launcher.queue.jobs.context import Context, entry_context, with_programs
from launcher.queue.jobs.job import Spec
from launcher.queue.store.client import context_to_store
from launcher.queue.store.queue import Store
from launcher.queue.store.queued_code import CodeQueries, QueuedCode, describe_code
from launcher.queue.store.rows import JobRow
from launcher.system.config import read_table
from launcher.system.errors import UsageError, pluralize
from launcher.system.executables import is_shell
from launcher.system.remembered_variables import filter_environment
from launcher.system.snapshot_setting import SNAPSHOT_FILE_LIMIT
from launcher.system.stored_fields import Unreadable
from launcher.system.terminal import print_stderr
from launcher.system.text import sanitize_terminal
from launcher.system.units import format_bytes

_MOST_NAMES = 5  # files that a note lists
_MOST_UNCOMMITTED = 1000  # files; the context of each job contains their names


class PlannedSnapshot(NamedTuple):
    """The snapshot that jobs would get."""

    source: Source
    notes: Sequence[str]  # facts that the snapshot cannot hold

    def __str__(self) -> str:
        manifest = self.source.manifest
        files = len(manifest.files) + len(manifest.links)
        size = format_bytes(manifest.total_bytes)
        return f"{manifest.key} of {manifest.top} ({files:,} files, {size})"


@contextmanager
def snapshot_taken(store: Store, context: Context, specs: Iterable[Spec]) -> Iterator[Context]:
    """Yield the context of jobs whose code comes from a snapshot of now. If the block fails, it is deleted again.

    Facts that the snapshot cannot hold are printed on standard error.

    Args:
        store: The queue.
        context: Their context.
        specs: The jobs.

    Raises:
        UsageError: A program cannot follow a snapshot, or a file cannot be copied.
        MachineError: The disk is full.
    """
    home, key = store.home, ""
    programs = _programs(specs, context)
    top = find_top(context.folder, programs)
    try:
        with keep_snapshots(home.snapshots):
            queued_at = note_queueing(home.snapshots, top)
            planned = _plan(home, top, programs)
            snapshot = take_snapshot(home.snapshots, planned.source)
            key = snapshot.key
            copy = str(Path(snapshot.copy).relative_to(home.folder))
            repository = find_repository(top)
            commit = None if repository is None else read_commit(repository)
            reference = SnapshotReference(copy, top, commit, queued_at, _find_uncommitted(snapshot))
            yield context._replace(snapshot=reference.to_json())
    except BaseException:
        if key:
            with locked_snapshots(home.snapshots) as locked:
                if locked:
                    every = {place.name for place in home.snapshots.iterdir()}
                    delete_unused(home.snapshots, used_snapshots(store) | (every - {key}))
        with suppress(OSError):  # other folders are in the folder
            home.snapshots.rmdir()
        raise
    for note in planned.notes:
        print_stderr(f"note: {sanitize_terminal(note)}")


class RetakenJob(NamedTuple):
    """A job with another context."""

    job: int
    context: Context
    code: QueuedCode | None


@contextmanager
def contexts_retaken(
    store: Store,
    rows: Iterable[JobRow],
    changed_specs: Mapping[int, Spec],
    *,
    snapshot: bool,
    environment: bool,
) -> Iterator[list[RetakenJob]]:
    """Yield jobs that have ended with contexts of now. See `snapshot_taken`.

    Args:
        store: The queue.
        rows: The jobs.
        changed_specs: Job → its new specification, of jobs that are changed.
        snapshot: Their code comes from a snapshot of now.
        environment: Variables, PATH and interpreter are those of this process.

    Raises:
        UsageError: A program cannot follow a snapshot, or a context cannot be read.
        MachineError: The disk is full.
    """
    by_context: dict[str, tuple[Context, list[JobRow]]] = {}
    for row in rows:
        try:
            context = store.read.context_of(row.id)
        except Unreadable as error:
            raise UsageError(f"job {row.id} cannot be queued with other code: {error}") from error
        if snapshot:
            context = context._replace(snapshot={})
        by_context.setdefault(context.digest, (context, []))[1].append(row)
    with ExitStack() as stack:
        found = []
        for own, jobs in by_context.values():
            specs = [changed_specs.get(row.id, row.spec) for row in jobs]
            context = _with_present_environment(own) if environment else own
            if snapshot:
                context = stack.enter_context(snapshot_taken(store, context, specs))
            context = with_programs(context, specs)
            programs = [spec for spec in specs if not spec.entry]
            known = describe_code(programs, context, time.time()) if programs else None
            for row in jobs:
                code = known
                if row.spec.entry:  # the code of a function is not found by its name
                    before = CodeQueries(store.database).queued_code(row.code)
                    code = before and before._replace(snapshot=context.snapshot)
                found.append(RetakenJob(row.id, context, code))
        yield found


def _with_present_environment(context: Context) -> Context:
    """Return a context with the variables, PATH and interpreter of this process.

    Variables that look like secrets are only renewed, as they were requested when the job was queued.
    """
    _, requested = filter_environment(context.environment, ())
    present = context_to_store([name for name in requested if name in os.environ])
    secrets = {name: context.environment[name] for name in requested}
    return context._replace(
        environment={**secrets, **present.environment},
        interpreter=present.interpreter,
        programs={},
    )


def check_revised(store: Store, job: int, spec: Spec) -> None:
    """Refuse a change of a program whose code comes from a snapshot, if it cannot follow it.

    Raises:
        UsageError: It cannot.
    """
    reference = store.read.snapshots([job]).get(job)
    if reference is not None and not spec.entry:
        manifest = read_manifest((store.home.folder / reference.copy).parent)
        if manifest is not None:
            for program in _programs([spec], store.read.context_of(job)):
                check_program(program, manifest, manifest.top)


def plan_snapshot(home: Home, context: Context, specs: Iterable[Spec]) -> PlannedSnapshot:
    """Return the snapshot that jobs would get; nothing is written.

    Raises:
        UsageError: A program cannot follow a snapshot, or a file cannot be copied.
    """
    programs = _programs(specs, context)
    return _plan(home, find_top(context.folder, programs), programs)


def clean_snapshots(store: Store) -> tuple[int, list[str]]:
    """Delete the snapshots that no job needs any more.

    Returns the number of freed bytes, and a sentence about each snapshot that stays.
    """
    folder = store.home.snapshots
    with locked_snapshots(folder) as locked:
        if not locked:
            return 0, [f"{folder}, in which a command takes a snapshot"]
        return delete_unused(folder, used_snapshots(store))


def used_snapshots(store: Store) -> set[str]:
    """Return the keys of the snapshots that jobs of the queue use."""
    return {reference.key for reference in store.read.used_snapshots()}


def _plan(home: Home, top: str, programs: Sequence[StartedProgram]) -> PlannedSnapshot:
    limit = read_table(SNAPSHOT_FILE_LIMIT, os.environ)
    source = describe_source(home.snapshots, top, limit)
    for program in programs:
        check_program(program, source.manifest, top)
    notes = dict.fromkeys(
        note for program in programs for note in _program_notes(program, source.manifest)
    )
    return PlannedSnapshot(source, [*notes, *_left_out_notes(source, limit)])


def _find_uncommitted(snapshot: Snapshot) -> tuple[str, ...] | None:
    """Return the copied files that are not as git's index has them; None if they are too many, or it is unknown."""
    top = snapshot.manifest.top
    paths = [f"{top}/{name}" for name in snapshot.manifest.files]
    found, is_complete = find_uncommitted(
        paths, lambda path: f"{snapshot.copy}{path.removeprefix(top)}"
    )
    if len(found) > _MOST_UNCOMMITTED:  # data that git neither tracks nor ignores
        found = [path for path in found if has_code_suffix(path)]
    if not is_complete or len(found) > _MOST_UNCOMMITTED:
        return None
    return tuple(path.removeprefix(f"{top}/") for path in found)


def _programs(specs: Iterable[Spec], context: Context) -> list[StartedProgram]:
    """Return the programs of jobs; of equal ones the first."""
    known: dict[object, StartedProgram] = {}
    for spec in specs:
        if not spec.entry:
            own = entry_context(spec, context)
            variables: Mapping[str, Any] = spec.settings.get("env") or {}
            key = _deciding_words(spec.argv), own.folder, tuple(variables.items())
            if key not in known:
                known[key] = StartedProgram(spec.argv, own.folder, own.environment)
    return [*known.values()]


def _deciding_words(argv: Sequence[str]) -> tuple[str, ...]:
    """Return the words of a command line up to the last one that can name a script or module."""
    last = max(
        (at for at, word in enumerate(argv) if word.endswith(".py") or word.startswith("-")),
        default=0,
    )
    return tuple(argv[: last + 2])


def _program_notes(program: StartedProgram, manifest: Manifest) -> Iterator[str]:
    """Yield the facts of a program that a snapshot cannot hold."""
    texts = [*program.argv] if program.argv and is_shell(program.argv[0]) else []
    script = unheld_script(program, manifest, manifest.top)
    if script:
        yield (
            f"{script} itself is read when the job starts. "
            "Python programs that it starts run the snapshot"
        )
        with suppress(OSError):
            texts.append(Path(manifest.top, script).read_text(errors="replace"))
    if any(map(lost_variables, texts)):
        yield (
            f"{script or program.argv[0]} replaces PYTHONPATH, and Python does not find the snapshot then. "
            "Write PYTHONPATH=FOLDER:$PYTHONPATH"
        )


def _left_out_notes(source: Source, limit: int) -> Iterator[str]:
    """Yield which files a snapshot leaves out because of their size or number."""
    if not source.left_out:
        return
    names = [f"{name} ({format_bytes(size)})" for name, size in source.left_out.items()]
    more = len(names) - _MOST_NAMES
    listed = ", ".join(names[:_MOST_NAMES]) + (f" and {more:,} more" if more > 0 else "")
    yield (
        f"the snapshot leaves out {pluralize(len(names), 'file')} that the jobs read in the working folder: {listed}. "
        f"The limit is {SNAPSHOT_FILE_LIMIT.key} = {format_bytes(limit)} in config.toml"
    )
