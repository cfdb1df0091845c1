"""Jobs that run the code as it was when they were queued: the check of their programs, and the copy of the code."""

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

from launcher.context import Context, entry_context
from launcher.errors import UsageError
from launcher.job import Spec
from launcher.snapshots.copies import (
    Manifest,
    delete_unused,
    describe_source,
    keep_snapshots,
    locked_snapshots,
    read_manifest,
    take_snapshot,
)
from launcher.snapshots.programs import (
    StartedProgram,
    code_folders,
    folders_of_variable,
    import_paths,
    python_start,
    refuse_hidden_modules,
)
from launcher.snapshots.reference import SnapshotReference
from launcher.snapshots.source_files import find_top
from launcher.store.queue import Store
from launcher.store.queued_code import CodeQueries, QueuedCode, describe_code
from launcher.store.rows import JobRow
from launcher.system.paths import Home
from launcher.system.project_imports import is_project_path
from launcher.system.stored_fields import Unreadable
from launcher.units import format_bytes


class PlannedSnapshot(NamedTuple):
    """The snapshot that jobs would get."""

    manifest: Manifest
    imports: Sequence[str]  # import paths of their interpreters, relative to the top

    def __str__(self) -> str:
        files = len(self.manifest.files) + len(self.manifest.links)
        size = format_bytes(self.manifest.total_bytes)
        return f"{self.manifest.key} of {self.manifest.top} ({files:,} files, {size})"


@contextmanager
def snapshot_taken(
    store: Store, context: Context, specs: Iterable[Spec], python_path: Sequence[str] = ()
) -> Iterator[Context]:
    """Yield the context of jobs whose code comes from a snapshot of now. If the block fails, it is deleted again.

    Args:
        store: The queue.
        context: Their context.
        specs: The jobs.
        python_path: The import path of the function that they call.

    Raises:
        UsageError: A program may run other code, or a file cannot be copied.
        MachineError: The disk is full.
    """
    home, key = store.home, ""
    top = find_top(context.folder)
    try:
        with keep_snapshots(home.snapshots):
            source = describe_source(home.snapshots, top)
            imports = _check_specs(specs, context, source.manifest, python_path)
            snapshot = take_snapshot(home.snapshots, source)
            key = snapshot.key
            copy = str(Path(snapshot.copy).relative_to(home.folder))
            reference = SnapshotReference(copy, top, tuple(imports))
            yield context._replace(snapshot=reference.to_json())
    except BaseException:
        if key:
            with locked_snapshots(home.snapshots) as locked:
                if locked:
                    every = {place.name for place in home.snapshots.iterdir()}
                    delete_unused(home.snapshots, used_snapshots(store) | (every - {key}))
        with suppress(OSError):  # others are in it
            home.snapshots.rmdir()
        raise


class RetakenJob(NamedTuple):
    """A job with the present code."""

    job: int
    context: Context
    code: QueuedCode | None


@contextmanager
def snapshots_retaken(
    store: Store, rows: Iterable[JobRow], changed: Mapping[int, Spec]
) -> Iterator[list[RetakenJob]]:
    """Yield jobs that have ended with contexts whose snapshots are of now. See `snapshot_taken`.

    Args:
        store: The queue.
        rows: The jobs.
        changed: Job → its new specification, of jobs that are changed.

    Raises:
        UsageError: A program may run other code, or a context cannot be read.
        MachineError: The disk is full.
    """
    by_context: dict[str, tuple[Context, list[JobRow]]] = {}
    for row in rows:
        try:
            context = store.read.context_of(row.id)._replace(snapshot={})
        except Unreadable as error:
            raise UsageError(f"job {row.id} cannot be queued with other code: {error}") from error
        by_context.setdefault(context.digest, (context, []))[1].append(row)
    with ExitStack() as stack:
        found = []
        for own, jobs in by_context.values():
            specs = [changed.get(row.id, row.spec) for row in jobs]
            context = stack.enter_context(snapshot_taken(store, own, specs))
            programs = [spec for spec in specs if not spec.entry]
            known = describe_code(programs, context, time.time()) if programs else None
            for row in jobs:
                code = known
                if row.spec.entry:  # the code of a function is not found by its name
                    before = CodeQueries(store.database).queued_code(row.code)
                    code = before and before._replace(snapshot=context.snapshot)
                found.append(RetakenJob(row.id, context, code))
        yield found


def check_revised(store: Store, job: int, spec: Spec) -> None:
    """Refuse a change of a program whose code comes from a snapshot, if it would run other code.

    Raises:
        UsageError: It would.
    """
    reference = store.read.snapshots([job]).get(job)
    if reference is not None and not spec.entry:
        manifest = read_manifest((store.home.folder / reference.copy).parent)
        if manifest is not None:
            _check_specs([spec], store.read.context_of(job), manifest, ())


def plan_snapshot(home: Home, context: Context, specs: Iterable[Spec]) -> PlannedSnapshot:
    """Return the snapshot that jobs would get; nothing is written.

    Raises:
        UsageError: A program may run other code, or a file cannot be copied.
    """
    source = describe_source(home.snapshots, find_top(context.folder))
    return PlannedSnapshot(source.manifest, _check_specs(specs, context, source.manifest, ()))


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


def _check_specs(
    specs: Iterable[Spec], context: Context, manifest: Manifest, python_path: Sequence[str]
) -> list[str]:
    """Return the import paths that jobs need, relative to the top.

    Raises:
        UsageError: One of them may run code that is not copied.
    """
    top, found = manifest.top, dict[str, None]()
    # facts that decide about a program → the folders of its own code, and those of PYTHONPATH
    known: dict[object, tuple[list[str], list[str]]] = {}
    interpreters: dict[object, list[str]] = {}

    def imports_of(interpreter: str, folders: Sequence[str]) -> list[str]:
        asked = interpreter, tuple(folders)
        if asked not in interpreters:
            interpreters[asked] = import_paths(interpreter, folders, manifest, top)
        return interpreters[asked]

    for spec in specs:
        own = entry_context(spec, context)
        variables: Mapping[str, Any] = spec.settings.get("env") or {}
        argv = () if spec.entry else _deciding_words(spec.argv)
        asked = argv, spec.entry, own.folder, tuple(variables.items())
        if asked in known:
            continue
        folders = [*folders_of_variable(own.environment, own.folder)]
        if spec.entry:
            known[asked] = [], folders
            import_paths(own.interpreter, filter(is_project_path, python_path), manifest, top)
            interpreter = own.interpreter
        else:
            program = StartedProgram(spec.argv, own.folder, own.environment)
            start = python_start(program, manifest, top)
            known[asked] = code_folders(start, spec.argv, own.folder, manifest, top), folders
            interpreter = start.interpreter
        found |= dict.fromkeys(imports_of(interpreter, folders))
    for code, folders in known.values():
        before = [f"{top}/{name}".rstrip("/") for name in code]
        refuse_hidden_modules(top, [*code, *found], [*before, *folders])
    return [*found]


def _deciding_words(argv: Sequence[str]) -> tuple[str, ...]:
    """Return the words of a command line up to the last one that can name a script or module."""
    last = max(
        (at for at, word in enumerate(argv) if word.endswith(".py") or word.startswith("-")),
        default=0,
    )
    return tuple(argv[: last + 2])
