"""The unlearnings of a run beside their references: one group a base, one row a method.

The ladder of references begins with the model as it came and goes on with plain trainings. A method
is worth its name if it comes near to retraining, in less time than they take. Every row is the mean
over seeds, each seed set beside the retrained model of the same base and seed. Methods that left no
working model come last.

Published figures of class unlearning on CIFAR-10 stand beside them for orientation: one class of ten
forgotten. Source: H. Kim, S. Lee, S. Woo, "Layer attack unlearning", AAAI 2024, arXiv 2312.16823, as the
authors' slides give them. The unlearning scores were computed anew from the accuracies. Networks,
epochs and machines are others than ours; time is of theirs.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from trueface.evaluation.measurement import few_sources
from trueface.runtime.errors import UsageError
from trueface.unlearning.evaluation.measurement import (
    BEFORE,
    Entry,
    Measured,
    find,
    measured,
    network_of,
    seedless,
)
from trueface.unlearning.evaluation.ruined_models import RUINED
from trueface.unlearning.evaluation.sanity_checks import Alarm, Sort, never_known, noise
from trueface.unlearning.registry import METHODS, Goal


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """A row of the table; accuracies in percent."""

    method: str  # as we call it
    network: str
    retain: float  # on what was kept, of the training set
    forget: float
    test_retain: float
    test_forget: float
    us: float
    seconds: float | None


_CELLS = (
    ("before", "VGG16", 99.98, 100.0, 92.07, 96.7, 0.4495, None),
    ("before", "ResNet18", 99.98, 100.0, 93.13, 96.6, 0.4575, None),
    ("before", "ResNet50", 99.94, 99.96, 93.44, 95.0, 0.4647, None),
    ("before", "ViT", 88.06, 93.52, 81.48, 88.4, 0.4021, None),
    ("retrain", "VGG16", 99.89, 0.0, 91.98, 0.0, 0.939, 3683.0),
    ("retrain", "ResNet18", 99.79, 0.0, 92.5, 0.0, 0.9428, 2871.0),
    ("retrain", "ResNet50", 99.77, 0.0, 92.48, 0.0, 0.9427, 4705.0),
    ("retrain", "ViT", 95.0, 0.0, 81.0, 0.0, 0.8631, 4441.0),
    ("ng", "VGG16", 88.53, 16.96, 79.86, 17.0, 0.7321, 73.0),
    ("ng", "ResNet18", 93.85, 28.38, 86.3, 25.54, 0.7204, 153.0),
    ("ng", "ResNet50", 88.75, 24.77, 82.52, 23.3, 0.7087, 174.0),
    ("ng", "ViT", 85.264, 18.69, 79.74, 16.7, 0.7333, 78.0),
    ("finetune", "VGG16", 99.63, 0.0, 90.09, 0.0, 0.9254, 433.0),
    ("finetune", "ResNet18", 99.63, 0.0, 91.25, 0.0, 0.9337, 546.0),
    ("finetune", "ResNet50", 99.45, 0.0, 90.79, 0.0, 0.9304, 1061.0),
    ("finetune", "ViT", 90.96, 1.77, 82.43, 1.62, 0.8598, 479.0),
    ("rl", "VGG16", 80.99, 3.56, 72.4, 3.69, 0.7806, 24.0),
    ("rl", "ResNet18", 91.38, 11.09, 84.0, 10.98, 0.8008, 30.0),
    ("rl", "ResNet50", 81.3, 12.91, 76.62, 11.84, 0.7468, 57.0),
    ("rl", "ViT", 77.58, 15.1, 73.42, 14.38, 0.7094, 23.0),
    ("fisher", "VGG16", 46.78, 55.24, 44.61, 52.3, 0.3415, 9710.0),
    ("fisher", "ResNet18", 59.0, 52.34, 55.57, 52.2, 0.3946, 12526.0),
    ("fisher", "ResNet50", 58.17, 58.06, 55.95, 56.2, 0.3781, 19850.0),
    ("fisher", "ViT", 42.68, 66.34, 43.34, 62.3, 0.2911, 13238.0),
    ("shrink", "VGG16", 90.73, 10.16, 81.53, 9.58, 0.7943, 116.0),
    ("shrink", "ResNet18", 95.88, 9.75, 87.91, 10.24, 0.8329, 191.0),
    ("shrink", "ResNet50", 86.03, 3.94, 80.09, 3.46, 0.8303, 471.0),
    ("shrink", "ViT", 85.22, 0.61, 79.29, 0.28, 0.8498, 163.0),
    ("iwu", "VGG16", 90.81, 0.0, 82.35, 0.1, 0.8712, 1351.0),
    ("iwu", "ResNet18", 89.41, 0.0, 82.55, 0.0, 0.8733, 362.0),
    ("iwu", "ResNet50", 86.11, 0.0, 79.98, 0.0, 0.8565, 1513.0),
    ("iwu", "ViT", 82.48, 3.92, 77.01, 2.58, 0.8174, 1563.0),
    ("lau", "VGG16", 99.97, 0.0, 92.18, 0.0, 0.9405, 3.76),
    ("lau", "ResNet18", 99.97, 0.0, 93.53, 0.0, 0.9504, 4.37),
    ("lau", "ResNet50", 99.92, 0.0, 93.52, 0.0, 0.9504, 7.76),
    ("lau", "ViT", 87.51, 0.0, 81.14, 0.0, 0.864, 25.93),
)  # fmt: skip
CIFAR_10 = tuple(
    Figure(
        method=method,
        network=network,
        retain=retain,
        forget=forget,
        test_retain=test_retain,
        test_forget=test_forget,
        us=us,
        seconds=seconds,
    )
    for method, network, retain, forget, test_retain, test_forget, us, seconds in _CELLS
)

REFERENCES = (BEFORE, "corrected", "retrain", "finetune", "relabel", "restart")
CHANGED: Mapping[Goal, tuple[str, str]] = {  # what tells that anything was forgotten
    "flips": ("test", "the test"),
    "class": ("test_forget", "the forgotten class in the test"),
    "instances": ("forget", "the forgotten"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """A measure over seeds."""

    mean: float
    std: float | None  # None: of one seed
    n: int  # seeds that have it


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A method over its seeds."""

    method: str  # "before": the model as it came
    swept: str  # swept settings that the base has not: "lr=0.1"
    seeds: tuple[int, ...]
    values: Mapping[str, Spread]
    reasons: Mapping[str, str]  # why there is no such measure, for those that no seed has
    alarms: tuple[Alarm, ...]
    notes: tuple[str, ...]

    @property
    def name(self) -> str:
        """What to call it in a table."""
        return f"{self.method} {self.swept}".rstrip()

    @property
    def verdict(self) -> str:
        """Why nothing is left of the model, such as "chance"; "" of one that works."""
        return next((str(alarm.sort) for alarm in self.alarms if alarm.sort in RUINED), "")


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """All that was made of one base, over its seeds, to forget the same."""

    base: str  # ID without the seed
    network: str | None  # "resnet18"; None where nothing says it, or models differ
    goal: Goal
    classes: int
    class_names: tuple[str, ...]
    forgotten: tuple[int, ...]
    fraction: float | None  # of the training images, for instances
    rate: float | None
    known: float
    rows: tuple[Row, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Ladder:
    """The unlearnings of a run."""

    run: str
    groups: tuple[Group, ...]
    troubles: tuple[str, ...] = ()  # folders that could not be read, and why


def ladder(run: Path) -> Ladder:
    """Return the unlearnings of a run.

    Args:
        run: its folder, or that of one unlearned model.

    Raises:
        UsageError: nothing was unlearned there.
    """
    entries, troubles = find(run)
    if not entries and not troubles:
        raise UsageError(f"nothing was unlearned in {run}: no model there has an unlearning.json")
    groups: dict[tuple[object, ...], list[Entry]] = {}
    for entry in entries:
        record = entry.record
        key = (seedless(record.base), record.goal, record.forgotten, record.fraction)
        groups.setdefault(key, []).append(entry)
    return Ladder(
        run=run.name,
        groups=tuple(_group(group) for group in groups.values()),
        troubles=tuple(troubles),
    )


def _group(entries: Sequence[Entry]) -> Group:
    seeds: dict[tuple[str, int], list[Entry]] = {}
    for entry in entries:
        seeds.setdefault((entry.record.base, entry.record.seed), []).append(entry)
    every = [model for of_seed in seeds.values() for model in measured(of_seed)]
    names = sorted({model.row for model in every}, key=_place)
    rows = [_row(name, [model for model in every if model.row == name]) for name in names]
    first = entries[0].record
    rows, notes = _with_noise(rows, every, first.goal)
    known_fractions = {entry.record.known for entry in entries}
    networks = {network_of(entry) for entry in entries}
    return Group(
        base=seedless(first.base),
        network=networks.pop() if len(networks) == 1 else None,
        goal=first.goal,
        classes=first.classes,
        class_names=first.class_names,
        forgotten=first.forgotten,
        fraction=first.fraction,
        rate=first.rate,
        # where they differ, their rows say it
        known=known_fractions.pop() if len(known_fractions) == 1 else 1.0,
        rows=tuple(sorted(_without_sense(rows, first.goal, first.classes), key=_is_last)),
        notes=(*_about_references(entries), *_about_sources(every), *notes),
    )


def _row(name: tuple[str, str], models: Sequence[Measured]) -> Row:
    names = dict.fromkeys(key for model in models for key in model.sheet.values)
    values = {
        key: _spread([model.sheet.values[key] for model in models if key in model.sheet.values])
        for key in names
    }
    reasons = {key: why for model in models for key, why in model.sheet.reasons.items()}
    return Row(
        method=name[0],
        swept=name[1],
        seeds=tuple(sorted(model.seed for model in models)),
        values=values,
        reasons={key: why for key, why in reasons.items() if key not in values},
        alarms=_joined(models),
        notes=tuple(dict.fromkeys(note for model in models for note in model.notes)),
    )


def _spread(values: Sequence[float]) -> Spread:
    std = float(np.std(values, ddof=1)) if len(values) > 1 else None
    return Spread(mean=float(np.mean(values)), std=std, n=len(values))


def _joined(models: Sequence[Measured]) -> tuple[Alarm, ...]:
    """Return one alarm of a sort, with the seeds that have it where not all do."""
    by_sort: dict[Sort, list[tuple[int, Alarm]]] = {}
    for model in models:
        for alarm in model.alarms:
            by_sort.setdefault(alarm.sort, []).append((model.seed, alarm))
    joined = []
    for pairs in by_sort.values():
        alarm = pairs[0][1]
        seeds = ", ".join(str(seed) for seed, _ in pairs)
        text = alarm.text if len(models) == 1 else f"seed {seeds}: {alarm.text}"
        joined.append(replace(alarm, text=text))
    return tuple(joined)


def _with_noise(
    rows: Sequence[Row], models: Sequence[Measured], goal: Goal
) -> tuple[list[Row], list[str]]:
    """Return rows with an alarm where nothing changed; a note where that cannot be known."""
    measure, what = CHANGED[goal]
    anew = min(
        (model.row for model in models if model.row[0] == "retrain"), key=_place, default=None
    )
    retrained = list(_by_run(models, anew, measure).values())
    before = _by_run(models, (BEFORE, ""), measure)
    marked, notes = [], []
    for row in rows:
        after = _by_run(models, (row.method, row.swept), measure)
        both = sorted(before.keys() & after.keys())  # a study that is under way has not all of them
        if row.method not in {BEFORE, "retrain"} and both:
            first, then = (float(np.mean([of[run] for run in both])) for of in (before, after))
            alarm = noise(first, then, retrained, what=what, seeds=len(both))
            if alarm is not None and alarm.sort is Sort.NOISE_UNKNOWN:
                notes.append(alarm.text)
            elif alarm is not None:
                row = replace(row, alarms=(*row.alarms, alarm))
        marked.append(row)
    return marked, list(dict.fromkeys(notes))


def _by_run(
    models: Sequence[Measured], row: tuple[str, str] | None, measure: str
) -> dict[tuple[str, int], float]:
    """Return a measure of a row by base and seed: of a seed there may be several draws."""
    return {
        (model.base, model.seed): model.sheet.values[measure]
        for model in models
        if model.row == row and measure in model.sheet.values
    }


def _without_sense(rows: Sequence[Row], goal: Goal, classes: int) -> list[Row]:
    """Return rows with an alarm where the model had never known what it was to forget."""
    before = next((row.values.get("forget") for row in rows if row.method == BEFORE), None)
    alarm = None if goal != "class" or before is None else never_known(before.mean, classes)
    if alarm is None:
        return list(rows)
    return [
        row if row.method in REFERENCES else replace(row, alarms=(*row.alarms, alarm))
        for row in rows
    ]


def _about_references(entries: Iterable[Entry]) -> list[str]:
    methods = {entry.record.method for entry in entries}
    flips = any(entry.record.goal == "flips" for entry in entries)
    notes = []
    if "retrain" not in methods:
        notes.append("nothing was retrained, so there is no gap, and times are of the training")
    elif flips and "corrected" not in methods:
        notes.append("no corrected model: recovery is measured up to the retrained one")
    return notes


def _is_last(row: Row) -> bool:
    """Tell whether a row stands below all methods that left a working model."""
    return row.method not in REFERENCES and bool(row.verdict)


def _about_sources(models: Iterable[Measured]) -> list[str]:
    """Return what so few sources of test images leave of an interval."""
    messages = dict.fromkeys(few for model in models if (few := few_sources(model.sources)))
    return [f"intervals are of other sources of images, and rest on few: {few}" for few in messages]


def _place(name: tuple[str, str]) -> tuple[int, int, str, str]:
    """Return what orders rows: references as they stand, methods as the table has them."""
    method, swept = name
    if method in REFERENCES:
        return 0, REFERENCES.index(method), method, swept
    methods = list(METHODS)
    return 1, methods.index(method) if method in methods else len(methods), method, swept
