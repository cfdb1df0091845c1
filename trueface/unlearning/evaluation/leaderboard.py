"""The unlearnings of a run beside their references: one group a base, one row a method.

The ladder of references begins with the model as it came and goes on with plain trainings. A method
is worth its name if it comes near to retraining, in less time than they take. Every row is the mean
over seeds, each seed set beside the retrained model of the same base and seed. Methods that left no
working model come last.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from trueface.evaluation.measurement import few_sources
from trueface.runtime.errors import UsageError
from trueface.unlearning.evaluation.measurement import BEFORE, Measured, measured
from trueface.unlearning.evaluation.ruined_models import RUINED
from trueface.unlearning.evaluation.sanity_checks import Alarm, Sort, never_known, noise
from trueface.unlearning.evaluation.unlearned_models import Entry, find, network_of, seedless
from trueface.unlearning.registry import METHODS, Goal

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
