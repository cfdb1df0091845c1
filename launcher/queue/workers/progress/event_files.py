"""The event files of TensorBoard that a program writes below a folder, as steps."""

import os
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

from launcher.queue.workers.progress.event_scalars import ScalarEvent, parse_scalars
from launcher.queue.workers.progress.growing_files import IncrementalFileReader
from launcher.queue.workers.progress.steps import ProgressReport
from launcher.system.files import read_file_end

EVENT_FILE_MARKER = "tfevents"  # in the name of each event file
MOST_FOLDERS, MOST_ENTRIES = 200, 5000  # limits of the search below the folder
MOST_FILES = 50  # event files that are read, those that were written last
NEWEST_FILES, NEWEST_BYTES = 4, (2 << 10, 64 << 10)  # for the newest step alone
CLOCK_SKEW_S = 2.0  # clocks of file systems may be behind

_FILES = IncrementalFileReader[ScalarEvent](lambda text, _: parse_scalars(text))


class EventFile(NamedTuple):
    """An event file below a folder."""

    path: Path
    run: str  # the file's folder below the given one; empty for the given one itself
    written: float  # seconds since 1970


def read_newest_event(
    folder: Path,
    start_time: float,
    sizes: Sequence[int] = NEWEST_BYTES,
    selected_paths: Collection[str] | None = None,
) -> ProgressReport | None:
    """Return the newest step of the event files below a folder, with the newest values of its tags; None if none.

    Tags may count different things, such as batches and epochs: the step is that of the most frequent one.

    Args:
        folder: any; it need not exist.
        start_time: seconds since 1970; files that were last written before are another program's.
        sizes: how many bytes are read of the end of a file; each where the one before it has nothing.
        selected_paths: paths of the files that count; None for all.
    """
    files = event_files(folder, start_time, selected_paths)[:NEWEST_FILES]
    # the bytes after an image may not contain a scalar
    values: list[ScalarEvent] = []
    for size in sizes:
        values = _read_values(files, partial(_read_end, size=size))
        if values:
            break
    values.sort(key=lambda value: value.at)
    if not values:
        return None
    most = _most_reported(values)
    counted = [value for value in values if value.tag == most]
    newest = counted[-1]
    return ProgressReport(
        at=newest.at,
        step=newest.step,
        total=None,
        metrics={newest.tag: newest.value} | {value.tag: value.value for value in values},
        rate=_rates(counted[-2:]).get(newest.step),
    )


def _read_end(path: Path, size: int) -> list[ScalarEvent]:
    """Return the values in the last `size` bytes of an event file."""
    return parse_scalars(read_file_end(path, size)[0])[0]


def _read_values(
    files: Iterable[EventFile], read: Callable[[Path], list[ScalarEvent]]
) -> list[ScalarEvent]:
    """Return the values that are read of event files, those of a run together."""
    runs: dict[str, list[ScalarEvent]] = {}
    for file in files:
        runs.setdefault(file.run, []).extend(read(file.path))
    return [*_with_run_prefix(runs)]


def read_event_steps(
    folder: Path, start_time: float, most_bytes: int, selected_paths: Collection[str] | None = None
) -> list[ProgressReport]:
    """Return the steps of the event files below a folder, the lowest first, each with all its values.

    Args:
        folder: any; it need not exist.
        start_time: seconds since 1970; files that were last written before are another program's.
        most_bytes: that are read from the end of each file.
        selected_paths: paths of the files that count; None for all.
    """
    read = partial(_read_whole, most_bytes=most_bytes)
    files = event_files(folder, start_time, selected_paths)[:MOST_FILES]
    mixed = _mixed_tags(files, read)
    values = [
        value
        for value in _without_repeated(_read_values(reversed(files), read))
        if value.tag not in mixed
    ]
    if not values:
        return []
    steps: dict[int, list[ScalarEvent]] = defaultdict(list)
    for value in values:
        steps[value.step].append(value)
    most = _most_reported(values)
    rates = _rates([value for value in values if value.tag == most])
    return [
        ProgressReport(
            at=max(value.at for value in steps[step]),
            step=step,
            total=None,
            metrics={value.tag: value.value for value in steps[step]},
            rate=rates.get(step),
        )
        for step in sorted(steps)
    ]


def find_mixed_tags(
    folder: Path, start_time: float, most_bytes: int, selected_paths: Collection[str] | None = None
) -> list[str]:
    """Return the tags that several files of one folder had at the same time with different values.

    Nothing says which of their writers counts. The files of a program that was resumed follow each other.

    Args:
        folder: any; it need not exist.
        start_time: as of `read_event_steps`, and so are the others.
        most_bytes: bytes.
        selected_paths: paths.
    """
    files = event_files(folder, start_time, selected_paths)[:MOST_FILES]
    return sorted(_mixed_tags(files, partial(_read_whole, most_bytes=most_bytes)))


def _read_whole(path: Path, most_bytes: int) -> list[ScalarEvent]:
    return _FILES.items(path, most_bytes)


def _mixed_tags(files: Sequence[EventFile], read: Callable[[Path], list[ScalarEvent]]) -> set[str]:
    runs = Counter(file.run for file in files)
    series: dict[str, list[list[ScalarEvent]]] = defaultdict(list)  # tag → values of each file
    for file in files:
        if runs[file.run] == 1:
            continue
        prefix = f"{file.run}/" if file.run and len(runs) > 1 else ""
        of_tags: dict[str, list[ScalarEvent]] = defaultdict(list)
        for value in read(file.path):
            of_tags[f"{prefix}{value.tag}"].append(value)
        for tag, values in of_tags.items():
            series[tag].append(values)
    return {
        tag for tag, those in series.items() if any(_are_mixed(*pair) for pair in pairwise(those))
    }


def _are_mixed(one: Sequence[ScalarEvent], other: Sequence[ScalarEvent]) -> bool:
    """Return whether the values of two files were written at the same time, and differ at a step."""
    begin = max(one[0].at, other[0].at)
    if begin >= min(one[-1].at, other[-1].at):
        return False
    at_steps = {value.step: value.value for value in one}
    return any(at_steps.get(value.step, value.value) != value.value for value in other)


def event_files(
    folder: Path, start_time: float, selected_paths: Collection[str] | None = None
) -> list[EventFile]:
    """Return the event files below a folder that were written since a time, the newest first.

    Args:
        folder: any; it need not exist.
        start_time: seconds since 1970.
        selected_paths: paths of the files that count; None for all.
    """
    files = []
    for path, run in (
        _entries(folder) if selected_paths is None else _named_entries(folder, selected_paths)
    ):
        try:
            written = path.stat().st_mtime
        except OSError:
            continue
        if written >= start_time - CLOCK_SKEW_S:
            files.append(EventFile(path=path, run=run, written=written))
    return sorted(files, key=lambda file: (file.written, file.path), reverse=True)


def _named_entries(folder: Path, paths: Iterable[str]) -> Iterator[tuple[Path, str]]:
    """Yield files below a folder with their folders."""
    for path in map(Path, paths):
        run = os.path.relpath(path.parent, folder)
        yield path, "" if run == "." else run


def _entries(folder: Path) -> Iterator[tuple[Path, str]]:
    """Yield the event files below a folder with their folders; only a part of a very large folder."""
    entries = 0
    for number, (place, folders, names) in enumerate(os.walk(folder)):
        folders.sort(reverse=True)  # folders are often named by their date
        entries += len(names)
        if number >= MOST_FOLDERS or entries > MOST_ENTRIES:
            return
        run = os.path.relpath(place, folder)
        for name in names:
            if EVENT_FILE_MARKER in name:
                yield Path(place, name), "" if run == "." else run


def _with_run_prefix(runs: Mapping[str, Iterable[ScalarEvent]]) -> Iterator[ScalarEvent]:
    """Yield the values of all runs; if there are several, a tag is prefixed by the name of its run."""
    for run, values in runs.items():
        if len(runs) == 1 or not run:
            yield from values
        else:
            yield from (value._replace(tag=f"{run}/{value.tag}") for value in values)


def _without_repeated(values: Iterable[ScalarEvent]) -> Iterator[ScalarEvent]:
    """Yield values whose steps rise for each tag; a value at an earlier step replaces the values from there on."""
    of_tags: dict[str, list[ScalarEvent]] = defaultdict(list)
    for value in values:
        kept = of_tags[value.tag]
        while kept and kept[-1].step >= value.step:
            kept.pop()
        kept.append(value)
    for kept in of_tags.values():
        yield from kept


def _most_reported(values: Iterable[ScalarEvent]) -> str:
    ((tag, _),) = Counter(value.tag for value in values).most_common(1)
    return tag


def _rates(values: list[ScalarEvent]) -> dict[int, float]:
    """Return step → steps per second between the values of one tag."""
    return {
        after.step: (after.step - before.step) / (after.at - before.at)
        for before, after in pairwise(values)
        if after.at > before.at and after.step > before.step
    }
