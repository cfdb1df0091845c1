"""Settings of a task file that have no effect on any of its jobs.

A sweep over such a setting is an error, because its models would be equal. Another value is noted, once for all jobs
that have it.
"""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from launcher.errors import Problems, SourceLocation
from launcher.taskfile.entries import (
    Entry,
    FolderEntry,
    MethodEntry,
    PlainEntry,
    ScoringEntry,
    TrainEntry,
    Variant,
)
from launcher.taskfile.nodes import GivenSetting
from launcher.taskfile.settings import ResolvedSettings

FILE = SourceLocation("", 0, 0, "")  # place of sweeps in the file's matrix


class _Use(NamedTuple):
    """The use of a given setting by one variant of an entry."""

    said: GivenSetting
    reason: str  # why it has no effect; "" if it has one
    sweep: SourceLocation | None  # of the entry that sweeps it, or FILE. None if it is not swept


def report_ineffective(entries: Iterable[Entry], problems: Problems) -> None:
    """Report settings without effect on any job that has them."""
    swept: dict[tuple[SourceLocation, str], list[_Use]] = {}
    others: dict[SourceLocation, list[_Use]] = {}
    for use in _uses(entries):
        if use.sweep is None:
            others.setdefault(use.said.key.place, []).append(use)
        else:
            swept.setdefault((use.sweep, use.said.name), []).append(use)
    for (said, reason, _), *_ in _without_effect(swept.values()):
        message = f"matrix: {said.name} has no effect, so a sweep compares nothing: {reason}"
        problems.add_error(said.key, "matrix", message, f"remove {said.name} from the matrix")
    for (said, reason, _), *_ in _without_effect(others.values()):
        message = f"{said.name} has no effect here: {reason}"
        problems.add_warning(said.key, "no-effect", message, "remove it")


def _without_effect(uses: Iterable[list[_Use]]) -> Iterator[list[_Use]]:
    return (each for each in uses if all(use.reason for use in each))


def _uses(entries: Iterable[Entry]) -> Iterator[_Use]:
    for entry in entries:
        for settings, swept, of_file in _settings_of(entry):
            for name, said in settings.given.items():
                if name not in settings.values:
                    continue
                sweep = None
                if name in swept:
                    sweep = FILE if name in of_file else entry.place
                yield _Use(said, settings.idle.get(name, ""), sweep)


def _settings_of(
    entry: Entry,
) -> Iterator[tuple[ResolvedSettings, frozenset[str], frozenset[str]]]:
    """Yield the settings of each variant, their swept names, and those of these that the file's matrix sweeps."""
    variants: tuple[Variant, ...] = ()
    match entry:
        case TrainEntry():
            variants = entry.variants
        case MethodEntry():
            variants = tuple(each for _, those in entry.methods for each in those)
        case FolderEntry():
            variants = tuple(each.variant for each in entry.variants)
        case ScoringEntry():
            yield from ((settings, frozenset(), frozenset()) for settings in entry.settings)
        case PlainEntry():
            yield from ((each.settings, frozenset(), frozenset()) for each in entry.variants)
    if isinstance(entry, TrainEntry):  # a poison reads values that its training may not use
        labels = (each.labels_settings for each in variants)
        yield from ((each, frozenset(), frozenset()) for each in labels if each is not None)
    for variant in variants:
        names = frozenset(name for name, _ in variant.name)
        yield variant.settings, names, variant.file_swept_names
