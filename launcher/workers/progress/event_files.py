"""The event files of TensorBoard that a program writes below a folder, as steps."""

import os
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from launcher.workers.progress.event_records import Scalar, scalars
from launcher.workers.progress.growing_files import GrowingFiles, read_end
from launcher.workers.progress.steps import Step

MARK = "tfevents"  # in the name of each event file
MOST_FOLDERS, MOST_ENTRIES = 200, 5000  # that are looked through below the folder
MOST_FILES = 50  # event files that are read, those that were written last
NEWEST_FILES, NEWEST_BYTES = 4, (2 << 10, 64 << 10)  # for the newest step alone
EARLY_S = 2.0  # clocks of file systems may be behind

_FILES = GrowingFiles[Scalar](lambda text, _: scalars(text))


@dataclass(frozen=True, slots=True, kw_only=True)
class _EventFile:
    path: Path
    run: str  # its folder below the one that was named; '' of that itself
    written: float  # seconds since 1970


def newest_event(folder: Path, since: float) -> Step | None:
    """Return the newest step of the event files below a folder with the newest values of its tags, None where there is none.

    Tags may count different things, such as batches and epochs: the step is that of the most frequent one.

    Args:
        folder: any; it need not exist.
        since: seconds since 1970; files that were last written before are another program's.
    """
    files = _event_files(folder, since)[:NEWEST_FILES]
    # behind an image there may be no scalar for long
    values = next((read for size in NEWEST_BYTES if (read := _last_values(files, size))), [])
    if not values:
        return None
    most = _most_reported(values)
    counted = [value for value in values if value.tag == most]
    newest = counted[-1]
    return Step(
        at=newest.at,
        step=newest.step,
        total=None,
        metrics={newest.tag: newest.value} | {value.tag: value.value for value in values},
        rate=_rates(counted[-2:]).get(newest.step),
    )


def _last_values(files: Iterable[_EventFile], most_bytes: int) -> list[Scalar]:
    """Return the values in the last bytes of event files, the oldest first."""
    read: dict[str, list[Scalar]] = {}
    for file in files:
        values, _ = scalars(read_end(file.path, most_bytes)[0])
        read.setdefault(file.run, []).extend(values)
    return sorted(_named(read), key=lambda value: value.at)


def event_steps(folder: Path, since: float, most_bytes: int) -> list[Step]:
    """Return the steps of the event files below a folder, the lowest first, each with all its values.

    Args:
        folder: any; it need not exist.
        since: seconds since 1970; files that were last written before are another program's.
        most_bytes: that are read from the end of each file.
    """
    read: dict[str, list[Scalar]] = {}
    for file in reversed(_event_files(folder, since)):
        read.setdefault(file.run, []).extend(_FILES.items(file.path, most_bytes))
    values = [*_without_repeated(_named(read))]
    if not values:
        return []
    steps: dict[int, list[Scalar]] = defaultdict(list)
    for value in values:
        steps[value.step].append(value)
    most = _most_reported(values)
    rates = _rates([value for value in values if value.tag == most])
    return [
        Step(
            at=max(value.at for value in steps[step]),
            step=step,
            total=None,
            metrics={value.tag: value.value for value in steps[step]},
            rate=rates.get(step),
        )
        for step in sorted(steps)
    ]


def _event_files(folder: Path, since: float) -> list[_EventFile]:
    """Return the event files below a folder that were written since a time, the newest first."""
    files = []
    for path, run in _entries(folder):
        try:
            written = path.stat().st_mtime
        except OSError:
            continue
        if written >= since - EARLY_S:
            files.append(_EventFile(path=path, run=run, written=written))
    files.sort(key=lambda file: (file.written, file.path), reverse=True)
    return files[:MOST_FILES]


def _entries(folder: Path) -> Iterator[tuple[Path, str]]:
    """Give the event files below a folder, each with the folder in which it lies; of a very large one a part."""
    entries = 0
    for number, (place, folders, names) in enumerate(os.walk(folder)):
        folders.sort(reverse=True)  # folders are often named by their date
        entries += len(names)
        if number >= MOST_FOLDERS or entries > MOST_ENTRIES:
            return
        run = os.path.relpath(place, folder)
        for name in names:
            if MARK in name:
                yield Path(place, name), "" if run == "." else run


def _named(runs: Mapping[str, Iterable[Scalar]]) -> Iterator[Scalar]:
    """Give the values of all runs; where there are several, a tag has the name of its run before it."""
    for run, values in runs.items():
        if len(runs) == 1 or not run:
            yield from values
        else:
            yield from (value._replace(tag=f"{run}/{value.tag}") for value in values)


def _without_repeated(values: Iterable[Scalar]) -> Iterator[Scalar]:
    """Give values of which each tag's steps rise: one that goes back to an earlier step does those behind it anew."""
    of_tags: dict[str, list[Scalar]] = defaultdict(list)
    for value in values:
        kept = of_tags[value.tag]
        while kept and kept[-1].step >= value.step:
            kept.pop()
        kept.append(value)
    for kept in of_tags.values():
        yield from kept


def _most_reported(values: Iterable[Scalar]) -> str:
    ((tag, _),) = Counter(value.tag for value in values).most_common(1)
    return tag


def _rates(values: list[Scalar]) -> dict[int, float]:
    """Return step → steps a second between the values of one tag."""
    return {
        after.step: (after.step - before.step) / (after.at - before.at)
        for before, after in pairwise(values)
        if after.at > before.at and after.step > before.step
    }
