"""Settings of a task file that have no effect on any of its jobs.

A sweep over such a setting is an error, because its models would be equal. Another value is noted, once for all jobs
that have it. A swept setting that has no effect on some of the models of an entry causes a warning with two equal models.
A value without effect gives the model of the setting's default, so a sweep over both compares nothing either.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from launcher.experiments.kind_interface import Kind
from launcher.experiments.taskfile.entries import (
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
from launcher.experiments.taskfile.nodes import GivenSetting
from launcher.experiments.taskfile.settings import ResolvedSettings, is_default
from launcher.system.errors import Problems, SourceLocation

FILE = SourceLocation("", 0, 0, "")  # place of sweeps in the file's matrix
SEED = (
    "seed"  # end of the names of seeds. One seed may serve all studies, so only a sweep is reported
)
NO_POISON = "the training has no poison"


class _Use(NamedTuple):
    """The use of a given setting by one variant of an entry."""

    said: GivenSetting
    reason: str  # why the setting has no effect; "" if it has one
    # place of the entry that sweeps the setting, or FILE; None: not swept
    sweep: SourceLocation | None
    is_default: bool  # whether the value is the default


def report_ineffective(entries: Sequence[Entry], problems: Problems) -> None:
    """Report settings without effect on any job that has them."""
    swept: dict[tuple[SourceLocation, str], list[_Use]] = {}
    others: dict[SourceLocation, list[_Use]] = {}
    for use in _uses(entries):
        if use.sweep is None:
            others.setdefault(use.said.key.place, []).append(use)
        else:
            swept.setdefault((use.sweep, use.said.name), []).append(use)
    refused = [
        next(use for use in uses if use.reason)
        for uses in swept.values()
        if any(use.reason for use in uses) and all(use.reason or use.is_default for use in uses)
    ]
    for said, reason, *_ in refused:
        message = f"matrix: {said.name} has no effect, so a sweep compares nothing: {reason}"
        problems.add_error(said.key, "matrix", message, f"remove {said.name} from the matrix")
    for uses in others.values():
        if not all(use.reason for use in uses):
            continue
        said, reason, *_ = uses[0]
        message = f"{said.name} has no effect here: {reason}"
        problems.add_warning(said.key, "no-effect", message, "remove it")
    _report_equal_models(entries, {each.said.key.place for each in refused}, problems)


def _report_equal_models(
    entries: Iterable[Entry], refused_places: Collection[SourceLocation], problems: Problems
) -> None:
    """Report two models of an entry that differ only in swept settings without effect; once for each such setting."""
    first: dict[tuple[SourceLocation, str, VariantName], tuple[VariantName, Mapping[str, str]]] = {}
    reported: set[tuple[SourceLocation, str]] = set()
    for entry in entries:
        for name, variant in _named_variants(entry):
            idle = _idle_in_sweep(entry, variant, refused_places)
            decisive = tuple(
                pair for pair in variant.name if not _is_usual(entry.kind, variant, idle, pair[0])
            )
            named, before_idle = first.setdefault(
                (entry.place, name, decisive), (variant.name, idle)
            )
            before, reasons = dict(named), {**before_idle, **idle}
            for setting, value in variant.name:
                if before.get(setting) == value or (entry.place, setting) in reported:
                    continue
                reported.add((entry.place, setting))
                names = variant_name(name, variant.name), variant_name(name, tuple(before.items()))
                reason = reasons.get(setting, "both values are the default")
                message = f"{names[0]} is the same model as {names[1]}, because {setting} has no effect: {reason}"
                problems.add_warning(
                    variant.settings.given[setting].key,
                    "same-model",
                    message,
                    "sweep it in an entry of its own",
                )


def _is_usual(kind: Kind, variant: Variant, idle: Mapping[str, str], name: str) -> bool:
    """Return whether a swept setting leaves a model as its default does."""
    values = variant.settings.values
    return name in idle or (name in values and is_default(kind, name, values))


def _idle_in_sweep(
    entry: Entry, variant: Variant, refused_places: Collection[SourceLocation]
) -> Mapping[str, str]:
    """Return the swept settings without effect on a model, each with the reason, except those in refused sweeps."""
    labels = variant.labels_settings
    starts_new = isinstance(entry, TrainEntry) and entry.base is None
    return {
        name: reason
        for name, reason in variant.settings.idle.items()
        if name in variant.settings.given
        and variant.settings.given[name].key.place not in refused_places
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


def _uses(entries: Iterable[Entry]) -> Iterator[_Use]:
    for entry in entries:
        for kind, settings, swept, of_file in _settings_of(entry):
            for name, said in settings.given.items():
                if name not in settings.values:
                    continue
                sweep = None
                if name in swept:
                    sweep = FILE if name in of_file else entry.place
                usual = sweep is not None and is_default(kind, name, settings.values)
                is_fixed_seed = sweep is None and name.endswith(SEED)
                reason = "" if is_fixed_seed else settings.idle.get(name, "")
                yield _Use(said, reason, sweep, usual)
        if isinstance(entry, TrainEntry):
            for variant in entry.variants:
                for said, is_swept in variant.unused:
                    reason = "" if not is_swept and said.name.endswith(SEED) else NO_POISON
                    yield _Use(said, reason, entry.place if is_swept else None, is_default=False)


def _settings_of(
    entry: Entry,
) -> Iterator[tuple[Kind, ResolvedSettings, frozenset[str], frozenset[str]]]:
    """Yield the settings of each variant with their kind, their swept names, and those that the file's matrix sweeps."""
    match entry:
        case ScoringEntry():
            yield from ((entry.kind, each, frozenset(), frozenset()) for each in entry.settings)
        case PlainEntry():
            for plain in entry.variants:
                yield entry.kind, plain.settings, frozenset(), frozenset()
    if isinstance(entry, TrainEntry) and entry.labels_kind is not None:
        # a poison reads values that its training may not use
        for variant in entry.variants:
            if variant.labels_settings is not None:
                names, of_file = variant.swept_names, variant.file_swept_names
                yield entry.labels_kind, variant.labels_settings, names, of_file
    for _, variant in _named_variants(entry):
        names = variant.swept_names
        yield entry.kind, variant.settings, names, variant.file_swept_names
