"""Settings of a task file that have no effect on any of its jobs.

A sweep over such a setting is an error, because its models would be equal. Another value is noted, once for all jobs
that have it. A swept setting that has no effect on some of the models of an entry causes a warning with two equal models.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
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
    VariantName,
    variant_name,
)
from launcher.taskfile.nodes import GivenSetting
from launcher.taskfile.settings import ResolvedSettings

FILE = SourceLocation("", 0, 0, "")  # place of sweeps in the file's matrix


class _Use(NamedTuple):
    """The use of a given setting by one variant of an entry."""

    said: GivenSetting
    reason: str  # why it has no effect; "" if it has one
    sweep: SourceLocation | None  # of the entry that sweeps it, or FILE. None if it is not swept


def report_ineffective(entries: Sequence[Entry], problems: Problems) -> None:
    """Report settings without effect on any job that has them."""
    swept: dict[tuple[SourceLocation, str], list[_Use]] = {}
    others: dict[SourceLocation, list[_Use]] = {}
    for use in _uses(entries):
        if use.sweep is None:
            others.setdefault(use.said.key.place, []).append(use)
        else:
            swept.setdefault((use.sweep, use.said.name), []).append(use)
    refused = [each[0] for each in _without_effect(swept.values())]
    for said, reason, _ in refused:
        message = f"matrix: {said.name} has no effect, so a sweep compares nothing: {reason}"
        problems.add_error(said.key, "matrix", message, f"remove {said.name} from the matrix")
    for (said, reason, _), *_ in _without_effect(others.values()):
        message = f"{said.name} has no effect here: {reason}"
        problems.add_warning(said.key, "no-effect", message, "remove it")
    _report_equal_models(entries, {each.said.key.place for each in refused}, problems)


def _report_equal_models(
    entries: Iterable[Entry], refused: Collection[SourceLocation], problems: Problems
) -> None:
    """Report two models of an entry that differ only in swept settings without effect; once for each such setting."""
    first: dict[tuple[SourceLocation, str, VariantName], VariantName] = {}
    reported: set[tuple[SourceLocation, str]] = set()
    for entry in entries:
        for name, variant in _named_variants(entry):
            idle = _idle_in_sweep(entry, variant, refused)
            decisive = tuple(pair for pair in variant.name if pair[0] not in idle)
            before = dict(first.setdefault((entry.place, name, decisive), variant.name))
            for setting, value in variant.name:
                if before.get(setting) == value or (entry.place, setting) in reported:
                    continue
                reported.add((entry.place, setting))
                names = variant_name(name, variant.name), variant_name(name, tuple(before.items()))
                message = f"{names[0]} is the same model as {names[1]}, because {setting} has no effect: {idle[setting]}"
                problems.add_warning(
                    variant.settings.given[setting].key,
                    "same-model",
                    message,
                    "sweep it in an entry of its own",
                )


def _idle_in_sweep(
    entry: Entry, variant: Variant, refused: Collection[SourceLocation]
) -> Mapping[str, str]:
    """Return the swept settings without effect on a model, each with the reason, except those in refused sweeps."""
    labels = variant.labels_settings
    starts_new = isinstance(entry, TrainEntry) and entry.base is None
    return {
        name: reason
        for name, reason in variant.settings.idle.items()
        if name in variant.settings.given
        and variant.settings.given[name].key.place not in refused
        # the file's matrix may also change the model that this one starts from
        and (starts_new or name not in variant.file_swept_names)
        and (labels is None or name not in labels.given or name in labels.idle)
    }


def _named_variants(entry: Entry) -> Iterator[tuple[str, Variant]]:
    """Yield the variants of an entry that makes models or folders, each with the name that it extends."""
    match entry:
        case TrainEntry():
            yield from ((str(entry.data.value), each) for each in entry.variants)
        case MethodEntry():
            for method, variants in entry.methods:
                yield from ((str(method.value), each) for each in variants)
        case FolderEntry():
            yield from ((entry.name, each.variant) for each in entry.variants)


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
    match entry:
        case ScoringEntry():
            yield from ((settings, frozenset(), frozenset()) for settings in entry.settings)
        case PlainEntry():
            yield from ((each.settings, frozenset(), frozenset()) for each in entry.variants)
    if isinstance(entry, TrainEntry):  # a poison reads values that its training may not use
        labels = (each.labels_settings for each in entry.variants)
        yield from ((each, frozenset(), frozenset()) for each in labels if each is not None)
    for _, variant in _named_variants(entry):
        names = frozenset(name for name, _ in variant.name)
        yield variant.settings, names, variant.file_swept_names
