"""Notes about the snapshots of jobs: their code, and files and processes that a snapshot could not hold."""

from collections import Counter
from collections.abc import Iterable, Sequence

from launcher.provenance.snapshots.startup.launcher_snapshot.notes import (
    CHANGED,
    CHILD,
    EDITED,
    KEPT,
    LOADED,
    NOTES,
    OFF,
    VARIABLE,
    read_notes,
)
from launcher.queue.store.queue import Store
from launcher.queue.store.rows import JobRow
from launcher.system.errors import pluralize
from launcher.system.text import sanitize_terminal


def snapshot_notes(store: Store, jobs: Sequence[JobRow]) -> list[str]:
    """Return a note for each snapshot from which the code of jobs comes, and one about jobs that ran other code."""
    if not store.home.snapshots.is_dir():
        return []
    numbers = Counter(
        reference.key for reference in store.read.snapshots(job.id for job in jobs).values()
    )
    every = pluralize(len(jobs), "job")
    notes = [
        f"{'all jobs have' if number == len(jobs) else f'{number:,} of {every} have'}"
        f" the code of snapshot {key}"
        for key, number in numbers.items()
    ]
    if unheld := unheld_texts(store, [job.id for job in jobs]):
        job, text = next(iter(unheld.items()))
        notes.append(
            f"the snapshot did not hold everything in {len(unheld):,} of {every}. "
            f"Job {job}: {text}. For each job: launcher show JOB"
        )
    return notes


def unheld_texts(store: Store, jobs: Iterable[int]) -> dict[int, str]:
    """Return job → what its newest attempt used that was not from its snapshot, in words."""
    if not store.home.snapshots.is_dir():  # most queues have none
        return {}
    held = store.read.snapshots(jobs)
    found = {}
    for job, attempt in store.read.newest_attempts(held).items():
        lines = read_notes(str(store.home.attempt(job, attempt.number).folder / NOTES))
        if text := describe_notes(lines):
            found[job] = text
    return found


def describe_notes(lines: Iterable[tuple[str, str]]) -> str:
    """Return the notes of an attempt in words; '' if everything was from the snapshot."""
    by_kind: dict[str, dict[str, None]] = {}
    for kind, text in lines:
        by_kind.setdefault(kind, {})[sanitize_terminal(text)] = None
    parts = list[str]()
    if names := [*by_kind.get(LOADED, ())]:
        parts.append(f"{_are(names)} not in the snapshot and ran as in the working folder")
    if commands := [*by_kind.get(CHILD, ())]:
        more = f" and {len(commands) - 1:,} more" if len(commands) > 1 else ""
        parts.append(f"Python ran outside of the snapshot: {commands[0]}{more}")
    if names := [*by_kind.get(CHANGED, ())]:
        parts.append(f"{_are(names)} not read from the snapshot after a change during the job")
    if names := [*by_kind.get(EDITED, ())]:
        parts.append(f"{_are(names)} not read from the snapshot after a change since the queueing")
    if kept := [*by_kind.get(KEPT, ())]:
        more = f" and {pluralize(len(kept) - 1, 'more file')}" if len(kept) > 1 else ""
        parts.append(f"replaced a file that had changed since the queueing: {kept[0]}{more}")
    if OFF in by_kind:
        parts.append(f"{VARIABLE}={OFF} turned the snapshot off")
    return "; ".join(parts)


def _are(names: Sequence[str]) -> str:
    if len(names) == 1:
        return f"{names[0]} was"
    return f"{names[0]} and {pluralize(len(names) - 1, 'more file')} were"
