"""The unlearnings of a run with their references: one group per base, one row per method.

The references are the model before unlearning and the retrained models. A method
is worth its name if it comes near to retraining, in less time than they take. Every row is the mean
over seeds, each seed set beside the retrained model of the same base and seed. Methods that left no
working model come last.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import NamedTuple

from trueface.evaluation.over_seeds import (
    NO_MODELS,
    NO_SEEDS,
    MissingModels,
    MissingSeeds,
    SeedSummary,
    summarize_seeds,
)
from trueface.runtime import paths
from trueface.runtime.files import read_json
from trueface.runtime.ids import model_folder_name
from trueface.unlearning.evaluation.alarms import Alarm, AlarmKind, noise, unlearned_class_alarm
from trueface.unlearning.evaluation.measures import (
    MetricDict,
)
from trueface.unlearning.evaluation.model_measures import BEFORE, MeasuredModel, measure_models
from trueface.unlearning.evaluation.sanity import RUINED
from trueface.unlearning.evaluation.unlearned_models import (
    UnlearnedModel,
    find_unlearned_models,
    id_without_seeds,
    network_of,
    reference_model,
)
from trueface.unlearning.registry import METHODS, Goal

REFERENCES = (BEFORE, "corrected", "retrain", "restart")
# settings of a training that a retrained model should share with the model before
OF_TRAINING = (
    "num_epochs", "lr", "batch_size", "optimizer", "momentum", "weight_decay", "schedule", "dropout", "select",
)  # fmt: skip
REPLACED = {"num_epochs": "unlearn_epochs", "lr": "unlearn_lr"}  # take precedence
CHANGED: Mapping[Goal, tuple[str, str]] = {  # the measures that show forgetting
    "flips": ("test", "the test set"),
    "class": ("test_forget", "the forgotten class in the test set"),
    "instances": ("forget", "the forget set"),
}


class UnlearningRow(NamedTuple):
    """A method over its seeds."""

    method: str  # "before": the model before unlearning
    swept: str  # swept settings that the base has not: "lr=0.1"
    seeds: tuple[int, ...]
    values: Mapping[str, SeedSummary]  # values of the measures that some seed has
    reasons: Mapping[str, str]  # why there is no such measure, for those that no seed has
    alarms: tuple[Alarm, ...]
    notes: tuple[str, ...]
    models: tuple[UnlearnedModel, ...]  # one per seed; empty for the model before unlearning
    missing: MissingSeeds = NO_SEEDS  # seeds without a result

    @property
    def name(self) -> str:
        """What to call it in a table."""
        return f"{self.method} {self.swept}".rstrip()

    @property
    def is_reference(self) -> bool:
        """Whether the row is a reference: the model before unlearning, or a retrained one."""
        return self.method in REFERENCES

    @property
    def verdict(self) -> str:
        """Why nothing is left of the model, such as "chance"; "" of one that works."""
        return next(
            (str(alarm.alarm_kind) for alarm in self.alarms if alarm.alarm_kind in RUINED), ""
        )


class UnlearningGroup(NamedTuple):
    """All unlearnings of one base with the same goal, over its seeds."""

    base: str  # ID without the seed
    network: str | None  # "resnet18"; None if unknown, or if models differ
    goal: Goal
    classes: int
    class_names: tuple[str, ...]
    forgotten: tuple[int, ...]
    fraction: float | None  # fraction of the training images, for instances
    rate: float | None
    known: float  # fraction of the flipped labels that methods were given; 1 where they differ
    rows: tuple[UnlearningRow, ...]
    notes: tuple[str, ...]


class UnlearningLeaderboard(NamedTuple):
    """The unlearnings of a run."""

    run: str
    groups: tuple[UnlearningGroup, ...]
    troubles: tuple[str, ...] = ()  # folders that could not be read, and why


def make_unlearning_leaderboard(
    run: Path, missing: MissingModels = NO_MODELS, *, svc_attacks: bool = False
) -> UnlearningLeaderboard:
    """Return the unlearnings of a run; without groups and troubles where nothing was unlearned.

    Args:
        run: its folder, or that of one unlearned model.
        missing: models of the run without a result.
        svc_attacks: whether to run all membership attacks, see `svc_attacks`.
    """
    models, troubles = find_unlearned_models(run)
    groups: dict[tuple[object, ...], list[UnlearnedModel]] = {}
    for model in models:
        record = model.record
        key = (id_without_seeds(record.base), record.goal, record.forgotten, record.fraction)
        groups.setdefault(key, []).append(model)
    measured = (
        _with_missing(_group(each, svc_attacks=svc_attacks), missing) for each in groups.values()
    )
    return UnlearningLeaderboard(run.name, tuple(measured), tuple(troubles))


def _with_missing(group: UnlearningGroup, missing: MissingModels) -> UnlearningGroup:
    """Return a group whose rows list the seeds without a result."""
    bases = {model.record.base for row in group.rows for model in row.models}
    rows = []
    for row in group.rows:
        known = {model.record.model for model in row.models} or bases
        rows.append(row._replace(missing=missing.count_missing_seeds(known, id_without_seeds)))
    return group._replace(rows=tuple(rows))


def _group(models: Sequence[UnlearnedModel], *, svc_attacks: bool) -> UnlearningGroup:
    runs: dict[tuple[str, int], list[UnlearnedModel]] = {}
    for model in models:
        runs.setdefault((model.record.base, model.record.seed), []).append(model)
    by_row: dict[tuple[str, str], list[MeasuredModel]] = {}
    settings = _reference_settings(models)
    for run in runs.values():
        for each in measure_models(run, settings, svc_attacks=svc_attacks):
            by_row.setdefault(each.row, []).append(each)
    by_row = {name: by_row[name] for name in sorted(by_row, key=_row_sort_key)}
    first = models[0].record
    rows, notes = _with_noise(list(map(_row, by_row.values())), by_row, first.goal, settings)
    known = {model.record.known for model in models}
    networks = {network_of(model) for model in models}
    return UnlearningGroup(
        base=id_without_seeds(first.base),
        network=networks.pop() if len(networks) == 1 else None,
        goal=first.goal,
        classes=first.classes,
        class_names=first.class_names,
        forgotten=first.forgotten,
        fraction=first.fraction,
        rate=first.rate,
        known=known.pop() if len(known) == 1 else 1.0,
        rows=tuple(sorted(_flag_never_known(rows, first.goal, first.classes), key=_is_last)),
        notes=(*_about_references(models), *_about_sources(by_row.values()), *notes),
    )


def _row(measured_models: Sequence[MeasuredModel]) -> UnlearningRow:
    models = _drop_repeated(measured_models)
    names = dict.fromkeys(name for each in models for name in each.sheet.values)
    values = {name: summarize_seeds(each.sheet.get(name) for each in models) for name in names}
    reasons = {name: why for each in models for name, why in each.sheet.reasons.items()}
    method, swept = models[0].row
    return UnlearningRow(
        method=method,
        swept=swept,
        seeds=tuple(sorted(each.seed for each in models)),
        values={name: value for name, value in values.items() if value is not None},
        reasons={name: why for name, why in reasons.items() if name not in values},
        alarms=_merge_alarms_of_seeds(models),
        notes=tuple(dict.fromkeys(note for each in models for note in each.notes)),
        models=() if method == BEFORE else tuple(each.model for each in models),
    )


def _drop_repeated(models: Sequence[MeasuredModel]) -> list[MeasuredModel]:
    """Return each model once: unlearnings of several seeds may have one base.

    The measures of a base are the means over what its unlearnings were to forget.
    """
    by_model: dict[str, list[MeasuredModel]] = {}
    for each in models:
        record = each.model.record
        name = record.base if each.method == BEFORE else str(each.model.folder)
        by_model.setdefault(name, []).append(each)
    return [_average_models(of_model) for of_model in by_model.values()]


def _average_models(models: Sequence[MeasuredModel]) -> MeasuredModel:
    """Return several measurements of one model as one."""
    if len(models) == 1:
        return models[0]
    means: dict[str, float] = {}
    for name in dict.fromkeys(name for each in models for name in each.sheet.values):
        mean = summarize_seeds(each.sheet.get(name) for each in models)
        means |= {} if mean is None else {name: mean.mean}
    reasons = {name: why for each in models for name, why in each.sheet.reasons.items()}
    alarms = {alarm.alarm_kind: alarm for each in reversed(models) for alarm in each.alarms}
    return models[0]._replace(
        sheet=MetricDict(
            values=means,
            reasons={name: why for name, why in reasons.items() if name not in means},
        ),
        alarms=tuple(alarms.values()),
    )


def _merge_alarms_of_seeds(models: Sequence[MeasuredModel]) -> tuple[Alarm, ...]:
    """Return one alarm per kind, with its seeds if not all have it."""
    by_sort: dict[AlarmKind, list[tuple[int, Alarm]]] = {}
    for each in models:
        for alarm in each.alarms:
            by_sort.setdefault(alarm.alarm_kind, []).append((each.seed, alarm))
    joined = []
    for pairs in by_sort.values():
        alarm = pairs[0][1]
        seeds = ", ".join(str(seed) for seed, _ in pairs)
        text = alarm.text if len(models) == 1 else f"seed {seeds}: {alarm.text}"
        joined.append(replace(alarm, text=text))
    return tuple(joined)


def _with_noise(
    rows: Sequence[UnlearningRow],
    by_row: Mapping[tuple[str, str], list[MeasuredModel]],
    goal: Goal,
    references: Mapping[str, str],
) -> tuple[list[UnlearningRow], list[str]]:
    """Return rows with an alarm where nothing changed; a note where that cannot be known."""
    measure, noun = CHANGED[goal]

    def by_run(
        row: tuple[str, str],
    ) -> dict[tuple[str, int], float]:  # a seed may have several draws
        models = by_row.get(row, ())
        return {
            each.run: each.sheet.values[measure] for each in models if measure in each.sheet.values
        }

    anew = ("retrain", references.get("retrain", ""))
    retrained, before = list(by_run(anew).values()), by_run((BEFORE, ""))
    marked, notes = [], []
    for row in rows:
        after = by_run((row.method, row.swept))
        both = sorted(before.keys() & after.keys())  # a study that is under way has not all of them
        if row.method not in {BEFORE, "retrain"} and both:
            first, then = (fmean(values[run] for run in both) for values in (before, after))
            alarm = noise(first, then, retrained, noun=noun, seeds=len(both))
            if alarm is not None and alarm.alarm_kind is AlarmKind.NOISE_UNKNOWN:
                notes.append(alarm.text)
            elif alarm is not None:
                row = row._replace(alarms=(*row.alarms, alarm))
        marked.append(row)
    return marked, list(dict.fromkeys(notes))


def _flag_never_known(
    rows: Sequence[UnlearningRow], goal: Goal, classes: int
) -> Sequence[UnlearningRow]:
    """Return rows with an alarm if the model had never learned the forget set."""
    before = next((row.values.get("forget") for row in rows if row.method == BEFORE), None)
    alarm = (
        None if goal != "class" or before is None else unlearned_class_alarm(before.mean, classes)
    )
    if alarm is None:
        return rows
    return [row if row.is_reference else row._replace(alarms=(*row.alarms, alarm)) for row in rows]


def _reference_settings(models: Sequence[UnlearnedModel]) -> dict[str, str]:
    """Return the swept settings of each reference, by its method; all seeds have the same reference."""
    found = ((name, reference_model(models, name)) for name in ("retrain", "corrected"))
    return {name: model.swept_settings for name, model in found if model is not None}


def _about_references(models: Sequence[UnlearnedModel]) -> list[str]:
    return [
        *_missing_references(models),
        *_chosen_references(models),
        *_differing_trainings(models),
    ]


def _chosen_references(models: Sequence[UnlearnedModel]) -> Iterator[str]:
    """Yield which of several references measures are relative to, and which were given part of the flipped labels."""
    for method, measures in (
        ("retrain", "gaps and × retrain are"),
        ("corrected", "recovery is"),
    ):
        chosen = reference_model(models, method)
        if chosen is None:
            continue
        name = f"{method} {chosen.swept_settings}".rstrip()
        rows = {model.swept_settings for model in models if model.record.method == method}
        if len(rows) > 1:
            others = ", ".join(
                f"{method} {row}".rstrip() for row in sorted(rows - {chosen.swept_settings})
            )
            yield f"{measures} relative to {name}, not to {others}"
        if chosen.record.known < 1:
            yield (
                f"{name} was given only {chosen.record.known:.3g} of the flipped labels and learned the others"
            )


def _differing_trainings(models: Sequence[UnlearnedModel]) -> Iterator[str]:
    """Yield in which settings a retrained model was not trained as the model before was."""
    for method, measures in (("retrain", "gaps"), ("corrected", "recovery")):
        chosen = reference_model(models, method)
        if chosen is None:
            continue
        base = chosen.folder.parent / model_folder_name(chosen.record.base)
        own, before = (
            (read_json(paths.provenance(folder)) or {}).get("settings")
            for folder in (chosen.folder, base)
        )
        if not isinstance(own, Mapping) or not isinstance(before, Mapping):
            continue
        used = {key: own[key] for key in OF_TRAINING if key in own}
        used |= {key: own[name] for key, name in REPLACED.items() if own.get(name) is not None}
        differing = [
            f"{key} {value}, not {before[key]}"
            for key, value in used.items()
            if key in before and value != before[key]
        ]
        if differing:
            name = f"{method} {chosen.swept_settings}".rstrip()
            yield (
                f"{name} was trained with other settings than the model before ({'; '.join(differing)}), which changes "
                f"{measures} as well"
            )


def _missing_references(models: Sequence[UnlearnedModel]) -> list[str]:
    methods = {model.record.method for model in models}
    flips = any(model.record.goal == "flips" for model in models)
    corrected = reference_model(models, "corrected")
    if "retrain" not in methods:
        return [
            "no model was retrained, so gaps are missing and times are relative to the training"
        ]
    if flips and (corrected is None or corrected.record.known < 1):
        of_all = "" if corrected is None else " that was given all flipped labels"
        return [
            f"there is no corrected model{of_all}, so recovery is relative to the retrained model"
        ]
    return []


def _is_last(row: UnlearningRow) -> bool:
    """Return whether a row is below all methods with a working model."""
    return not row.is_reference and bool(row.verdict)


def _about_sources(rows: Iterable[Sequence[MeasuredModel]]) -> list[str]:
    """Return the note on intervals over few sources of test images."""
    every = (each.few_sources for row in rows for each in row)
    return [
        "95 % intervals estimate the variation between image sources, and within the only source of a class. "
        f"With few sources or images, they may be too narrow: {few}"
        for few in dict.fromkeys(every)
        if few
    ]


def _row_sort_key(name: tuple[str, str]) -> tuple[int, int, str, str]:
    """Return the sort key of rows: references in their order, methods in that of the table."""
    method, swept = name
    if method in REFERENCES:
        return 0, REFERENCES.index(method), method, swept
    methods = list(METHODS)
    return 1, methods.index(method) if method in methods else len(methods), method, swept
